// Package s3 answers: would Amazon S3 have kept this object, and would it have
// let anybody overwrite or remove it?
//
// It is what an audit trail needs of S3: buckets, versions, conditional writes,
// Object Lock, checksums, listings, the denials of a bucket policy, and events
// for EventBridge. Paths have the path style, /bucket/key, and objects live in
// memory. A write is seen by every read that begins after it. Rules are those of
// the S3 API reference and user guide.
//
// It is our own: github.com/johannesboyne/gofakes3 v1.2.0 holds the conditional
// PutObject, but takes Object Lock headers and removes the object all the same,
// takes an object with a wrong checksum, and stores the chunks and trailers of
// current SDKs as part of the object (all tried with the SDK of go.mod). It has
// neither policies nor events and passes over headers that it doesn't know.
//
// Not modelled: multipart uploads, copies, ranges, ACLs, legal holds, tags,
// encryption by a KMS key, lifecycle, presigned requests and other regions. What
// isn't modelled is refused.
package s3

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
)

// Behaviour holds what depends on other callers at AWS. The zero value never
// conflicts.
type Behaviour struct {
	// Conflict, if set, answers those conditional writes for which it returns
	// true with 409 ConditionalRequestConflict, as S3 does when another request
	// for the same key ends while this one runs. Nothing is written.
	Conflict func(bucket, key string) bool
}

// Config is what the service needs. Only Clock is required.
type Config struct {
	Clock     *clock.Clock
	Bus       host.Bus // takes the events; it must not call back from Publish
	Behaviour Behaviour
	Logger    *slog.Logger
	// Fault, if set, is called before and after every action, by the name that
	// the API reference has for it. An error from the call before keeps the action
	// from happening; one from the call after hides an answer whose effect has
	// happened.
	Fault func(ctx context.Context, action string, before bool) error
}

// Service is the local S3. It is safe for concurrent use.
type Service struct {
	clock *clock.Clock
	bus   host.Bus
	log   *slog.Logger

	mu        sync.Mutex
	behaviour Behaviour
	fault     func(ctx context.Context, action string, before bool) error
	buckets   map[string]*bucket
	sequence  uint64 // orders the events
}

// New makes an empty service. It needs no Close.
func New(c Config) *Service {
	s := &Service{
		clock: c.Clock, bus: c.Bus, log: c.Logger, behaviour: c.Behaviour, fault: c.Fault, buckets: map[string]*bucket{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

// SetBehaviour replaces the switches for what happens from now on.
func (s *Service) SetBehaviour(b Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behaviour = b
}

// SetFault replaces the hook of Config.Fault.
func (s *Service) SetFault(f func(ctx context.Context, action string, before bool) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// ServeHTTP answers one request of the REST API.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := newID(requestIDLength)
	w.Header().Set("X-Amz-Request-Id", id)
	w.Header().Set("X-Amz-Id-2", newID(versionIDLength))
	out, err := s.serve(r, id)
	if err != nil {
		writeError(w, r, id, out, err)
		return
	}
	out.write(w, http.StatusOK)
}

// serve finds the operation, checks that all of the request is modelled, and
// runs it between its two fault points.
func (s *Service) serve(r *http.Request, id string) (*answer, error) {
	q := &request{ctx: r.Context(), id: id, header: r.Header, query: r.URL.Query(), path: r.URL.Path}
	op, err := q.operation(r.Method)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault != nil {
		if err := fault(r.Context(), op.name, true); err != nil {
			return nil, err
		}
	}
	out, err := s.act(q, op, r)
	if fault != nil {
		if late := fault(r.Context(), op.name, false); late != nil {
			return nil, late
		}
	}
	return out, err
}

func (s *Service) act(q *request, op operation, r *http.Request) (*answer, error) {
	if err := q.check(op); err != nil {
		return nil, err
	}
	// The body comes at the client's pace: it is read before the lock.
	if err := q.read(r); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.permitted(q, op)
	var out *answer
	if err == nil {
		out, err = op.run(s, q)
	}
	if op.configures {
		s.publishCall(q, op.name, err)
	}
	if err == nil && out == nil {
		out = &answer{}
	}
	return out, err
}

// permitted asks the bucket's policy. A policy has another name for what is done
// to one version.
func (s *Service) permitted(q *request, op operation) error {
	b := s.buckets[q.bucket]
	if b == nil || op.iam == "" {
		return nil
	}
	name := op.iam
	if q.query.Has("versionId") && (name == "s3:GetObject" || name == "s3:DeleteObject") {
		name += "Version"
	}
	return b.allowed(q, name)
}

// existing returns the request's bucket.
func (s *Service) existing(q *request) (*bucket, error) {
	if b := s.buckets[q.bucket]; b != nil {
		return b, nil
	}
	return nil, failed(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist: %s", q.bucket)
}

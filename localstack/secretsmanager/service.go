// Package secretsmanager answers: what would AWS Secrets Manager have said, and
// done to the labels?
//
// It is strict where a rotation can go wrong: staging labels, tokens, empty
// pending versions, asynchronous steps. Rules are those of the Secrets Manager
// API reference and user guide; what AWS doesn't publish is a field of
// [Behaviour], so that a test can run under each setting.
//
// Not modelled: resource policies, replication calls, managed external secrets
// and encryption by a KMS key.
package secretsmanager

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
)

// Behaviour holds what AWS leaves open or only hints at. The zero value is a
// service without lag, retries or faults.
type Behaviour struct {
	// KeepPending leaves AWSPENDING on the new AWSCURRENT after a success; the
	// API reference allows both.
	KeepPending bool
	// Retries is how often the whole process is tried again after a failed
	// step. AWS retries, but publishes no number.
	Retries int
	// RetryAfter is the pause before each of them, on the service's clock.
	RetryAfter time.Duration
	// EmptyTestVersion makes the pending version of RotateImmediately=false an
	// empty one; otherwise it is a copy of AWSCURRENT.
	EmptyTestVersion bool
	// ReuseStranded lets a scheduled rotation that finds a stranded AWSPENDING
	// go on with that token; otherwise AWSPENDING moves to a new empty version.
	ReuseStranded bool
	// OldRateFires lets a rate() or AutomaticallyAfterDays schedule fire once
	// more after RotateImmediately=false replaced it.
	OldRateFires bool
	// ReadLag is how old the labels are that Describe, List and reads by label
	// show. A read by VersionId alone is never stale.
	ReadLag time.Duration
	// ListLag is how old what ListSecrets shows may be beyond that: labels, and
	// whether a secret is there. AWS's API reference says up to five minutes.
	ListLag time.Duration
	// Throttle, if set, refuses the actions for which it returns true.
	Throttle func(action string) bool
	// NoQuotas switches off the request rates: 50/s for writes of values and
	// labels together, 50/s for RotateSecret and CancelRotateSecret together.
	NoQuotas bool
}

// Config is what the service needs. All but Invoker, Bus and Logger are required.
type Config struct {
	Clock     *clock.Clock
	Invoker   host.Invoker // runs rotation functions; nil: every step fails
	Bus       host.Bus     // takes the CloudTrail events; it must not call back from Publish
	Behaviour Behaviour
	Logger    *slog.Logger
	// Fault, if set, is called before and after every action. An error from
	// the call before keeps the action from happening; one from the call after
	// hides an answer whose effect has happened.
	Fault func(ctx context.Context, action string, before bool) error
}

// Service is the local Secrets Manager. It is safe for concurrent use.
type Service struct {
	clock  *clock.Clock
	bus    host.Bus
	log    *slog.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	alarm  clock.Alarm // rings for the scheduled rotations

	mu        sync.Mutex
	invoker   host.Invoker
	behaviour Behaviour
	fault     func(ctx context.Context, action string, before bool) error
	secrets   []*secret // in order of creation
	writes    *rate.Limiter
	rotates   *rate.Limiter
}

// writesPerSecond is the published quota of both buckets (user guide, "Quotas").
const writesPerSecond = 50

// New starts the service and its rotation schedule. Close ends both.
func New(c Config) *Service {
	s := &Service{
		clock: c.Clock, bus: c.Bus, log: c.Logger, invoker: c.Invoker, behaviour: c.Behaviour, fault: c.Fault,
		writes:  rate.NewLimiter(writesPerSecond, writesPerSecond),
		rotates: rate.NewLimiter(writesPerSecond, writesPerSecond),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(func() { s.alarm.Run(s.ctx, s.clock, s.startDue) })
	return s
}

// Close stops scheduled rotations and waits for running steps to return.
func (s *Service) Close() {
	s.mu.Lock() // whoever starts something looks at the context under the lock
	s.cancel()
	s.mu.Unlock()
	s.wg.Wait()
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

// SetInvoker replaces what runs rotation functions.
func (s *Service) SetInvoker(i host.Invoker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.invoker = i
}

// TargetPrefix implements awsproto.JSONService.
func (s *Service) TargetPrefix() string { return "secretsmanager" }

type bucket int

const (
	unlimited bucket = iota
	writing
	rotating
)

type action struct {
	run      func(s *Service, body []byte) (any, error)
	readOnly bool
	bucket   bucket
}

// on makes an action of a method that runs with the lock held.
func on[In any](f func(*Service, In) (any, error), readOnly bool, b bucket) action {
	return action{readOnly: readOnly, bucket: b, run: func(s *Service, body []byte) (any, error) {
		var in In
		if err := awsproto.Decode(body, &in); err != nil {
			return nil, err
		}
		return f(s, in)
	}}
}

var actions = map[string]action{
	"BatchGetSecretValue":      on((*Service).batchGetSecretValue, true, unlimited),
	"CancelRotateSecret":       on((*Service).cancelRotateSecret, false, rotating),
	"CreateSecret":             on((*Service).createSecret, false, unlimited),
	"DeleteSecret":             on((*Service).deleteSecret, false, unlimited),
	"DescribeSecret":           on((*Service).describeSecret, true, unlimited),
	"GetRandomPassword":        on((*Service).getRandomPassword, true, unlimited),
	"GetSecretValue":           on((*Service).getSecretValue, true, unlimited),
	"ListSecretVersionIds":     on((*Service).listSecretVersionIDs, true, unlimited),
	"ListSecrets":              on((*Service).listSecrets, true, unlimited),
	"PutSecretValue":           on((*Service).putSecretValue, false, writing),
	"RestoreSecret":            on((*Service).restoreSecret, false, unlimited),
	"RotateSecret":             on((*Service).rotateSecret, false, rotating),
	"TagResource":              on((*Service).tagResource, false, unlimited),
	"UntagResource":            on((*Service).untagResource, false, unlimited),
	"UpdateSecret":             on((*Service).updateSecret, false, writing),
	"UpdateSecretVersionStage": on((*Service).updateSecretVersionStage, false, writing),
}

// Call implements awsproto.JSONService.
func (s *Service) Call(ctx context.Context, name string, body []byte) (any, error) {
	a, ok := actions[name]
	if !ok {
		return nil, awsproto.Errorf("UnknownOperationException", "the local Secrets Manager has no action %q", name)
	}
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault != nil {
		if err := fault(ctx, name, true); err != nil {
			return nil, err
		}
	}
	out, err := s.act(ctx, name, a, body)
	if fault != nil {
		if late := fault(ctx, name, false); late != nil {
			return nil, late
		}
	}
	return out, err
}

func (s *Service) act(ctx context.Context, name string, a action, body []byte) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.admit(name, a.bucket)
	var out any
	if err == nil {
		out, err = a.run(s, body)
	}
	s.publishCall(awsproto.CallerOf(ctx), name, a.readOnly, body, out, err)
	return out, err
}

func (s *Service) admit(name string, b bucket) error {
	throttled := s.behaviour.Throttle != nil && s.behaviour.Throttle(name)
	if !throttled && !s.behaviour.NoQuotas {
		now := s.clock.Now()
		switch b {
		case writing:
			throttled = !s.writes.AllowN(now, 1)
		case rotating:
			throttled = !s.rotates.AllowN(now, 1)
		case unlimited:
		}
	}
	if throttled {
		return awsproto.Errorf("ThrottlingException", "Rate exceeded")
	}
	return nil
}

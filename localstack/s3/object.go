package s3

import (
	"crypto/md5" //nolint:gosec // S3's ETag
	"encoding/hex"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	governance = "GOVERNANCE"
	compliance = "COMPLIANCE"
	// nullVersion is the id of what was written without versioning.
	nullVersion = "null"
)

// retention keeps a version from being removed before its date.
type retention struct {
	mode  string
	until time.Time
}

// version is one version of an object, or a delete marker.
type version struct {
	id        string
	marker    bool
	body      []byte
	etag      string
	modified  time.Time
	headers   http.Header // those that a read gives back
	sum       checksum
	retention *retention
}

// current is the newest version unless it is a delete marker.
func (b *bucket) current(key string) *version {
	if all := b.objects[key]; len(all) > 0 && !all[0].marker {
		return all[0]
	}
	return nil
}

// add puts a version in front. Where versioning isn't on, it replaces the null
// version.
func (s *Service) add(b *bucket, key string, v *version) {
	v.modified, v.id = s.clock.Now(), newID(versionIDLength)
	if b.versioning != enabled {
		v.id = nullVersion
		b.remove(key, nullVersion)
	}
	b.objects[key] = slices.Insert(b.objects[key], 0, v)
}

// remove takes a version away for good; nil if there is none.
func (b *bucket) remove(key, id string) *version {
	all := b.objects[key]
	at := slices.IndexFunc(all, func(v *version) bool { return v.id == id })
	if at < 0 {
		return nil
	}
	v := all[at]
	if b.objects[key] = slices.Delete(slices.Clone(all), at, at+1); len(b.objects[key]) == 0 {
		delete(b.objects, key)
	}
	return v
}

// kept are the headers of a PutObject that reads give back, with those of user
// metadata.
var kept = []string{"Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Cache-Control", "Expires"}

// maxMeta bounds user metadata, in bytes (S3 user guide).
const maxMeta = 2 << 10

func (q *request) keptHeaders() (http.Header, error) {
	out := http.Header{"Content-Type": {"binary/octet-stream"}}
	size := 0
	for name, values := range q.header {
		meta, ok := strings.CutPrefix(name, metaPrefix)
		if ok {
			size += len(meta) + len(values[0])
		}
		if ok || slices.Contains(kept, name) && values[0] != "" {
			out[name] = values
		}
	}
	if size > maxMeta {
		return nil, failed(http.StatusBadRequest, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size of %d bytes", maxMeta)
	}
	// aws-chunked is how the body came, not what it is.
	var codings []string
	for coding := range strings.SplitSeq(out.Get("Content-Encoding"), ",") {
		if coding = strings.TrimSpace(coding); coding != "" && coding != "aws-chunked" {
			codings = append(codings, coding)
		}
	}
	out.Del("Content-Encoding")
	if len(codings) > 0 {
		out.Set("Content-Encoding", strings.Join(codings, ","))
	}
	return out, nil
}

// putObject writes one version. The condition, the bucket policy and the write
// are one step: of two writers with If-None-Match one gets 412.
func (s *Service) putObject(q *request) (*answer, error) {
	b, err := s.existing(q)
	if err != nil {
		return nil, err
	}
	if err := q.onlyDefaults(); err != nil {
		return nil, err
	}
	v := &version{body: q.body, sum: q.sum}
	if v.headers, err = q.keptHeaders(); err != nil {
		return nil, err
	}
	if v.retention, err = q.retention(b, s.clock.Now()); err != nil {
		return nil, err
	}
	if err := s.condition(q, b); err != nil {
		return nil, err
	}
	if v.sum == (checksum{}) {
		v.sum = sumOf("CRC64NVME", v.body) // S3 computes it for objects that came without one
	}
	sum := md5.Sum(v.body) //nolint:gosec // S3's ETag
	v.etag = hex.EncodeToString(sum[:])
	s.add(b, q.key, v)
	s.publishCreated(q, b, v)
	a := &answer{}
	a.set("ETag", `"`+v.etag+`"`)
	a.set("X-Amz-Server-Side-Encryption", "AES256")
	a.set(v.sum.header(), v.sum.value)
	a.set("X-Amz-Checksum-Type", "FULL_OBJECT")
	if b.versioning != "" {
		a.set("X-Amz-Version-Id", v.id)
	}
	return a, nil
}

// onlyDefaults takes the values that every bucket has, and no others.
func (q *request) onlyDefaults() error {
	for name, value := range map[string]string{"X-Amz-Server-Side-Encryption": "AES256", "X-Amz-Storage-Class": "STANDARD"} {
		if given := q.header.Get(name); given != "" && given != value {
			return notModelled("%s: %s", name, given)
		}
	}
	return nil
}

// condition tests If-None-Match, which looks at the current version alone: a key
// under a delete marker is free.
func (s *Service) condition(q *request, b *bucket) error {
	given, asked := q.header["If-None-Match"]
	switch {
	case !asked:
		return nil
	case given[0] != "*":
		return notModelled("If-None-Match with anything but *")
	case b.current(q.key) != nil:
		return failed(http.StatusPreconditionFailed, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
	case s.behaviour.Conflict != nil && s.behaviour.Conflict(q.bucket, q.key):
		return failed(http.StatusConflict, "ConditionalRequestConflict", "The conditional request cannot succeed due to a conflicting operation against this resource.")
	}
	return nil
}

// retention reads the Object Lock headers, or takes the bucket's default.
func (q *request) retention(b *bucket, now time.Time) (*retention, error) {
	mode, text := q.header.Get("X-Amz-Object-Lock-Mode"), q.header.Get("X-Amz-Object-Lock-Retain-Until-Date")
	var r *retention
	switch {
	case mode == "" && text == "":
		r = b.lock.retention(now)
	case b.lock == nil:
		return nil, invalidRequest("Bucket is missing Object Lock Configuration")
	case mode == "" || text == "":
		return nil, invalidArgument("x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied")
	case mode != governance && mode != compliance:
		return nil, invalidArgument("Unknown wormMode directive.")
	default:
		until, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, invalidArgument("The retain until date must be provided in ISO 8601 format")
		}
		if !until.After(now) {
			return nil, invalidArgument("The retain until date must be in the future!")
		}
		if err := b.allowed(q, "s3:PutObjectRetention"); err != nil {
			return nil, err
		}
		r = &retention{mode, until}
	}
	if r != nil && !q.md5 && q.sum == (checksum{}) {
		return nil, invalidRequest("Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters")
	}
	return r, nil
}

var versionID = regexp.MustCompile(`^(null|[A-Z2-7]{32})$`)

// find returns the version that a read names, or the current one. The answer
// that comes with an error carries its headers.
func (s *Service) find(q *request) (*bucket, *version, *answer, error) {
	b, err := s.existing(q)
	if err != nil {
		return nil, nil, nil, err
	}
	about := &answer{}
	all := b.objects[q.key]
	if !q.query.Has("versionId") {
		if v := b.current(q.key); v != nil {
			return b, v, nil, nil
		}
		if len(all) > 0 {
			about.set("X-Amz-Delete-Marker", "true")
			about.set("X-Amz-Version-Id", all[0].id)
		}
		return b, nil, about, failed(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	}
	id := q.query.Get("versionId")
	if !versionID.MatchString(id) {
		return b, nil, nil, invalidArgument("Invalid version id specified")
	}
	at := slices.IndexFunc(all, func(v *version) bool { return v.id == id })
	if at < 0 {
		return b, nil, nil, failed(http.StatusNotFound, "NoSuchVersion", "The specified version does not exist.")
	}
	if all[at].marker {
		about.set("X-Amz-Delete-Marker", "true")
		about.set("X-Amz-Version-Id", id)
		about.set("Allow", http.MethodDelete)
		return b, nil, about, failed(http.StatusMethodNotAllowed, "MethodNotAllowed", "The specified method is not allowed against this resource.")
	}
	return b, all[at], nil, nil
}

func (s *Service) getObject(q *request) (*answer, error) {
	a, v, err := s.describe(q)
	if err == nil {
		a.body = v.body
	}
	return a, err
}

func (s *Service) headObject(q *request) (*answer, error) {
	a, _, err := s.describe(q)
	return a, err
}

// describe makes the headers that a read answers.
func (s *Service) describe(q *request) (*answer, *version, error) {
	b, v, about, err := s.find(q)
	if err != nil {
		return about, nil, err
	}
	a := &answer{header: maps.Clone(v.headers)}
	a.set("ETag", `"`+v.etag+`"`)
	a.set("Last-Modified", v.modified.UTC().Format(http.TimeFormat))
	a.set("Content-Length", itoa(len(v.body)))
	a.set("Accept-Ranges", "bytes")
	a.set("X-Amz-Server-Side-Encryption", "AES256")
	switch mode := q.header.Get(checksumMode); mode {
	case "":
	case "ENABLED":
		a.set(v.sum.header(), v.sum.value)
		a.set("X-Amz-Checksum-Type", "FULL_OBJECT")
	default:
		return nil, nil, invalidArgument("x-amz-checksum-mode is ENABLED")
	}
	if b.versioning != "" {
		a.set("X-Amz-Version-Id", v.id)
	}
	if v.retention != nil {
		a.set("X-Amz-Object-Lock-Mode", v.retention.mode)
		a.set("X-Amz-Object-Lock-Retain-Until-Date", stamp(v.retention.until))
	}
	return a, v, nil
}

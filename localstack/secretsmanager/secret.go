package secretsmanager

import (
	"bytes"
	"crypto/rand"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

const (
	current  = "AWSCURRENT"
	pending  = "AWSPENDING"
	previous = "AWSPREVIOUS"
)

// version is one version. Its value is written once: a changed version is a new
// one under the same id, so that older views keep what they saw.
type version struct {
	id      string
	created time.Time
	text    *string
	binary  []byte
}

func (v *version) empty() bool { return v.text == nil && v.binary == nil }

func (v *version) equal(text *string, binary []byte) bool {
	if v.text != nil && text != nil {
		return *v.text == *text
	}
	return v.text == nil && text == nil && bytes.Equal(v.binary, binary)
}

// view is the versions and who holds which label; a label has one holder by
// construction.
type view struct {
	versions map[string]*version
	labels   map[string]string // label to version id
}

func (v view) clone() view {
	return view{versions: maps.Clone(v.versions), labels: maps.Clone(v.labels)}
}

// labelsOf lists a version's labels in alphabetical order, as AWS answers.
func (v view) labelsOf(id string) []string {
	var out []string
	for label, holder := range v.labels {
		if holder == id {
			out = append(out, label)
		}
	}
	slices.Sort(out)
	return out
}

func (v view) stages() map[string][]string {
	out := map[string][]string{}
	for label, id := range v.labels {
		out[id] = append(out[id], label)
	}
	for _, labels := range out {
		slices.Sort(labels)
	}
	return out
}

type secret struct {
	view
	past []moment // older views, oldest first; only while there is a lag

	name, arn, description, kmsKey, kind string
	created, changed, accessed           time.Time
	deletion                             time.Time // when it goes for good; zero: not deleted
	readVersions                         map[string]time.Time
	tags                                 []tag
	owner, primary                       string
	replicas                             []string

	rotation rotation
}

// moment is how a secret looked until a change.
type moment struct {
	until time.Time
	view  view
}

type tag struct {
	Key   string
	Value string
}

var (
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9/_+=.@!-]{1,512}$`)
	suffixPattern = regexp.MustCompile(`-[A-Za-z0-9]{6}$`)
)

const arnPrefix = "arn:aws:secretsmanager:" + awsproto.Region + ":" + awsproto.Account + ":secret:"

// letters returns n random characters of a set.
func letters(n int, from string) string {
	out := make([]byte, n)
	for i := range out {
		out[i] = from[below(len(from))]
	}
	return string(out)
}

// below returns a random number from 0 to n-1.
func below(n int) int {
	// rand.Int fails only for a broken reader, and then crypto/rand ends the process.
	at, _ := rand.Int(rand.Reader, big.NewInt(int64(n)))
	return int(at.Int64())
}

func newARN(name string) string {
	return arnPrefix + name + "-" + letters(6, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
}

// find looks a secret up by name, ARN or ARN without its random suffix. An ARN
// that ends in a hyphen and six characters is taken for a complete one (user
// guide, "Finding a secret from a partial ARN").
func (s *Service) find(id string) (*secret, error) {
	if id == "" || len(id) > 2048 {
		return nil, awsproto.Errorf("ValidationException",
			"1 validation error detected: Value at 'secretId' failed to satisfy constraint: Member must have length between 1 and 2048")
	}
	isARN := strings.HasPrefix(id, "arn:")
	if !isARN && !namePattern.MatchString(id) {
		return nil, badName()
	}
	s.purgeDeleted()
	for _, sec := range s.secrets {
		partial := isARN && !suffixPattern.MatchString(id) && sec.arn[:len(sec.arn)-7] == id
		if sec.arn == id || partial || (!isARN && sec.name == id) {
			return sec, nil
		}
	}
	return nil, awsproto.Errorf("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

func badName() error {
	return awsproto.Errorf("ValidationException",
		"Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!")
}

// findLive finds a secret that isn't marked for deletion.
func (s *Service) findLive(id string) (*secret, error) {
	sec, err := s.find(id)
	if err == nil && !sec.deletion.IsZero() {
		return nil, awsproto.Errorf("InvalidRequestException",
			"You can't perform this operation on the secret because it was marked for deletion.")
	}
	return sec, err
}

// findWritable finds a secret that callers may change: no replica, and no
// secret that another AWS service manages.
func (s *Service) findWritable(id string) (*secret, error) {
	sec, err := s.findLive(id)
	switch {
	case err != nil:
		return nil, err
	case sec.primary != "" && sec.primary != awsproto.Region:
		return nil, awsproto.Errorf("InvalidRequestException",
			"Operation not permitted on a replica secret. Call must be made in primary secret's region.")
	case sec.owner != "":
		return nil, awsproto.Errorf("InvalidRequestException",
			"The secret is managed by another service, and you must use that service to update it.")
	}
	return sec, nil
}

// purgeDeleted removes secrets whose recovery window is over.
func (s *Service) purgeDeleted() {
	now := s.clock.Now()
	s.secrets = slices.DeleteFunc(s.secrets, func(sec *secret) bool {
		gone := !sec.deletion.IsZero() && !now.Before(sec.deletion)
		if gone {
			s.publishService("EndSecretVersionDelete", sec.arn)
		}
		return gone
	})
}

// remember keeps the state of before a change for readers that lag behind.
func (s *Service) remember(sec *secret) {
	now := s.clock.Now()
	sec.changed = now
	lag := s.behaviour.ReadLag + s.behaviour.ListLag
	sec.past = slices.DeleteFunc(sec.past, func(m moment) bool { return !m.until.Add(lag).After(now) })
	if lag > 0 {
		sec.past = append(sec.past, moment{until: now, view: sec.clone()})
	}
}

// seen is what a reader by label is shown.
func (s *Service) seen(sec *secret) view { return s.seenAgo(sec, s.behaviour.ReadLag) }

func (s *Service) seenAgo(sec *secret, lag time.Duration) view {
	at := s.clock.Now().Add(-lag)
	for _, m := range sec.past {
		if at.Before(m.until) {
			return m.view
		}
	}
	return sec.view
}

// Seed is a secret that no API call can make: a replica, or one that another
// AWS service manages.
type Seed struct {
	Name           string
	Value          string
	PrimaryRegion  string   // other than the own region: a replica
	ReplicaRegions []string // regions to which this primary is replicated
	OwningService  string
}

// Seed puts a secret in and returns its ARN. It is for tests.
func (s *Service) Seed(seed Seed) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	id := newUUID()
	sec := &secret{
		name: seed.Name, arn: newARN(seed.Name), created: now, changed: now,
		owner: seed.OwningService, primary: seed.PrimaryRegion, replicas: seed.ReplicaRegions,
		readVersions: map[string]time.Time{},
		view: view{
			versions: map[string]*version{id: {id: id, created: now, text: &seed.Value}},
			labels:   map[string]string{current: id},
		},
	}
	s.secrets = append(s.secrets, sec)
	return sec.arn
}

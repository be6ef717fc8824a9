// Package rotationtest answers: what does a version store do that keeps to the
// documented label rules and forgives nothing?
//
// Its Store lives in memory. Use it to test the step logic and engines without
// a cloud; it fails where Secrets Manager would.
package rotationtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// Call is one call that the store has answered. It never holds a value.
type Call struct {
	Op      string // "Value", "Current", "Put", "Describe", "Attach", "Move", "Detach", "Rotate"
	Secret  string
	Version string
	Label   rotation.Label
	From    string // Move only
	Err     error
}

type secret struct {
	desc   rotation.Description
	values map[string]rotation.Value
}

// Store is an in-memory rotation.Store, safe for concurrent use.
type Store struct {
	// Driver says how Put labels a version: DriverSecretsManager (the default)
	// adds to the AWSPENDING that Rotate has granted, DriverMachine stores it
	// under its candidate label.
	Driver rotation.Driver
	// Now dates rotations; nil means time.Now.
	Now func() time.Time
	// Fail, when set, is asked before each call; its error is the answer.
	Fail func(Call) error
	// FailAfter is asked after each call that succeeded: its error is returned
	// although the call took effect, as when an answer is lost.
	FailAfter func(Call) error

	mu      sync.Mutex
	secrets map[string]*secret
	calls   []Call
}

var _ rotation.Store = (*Store)(nil)

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{Driver: rotation.DriverSecretsManager, secrets: map[string]*secret{}}
}

// Add puts a secret with one version, AWSCURRENT, into the store.
func (s *Store) Add(arn, version, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	enabled := s.Driver == rotation.DriverSecretsManager
	s.secrets[arn] = &secret{
		desc: rotation.Description{
			ARN: arn, Name: arn, RotationEnabled: &enabled,
			Versions: rotation.Versions{version: {rotation.Current}},
		},
		values: map[string]rotation.Value{version: rotation.NewValue(value)},
	}
}

// Edit changes what Describe says of a secret, as an operator would.
func (s *Store) Edit(arn string, change func(*rotation.Description)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sec, ok := s.secrets[arn]; ok {
		change(&sec.desc)
	}
}

// PutByHand stores a value as PutSecretValue without stages does: it becomes
// AWSCURRENT at once.
func (s *Store) PutByHand(arn, version, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec := s.secrets[arn]
	sec.values[version] = rotation.NewValue(value)
	sec.touch(version)
	sec.give(rotation.Current, version)
}

// Finish moves AWSCURRENT to a version, as finishSecret does.
func (s *Store) Finish(arn, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sec, ok := s.secrets[arn]; ok {
		sec.give(rotation.Current, version)
	}
}

// Calls returns what was called so far, in order.
func (s *Store) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Labels returns the labels of a secret's versions.
func (s *Store) Labels(arn string) rotation.Versions {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, ok := s.secrets[arn]
	if !ok {
		return nil
	}
	return sec.versions()
}

// do runs one call under the lock, with the faults asked for.
func (s *Store) do(c Call, act func(*secret) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := func() error {
		if s.Fail != nil {
			if err := s.Fail(c); err != nil {
				return err
			}
		}
		sec, ok := s.secrets[c.Secret]
		if !ok {
			return fault.New(fault.InvalidInput, "no secret %s", c.Secret)
		}
		if err := act(sec); err != nil {
			return err
		}
		if s.FailAfter != nil {
			return s.FailAfter(c)
		}
		return nil
	}()
	c.Err = err
	s.calls = append(s.calls, c)
	return err
}

// Value implements rotation.Values.
func (s *Store) Value(_ context.Context, arn, version string) (rotation.Value, error) {
	var v rotation.Value
	err := s.do(Call{Op: "Value", Secret: arn, Version: version}, func(sec *secret) error {
		var ok bool
		if v, ok = sec.values[version]; !ok {
			return fault.New(fault.InvalidStage, "version %q of %s has no value", version, arn)
		}
		return nil
	})
	return v, err
}

// Current implements rotation.Values.
func (s *Store) Current(_ context.Context, arn string) (rotation.Value, string, error) {
	var (
		v  rotation.Value
		id string
	)
	err := s.do(Call{Op: "Current", Secret: arn}, func(sec *secret) error {
		id = sec.desc.Versions.Holder(rotation.Current)
		var ok bool
		if v, ok = sec.values[id]; !ok {
			return fault.New(fault.InvalidStage, "%s has no AWSCURRENT version", arn)
		}
		return nil
	})
	return v, id, err
}

// Put implements rotation.Values.
func (s *Store) Put(_ context.Context, c rotation.Change, v rotation.Value) error {
	return s.do(Call{Op: "Put", Secret: c.Secret, Version: c.To}, func(sec *secret) error {
		if old, ok := sec.values[c.To]; ok {
			if old.Reveal() != v.Reveal() {
				return fault.New(fault.Conflict, "version %s has another value already", c.To)
			}
			return nil
		}
		if v.Empty() {
			return fault.New(fault.InvalidInput, "the value of version %s is empty", c.To)
		}
		if s.Driver == rotation.DriverSecretsManager && !sec.desc.Versions.Has(c.To, rotation.Pending) {
			return fault.New(fault.InvalidStage, "version %s isn't AWSPENDING", c.To)
		}
		sec.values[c.To] = v
		sec.touch(c.To)
		for _, l := range rotation.MadeLabels(s.Driver, c.To) {
			sec.give(l, c.To)
		}
		return nil
	})
}

// Describe implements rotation.Store.
func (s *Store) Describe(_ context.Context, arn string) (rotation.Description, error) {
	var d rotation.Description
	err := s.do(Call{Op: "Describe", Secret: arn}, func(sec *secret) error {
		d = sec.desc
		d.Versions = sec.versions()
		return nil
	})
	return d, err
}

// Attach implements rotation.Store: set-if-absent.
func (s *Store) Attach(_ context.Context, arn string, label rotation.Label, version string) error {
	return s.do(Call{Op: "Attach", Secret: arn, Label: label, Version: version}, func(sec *secret) error {
		if err := sec.exists(version); err != nil {
			return err
		}
		if holder := sec.desc.Versions.Holder(label); holder != "" && holder != version {
			return fault.New(fault.Conflict, "%s is on version %s", label, holder)
		}
		sec.give(label, version)
		return nil
	})
}

// Move implements rotation.Store: compare-and-swap.
func (s *Store) Move(_ context.Context, arn string, label rotation.Label, to, from string) error {
	return s.do(Call{Op: "Move", Secret: arn, Label: label, Version: to, From: from}, func(sec *secret) error {
		if err := sec.exists(to); err != nil {
			return err
		}
		holder := sec.desc.Versions.Holder(label)
		if holder == to {
			return nil
		}
		if holder != from {
			return fault.New(fault.Conflict, "%s is on version %q, not on %s", label, holder, from)
		}
		sec.give(label, to)
		return nil
	})
}

// Detach implements rotation.Store.
func (s *Store) Detach(_ context.Context, arn string, label rotation.Label, version string) error {
	return s.do(Call{Op: "Detach", Secret: arn, Label: label, Version: version}, func(sec *secret) error {
		if label == rotation.Current {
			return fault.New(fault.InvalidInput, "AWSCURRENT can be moved, not removed")
		}
		sec.take(label, version)
		return nil
	})
}

// Rotate implements rotation.Store: it grants AWSPENDING to an empty version.
// Driving the four steps is the caller's business.
func (s *Store) Rotate(_ context.Context, arn, token string) error {
	return s.do(Call{Op: "Rotate", Secret: arn, Version: token}, func(sec *secret) error {
		v := sec.desc.Versions
		if v.Has(token, rotation.Current) {
			return nil
		}
		if p := v.Holder(rotation.Pending); p != "" && p != token && p != v.Holder(rotation.Current) {
			return fault.New(fault.RotationInProgress, "a previous rotation isn't complete: AWSPENDING is on %s", p)
		}
		now := time.Now
		if s.Now != nil {
			now = s.Now
		}
		sec.desc.LastRotated = now()
		sec.touch(token)
		sec.give(rotation.Pending, token)
		return nil
	})
}

func (sec *secret) exists(version string) error {
	if _, ok := sec.desc.Versions[version]; !ok {
		return fault.New(fault.InvalidStage, "no version %q of %s", version, sec.desc.ARN)
	}
	return nil
}

func (sec *secret) touch(version string) {
	if _, ok := sec.desc.Versions[version]; !ok {
		sec.desc.Versions[version] = nil
	}
}

// give puts a label on one version and takes it off the other. Moving
// AWSCURRENT moves AWSPREVIOUS to the version that had it, by itself.
func (sec *secret) give(label rotation.Label, version string) {
	holder := sec.desc.Versions.Holder(label)
	if holder == version {
		return
	}
	if holder != "" {
		sec.take(label, holder)
	}
	sec.desc.Versions[version] = append(sec.desc.Versions[version], label)
	if label == rotation.Current && holder != "" {
		sec.give(rotation.Previous, holder)
		sec.take(rotation.Previous, version)
	}
}

func (sec *secret) take(label rotation.Label, version string) {
	labels := sec.desc.Versions[version]
	sec.desc.Versions[version] = slices.DeleteFunc(slices.Clone(labels), func(l rotation.Label) bool { return l == label })
}

// versions copies the map, so that callers can't reach into the store. As in
// DescribeSecret, a version without labels isn't listed.
func (sec *secret) versions() rotation.Versions {
	v := rotation.Versions{}
	for id, labels := range sec.desc.Versions {
		if len(labels) > 0 {
			v[id] = slices.Clone(labels)
		}
	}
	return v
}

// String names the call without any value.
func (c Call) String() string {
	return fmt.Sprintf("%s %s %s %s %s: %v", c.Op, c.Secret, c.Label, c.Version, c.From, c.Err)
}

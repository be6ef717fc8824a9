// Package kms answers: would AWS KMS have used this key, and for this?
//
// It has keys with their states, aliases and scheduled deletion, and signs for
// real: what it signs verifies with the public key outside. A symmetric key can
// be made and named for others to encrypt by; encrypting isn't modelled. Rules
// are those of the KMS API reference and developer guide. Key policies are kept
// and never tested: the local AWS lets everybody do everything.
//
// Not modelled: encryption, HMAC keys, grants, imported material, multi-Region
// keys, custom key stores and rotation. What isn't modelled is refused.
package kms

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/trail"
)

// Config is what the service needs. Only Clock is required.
type Config struct {
	Clock  *clock.Clock
	Bus    host.Bus // takes the CloudTrail events; it must not call back from Publish
	Logger *slog.Logger
	// Fault, if set, is called before and after every action. An error from
	// the call before keeps the action from happening; one from the call after
	// hides an answer whose effect has happened.
	Fault func(ctx context.Context, action string, before bool) error
}

// Service is the local KMS. It is safe for concurrent use.
type Service struct {
	clock *clock.Clock
	bus   host.Bus
	log   *slog.Logger

	mu      sync.Mutex
	fault   func(ctx context.Context, action string, before bool) error
	keys    map[string]*key // by id
	aliases map[string]*alias
}

var _ awsproto.JSONService = (*Service)(nil)

// New makes a service without keys. It needs no Close.
func New(c Config) *Service {
	s := &Service{
		clock: c.Clock, bus: c.Bus, log: c.Logger, fault: c.Fault, keys: map[string]*key{}, aliases: map[string]*alias{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

// SetFault replaces the hook of Config.Fault.
func (s *Service) SetFault(f func(ctx context.Context, action string, before bool) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// TargetPrefix implements awsproto.JSONService.
func (s *Service) TargetPrefix() string { return "TrentService" }

type action struct {
	run      func(s *Service, body []byte) (any, error)
	readOnly bool
}

// on makes an action of a method that runs with the lock held.
func on[In any](f func(*Service, In) (any, error), readOnly bool) action {
	return action{readOnly: readOnly, run: func(s *Service, body []byte) (any, error) {
		var in In
		if err := awsproto.Decode(body, &in); err != nil {
			return nil, err
		}
		return f(s, in)
	}}
}

// CloudTrail takes the use of a key for a read.
var actions = map[string]action{
	"CancelKeyDeletion":   on((*Service).cancelKeyDeletion, false),
	"CreateAlias":         on((*Service).createAlias, false),
	"CreateKey":           on((*Service).createKey, false),
	"DeleteAlias":         on((*Service).deleteAlias, false),
	"DescribeKey":         on((*Service).describeKey, true),
	"DisableKey":          on((*Service).disableKey, false),
	"EnableKey":           on((*Service).enableKey, false),
	"GetKeyPolicy":        on((*Service).getKeyPolicy, true),
	"GetPublicKey":        on((*Service).getPublicKey, true),
	"ListAliases":         on((*Service).listAliases, true),
	"ListResourceTags":    on((*Service).listResourceTags, true),
	"ScheduleKeyDeletion": on((*Service).scheduleKeyDeletion, false),
	"Sign":                on((*Service).sign, true),
	"UpdateAlias":         on((*Service).updateAlias, false),
	"Verify":              on((*Service).verify, true),
}

// Call implements awsproto.JSONService.
func (s *Service) Call(ctx context.Context, name string, body []byte) (any, error) {
	a, ok := actions[name]
	if !ok {
		return nil, awsproto.Errorf("UnknownOperationException", "the local KMS has no action %q", name)
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
	s.removeDue()
	out, err := a.run(s, body)
	s.publish(awsproto.CallerOf(ctx), name, a.readOnly, body, out, err)
	return out, err
}

// unrecorded are the members that CloudTrail leaves out.
var unrecorded = []string{"Message", "Signature", "PublicKey"}

func (s *Service) publish(caller awsproto.Caller, name string, readOnly bool, body []byte, out any, err error) {
	call := trail.Call{
		Service: "kms", Name: name, At: s.clock.Now(), Caller: caller, ReadOnly: readOnly,
		Request: trail.Members(body, unrecorded...), Err: err,
	}
	if err == nil && !readOnly && out != nil {
		answer, _ := json.Marshal(out) // outputs are plain structs
		call.Response = trail.Members(answer, unrecorded...)
	}
	var about struct{ KeyID, TargetKeyID string }
	if json.Unmarshal(body, &about) == nil {
		for _, id := range []string{about.KeyID, about.TargetKeyID} {
			if k, missing := s.find(id); missing == nil {
				call.Resources = append(call.Resources, trail.Resource{Type: "AWS::KMS::Key", ARN: k.arn()})
			}
		}
	}
	trail.Publish(s.bus, s.log, call)
}

func invalid(format string, args ...any) error {
	return awsproto.Errorf("ValidationException", format, args...)
}

package rotation

import (
	"context"
	"log/slog"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
)

// Step is one act of the sequence.
type Step string

// The steps, in order. Rollback is the act that exchanges old and new; hold is
// a wait of the state machine and has no code.
const (
	StepCreate   Step = "create"
	StepSet      Step = "set"
	StepTest     Step = "test"
	StepFinish   Step = "finish"
	StepAdopt    Step = "adopt"
	StepDrain    Step = "drain"
	StepDisable  Step = "disable"
	StepRevoke   Step = "revoke"
	StepRollback Step = "rollback"
	// StepEmergency is every act of an emergency; it isn't part of the sequence.
	StepEmergency Step = "emergency"
	// StepRecreate makes a login again that a restored target lacks; it isn't part
	// of the sequence either.
	StepRecreate Step = "recreate"
	// StepReopen lets a held credential in again that somebody has tried to use;
	// it isn't part of the sequence either.
	StepReopen Step = "reopen"
	// StepPause and StepResume are a person's, see [Rotator.Acted]: nothing may
	// begin, and what the labels ask for may.
	StepPause  Step = "pause"
	StepResume Step = "resume"
)

// Request is the call of a step: which secret, which rotation, which run.
type Request struct {
	Secret     string    // ARN
	Token      string    // the rotation's id: the version id that it creates
	Direction  Direction // which run calls
	Generation int       // of that run, from 1; 0 when the store itself calls
	Cursor     string    // what the last call of a step in this run returned
	// ByStore says that the store's own rotation calls (RotateSecret's four
	// steps), and not the state machine.
	ByStore       bool
	RotationToken Value // see Change.RotationToken
}

// Journal takes the audit trail's records.
type Journal interface {
	// Record fails when the record can't be kept; the caller then doesn't act.
	Record(context.Context, audit.Record) error
	// Note never fails and waits for nobody longer than a moment: disable,
	// enable and rollback must not depend on the audit sink.
	Note(context.Context, audit.Record)
}

// Engines finds the engine of a kind.
type Engines interface {
	Engine(kind string) (Engine, error)
}

// Rotator carries out steps: it holds the label protocol, and asks the engine
// for everything that depends on the kind of credential. All fields are
// required but Runs, without which no run can be ensured (the watchdog will), and
// Sleep.
type Rotator struct {
	Store    Store
	Engines  Engines
	Policies Policies
	Journal  Journal
	Runs     Runs
	Now      func() time.Time
	Log      *slog.Logger
	// Sleep waits where reads may lag behind writes, a second and a half at most;
	// nil waits in real time. It returns the context's error if that ends first.
	Sleep func(context.Context, time.Duration) error
}

// headPoll is how often the machine looks at a rotation that the store drives.
const headPoll = 2 * time.Second

// Rank orders the runs of one rotation at its targets: forward outranks head,
// back outranks both, and a later generation outranks an earlier one.
func Rank(d Direction, generation int) int {
	switch d {
	case Forward:
		return perDirection + generation
	case Back:
		return 2*perDirection + perRollback*generation
	default:
		return generation
	}
}

const (
	perDirection = 1_000_000
	perRollback  = 1_000
)

// rankAgain is that of a forward run that goes on after a rollback was taken back:
// it outranks that one's last generation, and the next one outranks it.
func rankAgain(generation, rollback int) int {
	return Rank(Back, rollback) + min(generation, perRollback-1)
}

// scene is everything that a step decides on, read once at its start.
type scene struct {
	req    Request
	policy Policy
	engine Engine
	desc   Description
	cursor cursor
}

// enter reads the policy first: a secret that isn't listed is refused before
// anything of it is read.
func (r *Rotator) enter(ctx context.Context, step Step, req Request) (scene, error) {
	if req.Secret == "" || len(req.Token) < 32 || len(req.Token) > 64 {
		return scene{}, fault.New(fault.InvalidInput, "the event names secret %q and token %q", req.Secret, req.Token).
			WithHint("secret must be an ARN and the token a version id of 32 to 64 characters")
	}
	policy, err := r.Policies.Policy(req.Secret)
	if err != nil {
		return scene{}, err
	}
	engine, err := r.Engines.Engine(policy.Kind)
	if err != nil {
		return scene{}, err
	}
	desc, err := r.Store.Describe(ctx, req.Secret)
	if err != nil {
		return scene{}, fault.Wrap(fault.Unavailable, err, "describing %s", req.Secret)
	}
	if err := rotatable(desc); err != nil {
		return scene{}, err
	}
	if req.ByStore {
		if err := switchedOff(desc, policy); err != nil {
			return scene{}, err
		}
	}
	return scene{req: req, policy: policy, engine: engine, desc: desc, cursor: readCursor(step, req.Cursor)}, nil
}

// rotatable refuses what nobody may rotate from here (rule C2.6).
func rotatable(d Description) error {
	switch {
	case d.Deleted:
		return fault.New(fault.RotationDisabled, "%s is marked for deletion", d.ARN).
			WithHint("restore it (aws secretsmanager restore-secret) or take it out of keyturn.yaml")
	case d.OwningService != "":
		return fault.New(fault.RotationDisabled, "%s is managed by %s", d.ARN, d.OwningService).
			WithHint("that service rotates it; take it out of keyturn.yaml")
	case d.ReplicaOf != "":
		return fault.New(fault.RotationDisabled, "%s is a replica of the secret in %s", d.ARN, d.ReplicaOf).
			WithHint("rotate the primary in %s; replicas follow", d.ReplicaOf)
	}
	return nil
}

// change is the order for the engine, with a fence that re-reads the labels.
func (s scene) change(r *Rotator, from, to string, supported func(Versions) error) Change {
	policy, stolen := s.policy, s.desc.Versions.isStolen(from) || s.desc.Versions.isStolen(to)
	if stolen {
		policy = policy.emergency()
	}
	return Change{
		Secret: s.desc.ARN, From: from, To: to,
		Rotation: s.req.Token, Rank: Rank(s.req.Direction, s.req.Generation),
		Cursor: s.cursor.Engine, Back: s.req.Direction == Back, Emergency: stolen,
		Policy: policy, RotationToken: s.req.RotationToken,
		Fence: func(ctx context.Context) error {
			desc, err := r.Store.Describe(ctx, s.desc.ARN)
			if err != nil {
				return fault.Wrap(fault.Unavailable, err, "reading the labels again before acting")
			}
			return supported(desc.Versions)
		},
	}
}

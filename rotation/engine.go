// Package rotation answers: what has to happen next to this secret, and may it?
//
// It holds the one sequence that every rotation of every kind of credential is
// (create, set, test, finish, adopt, drain, disable, hold, revoke), the staging
// labels that carry its state, and the rules that no step may break. It knows
// no cloud and no database: those stand behind [Store], [Runs] and [Engine].
//
// docs/rotation.md tells it in order. Rules such as C6.4 in comments are those of
// docs/conformance.md.
package rotation

import (
	"context"
	"time"
)

// Outcome says how far a step got. An error is a failure; waiting is not.
type Outcome string

const (
	// Done: the step's end is reached and proven by its Evidence.
	Done Outcome = "done"
	// Wait: the step looked, and Missing names who is behind. Call it again.
	Wait Outcome = "wait"
	// Unknown: the step couldn't look. Call it again; it never becomes Done by
	// the passing of time.
	Unknown Outcome = "unknown"
	// Reopened: Disable found somebody still presenting From and has undone
	// itself; the rotation goes back to draining.
	Reopened Outcome = "reopened"
	// Promoted: a head that was to be aborted has been promoted all the same.
	Promoted Outcome = "promoted"
)

// Outcomes lists every outcome.
func Outcomes() []Outcome { return []Outcome{Done, Wait, Unknown, Reopened, Promoted} }

// Proof ranks what is known of a party. The policy names the least that counts.
type Proof int

const (
	// Written: the file, alias or document was read back.
	Written Proof = iota + 1
	// Elapsed: a declared cache age has passed since the public copy was read back.
	Elapsed
	// Loaded: the running process reports the digest or version it uses.
	Loaded
	// Behaved: it accepted, or refused, a challenge on a fresh connection.
	Behaved
)

// Evidence is one thing seen about one party. It never holds a secret value.
type Evidence struct {
	Party   string    `json:"party"`            // a node, an endpoint, a consumer
	Digest  string    `json:"digest,omitempty"` // what it was seen with: login, version id, key id
	By      string    `json:"by"`               // how it was seen: "login refused 28000", "pg_stat_activity"
	Proof   Proof     `json:"proof"`            // how much that is worth
	At      time.Time `json:"at"`               // when, UTC
	Expires time.Time `json:"expires,omitzero"` // when it stops counting; zero means never
}

// Result is what a step answers. It travels through an execution's state, so it
// is small and holds references only.
type Result struct {
	Outcome  Outcome
	Missing  []string      // who is behind, or what couldn't be seen
	After    time.Duration // call again no sooner than this
	Cursor   string        // opaque to everyone but the step that wrote it
	Evidence []Evidence
	Notes    []string // what a person should know although the step is done
	// Untouched says that the target never had From's credential, so that Revoke
	// destroyed nothing: a login or key that another version has too still works.
	Untouched bool
	// Sessions is how many Drain has counted on From's login, now and everywhere;
	// nil: it couldn't. It is for a metric and isn't kept in the execution's state.
	Sessions *int
}

// Change is the order that a step carries out: references only.
type Change struct {
	Secret string // ARN
	From   string // version id of the credential that goes
	To     string // version id of the credential that comes or stays
	// Rotation is the id of the whole rotation (the token of the version that it
	// created); Rank orders the runs of one rotation: a target that has seen a
	// higher rank refuses this one (fault.Fenced).
	Rotation string
	Rank     int
	Cursor   string
	// Unpresented says that From was never AWSCURRENT, so that no consumer had
	// reason to use it: discarding it needs no adoption evidence.
	Unpresented bool
	// Back says that the rotation is being rolled back: To is the old credential.
	Back      bool
	Emergency bool
	Policy    Policy
	// RotationToken goes unchanged to PutSecretValue (rule C1.4); often empty.
	RotationToken Value
	// Fence re-reads the labels and fails with fault.Superseded, fault.Fenced or
	// fault.Rejected when they no longer support this step. An engine calls it
	// inside its target's lock, as the last thing before it acts. Never nil.
	Fence func(context.Context) error
}

// Plan is what a rotation would do, found by reading only.
type Plan struct {
	Parties  []string // who takes part
	Breaks   []string // what stops working, if anything
	Blockers []string // what has to be mended first; empty means go
}

// Engine knows one kind of credential. Every step looks before it acts: it may
// run late, run twice, or run after a crash of itself at any point, and then
// converges on the same end. Errors carry a fault name; retryable ones leave
// the target as it was or as the finished step would. A login that its target has
// refused as often as Policy.FailedLogins allows isn't tried again within the
// hour, over all processes and rotations: that is fault.Blocked. What befalls the
// engine's own login is an [OwnLoginError].
type Engine interface {
	Defaults() Policy
	// Identity names the login or key behind a version, comparable between
	// versions of one secret; never secret. A version without a value is
	// fault.InvalidStage.
	Identity(ctx context.Context, secret, version string) (string, error)
	Plan(context.Context, Change) (Plan, error)      // reads only: parties, what breaks, what blocks
	Create(context.Context, Change) (Result, error)  // make To
	Set(context.Context, Change) (Result, error)     // acceptors take To beside From
	Test(context.Context, Change) (Result, error)    // acceptors have proven To; no side effects
	Adopt(context.Context, Change) (Result, error)   // the label has moved: presenters follow, in waves
	Drain(context.Context, Change) (Result, error)   // who still presents From
	Disable(context.Context, Change) (Result, error) // From is refused, and that is proven; reversible
	Enable(context.Context, Change) (Result, error)  // undoes Disable, and proves that From works
	Revoke(context.Context, Change) (Result, error)  // acceptors forget From; then destroy it
}

// OwnLoginError is why an engine couldn't use its own login at the target, the
// admin's. It keeps its fault's name, and says nothing about the credential that
// was to be looked at.
type OwnLoginError struct{ Err error }

func (e *OwnLoginError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *OwnLoginError) Unwrap() error { return e.Err }

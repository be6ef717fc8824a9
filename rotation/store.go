package rotation

import (
	"context"
	"time"
)

// Description is what DescribeSecret says, reduced to what decisions need.
type Description struct {
	ARN             string
	Name            string
	Deleted         bool
	OwningService   string // another AWS service manages the secret
	ReplicaOf       string // the primary's region, if this is a replica
	RotationEnabled *bool  // nil where the service didn't say
	LastRotated     time.Time
	NextRotation    time.Time     // by when the service's schedule rotates it next; zero: it has none
	Every           time.Duration // between two scheduled rotations; zero where unknown
	Paused          bool          // tag keyturn:pause
	Versions        Versions
}

// Store keeps versions of secrets and their staging labels. A label write that
// loses to somebody else fails with fault.Conflict; a missing value is
// fault.InvalidStage. Implementations retry nothing that isn't idempotent.
type Store interface {
	Values
	Describe(ctx context.Context, secret string) (Description, error)
	// Attach puts a label on a version. It fails with fault.Conflict if another
	// version holds it, and succeeds if this one does: set-if-absent.
	Attach(ctx context.Context, secret string, label Label, version string) error
	// Move takes a label from one version to another: compare-and-swap. It
	// succeeds if To holds it already.
	Move(ctx context.Context, secret string, label Label, to, from string) error
	// Detach takes a label off a version; a label that isn't there is success.
	Detach(ctx context.Context, secret string, label Label, version string) error
	// Rotate asks the store's own rotation to run with this token. It fails with
	// fault.RotationInProgress if another token is being rotated; the store then
	// tries that one again.
	Rotate(ctx context.Context, secret, token string) error
}

// Lister is a Store that shows many secrets a call.
type Lister interface {
	// List passes on page after page, until there is none left or more returns
	// false. What a page shows may be minutes old: nothing may be done by it, and
	// a secret that was made since is missing.
	List(ctx context.Context, more func(page []Description) bool) error
}

// Values reads and writes secret values by version.
type Values interface {
	// Value reads one version. No such version, or one without a value, is
	// fault.InvalidStage; only that answer may lead to making a value.
	Value(ctx context.Context, secret, version string) (Value, error)
	// Current reads the version that holds AWSCURRENT, and its id.
	Current(ctx context.Context, secret string) (Value, string, error)
	// Put stores the value of version To, labelled so that it is never current.
	// If the token holds another value already, that one is kept and Put fails
	// with fault.Conflict: read it and use it.
	Put(ctx context.Context, c Change, v Value) error
}

// RunStatus is where an execution stands.
type RunStatus string

// The statuses of Step Functions' DescribeExecution, and Absent.
const (
	RunAbsent    RunStatus = "ABSENT"
	RunRunning   RunStatus = "RUNNING"
	RunSucceeded RunStatus = "SUCCEEDED"
	RunFailed    RunStatus = "FAILED"
	RunTimedOut  RunStatus = "TIMED_OUT"
	RunAborted   RunStatus = "ABORTED"
)

// Run is one execution of the state machine.
type Run struct {
	Name    string
	Status  RunStatus
	Started time.Time
	Stopped time.Time // when it ended; zero while it runs
	Error   string    // RotationAborted or RotationStuck
	Cause   string
}

// Runs starts and looks up executions of the state machine.
type Runs interface {
	// Start is the atomic claim: of two calls with one name, one execution
	// comes. A name that is taken, by whatever input, is not an error.
	Start(ctx context.Context, name string, in Input) error
	// Stop ends a running execution of a secret. Its functions may go on until they
	// are done; one that has ended, or never was, is not an error.
	Stop(ctx context.Context, secret, name, why string) error
	// Describe returns RunAbsent, not an error, for a name never started.
	Describe(ctx context.Context, secret, name string) (Run, error)
}

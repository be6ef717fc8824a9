// Package fault answers: what went wrong, by a name that a machine may route on?
//
// The names are wire format. They become the Lambda error type, the states
// language's ErrorEquals, the audit record and the alarm; renaming one is a
// breaking change. Everything else about an error (its text, its chain) is for
// people. Waiting is never a fault: a step that must be called again says so in
// its rotation.Result.
package fault

import (
	"errors"
	"fmt"
)

// Name is the stable name of a fault, as Step Functions sees it.
type Name string

// Faults that a later, identical call may not meet.
const (
	// Throttled: a service asked us to slow down.
	Throttled Name = "Keyturn.Throttled"
	// Unavailable: a service or target can't be reached or answers 5xx.
	Unavailable Name = "Keyturn.Unavailable"
	// Conflict: a conditional write was lost; the next run looks again.
	Conflict Name = "Keyturn.Conflict"
	// Ambiguous: a write was sent and its answer never came. The next run looks
	// before it acts; it never makes another password.
	Ambiguous Name = "Keyturn.Ambiguous"
	// AuditUnavailable: the intent couldn't be recorded, so nothing was done.
	AuditUnavailable Name = "Keyturn.AuditUnavailable"
)

// Faults that need a person, or another run, before they go away.
const (
	// InvalidInput: the event or the secret's value is malformed.
	InvalidInput Name = "Keyturn.InvalidInput"
	// InvalidStage: the labels don't support this step for this version.
	InvalidStage Name = "Keyturn.InvalidStage"
	// NotManaged: the policy document doesn't list the secret.
	NotManaged Name = "Keyturn.NotManaged"
	// PolicyViolation: the secret's value names what the policy doesn't allow.
	PolicyViolation Name = "Keyturn.PolicyViolation"
	// RotationDisabled: rotation is switched off, or the secret can't be rotated
	// here (deleted, a replica, owned by another service).
	RotationDisabled Name = "Keyturn.RotationDisabled"
	// RotationInProgress: another token holds AWSPENDING.
	RotationInProgress Name = "Keyturn.RotationInProgress"
	// DrainInProgress: a replaced credential isn't revoked yet.
	DrainInProgress Name = "Keyturn.DrainInProgress"
	// HeadExpired: create…finish took longer than the policy's head limit.
	HeadExpired Name = "Keyturn.HeadExpired"
	// DrainExpired: the longest overlap has passed and somebody still presents
	// the old credential. Both are alive.
	DrainExpired Name = "Keyturn.DrainExpired"
	// IdentityInUse: another live version uses the same login or key.
	IdentityInUse Name = "Keyturn.IdentityInUse"
	// CredentialRejected: the target refused a credential that should work.
	CredentialRejected Name = "Keyturn.CredentialRejected"
	// PermissionDenied: our own role or admin login lacks a right.
	PermissionDenied Name = "Keyturn.PermissionDenied"
	// Blocked: preflight found what makes this rotation unsafe; nothing changed.
	Blocked Name = "Keyturn.Blocked"
	// Fenced: a later run owns the target; this one must not act any more.
	Fenced Name = "Keyturn.Fenced"
	// Rejected: this version was rolled back; no forward step may touch it.
	Rejected Name = "Keyturn.Rejected"
	// Superseded: the labels ask for another run than this one.
	Superseded Name = "Keyturn.Superseded"
	// TooLate: the old credential is destroyed; only rolling forward is left.
	TooLate Name = "Keyturn.TooLate"
	// Internal: a defect, or an error that nobody named.
	Internal Name = "Keyturn.Internal"
)

// Class says whether calling again, unchanged, makes sense.
type Class string

// The two classes.
const (
	Retry    Class = "retry"
	Terminal Class = "terminal"
)

// Names lists every fault in the order of this file.
func Names() []Name {
	return []Name{
		Throttled, Unavailable, Conflict, Ambiguous, AuditUnavailable,
		InvalidInput, InvalidStage, NotManaged, PolicyViolation, RotationDisabled,
		RotationInProgress, DrainInProgress, HeadExpired, DrainExpired, IdentityInUse,
		CredentialRejected, PermissionDenied, Blocked, Fenced, Rejected,
		Superseded, TooLate, Internal,
	}
}

// Class reports the class of a name; a name it doesn't know is terminal.
func (n Name) Class() Class {
	switch n {
	case Throttled, Unavailable, Conflict, Ambiguous, AuditUnavailable:
		return Retry
	default:
		return Terminal
	}
}

// Error carries a Name through any number of wraps.
type Error struct {
	Name Name
	// Doing says what was being attempted or what is wrong, lower case, without
	// any secret value.
	Doing string
	// Hint says what the operator can do about it; it may be empty.
	Hint string
	Err  error
}

// New makes a fault from a text; Hint adds the mend.
func New(name Name, format string, args ...any) *Error {
	return &Error{Name: name, Doing: fmt.Sprintf(format, args...)}
}

// Wrap names an error's fault and says what was being done. An error that
// already carries a name keeps it: the place nearest to the cause knows best.
// Wrap of nil is nil.
func Wrap(name Name, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	var inner *Error
	if errors.As(err, &inner) {
		name = inner.Name
	}
	return &Error{Name: name, Doing: fmt.Sprintf(format, args...), Err: err}
}

// WithHint returns the fault with its mend.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Doing
	}
	return e.Doing + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// NameOf returns the name that an error carries, or Internal.
func NameOf(err error) Name {
	var f *Error
	if errors.As(err, &f) {
		return f.Name
	}
	return Internal
}

// Is reports whether err carries the name.
func Is(err error, name Name) bool {
	return err != nil && NameOf(err) == name
}

// HintOf returns the innermost hint of an error's chain, or "".
func HintOf(err error) string {
	hint := ""
	for err != nil {
		var f *Error
		if !errors.As(err, &f) {
			break
		}
		if f.Hint != "" {
			hint = f.Hint
		}
		err = f.Err
	}
	return hint
}

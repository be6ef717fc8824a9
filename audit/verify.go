package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// FindingKind says what is wrong with a trail.
type FindingKind string

// The kinds of findings.
const (
	Changed   FindingKind = "changed"   // its bytes aren't what was sealed
	Missing   FindingKind = "missing"   // a number is absent though a later one is there
	Reordered FindingKind = "reordered" // a sealed record lies under another number
	Truncated FindingKind = "truncated" // a chain ends before a record that is known to have been there
	Foreign   FindingKind = "foreign"   // it belongs to another secret or rotation, or nobody announced it
	Unlinked  FindingKind = "unlinked"  // it doesn't carry the hash of what stands before it
	Unsigned  FindingKind = "unsigned"  // no key that is trusted has signed it
)

// Finding is one thing that is wrong.
type Finding struct {
	Kind   FindingKind `json:"kind"`
	Key    string      `json:"key"` // in the ledger
	Detail string      `json:"detail"`
}

func (f Finding) String() string { return fmt.Sprintf("%s: %s: %s", f.Key, f.Kind, f.Detail) }

// Chain sums up the chain of one rotation.
type Chain struct {
	Head
	First time.Time `json:"first,omitzero"` // time of its first record
	Last  time.Time `json:"last,omitzero"`  // time of its last record
}

// OpenStep is an intent whose end isn't recorded, or a result that no intent
// came before. It is information: the act may be going on, its process may have
// been killed, or its record may wait to be reconciled.
type OpenStep struct {
	Key        string    `json:"key"`
	RotationID string    `json:"rotation_id"`
	Step       string    `json:"step"`
	Phase      Phase     `json:"phase"` // the half that is there
	Time       time.Time `json:"time"`
}

// Summary is what Verify saw.
type Summary struct {
	SecretID string     `json:"secret_id"`
	Records  int        `json:"records"`
	Chains   []Chain    `json:"chains"` // in the order in which they were announced
	Open     []OpenStep `json:"open"`
	Findings []Finding  `json:"findings"`
}

// FindingsError says that a trail isn't whole.
type FindingsError struct {
	SecretID string
	Findings []Finding
}

func (e *FindingsError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "audit trail of %s has %d findings", e.SecretID, len(e.Findings))
	for _, f := range e.Findings {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

// Verify reads every record of one secret and checks it against the others. It
// finds any change that doesn't rebuild all that comes after it; against
// somebody who can rewrite the whole ledger, and for the end of the latest
// chains, pass the heads that were kept elsewhere: each has to be there with its
// hash. It only reads, and may run while rotations are recording.
//
// A trail that isn't whole is a *FindingsError and the Summary holds what could
// be read; a ledger that can't be read is fault.AuditUnavailable.
func Verify(ctx context.Context, l Ledger, secret string, known ...Head) (Summary, error) {
	v, err := verified(ctx, l, secret, known)
	if err != nil {
		return Summary{SecretID: secret}, err
	}
	return v.result()
}

// verified reads a trail and checks all of it.
func verified(ctx context.Context, l Ledger, secret string, known []Head) (*verifier, error) {
	v := &verifier{ledger: l, secret: secret, chains: map[string]*chainView{}}
	if err := v.read(ctx); err != nil {
		return nil, fault.Wrap(fault.AuditUnavailable, err, "verifying the audit trail of %s", secret)
	}
	v.checkIndex()
	v.checkChains()
	for _, h := range known {
		v.checkKnown(h)
	}
	return v, nil
}

func (v *verifier) result() (Summary, error) {
	s := v.summary()
	if len(s.Findings) > 0 {
		return s, &FindingsError{SecretID: v.secret, Findings: s.Findings}
	}
	return s, nil
}

// Heads returns where each chain of a secret ends now, in the order in which the
// chains were announced: what to sign and keep elsewhere, for a later Verify. A
// trail with findings has heads too; only a ledger that can't be read has none.
func Heads(ctx context.Context, l Ledger, secret string) ([]Head, error) {
	s, err := Verify(ctx, l, secret)
	var findings *FindingsError
	if err != nil && !errors.As(err, &findings) {
		return nil, err
	}
	heads := make([]Head, 0, len(s.Chains))
	for _, c := range s.Chains {
		heads = append(heads, c.Head)
	}
	return heads, nil
}

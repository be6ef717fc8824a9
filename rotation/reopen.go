package rotation

import (
	"context"
	"fmt"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
)

// LateParty stands for whoever still presents a credential that is refused
// already, in the evidence about the version that holds it.
const LateParty = "late-login"

// LateTry is a login with the right password that its target refused, because the
// credential is disabled: somebody presents it whom no look at the drain has seen.
type LateTry struct {
	Version string    // that holds the credential
	Login   string    // as the target names it
	At      time.Time // by the target's clock
	Address string    // where it came from; empty: not known
	ID      string    // tells one try from another, and is kept in the audit trail
	// Told says that another such try was recorded a short time ago: a refusal to
	// let the login in again isn't recorded once more.
	Told bool
}

// Note is how the audit trail names the try.
func (t LateTry) Note() string { return "log event " + t.ID }

// Away is the evidence that keeps a drain from ending too soon once more: whoever
// came back after all that time may stay away for as long again.
func (t LateTry) Away(since time.Time) Evidence {
	e := t.evidence()
	if !since.IsZero() && since.Before(t.At) {
		e.Expires = t.At.Add(t.At.Sub(since)).UTC()
	}
	return e
}

func (t LateTry) evidence() Evidence {
	by := "right password refused for want of LOGIN"
	if t.Address != "" {
		by += ", from " + plain(t.Address)
	}
	return Evidence{Party: LateParty, Digest: t.Login, By: by, Proof: Behaved, At: t.At.UTC()}
}

// Present reports, of evidence about the version that goes, who still has to be
// taken for one that presents it.
func Present(now time.Time, about []Evidence) (holders []string) {
	for _, e := range about {
		if e.Party == LateParty && now.Before(e.Expires) {
			holders = append(holders, fmt.Sprintf("%s was tried at %s, after its refusal (%s): it counts as used until %s",
				e.Digest, e.At.UTC().Format(time.RFC3339), plain(e.By), e.Expires.UTC().Format(time.RFC3339)))
		}
	}
	return holders
}

// Reopen lets a disabled credential in again that somebody has tried to use while
// it was held: the acceptors take it, that is proven, and KEYTURN_DISABLED comes
// off. The run that wakes from its hold finds that at its revoke and drains anew.
//
// The target comes first: if the label came off first and this function died,
// nobody would know of a consumer that is refused. A revoke that finds the label
// and an open login goes back to draining, too.
//
// It may be called at any time, late and twice. A credential that was declared
// stolen stays refused (fault.TooLate), and so does one that no consumer ever had
// reason to use (fault.PolicyViolation); both are recorded. If no drain of that
// version is held, it is fault.Superseded and nothing is recorded. Wait: not every
// node knows of it yet; call it again.
func (r *Rotator) Reopen(ctx context.Context, secret string, try LateTry) (Result, error) {
	s, from, to, err := r.enterHeld(ctx, secret, try)
	if err != nil {
		return Result{}, err
	}
	fence := mayReopen(s.req, from, to)
	c := s.change(r, from, to, fence)
	// It belongs to no run: it neither outranks one nor is outranked, and what the
	// labels say inside the target's lock decides alone.
	c.Rotation, c.Rank = "", 0
	seen := Result{Notes: []string{try.Note()}, Evidence: []Evidence{try.evidence()}}
	if err := fence(s.desc.Versions); err != nil {
		if !fault.Is(err, fault.Superseded) && !try.Told {
			r.recordLate(ctx, s, c, seen, err)
		}
		return Result{}, err
	}
	if err := r.record(ctx, s, c, audit.Intent, seen, nil); err != nil {
		return Result{}, err
	}
	res, err := s.engine.Enable(ctx, c)
	if err == nil && res.Outcome == Done {
		err = fault.Wrap(fault.Unavailable, r.Store.Detach(ctx, c.Secret, Disabled, from), "taking KEYTURN_DISABLED off %s", from)
	}
	res.Notes, res.Evidence = append(seen.Notes, res.Notes...), append(seen.Evidence, res.Evidence...)
	r.recordLate(ctx, s, c, res, err)
	if err != nil {
		return Result{}, err
	}
	r.ensureLater(ctx, c.Secret)
	return res, nil
}

// Refuse records a try about which nothing is done, and why.
func (r *Rotator) Refuse(ctx context.Context, secret string, try LateTry, why error) error {
	s, from, to, err := r.enterHeld(ctx, secret, try)
	if err != nil {
		return err
	}
	c := s.change(r, from, to, mayReopen(s.req, from, to))
	r.recordLate(ctx, s, c, Result{Notes: []string{try.Note(), why.Error()}, Evidence: []Evidence{try.evidence()}}, why)
	return nil
}

// enterHeld finds the drain that holds a version, in either direction.
func (r *Rotator) enterHeld(ctx context.Context, secret string, try LateTry) (s scene, from, to string, err error) {
	if try.Version == "" || try.ID == "" || try.At.IsZero() {
		return scene{}, "", "", fault.New(fault.InvalidInput, "a try to log in needs the version, the time and what identifies it")
	}
	policy, err := r.Policies.Policy(secret)
	if err != nil {
		return scene{}, "", "", err
	}
	desc, err := r.Store.Describe(ctx, secret)
	if err != nil {
		return scene{}, "", "", fault.Wrap(fault.Unavailable, err, "describing %s", secret)
	}
	asked := Read(desc.Versions, policy.Driver)
	if asked.Token == "" || asked.Direction == Head {
		return scene{}, "", "", notHeld(try.Version)
	}
	s, err = r.enter(ctx, StepReopen, Request{Secret: desc.ARN, Token: asked.Token, Direction: asked.Direction})
	return s, try.Version, s.desc.Versions.Holder(Current), err
}

func notHeld(version string) error {
	return fault.New(fault.Superseded, "version %s isn't held any more", version).WithHint("nothing was done")
}

// mayReopen is the fence of Reopen.
func mayReopen(req Request, from, to string) func(Versions) error {
	return func(v Versions) error {
		switch {
		case !v.Has(from, Disabled) || !v.Has(from, Live(from)) || !v.Has(from, Retiring):
			return notHeld(from)
		case v.anyStolen():
			return fault.New(fault.TooLate, "version %s was declared stolen, or goes with one that was: it isn't let in again", from).
				WithHint("find out who has tried to use it")
		case v.unpresented(from):
			return fault.New(fault.PolicyViolation, "version %s was never current, and somebody has its credential", from).
				WithHint("it isn't let in again; find out who has tried to use it")
		}
		return supportsTail(req, from, to)(v)
	}
}

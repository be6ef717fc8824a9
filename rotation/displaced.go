package rotation

import (
	"context"

	"github.com/keyturn/keyturn/fault"
)

// displaced keeps track of a version that an operator had stored and somebody's
// write pushed out of AWSCURRENT, unless the new current one uses the same login
// or key. Versions that Keyturn made are marked from the beginning.
func (r *Rotator) displaced(ctx context.Context, s scene, version, current string) error {
	v := s.desc.Versions
	if v.Has(version, Live(version)) || v.Has(version, Retiring) || v.Has(version, Rejected) {
		return nil
	}
	same, err := twins(ctx, s, version, current)
	if err != nil || same {
		return err
	}
	return r.markLive(ctx, s.desc.ARN, version)
}

// twins reports two versions that use the same login or key.
func twins(ctx context.Context, s scene, version, current string) (bool, error) {
	mine, err := s.engine.Identity(ctx, s.desc.ARN, version)
	if err != nil {
		return false, fault.Wrap(fault.Unavailable, err, "reading whose credential %s is", version)
	}
	theirs, err := s.engine.Identity(ctx, s.desc.ARN, current)
	if err != nil {
		return false, fault.Wrap(fault.InvalidInput, err, "reading whose credential %s is, which somebody else stored", current)
	}
	return mine == theirs, nil
}

// overlooked does the same for a write that no run was there to see. AWSPREVIOUS
// gives it away: it belongs on the version that goes or on the one that comes
// back, and a third version that holds it was current in between. There are two
// exceptions: a version that goes and never was current hasn't moved AWSPREVIOUS,
// and in pair mode a dead version may hold it that has the login which goes.
func (r *Rotator) overlooked(ctx context.Context, s scene, goes, stays string) error {
	v := s.desc.Versions
	old := v.Holder(Previous)
	if old == "" || old == goes || old == stays || v.Has(old, Live(old)) || v.unpresented(goes) {
		return nil
	}
	going, err := s.engine.Identity(ctx, s.desc.ARN, goes)
	if fault.Is(err, fault.InvalidStage) {
		return nil // it never got a value
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "reading whose credential %s is", goes)
	}
	its, err := s.engine.Identity(ctx, s.desc.ARN, old)
	switch {
	case fault.Is(err, fault.InvalidInput), fault.Is(err, fault.InvalidStage):
		r.Log.WarnContext(ctx, "passing over a previous version that holds no credential", "secret", s.desc.ARN, "version", old, "error", err)
		return nil
	case err != nil || its == going:
		return fault.Wrap(fault.Unavailable, err, "reading whose credential %s is", old)
	}
	return r.displaced(ctx, s, old, stays)
}

// mayTakeUp reports a forward run that finds no drain to go on with.
func mayTakeUp(t tail) bool {
	v, current := t.desc.Versions, t.to
	return t.req.Direction == Forward && current == t.req.Token && !v.Has(current, Rejected) &&
		(t.from == "" || t.from == current)
}

// takeUp gives the next displaced version the one drain there is. The lock may
// lie on the current version, from a promotion that broke off or was undone by
// hand. Done means that a tail can go on.
func (r *Rotator) takeUp(ctx context.Context, t tail) (Result, error) {
	v, current := t.desc.Versions, t.to
	if v.Has(current, Disabled) {
		stolen, err := r.stolenLogin(ctx, t.scene, current)
		if err != nil {
			return Result{}, err
		}
		if !stolen {
			if res, err := r.reinstate(ctx, t); err != nil || res.Outcome != Done {
				return res, err
			}
		}
	}
	for _, id := range v.Displaced() {
		if v.Has(id, Rejected) {
			continue // its own rollback retires it
		}
		same, err := twins(ctx, t.scene, id, current)
		if err != nil && !fault.Is(err, fault.InvalidStage) {
			return Result{}, err
		}
		if !same { // nor has one that never got a value
			return Result{Outcome: Done}, r.retireDisplaced(ctx, t, id)
		}
		if err := r.markLive(ctx, t.desc.ARN, current); err != nil {
			return Result{}, err
		}
		if err := r.forgetTwin(ctx, t.scene, id, current); err != nil {
			return Result{}, err
		}
	}
	r.proceed(ctx, t.scene)
	return Result{}, nothingToRetire(t.desc.ARN)
}

func (r *Rotator) retireDisplaced(ctx context.Context, t tail, version string) error {
	if err := r.unmark(ctx, t.scene, version, Pending); err != nil { // a leftover
		return err
	}
	var err error
	if t.from == "" {
		err = r.Store.Attach(ctx, t.desc.ARN, Retiring, version)
	} else {
		err = r.Store.Move(ctx, t.desc.ARN, Retiring, version, t.from)
	}
	return fault.Wrap(fault.Conflict, err, "marking the displaced version %s as retiring", version)
}

// reinstate enables a credential that was disabled when somebody moved
// AWSCURRENT back to it by hand: consumers are being refused.
func (r *Rotator) reinstate(ctx context.Context, t tail) (Result, error) {
	s, current := t.scene, t.to
	s.cursor = readCursor(StepRollback, s.req.Cursor)
	other := s.desc.Versions.Holder(Previous)
	if other == "" {
		other = current
	}
	c := s.change(r, current, other, func(v Versions) error {
		if !v.Has(current, Current) || !v.Has(current, Disabled) {
			return fault.New(fault.Superseded, "version %s isn't current and disabled any more", current)
		}
		return v.stolenSince(s.desc.Versions, current)
	})
	return r.act(ctx, s, c, func(ctx context.Context, c Change) (Result, error) {
		res, err := s.engine.Enable(ctx, c)
		if fault.Is(err, fault.TooLate) {
			return res, fault.New(fault.TooLate, "AWSCURRENT was moved back to %s, whose credential is destroyed: %s", current, err.Error()).
				WithHint("move AWSCURRENT to a version whose credential works, such as %s, then keyturn resume", other)
		}
		if err != nil || res.Outcome != Done {
			return res, err
		}
		return res, r.unmark(ctx, s, current, Disabled)
	})
}

// unmark takes a label off a version, if it was there when the step began.
func (r *Rotator) unmark(ctx context.Context, s scene, version string, l Label) error {
	if !s.desc.Versions.Has(version, l) {
		return nil
	}
	return fault.Wrap(fault.Unavailable, r.Store.Detach(ctx, s.desc.ARN, l, version), "taking %s off %s", l, version)
}

// forgetTwin takes the labels off a version whose login or key another version
// has too, and lives on or ends with that one. If the login was declared stolen,
// the heir (the version that keeps it) is marked as stolen: storing a login again
// doesn't make it safe.
func (r *Rotator) forgetTwin(ctx context.Context, s scene, version, heir string) error {
	if heir != "" && s.desc.Versions.isStolen(version) {
		if err := r.markStolen(ctx, s, heir); err != nil {
			return err
		}
	}
	for _, l := range append(s.desc.Versions.replaceLabels(version), Pending, Candidate(version), Stolen(version), Live(version)) {
		if err := r.unmark(ctx, s, version, l); err != nil {
			return err
		}
	}
	return nil
}

// storedAgain reports that nothing is to retire, because the version that goes
// and the current one have the same login. In a forward run somebody stored it
// again by hand while a promotion was broken off. In a back run somebody did so
// with the rejected one, or a machine made it that was overtaken before its claim.
// A stolen login that somebody stored again goes when it is replaced, in either run.
// The version that goes then loses its labels, RETIRING last: that is the lock.
func (r *Rotator) storedAgain(ctx context.Context, t tail) (bool, error) {
	v, back := t.desc.Versions, t.req.Direction == Back
	if !t.bothStolen() && (v.Has(t.from, Disabled) || (!back && (!v.Has(t.from, Previous) || v.unpresented(t.from)))) {
		return false, nil
	}
	same, err := twins(ctx, t.scene, t.from, t.to)
	if (back || t.bothStolen()) && fault.Is(err, fault.InvalidStage) {
		return false, nil // it never got a value
	}
	if err != nil || !same {
		return false, err
	}
	if err := r.markLive(ctx, t.desc.ARN, t.to); err != nil {
		return false, err
	}
	if err := r.forgetTwin(ctx, t.scene, t.from, t.to); err != nil {
		return false, err
	}
	if v.Has(t.from, Disabled) { // it says of the login that it is refused
		if err := r.Store.Move(ctx, t.desc.ARN, Disabled, t.to, t.from); err != nil {
			return false, fault.Wrap(fault.Conflict, err, "marking %s as disabled", t.to)
		}
	}
	if err := r.unmark(ctx, t.scene, t.from, Retiring); err != nil {
		return false, err
	}
	r.proceed(ctx, t.scene)
	return true, nil
}

// unpendTwin takes AWSPENDING off a version that has the login which goes and was
// current itself, as somebody stored the login again: it only looks as if it were
// being made, and would keep that login for ever. No finish may be about to promote
// it: one that began before this drain has ended after the function limit.
func (r *Rotator) unpendTwin(ctx context.Context, t tail) (Result, error) {
	v, now := t.desc.Versions, r.Now().UTC()
	left := v.Holder(Pending)
	if left == "" || left == t.from || v.Has(left, Current) || v.unpresented(left) || v.unpresented(t.from) {
		return Result{Outcome: Done}, nil
	}
	same, err := twins(ctx, t.scene, t.from, left)
	if fault.Is(err, fault.InvalidStage) {
		return Result{Outcome: Done}, nil // one of them never got a value
	}
	if err != nil || !same {
		return Result{Outcome: Done}, err
	}
	if key := t.from + " " + left; t.cursor.Left != key {
		t.cursor.Left, t.cursor.Since = key, now
	}
	if wait := t.cursor.Since.Add(t.policy.FunctionLimit).Sub(now); wait > 0 {
		return Result{
			Outcome: Wait, After: wait, Cursor: t.cursor.after(Wait),
			Missing: []string{"version " + left + " has the login that goes, and a function that was to promote it may still run"},
		}, nil
	}
	return Result{Outcome: Done}, r.unmark(ctx, t.scene, left, Pending)
}

func nothingToRetire(secret string) error {
	return fault.New(fault.Superseded, "no version of %s is left to retire", secret)
}

// forgetTwins does so at the end of a tail for each displaced version that has
// the login of the version that stays, or the one that was revoked (unless the
// target never had that, and so nothing was).
func (r *Rotator) forgetTwins(ctx context.Context, t tail, untouched bool) error {
	others := []string{t.from, t.to}
	if untouched {
		others = others[1:]
	}
	for _, id := range t.desc.Versions.Displaced() {
		for _, other := range others {
			same, err := twins(ctx, t.scene, id, other)
			if fault.Is(err, fault.InvalidStage) {
				continue // it never got a value
			}
			if err == nil && same {
				heir := other
				if other == t.from {
					heir = "" // revoked just now
				}
				err = r.forgetTwin(ctx, t.scene, id, heir)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

package rotation

import (
	"cmp"
	"context"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
)

// RequestRollback turns the rotation that is going on back: it marks the new
// version as rejected, which every forward step refuses from then on, and
// starts the run that carries it out. Asking twice is asking once.
func (r *Rotator) RequestRollback(ctx context.Context, secret string) (Ensured, error) {
	if _, err := r.Policies.Policy(secret); err != nil {
		return Ensured{}, err
	}
	desc, err := r.Store.Describe(ctx, secret)
	if err != nil {
		return Ensured{}, fault.Wrap(fault.Unavailable, err, "describing %s", secret)
	}
	token := underWay(desc.Versions)
	if token == "" {
		return Ensured{}, fault.New(fault.TooLate, "no rotation of %s is going on", secret).
			WithHint("after revoke the old credential is gone; start a new rotation instead")
	}
	v := desc.Versions
	if old := v.Holder(Retiring); old != "" && old != token && (v.isStolen(old) || v.isStolen(token)) {
		return Ensured{}, refuseStolen(old)
	}
	if err := r.reject(ctx, desc, token); err != nil {
		return Ensured{}, err
	}
	return r.EnsureRun(ctx, secret, EnsureOptions{Resume: true})
}

// underWay is the version that a rollback would reject, or "".
func underWay(v Versions) string {
	current, retiring, pending := v.Holder(Current), v.Holder(Retiring), v.Holder(Pending)
	switch {
	case retiring != "" && v.Has(retiring, Rejected):
		return retiring
	case retiring != "" && retiring != current:
		return current // a rotation that waits for this drain isn't under way yet
	case pending != "" && pending != current:
		return pending
	}
	return ""
}

// reject moves the label from a rollback of the past, whose version is dead.
func (r *Rotator) reject(ctx context.Context, d Description, token string) error {
	entry := audit.Record{
		Time: r.Now().UTC(), SecretID: d.ARN, RotationID: token, Step: string(StepRollback),
		From: token, To: d.Versions.Holder(Retiring), Phase: audit.Intent, Notes: []string{"rollback requested"},
	}
	r.Journal.Note(ctx, entry)
	var err error
	if holder := d.Versions.Holder(Rejected); holder != "" && holder != token {
		err = r.Store.Move(ctx, d.ARN, Rejected, token, holder)
	} else {
		err = r.Store.Attach(ctx, d.ARN, Rejected, token)
	}
	err = fault.Wrap(fault.Conflict, err, "marking %s as rejected", token)
	entry.Time, entry.Phase, entry.Outcome = r.Now().UTC(), audit.ResultPhase, told(err)
	r.Journal.Note(ctx, entry)
	return err
}

// Rollback exchanges old and new. Before promotion nobody presents the new
// version and only the lock of the drain is taken; after it, the old credential
// is enabled and proven, and AWSCURRENT moves back. In both cases the tail that
// follows retires the new version exactly as it would the old one.
//
// It is also how a head that failed ends: called with direction head it asks
// for the back run and waits until that has left the old credential alone.
func (r *Rotator) Rollback(ctx context.Context, req Request) (Result, error) {
	s, err := r.enter(ctx, StepRollback, req)
	if err != nil {
		return Result{}, err
	}
	if req.Direction != Back {
		return r.abort(ctx, s)
	}
	v, token := s.desc.Versions, req.Token
	current := v.Holder(Current)
	switch {
	case !v.Has(token, Rejected):
		return Result{}, fault.New(fault.Superseded, "version %s isn't marked as rejected", token).
			WithHint("ask for a rollback with keyturn rollback; it marks the version first")
	case v.Has(token, Retiring) && current != token:
		return Result{Outcome: Done, Cursor: s.cursor.after(Done)}, nil // the next generation's drain goes on
	case current == token:
		return r.restore(ctx, s)
	case revoked(v, req) && !v.Has(token, Pending):
		return Result{}, fault.New(fault.Superseded, "version %s is rolled back and revoked", token).
			WithHint("nothing was done; this call came late")
	case current == "":
		return Result{}, fault.New(fault.InvalidStage, "%s has no AWSCURRENT version", s.desc.ARN).
			WithHint("label the version that works with aws secretsmanager update-secret-version-stage")
	}
	c := s.change(r, token, current, func(Versions) error { return nil })
	return r.act(ctx, s, c, func(ctx context.Context, c Change) (Result, error) {
		err := r.retireRejected(ctx, c.Secret, token, "")
		if fault.Is(err, fault.DrainInProgress) {
			r.ensureLater(ctx, c.Secret)
			return Result{Outcome: Wait, After: max(headPoll, s.policy.Poll), Missing: []string{err.Error()}}, nil
		}
		return Result{Outcome: Done}, err
	})
}

// restore makes the old credential current again, after proving that it works.
func (r *Rotator) restore(ctx context.Context, s scene) (Result, error) {
	v, token := s.desc.Versions, s.req.Token
	old := v.Holder(Retiring)
	if old == token {
		old = v.Holder(Previous) // the lock has moved already, AWSCURRENT hasn't
	}
	stolen, err := r.stolenLogin(ctx, s, old)
	if err != nil {
		return Result{}, err
	}
	if old == "" || stolen || v.isStolen(token) { // all that lives beside a stolen one counts as stolen
		return Result{}, r.tooLate(ctx, s)
	}
	fence := func(v Versions) error {
		if !v.Has(token, Rejected) || !v.Has(token, Current) {
			return fault.New(fault.Superseded, "version %s isn't current and rejected any more", token)
		}
		return v.stolenSince(s.desc.Versions, old)
	}
	if err := r.overlooked(ctx, s, token, old); err != nil {
		return Result{}, err
	}
	c := s.change(r, old, token, fence)
	res, err := r.act(ctx, s, c, func(ctx context.Context, c Change) (Result, error) {
		res, err := s.engine.Enable(ctx, c)
		if err != nil || res.Outcome != Done {
			return res, err
		}
		return res, r.moveBack(ctx, s, old)
	})
	if fault.Is(err, fault.TooLate) {
		return Result{}, r.tooLate(ctx, s)
	}
	return res, err
}

// moveBack writes the exchange: consumers first, then the lock.
func (r *Rotator) moveBack(ctx context.Context, s scene, old string) error {
	secret, token := s.desc.ARN, s.req.Token
	// A leftover AWSPENDING would let Secrets Manager take this version up again,
	// or the one that its login was stored under before.
	leftover := []string{token}
	if p := s.desc.Versions.Holder(Pending); p != "" && p != token {
		if same, err := twins(ctx, s, p, token); err == nil && same {
			leftover = append(leftover, p)
		} else if err != nil && !fault.Is(err, fault.InvalidStage) {
			return err
		}
	}
	for _, version := range leftover {
		if err := r.Store.Detach(ctx, secret, Pending, version); err != nil {
			return fault.Wrap(fault.Unavailable, err, "taking AWSPENDING off %s", version)
		}
	}
	if err := r.Store.Move(ctx, secret, Current, old, token); err != nil {
		return fault.Wrap(fault.Conflict, err, "moving AWSCURRENT back to %s", old)
	}
	return r.retireRejected(ctx, secret, token, old)
}

// retireRejected takes the drain's lock for the rejected version. A finish that
// broke off, or the drain that is being turned back, may hold it for the old one.
// What was just made current may not show as such yet (rule C4.1).
func (r *Rotator) retireRejected(ctx context.Context, secret, token, moved string) error {
	desc, err := r.Store.Describe(ctx, secret)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "reading the labels before retiring %s", token)
	}
	holder, current := desc.Versions.Holder(Retiring), cmp.Or(moved, desc.Versions.Holder(Current))
	if desc.Versions.Has(current, Disabled) {
		// It has come back, and was enabled and proven before its label moved.
		if err := r.Store.Detach(ctx, secret, Disabled, current); err != nil {
			return fault.Wrap(fault.Unavailable, err, "taking KEYTURN_DISABLED off %s", current)
		}
	}
	switch holder {
	case token:
		return nil
	case "":
		err = r.Store.Attach(ctx, secret, Retiring, token)
	case current:
		err = r.Store.Move(ctx, secret, Retiring, token, holder)
	default:
		return fault.New(fault.DrainInProgress, "version %s is still being drained", holder).
			WithHint("the rollback goes on when that drain ends")
	}
	return fault.Wrap(fault.Conflict, err, "marking %s as retiring", token)
}

// tooLate takes the request back: the old credential is destroyed, and the only
// way is forward.
func (r *Rotator) tooLate(ctx context.Context, s scene) error {
	if err := r.Store.Detach(ctx, s.desc.ARN, Rejected, s.req.Token); err != nil {
		return fault.Wrap(fault.Unavailable, err, "taking KEYTURN_REJECTED off %s", s.req.Token)
	}
	r.ensureLater(ctx, s.desc.ARN)
	return fault.New(fault.TooLate, "the old credential of %s is destroyed or stolen", s.desc.ARN).
		WithHint("version %s stays current; rotate again if it is the one that is bad", s.req.Token)
}

// abandon gives up a version that never got AWSPENDING, once no function of this
// run can claim it any more: that one would be pending and no candidate, which
// says that it may be presented.
func (r *Rotator) abandon(ctx context.Context, s scene) (Result, error) {
	token, now := s.req.Token, r.Now().UTC()
	if s.cursor.Since.IsZero() {
		s.cursor.Since = now
	}
	if left := s.cursor.Since.Add(s.policy.FunctionLimit).Sub(now); left > 0 && s.desc.Versions.Has(token, Candidate(token)) {
		return Result{
			Outcome: Wait, After: left, Cursor: s.cursor.after(Wait),
			Missing: []string{"a function that was to claim AWSPENDING for " + token + " may still run"},
		}, nil
	}
	return Result{Outcome: Done, Notes: []string{"the version never got AWSPENDING"}}, r.unmark(ctx, s, token, Candidate(token))
}

// abort ends a head that failed: it is done when the old credential is current
// and alone. A token that was promoted all the same stays; it isn't this run's
// business to turn back what works.
func (r *Rotator) abort(ctx context.Context, s scene) (Result, error) {
	v, token := s.desc.Versions, s.req.Token
	switch {
	case v[token] == nil:
		return Result{Outcome: Done, Notes: []string{"nothing was made"}}, nil
	case v.Has(token, Current) && !v.Has(token, Rejected):
		r.ensureLater(ctx, s.desc.ARN)
		return Result{Outcome: Promoted}, nil
	case !v.Has(token, Pending) && !v.Has(token, Rejected) && !v.Has(token, Live(token)):
		return r.abandon(ctx, s)
	case revoked(v, Request{Token: token, Direction: Back}) && !v.Has(token, Pending):
		return Result{Outcome: Done}, nil
	}
	// Another rollback keeps its mark until it is over; this one comes after it.
	other := v.Holder(Rejected)
	if other == "" || (other != token && other != v.Holder(Retiring) && other != v.Holder(Current)) {
		if err := r.reject(ctx, s.desc, token); err != nil {
			return Result{}, err
		}
	}
	ensured, err := r.EnsureRun(ctx, s.desc.ARN, EnsureOptions{})
	if err != nil {
		return Result{}, err
	}
	if stuck := ensured.Run; stuck.Status == RunFailed && ensured.After == 0 {
		name := faultOf(stuck)
		if ensured.Situation.Token != token {
			name = fault.DrainInProgress // once that drain has ended this head is worth another run
		}
		return Result{}, fault.New(name, "run %s, which has to end first, is stuck (%s)", stuck.Name, faultOf(stuck)).
			WithHint("its cause says what to mend; then keyturn resume")
	}
	missing := "run " + ensured.Run.Name + " is " + string(ensured.Run.Status)
	return Result{Outcome: Wait, After: max(headPoll, min(ensured.After, time.Minute)), Missing: []string{missing}}, nil
}

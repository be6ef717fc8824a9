package rotation

import (
	"cmp"
	"context"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// tail is what adopt, drain, disable and revoke work on: the version that goes
// and the one that stays.
type tail struct {
	scene
	from, to string
}

// enterTail reads which version goes from the labels, and refuses an entry
// that they don't support.
func (r *Rotator) enterTail(ctx context.Context, step Step, req Request) (tail, error) {
	s, err := r.enter(ctx, step, req)
	if err != nil {
		return tail{}, err
	}
	v := s.desc.Versions
	t := tail{scene: s, from: v.Holder(Retiring), to: v.Holder(Current)}
	if err := supportsTail(req, t.from, t.to)(v); err == nil {
		return t, r.overlooked(ctx, s, t.from, t.to)
	}
	r.ensureLater(ctx, s.desc.ARN)
	return t, supportsTail(req, t.from, t.to)(v)
}

// supportsTail is the fence of every step of the tail, in both directions.
func supportsTail(req Request, from, to string) func(Versions) error {
	return func(v Versions) error {
		retiring, current := v.Holder(Retiring), v.Holder(Current)
		superseded := func(why string) error {
			return fault.New(fault.Superseded, "%s: AWSCURRENT is on %s, KEYTURN_RETIRING on %s", why, current, retiring).
				WithHint("nothing was done; the run that the labels ask for takes over")
		}
		switch {
		case retiring == "" || current == "":
			return superseded("nothing is being retired")
		case retiring == current:
			return superseded("the version that goes is the current one")
		case retiring != from || current != to:
			return superseded("the labels have moved since this step began")
		case req.Direction == Back && (retiring != req.Token || !v.Has(req.Token, Rejected)):
			return superseded("this rollback isn't what the labels say")
		case req.Direction == Forward && (current != req.Token || v.Has(current, Rejected) || v.Has(retiring, Rejected)):
			return superseded("this rotation was rolled back or overtaken")
		case req.Direction != Forward && req.Direction != Back:
			return superseded("only a forward or back run has a tail")
		}
		return nil
	}
}

// bothStolen reports that nothing of this tail may be brought back.
func (t tail) bothStolen() bool {
	return t.desc.Versions.isStolen(t.from) && t.desc.Versions.isStolen(t.to)
}

// order is the engine's order for this tail.
func (r *Rotator) order(t tail) Change {
	c := t.change(r, t.from, t.to, supportsTail(t.req, t.from, t.to))
	c.Unpresented = t.desc.Versions.unpresented(t.from)
	return c
}

// Adopt lets presenters follow to AWSCURRENT, in waves. It begins every tail:
// if none is going on, it takes up a displaced version.
func (r *Rotator) Adopt(ctx context.Context, req Request) (Result, error) {
	t, err := r.enterTail(ctx, StepAdopt, req)
	if fault.Is(err, fault.Superseded) && mayTakeUp(t) {
		r.markAgain(ctx, t.scene, t.to)
		if res, err := r.takeUp(ctx, t); err != nil || res.Outcome != Done {
			return res, err
		}
		t, err = r.enterTail(ctx, StepAdopt, req)
	}
	if err != nil {
		return Result{}, err
	}
	byHand := !t.desc.Versions.Has(t.to, Live(t.to)) // or made too late
	r.markAgain(ctx, t.scene, t.from, t.to)
	if byHand || req.Direction == Back || t.bothStolen() {
		if again, err := r.storedAgain(ctx, t); err != nil || again {
			return Result{}, cmp.Or(err, nothingToRetire(t.desc.ARN))
		}
	}
	if res, err := r.unpendTwin(ctx, t); err != nil || res.Outcome != Done {
		return res, err
	}
	// A drain of what everybody presents would never end: a person hears of it now.
	if t.desc.Versions.byHand(t.from) {
		if err := r.aloneOrAgain(ctx, t); err != nil {
			return Result{}, err
		}
	}
	c := r.order(t)
	return r.act(ctx, t.scene, c, func(ctx context.Context, _ Change) (Result, error) {
		res, err := t.engine.Adopt(ctx, c)
		late := c.Emergency && !t.cursor.Since.IsZero() && r.Now().Sub(t.cursor.Since) >= c.Policy.MaxOverlap
		if err == nil && res.Outcome != Done && late {
			return Result{Outcome: Done, Evidence: res.Evidence, Notes: emergencyNotes(res.Missing)}, nil
		}
		return res, err
	})
}

// Drain looks who still presents the version that goes.
func (r *Rotator) Drain(ctx context.Context, req Request) (Result, error) {
	t, err := r.enterTail(ctx, StepDrain, req)
	if err != nil {
		return Result{}, err
	}
	// Where hands have been at work another version may have the login that goes.
	// Everybody presents it then, and this drain would never end.
	moved, byHand := t.cursor.Stays != t.to, req.Direction == Back && !t.desc.Versions.Has(t.to, Live(t.to))
	if t.cursor.Stays = t.to; moved || byHand {
		if err := r.aloneOrAgain(ctx, t); err != nil {
			return Result{}, err
		}
	}
	return r.act(ctx, t.scene, r.order(t), t.engine.Drain)
}

// Disable makes the acceptors refuse the version that goes, reversibly. Its
// label is put on before the act, so that nobody finds a refused credential
// without knowing why.
func (r *Rotator) Disable(ctx context.Context, req Request) (Result, error) {
	t, err := r.enterTail(ctx, StepDisable, req)
	if err != nil {
		return Result{}, err
	}
	if err := r.aloneOrAgain(ctx, t); err != nil {
		return Result{}, err
	}
	return r.act(ctx, t.scene, r.order(t), func(ctx context.Context, c Change) (Result, error) {
		if err := r.markDisabled(ctx, t); err != nil {
			return Result{}, err
		}
		res, err := r.outrank(ctx, t, c, t.engine.Disable)
		if err != nil {
			return res, err
		}
		switch res.Outcome {
		case Reopened:
			err = r.Store.Detach(ctx, c.Secret, Disabled, c.From)
		case Done:
			res.After = hold(c)
		}
		return res, fault.Wrap(fault.Unavailable, err, "taking KEYTURN_DISABLED off %s", c.From)
	})
}

// outrank lets a forward run act after a rollback that was taken back because its
// old credential was stolen or destroyed. The target remembers the rollback's rank
// and would refuse the run. No function of the rollback may still be about to move
// AWSCURRENT.
func (r *Rotator) outrank(ctx context.Context, t tail, c Change, do func(context.Context, Change) (Result, error)) (Result, error) {
	res, err := do(ctx, c)
	if !fault.Is(err, fault.Fenced) || t.req.Direction != Forward {
		return res, err
	}
	back, unseen := t.cursor.overtaken(), error(nil)
	if r.Runs != nil {
		back, unseen = r.takenBack(ctx, t.desc.ARN, t.req.Token, t.policy)
	}
	if back.Generation == 0 && r.Runs == nil && t.req.Generation == 1 { // it began after this run did, perhaps
		unseen = fault.New(fault.Unavailable, "a run of a higher rank has been at the target, and this function can't look up whether that is a rollback that was taken back").
			WithHint("the next generation of this run will know; the watchdog starts it")
	}
	if unseen != nil || back.Generation == 0 {
		return res, cmp.Or(unseen, err)
	}
	if r.Now().Before(back.Until) {
		return Result{}, fault.New(fault.Unavailable, "a function of a rollback that was taken back may still act")
	}
	c.Rank = rankAgain(t.req.Generation, back.Generation)
	return do(ctx, c)
}

// takenBack looks up the rollback that a forward run comes after, if there was one.
func (r *Rotator) takenBack(ctx context.Context, secret, token string, p Policy) (overtaken, error) {
	back, generation, err := r.lastRun(ctx, secret, RunName(secret, token, Back))
	if err != nil || back.Status == RunAbsent {
		return overtaken{}, err
	}
	until := back.Stopped
	if back.Status == RunRunning { // its next step will be refused by the labels
		until = r.Now()
	}
	return overtaken{Generation: generation, Until: until.Add(p.FunctionLimit).UTC()}, nil
}

// overtakes tells a forward run of that rollback at its start, because functions
// may be unable to look up runs.
func (r *Rotator) overtakes(ctx context.Context, secret string, s Situation, p Policy) (cursor string, err error) {
	if s.Direction != Forward {
		return "", nil
	}
	back, err := r.takenBack(ctx, secret, s.Token, p)
	return back.cursor(), err
}

// hold is how long the disabled credential is kept: nobody had a version that
// was never current.
func hold(c Change) time.Duration {
	if c.Unpresented {
		return 0
	}
	return c.Policy.Hold
}

// markDisabled moves the label on from a version that no longer needs it.
func (r *Rotator) markDisabled(ctx context.Context, t tail) error {
	holder := t.desc.Versions.Holder(Disabled)
	if holder != "" && holder != t.from {
		return fault.Wrap(fault.Conflict, r.Store.Move(ctx, t.desc.ARN, Disabled, t.from, holder), "marking %s as disabled", t.from)
	}
	return fault.Wrap(fault.Conflict, r.Store.Attach(ctx, t.desc.ARN, Disabled, t.from), "marking %s as disabled", t.from)
}

// alone is the identity check: no other live version may use the login or key
// that is about to be refused.
func (r *Rotator) alone(ctx context.Context, t tail) error {
	goes, err := t.engine.Identity(ctx, t.desc.ARN, t.from)
	if fault.Is(err, fault.InvalidStage) {
		return nil // it never got a value, so there is nothing to refuse
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "reading whose credential %s is", t.from)
	}
	v := t.desc.Versions
	for _, other := range v.liveBeside(t.from) {
		if v.unpresented(other) || (v.Has(other, Rejected) && !v.Has(other, Current)) {
			continue // it can't become current before this drain ends, or is turned back: nobody may use it
		}
		id, err := t.engine.Identity(ctx, t.desc.ARN, other)
		if fault.Is(err, fault.InvalidStage) && other != t.to {
			continue // a pending version without a value yet
		}
		if err != nil {
			return fault.Wrap(fault.Unavailable, err, "reading whose credential %s is", other)
		}
		if id == goes {
			return fault.New(fault.IdentityInUse, "version %s uses %s too, as version %s that goes", other, id, t.from).
				WithHint("somebody stored the old login again; %s, then keyturn resume", v.release(t.desc.ARN, other))
		}
	}
	return nil
}

// release says what a person does so that a version doesn't keep the login that goes.
func (v Versions) release(secret, version string) string {
	for _, l := range []Label{Pending, Disabled} {
		if v.Has(version, l) && !v.Has(version, Current) {
			return "nobody may use it under version " + version + " any more: aws secretsmanager update-secret-version-stage --secret-id " +
				secret + " --version-stage " + string(l) + " --remove-from-version-id " + version
		}
	}
	return "give AWSCURRENT a login of its own"
}

// aloneOrAgain is alone, except that a login which was stored again and needn't be
// retired ends this run.
func (r *Rotator) aloneOrAgain(ctx context.Context, t tail) error {
	err := r.alone(ctx, t)
	if err == nil {
		return nil
	}
	if again, _ := r.storedAgain(ctx, t); again {
		return nothingToRetire(t.desc.ARN)
	}
	return err
}

// Revoke makes the acceptors forget the version that goes, then takes its
// labels off: RETIRING last, because it is what keeps this run alive.
func (r *Rotator) Revoke(ctx context.Context, req Request) (Result, error) {
	t, err := r.enterTail(ctx, StepRevoke, req)
	if fault.Is(err, fault.Superseded) && revoked(t.desc.Versions, req) {
		return Result{Outcome: Done}, r.unpendRejected(ctx, t.desc.ARN, req)
	}
	if err != nil {
		return Result{}, err
	}
	if !t.desc.Versions.Has(t.from, Disabled) {
		// Entered without a disable, or taking up a clean-up that broke off: the
		// sequence is repeated rather than trusted.
		return Result{Outcome: Reopened, Missing: []string{t.from + " isn't marked as disabled"}}, nil
	}
	if err := r.alone(ctx, t); err != nil {
		return Result{}, err
	}
	return r.act(ctx, t.scene, r.order(t), func(ctx context.Context, c Change) (Result, error) {
		res, err := r.outrank(ctx, t, c, t.engine.Revoke)
		if err != nil || res.Outcome != Done {
			return res, err
		}
		return r.forget(ctx, t, res)
	})
}

// revoked reports that this rotation's tail is over: what a revoke finds when it is
// called again because its answer was lost.
func revoked(v Versions, req Request) bool {
	switch {
	case v.Holder(Retiring) != "":
		return false
	case req.Direction == Forward:
		return v.Has(req.Token, Current) && !v.Has(req.Token, Rejected)
	default:
		return v.Has(req.Token, Rejected) && !v.Has(req.Token, Current) &&
			!v.Has(req.Token, Live(req.Token)) && !v.Has(req.Token, Candidate(req.Token))
	}
}

// unpendRejected is the last write of a rollback: until then the labels ask for
// its run.
func (r *Rotator) unpendRejected(ctx context.Context, secret string, req Request) error {
	if req.Direction != Back {
		return nil
	}
	return fault.Wrap(fault.Unavailable, r.Store.Detach(ctx, secret, Pending, req.Token), "taking AWSPENDING off %s", req.Token)
}

// forget takes the labels off, then goes on with what has waited for this end:
// another displaced version, the store's next rotation, or another rollback.
func (r *Rotator) forget(ctx context.Context, t tail, res Result) (Result, error) {
	if err := r.note(ctx, t.scene, t.to); err != nil {
		return Result{}, err
	}
	if err := r.forgetTwins(ctx, t, res.Untouched); err != nil {
		return Result{}, err
	}
	// Left over on the current version (rule C6.4), it would outlive a put by hand.
	if err := r.unmark(ctx, t.scene, t.to, Pending); err != nil {
		return Result{}, err
	}
	for _, l := range append(t.desc.Versions.replaceLabels(t.from), Disabled, Candidate(t.from), Stolen(t.from), Live(t.from), Retiring) {
		if err := r.unmark(ctx, t.scene, t.from, l); err != nil {
			return Result{}, err
		}
	}
	if err := r.unpendRejected(ctx, t.desc.ARN, t.req); err != nil {
		return Result{}, err
	}
	if next := r.proceed(ctx, t.scene); next.Displaced != "" && t.req.Direction == Forward {
		res.Outcome, res.Missing = Reopened, []string{"displaced version " + next.Displaced}
	}
	return res, nil
}

// proceed starts what has waited for the end of a drain. Failing is no harm: the
// watchdog finds what is left.
func (r *Rotator) proceed(ctx context.Context, s scene) Situation {
	desc, err := r.Store.Describe(ctx, s.desc.ARN)
	if err != nil {
		return Situation{}
	}
	next := Read(desc.Versions, s.policy.Driver)
	switch next.Need {
	case NeedRun, NeedReplace:
		r.ensureLater(ctx, desc.ARN)
	case NeedStore:
		if err := r.retryStore(ctx, desc.ARN, next.Token); err != nil {
			r.Log.WarnContext(ctx, "asking for the rotation that waited", "secret", desc.ARN, "error", err)
		}
	}
	return next
}

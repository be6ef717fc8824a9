package postgres

import (
	"context"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// Enable implements rotation.Engine: From may log in again, for ever, and that
// is proven on every node. A dropped login or a password that is gone is
// fault.TooLate, and nothing was changed.
func (e *Engine) Enable(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	t, err := e.open(ctx, c)
	if err != nil {
		return rotation.Result{}, err
	}
	defer t.release()
	t.dial.budget.reopens = true
	if t.from == nil {
		return rotation.Result{}, fault.New(fault.TooLate, "version %s has no value any more", c.From)
	}
	if err := t.useAdmin(ctx); err != nil {
		return rotation.Result{}, err
	}
	claim, err := t.stillThere(ctx)
	if err != nil {
		return rotation.Result{}, err
	}
	lock, err := t.lockName(ctx)
	if err != nil {
		return rotation.Result{}, err
	}
	// Asked again under the lock: a revoke may have come in between.
	lsn, err := t.reopen(ctx, lock, claim, t.opens)
	if err != nil {
		return rotation.Result{}, err
	}
	if behind, err := t.replayed(ctx, lsn); err != nil || len(behind) > 0 {
		return rotation.Result{Outcome: rotation.Wait, Missing: behind, After: c.Policy.Poll}, err
	}
	res := rotation.Result{Outcome: rotation.Done}
	for _, node := range t.nodes {
		if err := t.dial.proves(ctx, node, t.from.login()); err != nil {
			return rotation.Result{}, err
		}
		res.Evidence = append(res.Evidence, e.behaved(node, t.from.username, "login accepted"))
	}
	if err := t.refresh(ctx); err != nil {
		res.Notes = append(res.Notes, "a pooler may go on refusing "+t.from.username+" for a while: "+err.Error())
	}
	return res, nil
}

// stillThere finds out, without changing anything, whether From can come back:
// a locked login answers otherwise than one whose password is gone. It reports
// whether our comment has to say from now on that the login is From's: it was
// made for another version of this secret, and From's password opens it.
func (t *target) stillThere(ctx context.Context) (claim bool, err error) {
	admin, err := t.asAdmin(ctx, "")
	if err != nil {
		return false, err
	}
	defer admin.close()
	r, err := readRole(ctx, admin, t.from.username)
	if err != nil {
		return false, err
	}
	if r == nil {
		return false, t.tooLate("is dropped")
	}
	known, err := t.known(ctx, admin, r)
	if err != nil {
		return false, err
	}
	if !known {
		return false, t.notOurs()
	}
	in, err := t.getsIn(ctx, r)
	return in && fault.Is(t.commented(r, t.c.From), fault.Fenced), err
}

func (t *target) tooLate(why string) error {
	return fault.New(fault.TooLate, "login %s %s", t.from.username, why).WithHint("only rolling forward is left: rotate again")
}

// opens refuses a login whose password isn't From's any more.
func (t *target) opens(ctx context.Context, r *role) error {
	_, err := t.getsIn(ctx, r)
	return err
}

// getsIn reports whether From logs in now. A login that is locked or has expired
// doesn't, and may all the same come back.
func (t *target) getsIn(ctx context.Context, r *role) (bool, error) {
	s, err := t.dial.connect(ctx, t.primary, t.from.login())
	switch {
	case err == nil:
		s.close()
		return true, nil
	case notPermitted(err), code(err) == "28P01" && r.expires:
		// Expired passwords look like wrong ones; the proof afterwards decides.
		return false, nil
	case code(err) == "28P01":
		return false, t.tooLate("has lost its password")
	}
	return false, named(err, "trying "+t.from.username+" on "+t.primary)
}

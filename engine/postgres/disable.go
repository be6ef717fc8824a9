package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// tail opens an order for a step that takes From away. A version that the
// database has never heard of is reported as ended.
func (e *Engine) tail(ctx context.Context, c rotation.Change) (t *target, ended bool, err error) {
	t, err = e.open(ctx, c)
	if err != nil {
		return nil, false, err
	}
	t.dial.budget.unaudited = true // taking a credential away never waits for the ledger
	switch {
	case t.from == nil:
		return t, true, nil
	case t.to == nil && (!c.Emergency || c.To != ""):
		return nil, false, fault.New(fault.InvalidStage, "version %s, which is to stay, has no value", c.To)
	case t.to != nil && t.from.username == t.to.username:
		return nil, false, fault.New(fault.IdentityInUse, "versions %s and %s use the same login %s", c.From, c.To, t.to.username)
	}
	if err := t.useAdmin(ctx); err != nil {
		return nil, false, err
	}
	if c.Unpresented {
		if ended, err = t.neverSet(ctx); err != nil {
			t.release()
			return nil, false, err
		}
	}
	return t, ended, nil
}

// control proves on every node that the login which stays works: without it,
// a refusal of the other one proves nothing, and would be an outage.
func (t *target) control(ctx context.Context) error {
	for _, node := range t.nodes {
		if _, err := t.controlled(ctx, node); err != nil {
			return fault.Wrap(fault.CredentialRejected, err, "the login that stays has to work first, nothing was changed")
		}
	}
	return nil
}

// controlled logs in on a node as the login that stays. When an emergency has cut
// that off too, or there is none yet, the admin's own login is the control.
func (t *target) controlled(ctx context.Context, node string) (login string, err error) {
	if t.to != nil {
		err := t.dial.proves(ctx, node, t.to.login())
		if err == nil || !t.c.Emergency {
			return t.to.username, err
		}
		s, locked := t.dial.connect(ctx, node, t.to.login())
		if locked == nil {
			s.close()
		}
		if !notPermitted(locked) {
			return t.to.username, err
		}
	}
	return t.admin.username, t.dial.proves(ctx, node, t.admin.login())
}

// identityOf names the identity whose lock covers a login.
func identityOf(r *role, fallback string) string {
	if r != nil && r.ours != nil {
		return r.ours.Identity
	}
	return fallback
}

// endLock is lockName for what takes From away. The login that stays has to act as
// the identity still, as Test has proven it, or From would be the last one that
// does; in an emergency that is for later.
func (t *target) endLock(ctx context.Context) (string, error) {
	lock, err := t.lockName(ctx)
	if err == nil && t.stays.astray() && !t.c.Emergency {
		return "", fault.New(fault.CredentialRejected, "login %s doesn't act as %s any more, nothing was changed", t.stays.name, lock).
			WithHint("ALTER ROLE %s SET role = %s; then resume, or roll back", ident(t.stays.name), literal(lock))
	}
	return lock, err
}

// lockName is the identity of this rotation, as the login that stays knows it.
func (t *target) lockName(ctx context.Context) (string, error) {
	s, err := t.asAdmin(ctx, "")
	if err != nil {
		return "", err
	}
	defer s.close()
	for _, d := range []*document{t.to, t.from} {
		if d == nil {
			continue
		}
		r, err := readRole(ctx, s, d.username)
		if err != nil {
			return "", err
		}
		if d == t.to {
			t.stays = r
		}
		if r != nil && r.ours != nil {
			return r.ours.Identity, nil
		}
	}
	return t.any().username, nil
}

// Disable implements rotation.Engine: From is refused on every node, proven
// with its right password beside a login of To that works. Sessions that outlive
// it are ended (terminate), or From is opened again (hold).
func (e *Engine) Disable(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	t, ended, err := e.tail(ctx, c)
	if err != nil {
		return rotation.Result{}, err
	}
	defer t.release()
	if ended {
		return e.neverMade(c), nil
	}
	claim, err := t.mayEnd(ctx)
	if err != nil {
		return rotation.Result{}, err
	}
	if err := t.control(ctx); err != nil {
		return rotation.Result{}, err
	}
	lock, err := t.endLock(ctx)
	if err != nil {
		return rotation.Result{}, err
	}
	lsn, err := t.locked(ctx, lock, func(ctx context.Context, tx pgx.Tx) error { return t.close(ctx, tx, claim) })
	if err != nil {
		return rotation.Result{}, err
	}
	if behind, err := t.replayed(ctx, lsn); err != nil || len(behind) > 0 {
		return rotation.Result{Outcome: rotation.Wait, Missing: behind, After: c.Policy.Poll}, err
	}
	left, err := t.empty(ctx, t.terminates())
	if err != nil {
		return rotation.Result{}, err
	}
	switch {
	case len(left) == 0:
		return t.refused(ctx, "28000")
	case t.terminates():
		return rotation.Result{Outcome: rotation.Wait, Missing: left, After: c.Policy.Poll}, nil
	}
	if lsn, err = t.reopen(ctx, lock, false, func(context.Context, *role) error { return nil }); err != nil {
		return rotation.Result{}, err
	}
	behind, err := t.replayed(ctx, lsn)
	return rotation.Result{Outcome: rotation.Reopened, Missing: append(left, behind...), After: c.Policy.Poll}, err
}

// close takes LOGIN away, in the locked transaction. VALID UNTIL is never used
// for it: it would go on ticking through a rollback (TestTrap1…).
func (t *target) close(ctx context.Context, tx pgx.Tx, claim bool) error {
	r, err := readRole(ctx, tx, t.from.username)
	if err != nil {
		return err
	}
	if claim && r != nil && r.login && !t.foreign(r) {
		if err := t.takeIn(ctx, tx, r); err != nil {
			return err
		}
		if r, err = readRole(ctx, tx, r.name); err != nil {
			return err
		}
	}
	if err := t.guard(ctx, tx, r, t.c.From); err != nil {
		return err
	}
	if r == nil || !r.login {
		return nil
	}
	return run(ctx, tx, "closing "+r.name, "ALTER ROLE "+ident(r.name)+" NOLOGIN")
}

// reopen gives LOGIN back, if the login may have it. With claim, From's password
// has opened it: it is From's, whichever version it was made for.
func (t *target) reopen(ctx context.Context, lock string, claim bool, may func(context.Context, *role) error) (lsn string, err error) {
	return t.locked(ctx, lock, func(ctx context.Context, tx pgx.Tx) error {
		r, err := readRole(ctx, tx, t.from.username)
		if err != nil {
			return err
		}
		if r == nil {
			return fault.New(fault.TooLate, "login %s is dropped", t.from.username)
		}
		if claim && r.login && !t.foreign(r) {
			if err := t.takeIn(ctx, tx, r); err != nil {
				return err
			}
			if r, err = readRole(ctx, tx, r.name); err != nil {
				return err
			}
		}
		if err := t.guard(ctx, tx, r, t.c.From); err != nil {
			return err
		}
		if err := may(ctx, r); err != nil {
			return err
		}
		return run(ctx, tx, "opening "+r.name, "ALTER ROLE "+ident(r.name)+" LOGIN VALID UNTIL 'infinity'")
	})
}

// empty looks until no session of From is left, and says who is. Logins that
// were under way when LOGIN went away appear a moment later.
func (t *target) empty(ctx context.Context, terminate bool) (left []string, err error) {
	admin, err := t.asAdmin(ctx, "")
	if err != nil {
		return nil, err
	}
	g, err := t.identify(ctx, admin, t.from.username, nil)
	admin.close()
	if err != nil {
		return nil, err
	}
	g.gone = false // we drop a login only after this very look; other orphans aren't ours
	_, err = eventually(ctx, func(ctx context.Context) (bool, error) {
		left = nil
		for _, p := range t.set.Poolers {
			l, err := t.lookAtPooler(ctx, p, t.from.username, "")
			if err != nil {
				return false, err
			}
			left = append(left, l.holders...)
		}
		for _, node := range t.nodes {
			l, err := t.lookAt(ctx, node, g, "")
			if err != nil {
				return false, err
			}
			left = append(left, l.holders...)
			if terminate {
				if err := t.end(ctx, node, l.pids); err != nil {
					return false, err
				}
			}
		}
		return len(left) == 0, nil
	})
	return left, err
}

// end terminates sessions on one node.
func (t *target) end(ctx context.Context, node string, pids []int32) error {
	if len(pids) == 0 {
		return nil
	}
	s, err := t.asAdmin(ctx, node)
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := s.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", pids); err != nil {
		return named(err, "ending sessions on "+node)
	}
	t.e.log.WarnContext(ctx, "ended sessions of the old login", "node", node, "login", t.from.username, "sessions", len(pids))
	return nil
}

// refused reads back on every node: the right password is turned away by
// authentication, while the login that stays gets in the same way. Without a
// password (wanted 28P01) the role may be gone.
func (t *target) refused(ctx context.Context, wanted string) (rotation.Result, error) {
	res := rotation.Result{Outcome: rotation.Done}
	for _, node := range t.nodes {
		s, err := t.dial.attempt(ctx, node, t.from.login())
		if err == nil {
			s.close()
			res.Outcome, res.After = rotation.Wait, t.c.Policy.Poll
			res.Missing = append(res.Missing, node+" still accepts "+t.from.username)
			continue
		}
		// A password that is gone already is refused before LOGIN is looked at.
		locked, unknown := notPermitted(err), code(err) == "28P01"
		if !unknown && (wanted == "28P01" || !locked) {
			return rotation.Result{}, named(err, "reading back that "+t.from.username+" is refused on "+node)
		}
		control, err := t.controlled(ctx, node)
		if err != nil {
			return rotation.Result{}, fault.Wrap(fault.CredentialRejected, err, "the control login failed")
		}
		by := "login refused 28P01, control login of " + control + " accepted"
		if locked {
			by = strings.Replace(by, "28P01", "28000", 1)
		}
		res.Evidence = append(res.Evidence, t.e.behaved(node, t.from.username, by))
	}
	return res, nil
}

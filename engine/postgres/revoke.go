package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/rotation"
)

// Revoke implements rotation.Engine: the password is destroyed and that is
// proven on every node; then a login that keyturn made is dropped. The identity
// and the logins of a pair stay, without LOGIN and password.
//
// A login that isn't disabled is left alone: somebody has let it in again, or a
// failover has. That is Reopened, and the sequence goes back to draining.
//
// A login that something depends on is parked in the same state, and the notes
// list what depends on it. DROP OWNED is never used: it takes what others have
// made in the meantime.
func (e *Engine) Revoke(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	t, ended, err := e.tail(ctx, c)
	if err != nil {
		return rotation.Result{}, err
	}
	defer t.release()
	if ended {
		res := e.neverMade(c)
		res.Untouched = true
		return res, nil
	}
	if _, err := t.mayEnd(ctx); err != nil {
		return rotation.Result{}, err
	}
	if err := t.control(ctx); err != nil {
		return rotation.Result{}, err
	}
	lock, err := t.endLock(ctx)
	if err != nil {
		return rotation.Result{}, err
	}
	if open, err := t.letsIn(ctx, lock); err != nil {
		return rotation.Result{}, err
	} else if open {
		return t.reopened(), nil
	}
	left, err := t.empty(ctx, t.terminates())
	if err != nil || len(left) > 0 {
		return rotation.Result{Outcome: rotation.Wait, Missing: left, After: c.Policy.Poll}, err
	}
	open := false
	lsn, err := t.locked(ctx, lock, func(ctx context.Context, tx pgx.Tx) (err error) {
		open, err = t.forget(ctx, tx)
		return err
	})
	if err != nil {
		return rotation.Result{}, err
	}
	if open {
		return t.reopened(), nil
	}
	if behind, err := t.replayed(ctx, lsn); err != nil || len(behind) > 0 {
		return rotation.Result{Outcome: rotation.Wait, Missing: behind, After: c.Policy.Poll}, err
	}
	res, err := t.refused(ctx, "28P01")
	if err != nil || res.Outcome != rotation.Done {
		return res, err
	}
	// Nobody can have come since; a session that did would live on after the drop.
	if left, err := t.empty(ctx, false); err != nil || len(left) > 0 {
		return rotation.Result{Outcome: rotation.Wait, Missing: left, After: c.Policy.Poll}, err
	}
	dropped, notes, err := t.drop(ctx, lock)
	if err != nil {
		return rotation.Result{}, err
	}
	res.Notes = notes
	res.Evidence = append(res.Evidence, rotation.Evidence{
		Party: t.primary, Digest: t.from.username, By: dropped, Proof: rotation.Written, At: e.now().UTC(),
	})
	return res, nil
}

// letsIn reports a login that has to be refused before it is destroyed, and isn't.
// A run that may not act is told so first.
func (t *target) letsIn(ctx context.Context, lock string) (open bool, err error) {
	_, err = t.locked(ctx, lock, func(ctx context.Context, tx pgx.Tx) error {
		r, err := readRole(ctx, tx, t.from.username)
		if err != nil {
			return err
		}
		if open = t.open(r); !open {
			return errNothing
		}
		if err := t.guard(ctx, tx, r, t.c.From); err != nil {
			return err
		}
		return errNothing
	})
	return open, err
}

// open leaves out what was never current: nobody has to have refused that.
func (t *target) open(r *role) bool { return r != nil && r.login && !t.c.Unpresented }

func (t *target) reopened() rotation.Result {
	return rotation.Result{
		Outcome: rotation.Reopened, After: t.c.Policy.Poll,
		Missing: []string{"login " + t.from.username + " isn't disabled any more: it was let in again, or a failover has undone it"},
	}
}

// forget destroys the password, in the locked transaction, unless the login is open.
func (t *target) forget(ctx context.Context, tx pgx.Tx) (open bool, err error) {
	r, err := readRole(ctx, tx, t.from.username)
	if err != nil {
		return false, err
	}
	if err := t.guard(ctx, tx, r, t.c.From); err != nil {
		return false, err
	}
	if t.open(r) {
		return true, errNothing
	}
	if r == nil {
		return false, nil
	}
	return false, run(ctx, tx, "destroying the password of "+r.name, "ALTER ROLE "+ident(r.name)+" NOLOGIN PASSWORD NULL VALID UNTIL 'infinity'")
}

// drop removes a login that keyturn made for one version. A plain DROP ROLE is
// the check that nothing depends on it.
func (t *target) drop(ctx context.Context, lock string) (how string, notes []string, err error) {
	how = "NOLOGIN PASSWORD NULL"
	_, err = t.locked(ctx, lock, func(ctx context.Context, tx pgx.Tx) error {
		r, err := readRole(ctx, tx, t.from.username)
		if err != nil {
			return err
		}
		if r == nil {
			how = "the role is gone"
			return errNothing
		}
		if t.set.Mode == Pair || r.ours == nil || r.ours.Identity == r.name {
			return errNothing
		}
		if err := t.guard(ctx, tx, r, t.c.From); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "SAVEPOINT before_drop")
		if err == nil {
			_, err = tx.Exec(ctx, "DROP ROLE "+ident(r.name))
		}
		if code(err) != "2BP01" {
			how = "DROP ROLE"
			return named(err, "dropping "+r.name)
		}
		if _, err := tx.Exec(ctx, "ROLLBACK TO SAVEPOINT before_drop"); err != nil {
			return named(err, "keeping "+r.name)
		}
		how = "parked: NOLOGIN PASSWORD NULL"
		notes, err = dependents(ctx, tx, r)
		return err
	})
	return how, notes, err
}

// dependents lists by database what keeps a login from being dropped.
func dependents(ctx context.Context, q querier, r *role) ([]string, error) {
	rows, err := q.Query(ctx, `SELECT coalesce(d.datname::text, 'all databases'), s.classid::regclass::text, s.deptype::text, count(*)
		FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid
		WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`, r.oid)
	if err != nil {
		return nil, named(err, "listing what depends on "+r.name)
	}
	kinds := map[string]string{"o": "owned", "a": "granted to it", "i": "granted at its making", "r": "named in a policy", "t": "in a tablespace"}
	notes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var database, class, kind string
		var n int
		err := row.Scan(&database, &class, &kind, &n)
		if words, ok := kinds[kind]; ok {
			kind = words
		}
		return fmt.Sprintf("parked login %s: %d of %s %s in %s", r.name, n, class, kind, database), err
	})
	return notes, named(err, "listing what depends on "+r.name)
}

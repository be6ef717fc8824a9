package postgres

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// seenAs is what a session knows about itself.
type seenAs struct {
	session, current string
	infinite         bool
	settings         map[string]string // those that come from the login or its database
}

func whoAmI(ctx context.Context, s *session) (seenAs, error) {
	var w seenAs
	err := s.QueryRow(ctx, `SELECT session_user::text, current_user::text,
		(SELECT coalesce(rolvaliduntil = 'infinity', true) FROM pg_roles WHERE rolname = session_user)`).
		Scan(&w.session, &w.current, &w.infinite)
	if err != nil {
		return w, named(err, "asking who we are on "+s.address)
	}
	rows, err := s.Query(ctx, "SELECT name, coalesce(setting, '') FROM pg_settings WHERE source IN ('user', 'database user')")
	if err != nil {
		return w, named(err, "reading the settings on "+s.address)
	}
	w.settings = map[string]string{}
	var name, value string
	_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		w.settings[name] = value
		return nil
	})
	return w, named(err, "reading the settings on "+s.address)
}

// Test implements rotation.Engine: on every node and through every pooler the
// new login gets in, acts as the identity, has the old one's settings and no
// end, and can write where the old one can. It leaves nothing behind.
func (e *Engine) Test(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	t, err := e.open(ctx, c)
	if err != nil {
		return rotation.Result{}, err
	}
	defer t.release()
	if t.to == nil {
		return rotation.Result{}, fault.New(fault.InvalidStage, "version %s has no value", c.To)
	}
	if err := t.useAdmin(ctx); err != nil {
		return rotation.Result{}, err
	}
	identity, behind, err := t.caughtUp(ctx)
	if err != nil || len(behind) > 0 {
		return rotation.Result{Outcome: rotation.Wait, Missing: behind, After: c.Policy.Poll}, err
	}
	res := rotation.Result{Outcome: rotation.Done}
	for _, node := range t.nodes {
		noted, err := t.testNode(ctx, node, identity)
		if err != nil {
			return rotation.Result{}, err
		}
		res.Notes = append(res.Notes, noted...)
		res.Evidence = append(res.Evidence, e.behaved(node, t.to.username, "login accepted, acts as "+identity))
	}
	for _, p := range t.set.Poolers {
		for _, db := range p.Databases {
			if err := t.testPooler(ctx, p, db, identity); err != nil {
				return rotation.Result{}, err
			}
		}
		res.Evidence = append(res.Evidence, e.behaved("pooler "+p.Address, t.to.username, "login accepted, acts as "+identity))
	}
	return res, nil
}

// caughtUp names the identity that the new login has to act as, and the nodes
// that haven't replayed the login's making yet.
func (t *target) caughtUp(ctx context.Context) (identity string, behind []string, err error) {
	s, err := t.asAdmin(ctx, "")
	if err != nil {
		return "", nil, err
	}
	defer s.close()
	r, err := readRole(ctx, s, t.to.username)
	if err != nil {
		return "", nil, err
	}
	if r == nil {
		return "", nil, fault.New(fault.CredentialRejected, "login %s doesn't exist", t.to.username).WithHint("set comes before test")
	}
	var lsn string
	if err := s.QueryRow(ctx, "SELECT pg_current_wal_lsn()::text").Scan(&lsn); err != nil {
		return "", nil, named(err, "reading the position of the write-ahead log")
	}
	behind, err = t.replayed(ctx, lsn)
	return identityOf(r, r.name), behind, err
}

func (t *target) testNode(ctx context.Context, node, identity string) (notes []string, err error) {
	s, err := t.dial.try(ctx, node, t.to.login())
	if err != nil {
		return nil, err
	}
	defer s.close()
	now, err := whoAmI(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := t.isRight(node, now, identity); err != nil {
		return nil, err
	}
	if node == t.primary {
		if err := writes(ctx, s); err != nil {
			return nil, err
		}
	}
	if t.from == nil {
		return nil, nil
	}
	old, err := t.dial.connect(ctx, node, t.from.login())
	if err != nil {
		return []string{"the settings weren't compared on " + node + ": " + named(err, "the old login").Error()}, nil
	}
	defer old.close()
	before, err := whoAmI(ctx, old)
	if err != nil {
		return nil, err
	}
	if diff := differences(before.settings, now.settings); len(diff) > 0 {
		return nil, fault.New(fault.CredentialRejected, "%s on %s differs from %s in %s", now.session, node, before.session, strings.Join(diff, ", ")).
			WithHint("somebody changed the settings of one of the two logins; roll back and rotate again")
	}
	return nil, nil
}

func (t *target) isRight(where string, now seenAs, identity string) error {
	switch {
	case now.session != t.to.username:
		return fault.New(fault.CredentialRejected, "%s logs in on %s as %s", t.to.username, where, now.session)
	case now.current != identity:
		return fault.New(fault.CredentialRejected, "%s acts on %s as %s, not as %s", now.session, where, now.current, identity).
			WithHint("its default role can't be set: is it still a member of %s?", identity)
	case !now.infinite:
		return fault.New(fault.CredentialRejected, "%s has VALID UNTIL: it would stop working by the clock", now.session)
	}
	return nil
}

func (t *target) testPooler(ctx context.Context, p PoolerSettings, database, identity string) error {
	as := t.to.login()
	as.database = database
	s, err := t.dial.try(ctx, p.Address, as, simple)
	if err != nil {
		return err
	}
	defer s.close()
	now, err := whoAmI(ctx, s)
	if err != nil {
		return err
	}
	return t.isRight("pooler "+p.Address, now, identity)
}

// differences lists what isn't equal in both.
func differences(a, b map[string]string) []string {
	var names []string
	for name := range maps.Keys(a) {
		if v, ok := b[name]; !ok || v != a[name] {
			names = append(names, name)
		}
	}
	for name := range maps.Keys(b) {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// writes uses a transaction id and, where the login may, a temporary table;
// both end with the rollback. No table of the application is touched: its
// triggers could do anything.
func writes(ctx context.Context, s *session) error {
	tx, err := s.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadWrite})
	if err != nil {
		return named(err, "beginning a write on "+s.address)
	}
	defer undo(ctx, tx)
	var temp bool
	if err := tx.QueryRow(ctx, `SELECT has_database_privilege(current_database(), 'TEMP') AND pg_current_xact_id() IS NOT NULL`).Scan(&temp); err != nil {
		return named(err, "writing on "+s.address)
	}
	if temp {
		if _, err := tx.Exec(ctx, "CREATE TEMPORARY TABLE keyturn_probe ON COMMIT DROP AS SELECT 1 AS written"); err != nil {
			return named(err, "writing on "+s.address)
		}
	}
	return nil
}

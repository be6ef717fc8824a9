package postgres_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/rotation"
)

func recreate(e rotation.Engine, ctx context.Context, c rotation.Change) (rotation.Result, error) { //nolint:revive // a step, as the engine's methods are
	return e.(rotation.Recreator).Recreate(ctx, c) //nolint:forcetypeassert // that it is one is tested
}

// A snapshot that was taken while the version before was current has that one's
// login and not this one's.
func TestALoginThatARestoredDatabaseLacksIsMadeAgain(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		w.head(version1, version2)
		w.tail(version1, version2)
		w.head(version2, version3)
		c := w.change("", version3, 1)
		if res := w.until(recreate, c, rotation.Done); !res.Untouched {
			t.Fatalf("a login that works was changed: %+v", res)
		}
		root, lost := w.root("postgres"), w.login(version3)
		before := settingsOf(t, w, lost.User)
		execute(t, root, "DROP ROLE "+pgtest.Ident(lost.User))

		c.Fence = func(context.Context) error { return fault.New(fault.Superseded, "another version is current") }
		w.fails(recreate, c, fault.Superseded)
		if n := ask(t, root, "SELECT count(*)::text FROM pg_roles WHERE rolname = $1", lost.User); n != "0" {
			t.Fatal("it acted although the fence was down")
		}
		c = w.change("", version3, 1)
		res := w.until(recreate, c, rotation.Done)
		if len(res.Evidence) == 0 {
			t.Errorf("nothing is proven: %+v", res)
		}
		if who := ask(t, w.connect(lost, "web"), "SELECT current_user::text"); who != w.app.User {
			t.Errorf("acts as %s, want %s", who, w.app.User)
		}
		if after := settingsOf(t, w, lost.User); after != before {
			t.Errorf("settings %s, before %s", after, before)
		}
		if res := w.until(recreate, c, rotation.Done); !res.Untouched {
			t.Errorf("the second call changed it again: %+v", res)
		}
		// Rotations go on from there: the old one dies by its own drain.
		w.tail(version2, version3)
	})
}

func settingsOf(t *testing.T, w *world, login string) string {
	t.Helper()
	return ask(t, w.root("postgres"), `SELECT string_agg(c, ' ' ORDER BY c) FROM pg_db_role_setting s, unnest(s.setconfig) c
		WHERE s.setrole = (SELECT oid FROM pg_roles WHERE rolname = $1)`, login)
}

// One that is there with another password gets the stored one, if it is ours.
func TestALoginWithAnOlderPasswordGetsTheStoredOne(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.head(version1, version2)
		w.tail(version1, version2)
		lost := w.login(version2)
		execute(t, w.root("postgres"), "ALTER ROLE "+pgtest.Ident(lost.User)+" NOLOGIN PASSWORD "+pgtest.Literal(pgtest.Verifier("older")))
		if res := w.until(recreate, w.change("", version2, 1), rotation.Done); res.Untouched {
			t.Errorf("nothing was done: %+v", res)
		}
		w.connect(lost, "web")

		execute(t, w.root("postgres"), "ALTER ROLE "+pgtest.Ident(lost.User)+" PASSWORD "+pgtest.Literal(pgtest.Verifier("older")),
			"COMMENT ON ROLE "+pgtest.Ident(lost.User)+" IS NULL")
		w.policy.FailedLogins = 0
		err := w.fails(recreate, w.change("", version2, 1), fault.Blocked)
		if !strings.Contains(err.Error(), "isn't ours") {
			t.Errorf("got %v", err)
		}
	})
}

// Nobody proves that he holds a login that isn't there: names alone give no rights.
func TestALostLoginGetsNoRightsThatNothingGivesIt(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		// Never rotated, so that no comment says whose it is.
		victim, err := s.CreateLogin(w.ctx, w.app.User+"_victim", "postgres")
		if err != nil {
			t.Fatal(err)
		}
		forged := func(version, user string) {
			fields := map[string]any{}
			for k, v := range w.fields {
				fields[k] = v
			}
			fields["username"] = user
			w.store.Add(w.arn, version, encodeJSON(t, fields))
		}
		forged(version2, "nobody_at_all")
		if err := w.fails(recreate, w.change("", version2, 1), fault.Blocked); !strings.Contains(err.Error(), "make it by hand") && !strings.Contains(fault.HintOf(err), "make it by hand") {
			t.Errorf("got %v", err)
		}
		name, err := postgres.FreshName(victim.User, version3)
		if err != nil {
			t.Fatal(err)
		}
		forged(version3, name)
		if err := w.fails(recreate, w.change("", version3, 1), fault.Blocked); !strings.Contains(err.Error(), "may have the rights of "+victim.User) {
			t.Errorf("got %v", err)
		}
		if n := ask(t, w.root("postgres"), "SELECT count(*)::text FROM pg_roles WHERE rolname = $1", name); n != "0" {
			t.Errorf("%s was made", name)
		}
		w.set["identity"] = victim.User // the operator says so
		w.until(recreate, w.change("", version3, 1), rotation.Done)
	})
}

// Where the snapshot is older than the first rotation, the version before vouches:
// it logs in with the rights that the lost login had.
func TestTheVersionBeforeVouchesForALostLogin(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.head(version1, version2)
		w.tail(version1, version2)
		lost, root := w.login(version2), w.root("postgres")
		execute(t, root, "DROP ROLE "+pgtest.Ident(lost.User), "COMMENT ON ROLE "+pgtest.Ident(w.app.User)+" IS NULL")
		w.fails(recreate, w.change(version1, version2, 1), fault.Blocked) // it was revoked
		execute(t, root, "ALTER ROLE "+pgtest.Ident(w.app.User)+" LOGIN PASSWORD "+pgtest.Literal(pgtest.Verifier(w.app.Password)))
		w.until(recreate, w.change(version1, version2, 1), rotation.Done)
		if who := ask(t, w.connect(lost, "web"), "SELECT current_user::text"); who != w.app.User {
			t.Errorf("acts as %s, want %s", who, w.app.User)
		}
	})
}

// The snapshot is older than the first rotation: the clone isn't there, and the
// login before it is alive again, by which AWSPREVIOUS vouches.
func TestALostCloneIsMadeAgain(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		w.set["mode"] = "pair"
		root := w.root("postgres")
		execute(t, root, "ALTER ROLE "+pgtest.Ident(w.app.User)+" CONNECTION LIMIT 17", "ALTER ROLE "+pgtest.Ident(w.app.User)+" SET statement_timeout = '41s'")
		w.head(version1, version2)
		w.tail(version1, version2)
		lost := w.login(version2)
		if lost.User != w.app.User+"_clone" {
			t.Fatalf("version 2 uses %s", lost.User)
		}
		before := settingsOf(t, w, lost.User)
		execute(t, root, "DROP ROLE "+pgtest.Ident(lost.User), "COMMENT ON ROLE "+pgtest.Ident(w.app.User)+" IS NULL")
		w.fails(recreate, w.change(version1, version2, 1), fault.Blocked) // nothing says whose rights it had
		execute(t, root, "ALTER ROLE "+pgtest.Ident(w.app.User)+" LOGIN PASSWORD "+pgtest.Literal(pgtest.Verifier(w.app.Password)))
		c := w.change(version1, version2, 1)
		w.until(recreate, c, rotation.Done)
		if who := w.actsAs(lost); who != w.app.User {
			t.Errorf("acts as %s, want %s", who, w.app.User)
		}
		if after := settingsOf(t, w, lost.User); after != before {
			t.Errorf("settings %s, before %s", after, before)
		}
		if limit := ask(t, root, "SELECT rolconnlimit::text FROM pg_roles WHERE rolname = $1", lost.User); limit != "17" {
			t.Errorf("%s connections, want 17", limit)
		}
		if res := w.until(recreate, c, rotation.Done); !res.Untouched {
			t.Errorf("the second call changed it again: %+v", res)
		}
		// The next rotation takes the other one over, which is alive with its old
		// password: it is drained first, and the clone stands by again.
		w.seen.add("web", w.clock.Now)
		w.head(version2, version3)
		w.tail(version2, version3)
		w.refused(w.app)
		w.actsAs(w.login(version3))
		if got := pairOf(t, w); got != w.app.User+"true "+lost.User+"false" {
			t.Errorf("roles: %s", got)
		}
	})
}

// The snapshot is of the rotation before: both are there, and the current one is
// locked under an older password.
func TestTheBaseOfAPairGetsTheStoredPassword(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		w.set["mode"] = "pair"
		w.head(version1, version2)
		w.tail(version1, version2)
		w.head(version2, version3)
		w.tail(version2, version3)
		current, clone, root := w.login(version3), w.login(version2), w.root("postgres")
		// As it was when version 2 was current.
		comment := ask(t, root, "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1", current.User)
		execute(t, root,
			"ALTER ROLE "+pgtest.Ident(current.User)+" NOLOGIN PASSWORD "+pgtest.Literal(pgtest.Verifier("older")),
			"COMMENT ON ROLE "+pgtest.Ident(current.User)+" IS "+pgtest.Literal(strings.ReplaceAll(comment, version3, version1)),
			"ALTER ROLE "+pgtest.Ident(clone.User)+" LOGIN PASSWORD "+pgtest.Literal(pgtest.Verifier(clone.Password)))
		w.until(recreate, w.change(version2, version3, 1), rotation.Done)
		w.actsAs(current)
		if text := ask(t, root, "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1", current.User); !strings.Contains(text, version3) {
			t.Errorf("its comment is %s", text)
		}
		// The clone is alive again, too: the next rotation drains it before it takes it over.
		w.seen.add("web", w.clock.Now)
		w.head(version3, version4)
		w.tail(version3, version4)
		w.refused(clone)
		if got := pairOf(t, w); got != w.app.User+"false "+clone.User+"true" {
			t.Errorf("roles: %s", got)
		}
	})
}

// A name alone gives no rights in pair mode either.
func TestALostCloneGetsNoRightsThatNothingGivesIt(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		theirs := cloned(t, w) // by AWS's sample functions, never rotated here
		stored := func(version, user string) {
			w.fields["username"], w.fields["password"] = user, "what-is-stored-for-it"
			w.store.Add(w.arn, version, encodeJSON(t, w.fields))
		}
		stored(version2, theirs.User)
		if err := w.fails(recreate, w.change(version1, version2, 1), fault.Blocked); !strings.Contains(err.Error(), "isn't ours") {
			t.Errorf("a clone of others: %v", err)
		}
		w.connect(theirs, "web") // it has its password still
		victim, err := s.CreateLogin(w.ctx, w.app.User+"_victim", "postgres")
		if err != nil {
			t.Fatal(err)
		}
		stored(version3, victim.User+"_clone")
		if err := w.fails(recreate, w.change(version1, version3, 1), fault.Blocked); !strings.Contains(err.Error(), "may have the rights of "+victim.User) {
			t.Errorf("a clone of another login: %v", err)
		}
		stored(version4, w.app.User+"_gone_clone")
		if err := w.fails(recreate, w.change(version1, version4, 1), fault.Blocked); !strings.Contains(err.Error(), "doesn't exist") {
			t.Errorf("a clone of nobody: %v", err)
		}
		if n := ask(t, w.root("postgres"), "SELECT count(*)::text FROM pg_roles WHERE rolname IN ($1, $2)", victim.User+"_clone", w.app.User+"_gone_clone"); n != "0" {
			t.Errorf("%s logins were made", n)
		}
	})
}

const version4 = "44444444-4444-4444-8444-444444444444"

// pairOf is who of a pair may log in.
func pairOf(t *testing.T, w *world) string {
	t.Helper()
	return ask(t, w.root("postgres"), "SELECT string_agg(rolname || rolcanlogin, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname IN ($1, $2)",
		w.app.User, w.app.User+"_clone")
}

// actsAs connects once and leaves no session behind, which a drain would wait for.
func (w *world) actsAs(l pgtest.Login) string {
	w.t.Helper()
	conn := w.connect(l, "web")
	defer func() { _ = conn.Close(w.ctx) }() // what was asked is answered
	return ask(w.t, conn, "SELECT current_user::text")
}

// refused checks that a login doesn't work any more.
func (w *world) refused(l pgtest.Login) {
	w.t.Helper()
	conn, err := pgx.Connect(w.ctx, w.s.DSN(w.s.Primary, l))
	if err == nil {
		_ = conn.Close(w.ctx)
		w.t.Errorf("login %s works", l.User)
	}
}

package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// A revoke that was past its fence when a rollback came commits while enable
// looks: the dead login isn't opened again.
func TestEnableBesideARevokeThatGoesOn(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.head(version1, version2)
		w.seen.add("web", w.clock.Now)
		forward := w.change(version1, version2, 2)
		w.until(rotation.Engine.Disable, forward, rotation.Done)
		back := w.change(version1, version2, 3)
		back.Fence = func(context.Context) error { // called inside the lock, after the first look
			execute(t, w.root("postgres"), "ALTER ROLE "+w.app.User+" PASSWORD NULL")
			return nil
		}
		w.fails(rotation.Engine.Enable, back, fault.TooLate)
		if got := ask(t, w.root("postgres"), "SELECT rolcanlogin::text FROM pg_roles WHERE rolname = $1", w.app.User); got != "false" {
			t.Error("the login that has lost its password was opened")
		}
	})
}

// held is a fence behind which somebody else's transaction changes the same, and
// commits as soon as it is waited for.
func (w *world) held(statement string) func(context.Context) error {
	w.t.Helper()
	other, watch := w.root("postgres"), w.root("postgres")
	pid := ask(w.t, other, "SELECT pg_backend_pid()::text")
	return func(context.Context) error {
		execute(w.t, other, "BEGIN", statement)
		go func() {
			for awaited := false; !awaited && w.ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
				if err := watch.QueryRow(w.ctx, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1::text::int = ANY(pg_blocking_pids(pid)))", pid).Scan(&awaited); err != nil {
					w.t.Error(err)
					return
				}
			}
			if _, err := other.Exec(w.ctx, "COMMIT"); err != nil {
				w.t.Error(err)
			}
		}()
		return nil
	}
}

// Somebody holds the identity's lock, or was quicker: nothing is broken, it is
// tried again.
func TestTrap11WhoeverWasQuickerIsLookedAtAgain(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.policy.FunctionLimit = time.Minute // our transactions may lie open for 15 s
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		root, made := w.root("postgres"), w.login(version2).User
		again := func(fence func(context.Context) error, state string) {
			t.Helper()
			c := w.change(version1, version2, 1)
			if fence != nil {
				c.Fence = fence
			}
			if err := w.fails(rotation.Engine.Set, c, fault.Conflict); !strings.Contains(err.Error(), "SQLSTATE "+state) {
				t.Errorf("%s is told as %v", state, err)
			}
		}
		lock := func(more string) {
			execute(t, root, "BEGIN", "SELECT pg_advisory_xact_lock(hashtextextended('keyturn/"+w.app.User+"', 0))")
			again(nil, more)
			execute(t, root, "ROLLBACK")
		}
		w.set["lock_timeout"], w.set["statement_timeout"] = "100ms", "1m"
		lock("55P03")
		w.set["lock_timeout"], w.set["statement_timeout"] = "1m", "500ms"
		lock("57014")
		delete(w.set, "lock_timeout")
		delete(w.set, "statement_timeout")

		again(func(context.Context) error { execute(t, root, "CREATE ROLE "+made); return nil }, "42710")
		w.fails(rotation.Engine.Set, c, fault.Blocked) // somebody else's, and never ours
		execute(t, root, "DROP ROLE "+made)
		again(w.held("CREATE ROLE "+made), "23505")
		execute(t, root, "DROP ROLE "+made)
		w.until(rotation.Engine.Set, c, rotation.Done)
		execute(t, root, "ALTER ROLE "+made+" PASSWORD NULL")
		again(w.held("ALTER ROLE "+made+" CONNECTION LIMIT 5"), "XX000")
		w.until(rotation.Engine.Set, c, rotation.Done)
	})
}

// A function that was frozen in the middle of a transaction comes back after the
// server has ended that: it tries again.
func TestATransactionThatLayOpenTooLongIsTriedAgain(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		root := w.root("postgres")
		late := c
		late.Fence = func(context.Context) error { w.unlocked(root, w.app.User); return nil }
		w.fails(rotation.Engine.Set, late, fault.Unavailable)
		w.until(rotation.Engine.Set, c, rotation.Done)
	})
}

// However long functions may run: whoever repeats a step against the lock of one
// that was killed gives up after 6 times lock_timeout, 3 s.
func TestATransactionLiesOpenForLessThanAStepIsRepeated(t *testing.T) {
	t.Parallel()
	for limit, want := range map[time.Duration]time.Duration{
		0: 15 * time.Second, time.Second: time.Second, time.Minute: 15 * time.Second, 15 * time.Minute: 15 * time.Second,
	} {
		if got := postgres.IdleLimit(limit); got != want {
			t.Errorf("functions of %s: %s, want %s", limit, got, want)
		}
	}
}

// The login of a version that is discarded may be used until its password is gone:
// a session that began after the first look keeps the login from being dropped.
func TestRevokeSeesWhoCameBetweenItsLooks(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.policy.FunctionLimit = time.Minute // our transactions may lie open for 15 s
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		w.until(rotation.Engine.Set, c, rotation.Done)
		var late *pgx.Conn
		back := w.change(version2, version1, 2_000_001)
		back.Rotation, back.Back, back.Unpresented = version2, true, true
		back.Fence = func(context.Context) error { // called inside the lock, after the first look
			if late == nil {
				late = w.connect(w.login(version2), "late")
			}
			return nil
		}
		if err := s.CaughtUp(w.ctx); err != nil {
			t.Fatal(err)
		}
		res, err := w.engine.Revoke(w.ctx, back)
		if err != nil || res.Outcome != rotation.Wait || !strings.Contains(strings.Join(res.Missing, "\n"), "late@") {
			t.Errorf("revoke is %q (%v), missing %q", res.Outcome, err, res.Missing)
		}
		if got := ask(t, w.root("postgres"), "SELECT count(*)::text FROM pg_roles WHERE rolname = $1", w.login(version2).User); got != "1" {
			t.Error("a login was dropped while a session was using it")
		}
		_ = late.Close(w.ctx)
		w.until(rotation.Engine.Revoke, back, rotation.Done)
	})
}

// The labels are read again before a login is dropped.
func TestARunThatIsFencedDropsNothing(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		w.until(rotation.Engine.Set, c, rotation.Done)
		if err := s.CaughtUp(w.ctx); err != nil {
			t.Fatal(err)
		}
		calls := 0
		back := w.change(version2, version1, 2_000_001)
		back.Rotation, back.Back, back.Unpresented = version2, true, true
		back.Fence = func(context.Context) error {
			if calls++; calls == 2 { // the first is for the password
				return fault.New(fault.Fenced, "the labels have moved")
			}
			return nil
		}
		w.fails(rotation.Engine.Revoke, back, fault.Fenced)
		if got := ask(t, w.root("postgres"), "SELECT count(*)::text FROM pg_roles WHERE rolname = $1", w.login(version2).User); got != "1" {
			t.Error("a run that was fenced has dropped a login")
		}
	})
}

// Between the last look at the standby of a pair and the lock another rotation
// takes it over: it keeps the password that it was given there.
func TestAStandbyThatWasTakenOverMeanwhileIsLeft(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		clone := cloned(t, w)
		root := w.root("postgres")
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		n := 0
		w.seen.add("web", func() time.Time { // asked for at the end of each look
			n++
			execute(t, root, fmt.Sprintf(`COMMENT ON ROLE %s IS '{"keyturn":1,"identity":"%s","token":"another-%d","gen":1}'`, clone.User, w.app.User, n))
			return w.clock.Now()
		})
		for w.ctx.Err() == nil {
			res, err := w.engine.Set(w.ctx, c)
			if fault.Is(err, fault.Conflict) {
				break
			}
			if err != nil || res.Outcome == rotation.Done {
				t.Fatalf("set is %q (%v) on a login that was taken over after %d looks", res.Outcome, err, n)
			}
			c.Cursor = res.Cursor
			w.clock.Advance(time.Second)
		}
		if got := ask(t, w.connect(clone, "web"), "SELECT session_user::text"); got != clone.User {
			t.Errorf("the standby logs in as %q", got)
		}
	})
}

package postgres_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/rotation"
)

// cloned makes what AWS's sample functions leave: a clone that is a member of
// the login, alive under its own password.
func cloned(t *testing.T, w *world) pgtest.Login {
	t.Helper()
	clone := pgtest.Login{User: w.app.User + "_clone", Password: "the-clone's-password", Database: w.app.Database}
	execute(t, w.root("postgres"),
		"CREATE ROLE "+clone.User+" LOGIN PASSWORD "+pgtest.Literal(pgtest.Verifier(clone.Password)),
		"GRANT "+w.app.User+" TO "+clone.User)
	if err := w.s.Administer(w.ctx, clone.User); err != nil {
		t.Fatal(err)
	}
	if err := w.s.CaughtUp(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.set["mode"] = "pair"
	return clone
}

func TestPairDrainsTheStandbyFirst(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		clone := cloned(t, w)
		user := w.connect(clone, "forgotten")
		w.seen.add("web", w.clock.Now)
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		res := w.until(rotation.Engine.Set, c, rotation.Wait)
		if !strings.Contains(strings.Join(res.Missing, "\n"), "forgotten@127.0.0.1") {
			t.Errorf("who uses the standby isn't named: %q", res.Missing)
		}
		if got := ask(t, w.connect(clone, "again"), "SELECT session_user::text"); got != clone.User {
			t.Error("the standby's password was changed under its user")
		}
		execute(t, user, "SELECT 1")
		_ = user.Close(w.ctx)
		execute(t, w.root("postgres"), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+clone.User+"'")
		w.until(rotation.Engine.Set, c, rotation.Done)
		w.until(rotation.Engine.Test, c, rotation.Done)
		w.store.Finish(w.arn, version2)
		w.tail(version1, version2)
		// And back: the pair alternates, and nothing is dropped.
		w.head(version2, version3)
		w.tail(version2, version3)
		if w.login(version2).User != clone.User || w.login(version3).User != w.app.User {
			t.Errorf("logins: %s, %s", w.login(version2).User, w.login(version3).User)
		}
		got := ask(t, w.root("postgres"), "SELECT string_agg(rolname || rolcanlogin, ' ' ORDER BY rolname) FROM pg_roles WHERE strpos(rolname, $1) = 1", w.app.User)
		if got != w.app.User+"true "+clone.User+"false" {
			t.Errorf("roles: %s", got)
		}
	})
}

func TestPairRepairsWhatTheCloneOwns(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		clone := cloned(t, w)
		old := w.connect(clone, "web")
		execute(t, old, `CREATE TABLE shop."of the ""clone""" (id bigserial PRIMARY KEY)`, "CREATE VIEW shop.its_view AS SELECT 1 AS one",
			"CREATE FUNCTION shop.its_function(text, int) RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE TYPE shop.its_type AS (a int)",
			"CREATE TABLE shop.busy (id int)")
		w.fields["username"], w.fields["password"] = clone.User, clone.Password
		w.store.Add(w.arn, version1, encodeJSON(t, w.fields))
		execute(t, w.root("postgres"), "ALTER ROLE "+w.app.User+" NOLOGIN") // the standby was revoked
		reader := w.root(w.app.Database)
		execute(t, reader, "BEGIN", "LOCK TABLE shop.busy IN ACCESS SHARE MODE")
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		if w.login(version2).User != w.app.User {
			t.Fatalf("the new version uses %s", w.login(version2).User)
		}
		release := make(chan error, 1)
		go func() {
			// The reader holds the table while the repair tries, then lets go.
			_, err := reader.Exec(w.ctx, "SELECT pg_sleep(0.5); COMMIT")
			release <- err
		}()
		res := w.until(rotation.Engine.Set, c, rotation.Done)
		if err := <-release; err != nil {
			t.Fatal(err)
		}
		if len(res.Notes) > 0 {
			t.Errorf("left unrepaired: %q", res.Notes)
		}
		// A function that dies in between must leave no lock on a table behind:
		// there is no in between.
		log, err := s.Primary.Log()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log, "SET LOCAL lock_timeout = '50ms'; ALTER TABLE shop.busy OWNER TO") {
			t.Error("a change of an owner isn't one message")
		}
		w.until(rotation.Engine.Test, c, rotation.Done)
		root := w.root(w.app.Database)
		if got := ask(t, root, `SELECT count(*)::text FROM pg_shdepend WHERE refobjid = $1::regrole AND deptype = 'o' AND classid <> 'pg_default_acl'::regclass
			AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())`, clone.User); got != "0" {
			t.Errorf("%s objects still belong to the clone", got)
		}
		// Both logins go on working, also with what the clone makes from now on.
		execute(t, old, `INSERT INTO shop."of the ""clone""" DEFAULT VALUES`, "CREATE TABLE shop.later (id int)", "INSERT INTO shop.later VALUES (1)")
		renewed := w.connect(w.login(version2), "web")
		if got := ask(t, renewed, `SELECT (SELECT count(*) FROM shop."of the ""clone""") || ' ' || (SELECT count(*) FROM shop.later)`); got != "1 1" {
			t.Errorf("the new login reads %s", got)
		}
	})
}

// Rights come first, and one object that somebody holds keeps nothing else back:
// the version that comes works with all of it before anything changes hands.
func TestPairGrantsAllButWhatIsHeld(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		clone := cloned(t, w)
		old := w.connect(clone, "web")
		execute(t, old, "DO $$ BEGIN FOR i IN 1..120 LOOP EXECUTE format('CREATE TABLE shop.many_%s (id int)', i); END LOOP; END $$")
		w.fields["username"], w.fields["password"] = clone.User, clone.Password
		w.store.Add(w.arn, version1, encodeJSON(t, w.fields))
		root := w.root(w.app.Database)
		execute(t, root, "ALTER ROLE "+w.app.User+" NOLOGIN") // the standby was revoked
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		execute(t, old, "BEGIN", "GRANT SELECT ON shop.many_7 TO PUBLIC") // its row of the catalogue is held
		set := make(chan rotation.Result, 1)
		go func() {
			defer close(set)
			res, err := w.engine.Set(w.ctx, c)
			if err != nil {
				t.Error(err)
				return
			}
			set <- res
		}()
		granted := func() string {
			return ask(t, root, `SELECT count(*)::text FROM pg_tables WHERE tablename LIKE 'many%'
				AND has_table_privilege($1, format('%I.%I', schemaname, tablename), 'INSERT')`, w.app.User)
		}
		for granted() != "119" && w.ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		if got := ask(t, root, "SELECT count(*)::text FROM pg_tables WHERE tablename LIKE 'many%' AND tableowner = $1", clone.User); got != "120" {
			t.Errorf("of 120 tables %s belong to the clone before everything is granted", got)
		}
		execute(t, old, "COMMIT")
		if res := <-set; res.Outcome != rotation.Done || len(res.Notes) > 0 {
			t.Errorf("set ended as %q, left unrepaired: %q", res.Outcome, res.Notes)
		}
		if got := granted(); got != "120" {
			t.Errorf("%s of 120 tables are granted", got)
		}
		// A group is one message: its rows of the catalogue are held for a moment only.
		log, err := s.Primary.Log()
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(log, "GRANT ALL ON TABLE shop.many_"); n > 40 {
			t.Errorf("120 tables were granted in %d messages", n)
		}
	})
}

// A lock that waits behind a long transaction would be waited for by everybody:
// what such a one uses stays the clone's, and the notes say so.
func TestPairLeavesWhatALongTransactionUses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, servers["18"], "")
	clone := cloned(t, w)
	execute(t, w.connect(clone, "web"), "CREATE TABLE shop.busy (id int)", "CREATE TABLE shop.idle (id int)")
	reader, root := w.root(w.app.Database), w.root(w.app.Database)
	execute(t, reader, "BEGIN", "LOCK TABLE shop.busy IN ACCESS SHARE MODE")
	w.fields["username"], w.fields["password"] = clone.User, clone.Password
	w.store.Add(w.arn, version1, encodeJSON(t, w.fields))
	execute(t, root, "ALTER ROLE "+w.app.User+" NOLOGIN") // the standby was revoked
	w.begin(version2)
	c := w.change(version1, version2, 1)
	w.until(rotation.Engine.Create, c, rotation.Done)
	for ask(t, root, "SELECT (max(now() - xact_start) > '30 s')::text FROM pg_stat_activity WHERE pid = $1::text::int", fmt.Sprint(reader.PgConn().PID())) != "true" {
		time.Sleep(100 * time.Millisecond)
	}
	res := w.until(rotation.Engine.Set, c, rotation.Done)
	if len(res.Notes) != 1 || !strings.Contains(res.Notes[0], "table shop.busy in "+w.app.Database+" still belongs to "+clone.User+": a transaction older than 30 s") {
		t.Errorf("notes: %q", res.Notes)
	}
	if got := ask(t, root, "SELECT string_agg(tablename || ' ' || tableowner, ', ' ORDER BY 1) FROM pg_tables WHERE tablename IN ('busy', 'idle')"); got !=
		"busy "+clone.User+", idle "+w.app.User {
		t.Errorf("owners: %s", got)
	}
	log, err := w.s.Primary.Log()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log, clone.User+"@"+w.app.Database+"/keyturn LOG:  statement: SET LOCAL lock_timeout = '50ms'; ALTER TABLE shop.busy") {
		t.Error("its owner was tried to be changed")
	}
	execute(t, reader, "COMMIT")
	w.until(rotation.Engine.Test, c, rotation.Done) // the rights were granted all the same
}

func TestRenameKeepsTheLoginsName(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		owner := w.app.User + "_owner"
		w.set["adopt"], w.set["owner"] = "rename", owner
		early := w.connect(w.app, "early")
		w.head(version1, version2)
		// The old name and password go on working; a session from before too.
		execute(t, early, "INSERT INTO shop.orders (note) VALUES ('early')")
		late := w.connect(w.app, "late")
		if got := ask(t, late, "SELECT session_user || ' as ' || current_user"); got != w.app.User+" as "+owner {
			t.Errorf("the old name logs in: %s", got)
		}
		web := w.connect(w.login(version2), "web")
		if got := ask(t, web, "SELECT current_user::text"); got != owner {
			t.Errorf("the new login acts as %s", got)
		}
		_ = web.Close(w.ctx)
		_ = late.Close(w.ctx)
		w.seen.add("web", w.clock.Now)
		res := w.until(rotation.Engine.Drain, w.change(version1, version2, 2), rotation.Wait)
		if !strings.Contains(strings.Join(res.Missing, ""), "early@127.0.0.1") {
			t.Errorf("the session from before the rename is invisible: %q", res.Missing)
		}
		_ = early.Close(w.ctx)
		w.tail(version1, version2)
		w.head(version2, version3)
		w.tail(version2, version3)
		got := ask(t, w.root("postgres"), "SELECT string_agg(rolname || rolcanlogin, ' ' ORDER BY rolname) FROM pg_roles WHERE strpos(rolname, $1) = 1", w.app.User)
		if got != owner+"false "+w.login(version3).User+"true" {
			t.Errorf("roles: %s", got)
		}
	})
}

func TestRenameBlocksWhereTheNameMeansASchema(t *testing.T) {
	t.Parallel()
	w := newWorld(t, servers["15"], "")
	execute(t, w.connect(w.app, "setup"), "CREATE SCHEMA "+w.app.User)
	w.set["adopt"], w.set["owner"] = "rename", w.app.User+"_owner"
	w.begin(version2)
	if err := w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.Blocked); !strings.Contains(err.Error(), "search_path") {
		t.Errorf("got %v", err)
	}
}

// A Set that was past its fence when its rotation was turned back opens the
// standby all the same: it is discarded, too.
func TestALateSetOfAPairIsDiscarded(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		clone := cloned(t, w)
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		back := w.change(version2, version1, 2_000_001)
		back.Rotation, back.Back, back.Unpresented = version2, true, true
		first, err := w.engine.Drain(w.ctx, back)
		if err != nil || first.Outcome != rotation.Wait {
			t.Fatalf("the discard is %s while a set may be under way: %v", first.Outcome, err)
		}
		w.seen.add("web", w.clock.Now)
		w.until(rotation.Engine.Set, c, rotation.Done) // the one that came late
		back.Cursor = first.Cursor
		w.until(rotation.Engine.Drain, back, rotation.Done)
		w.until(rotation.Engine.Disable, back, rotation.Done)
		w.until(rotation.Engine.Revoke, back, rotation.Done)
		if got := ask(t, w.root("postgres"), "SELECT rolcanlogin::text FROM pg_roles WHERE rolname = $1", clone.User); got != "false" {
			t.Errorf("the discarded login can log in: %s", got)
		}
	})
}

// A version that was never set is discarded without touching the standby, which is
// an earlier version's, and says so: that one's end is its own.
func TestADiscardBeforeSetLeavesTheStandby(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		clone := cloned(t, w)
		w.begin(version2)
		w.until(rotation.Engine.Create, w.change(version1, version2, 1), rotation.Done)
		back := w.change(version2, version1, 2_000_001)
		back.Rotation, back.Back, back.Unpresented = version2, true, true
		w.until(rotation.Engine.Drain, back, rotation.Done)
		w.until(rotation.Engine.Disable, back, rotation.Done)
		if res := w.until(rotation.Engine.Revoke, back, rotation.Done); !res.Untouched {
			t.Error("the end of a login is claimed that nobody has touched")
		}
		if got := ask(t, w.connect(clone, "web"), "SELECT session_user::text"); got != clone.User {
			t.Errorf("the standby logs in as %q", got)
		}
	})
}

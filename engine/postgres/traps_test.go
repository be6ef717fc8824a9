package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/rotation"
)

// The tests of this file and of traps_drain_test.go are numbered by the traps that
// they keep shut: what PostgreSQL does otherwise than one expects of a rotation.

func TestTheIdentityKeepsEverything(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		w.head(version1, version2)
		conn := w.connect(w.login(version2), "web")
		for _, reset := range []string{"", "DISCARD ALL", "RESET ROLE", "RESET SESSION AUTHORIZATION"} {
			if reset != "" {
				execute(t, conn, reset)
			}
			if got := ask(t, conn, "SELECT current_user::text", pgx.QueryExecModeExec); got != w.app.User {
				t.Errorf("after %q current_user is %s, want %s", reset, got, w.app.User)
			}
		}
		_ = conn.Close(w.ctx)
		conn = w.connect(w.login(version2), "web")
		if got := ask(t, conn, "SELECT note FROM shop.orders"); got != "first" {
			t.Errorf("the row-level policy shows %q", got)
		}
		execute(t, conn, "CREATE TABLE shop.later (id int)", "INSERT INTO shop.orders (note) VALUES ('second')")
		if got := ask(t, conn, "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'shop.later'::regclass"); got != w.app.User {
			t.Errorf("a new table belongs to %s", got)
		}
		if got := ask(t, conn, "SELECT has_table_privilege('pg_monitor', 'shop.later', 'SELECT')::text"); got != "true" {
			t.Error("the default privileges don't apply any more")
		}
		w.tail(version1, version2)
		// The second rotation drops what the first one has made.
		w.head(version2, version3)
		_ = conn.Close(w.ctx)
		w.tail(version2, version3)
		root := w.root("postgres")
		if got := ask(t, root, "SELECT string_agg(rolname || rolcanlogin, ' ' ORDER BY rolname) FROM pg_roles WHERE strpos(rolname, $1) = 1", w.app.User); got !=
			w.app.User+"false "+w.login(version3).User+"true" {
			t.Errorf("roles left: %s", got)
		}
	})
}

func TestTrap1ValidUntilNeverEndsALogin(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		root := w.root("postgres")
		execute(t, root, "ALTER ROLE "+w.app.User+" VALID UNTIL '2999-01-01'")
		w.begin(version2)
		err := w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.Blocked)
		if !strings.Contains(err.Error(), "VALID UNTIL") {
			t.Errorf("the blocker isn't named: %v", err)
		}
		execute(t, root, "ALTER ROLE "+w.app.User+" VALID UNTIL 'infinity'")
		w.head(version1, version2)
		if got := ask(t, root, "SELECT rolvaliduntil::text FROM pg_roles WHERE rolname = $1", w.login(version2).User); got != "infinity" {
			t.Errorf("the new login is valid until %s", got)
		}
		w.until(rotation.Engine.Disable, w.change(version1, version2, 2), rotation.Done)
		execute(t, root, "ALTER ROLE "+w.app.User+" VALID UNTIL '2001-01-01'")
		w.until(rotation.Engine.Enable, w.change(version1, version2, 3), rotation.Done)
		if err := w.works(w.ctx, version1); err != nil {
			t.Error(err)
		}
	})
}

func TestTrap2SettingsAndLimitsAreCarriedOver(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		root := w.root("postgres")
		execute(t, root, "ALTER ROLE "+w.app.User+` SET log_error_verbosity = verbose`,
			"GRANT SET ON PARAMETER log_error_verbosity TO "+pgtest.AdminRole,
			"ALTER ROLE "+w.app.User+` SET temp_tablespaces = 'pg_default, "pg_default"'`,
			"ALTER ROLE "+w.app.User+` SET DateStyle = 'SQL, DMY'`,
			"ALTER ROLE "+w.app.User+` SET keyturn_test.odd = E'it''s, a \\ "thing"'`, `GRANT SET ON PARAMETER keyturn_test.odd TO `+pgtest.AdminRole,
			"ALTER ROLE "+w.app.User+` SET search_path = "$user", "we""ird, one", public`,
			"ALTER ROLE "+w.app.User+" NOINHERIT")
		w.head(version1, version2) // Test compares pg_settings
		for _, query := range []string{
			"SELECT (SELECT string_agg(c, chr(10) ORDER BY c) FROM unnest(setconfig) c WHERE c NOT LIKE 'role=%') FROM pg_db_role_setting WHERE setdatabase = 0 AND setrole = $1::regrole",
			"SELECT (SELECT string_agg(c, chr(10) ORDER BY c) FROM unnest(setconfig) c WHERE c NOT LIKE 'role=%') FROM pg_db_role_setting WHERE setdatabase <> 0 AND setrole = $1::regrole",
			"SELECT rolconnlimit::text FROM pg_roles WHERE oid = $1::regrole",
		} {
			old, renewed := ask(t, root, query, w.app.User), ask(t, root, query, w.login(version2).User)
			if old != renewed || old == "" {
				t.Errorf("%s\nold %s\nnew %s", query, old, renewed)
			}
		}
		if got := ask(t, root, "SELECT rolinherit::text FROM pg_roles WHERE rolname = $1", w.login(version2).User); got != "true" {
			t.Error("the new login doesn't inherit: CONNECT is checked for the session's user")
		}
	})
}

func TestTrap2WhatCannotBeCarriedOverIsNamed(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		execute(t, w.root("postgres"), "ALTER ROLE "+w.app.User+" SET log_min_duration_statement = '1s'")
		w.begin(version2)
		c := w.change(version1, version2, 1)
		before, _ := w.picture(w.ctx)
		err := w.fails(rotation.Engine.Create, c, fault.Blocked)
		if !strings.Contains(err.Error(), "log_min_duration_statement") {
			t.Errorf("the setting isn't named: %v", err)
		}
		if after, _ := w.picture(w.ctx); after != before {
			t.Errorf("something is left:\n%s\n%s", before, after)
		}
		for attribute, word := range map[string]string{"REPLICATION": "REPLICATION", "BYPASSRLS": "BYPASSRLS", "SUPERUSER": "superuser"} {
			x := newLogin(t, s)
			execute(t, x.root("postgres"), "ALTER ROLE "+x.app.User+" "+attribute)
			x.begin(version2)
			if err := x.fails(rotation.Engine.Create, x.change(version1, version2, 1), fault.Blocked); !strings.Contains(err.Error(), word) {
				t.Errorf("%s isn't named: %v", attribute, err)
			}
		}
	})
}

func TestTrap3AWrongDefaultRoleFailsTheTest(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.head(version1, version2)
		root := w.root("postgres")
		login := w.login(version2).User
		execute(t, root, `DO $$ DECLARE g regrole; BEGIN
			FOR g IN SELECT grantor::regrole FROM pg_auth_members WHERE member = '`+login+`'::regrole LOOP
			EXECUTE format('SET ROLE %s', g); EXECUTE 'REVOKE `+w.app.User+` FROM `+login+`'; RESET ROLE; END LOOP; END $$`)
		err := w.fails(rotation.Engine.Test, w.change(version1, version2, 1), fault.CredentialRejected)
		if !strings.Contains(err.Error(), "role") {
			t.Errorf("the warning isn't in the text: %v", err)
		}
	})
}

// What somebody's hand does to the new login between Set and Test is found.
func TestWhatWasChangedAfterSetFailsTheTest(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.head(version1, version2)
		root, made := w.root("postgres"), w.login(version2).User
		for harm, tc := range map[string]struct{ mend, text string }{
			"RESET role":                       {"SET role = " + w.app.User, made + " acts on " + s.Primary.Address() + " as " + made},
			"SET maintenance_work_mem = '7MB'": {"RESET maintenance_work_mem", "differs from " + w.app.User + " in maintenance_work_mem"},
			"VALID UNTIL '2999-01-01'":         {"VALID UNTIL 'infinity'", "VALID UNTIL"},
		} {
			execute(t, root, "ALTER ROLE "+made+" "+harm)
			if err := w.fails(rotation.Engine.Test, w.change(version1, version2, 1), fault.CredentialRejected); !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%s is told as %v", harm, err)
			}
			execute(t, root, "ALTER ROLE "+made+" "+tc.mend)
		}
		w.until(rotation.Engine.Test, w.change(version1, version2, 1), rotation.Done)
	})
}

func TestTrap6NothingIsDroppedThatOthersMade(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		w.head(version1, version2)
		w.tail(version1, version2)
		login := w.login(version2).User
		root := w.root(w.app.Database)
		execute(t, root, "CREATE TABLE public.later (id int)", "GRANT SELECT ON public.later TO "+login,
			"ALTER TABLE public.later OWNER TO "+login)
		w.head(version2, version3)
		res := w.tail(version2, version3)
		notes := strings.Join(res.Notes, "\n")
		if !strings.Contains(notes, "parked login "+login) || !strings.Contains(notes, "owned in "+w.app.Database) {
			t.Errorf("the notes don't say what depends on it: %q", notes)
		}
		if got := ask(t, root, "SELECT count(*)::text FROM public.later"); got != "0" {
			t.Errorf("the table answers %s", got)
		}
		if got := ask(t, root, "SELECT (NOT rolcanlogin AND rolpassword IS NULL)::text FROM pg_authid WHERE rolname = $1", login); got != "true" {
			t.Error("the parked login isn't NOLOGIN PASSWORD NULL")
		}
	})
}

func TestTrap7SurvivorsReopenOrEnd(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.head(version1, version2)
		survivor := w.connect(w.app, "slow")
		res := w.until(rotation.Engine.Disable, w.change(version1, version2, 2), rotation.Reopened)
		if len(res.Missing) == 0 || !strings.HasPrefix(res.Missing[0], "slow@127.0.0.1 on "+s.Primary.Address()) {
			t.Errorf("the survivor isn't named: %q", res.Missing)
		}
		if err := w.works(w.ctx, version1); err != nil {
			t.Errorf("hold must open the login again: %v", err)
		}
		if got := ask(t, survivor, "SELECT 'alive'"); got != "alive" {
			t.Error("hold has ended a session")
		}
		reader := w.connectTo(s.DSN(s.Replica, w.app), "reader")
		res = w.until(rotation.Engine.Disable, w.change(version1, version2, 2), rotation.Reopened)
		if !strings.Contains(strings.Join(res.Missing, "\n"), "reader@127.0.0.1 on "+s.Replica.Address()) {
			t.Errorf("the replica's survivor isn't named: %q", res.Missing)
		}
		w.policy.OnTimeout = rotation.Terminate
		w.until(rotation.Engine.Disable, w.change(version1, version2, 2), rotation.Done)
		for _, conn := range []*pgx.Conn{survivor, reader} {
			if err := conn.QueryRow(w.ctx, "SELECT 1").Scan(new(int)); err == nil {
				t.Error("terminate has left a session alive")
			}
		}
		if err := w.works(w.ctx, version1); err == nil {
			t.Error("the old login still works")
		}
	})
}

func TestTrap8AReplicaBehindIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"15", "18"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			own, err := pgtest.Start(t.Context(), pgtest.Options{Version: version, TLS: true, Replica: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(own.Stop)
			s := &server{Cluster: own, version: version}
			if s.admin, err = own.CreateAdmin(t.Context(), "rotator"); err != nil {
				t.Fatal(err)
			}
			w := newLogin(t, s)
			replica, err := own.Superuser(w.ctx, own.Replica, "postgres")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = replica.Close(w.ctx) }()
			w.begin(version2)
			c := w.change(version1, version2, 1)
			w.until(rotation.Engine.Create, c, rotation.Done)
			execute(t, replica, "SELECT pg_wal_replay_pause()")
			w.until(rotation.Engine.Set, c, rotation.Done)
			w.until(rotation.Engine.Test, c, rotation.Wait)
			execute(t, replica, "SELECT pg_wal_replay_resume()")
			w.until(rotation.Engine.Test, c, rotation.Done)
			w.store.Finish(w.arn, version2)

			// A session on the replica is invisible to the primary.
			w.seen.add("web", w.clock.Now)
			reader := w.connectTo(s.DSN(own.Replica, w.app), "reader")
			res := w.until(rotation.Engine.Drain, w.change(version1, version2, 2), rotation.Wait)
			if !strings.Contains(strings.Join(res.Missing, "\n"), "reader@127.0.0.1 on "+own.Replica.Address()) {
				t.Errorf("the replica's session isn't named: %q", res.Missing)
			}
			_ = reader.Close(w.ctx)
			w.until(rotation.Engine.Drain, w.change(version1, version2, 2), rotation.Done)
			res = w.until(rotation.Engine.Disable, w.change(version1, version2, 2), rotation.Done)
			if len(res.Evidence) != 2 || res.Evidence[1].Party != own.Replica.Address() || res.Evidence[1].Proof != rotation.Behaved {
				t.Errorf("the read-back doesn't cover both nodes: %+v", res.Evidence)
			}
			// A replica that is behind is waited for in every other step too.
			for _, act := range []step{rotation.Engine.Enable, rotation.Engine.Disable, rotation.Engine.Revoke} {
				execute(t, replica, "SELECT pg_wal_replay_pause()")
				w.until(act, w.change(version1, version2, 2), rotation.Wait)
				execute(t, replica, "SELECT pg_wal_replay_resume()")
				w.until(act, w.change(version1, version2, 2), rotation.Done)
			}
			// A node that is down is unknown, never drained.
			own.StopNode(own.Replica)
			w.until(rotation.Engine.Drain, w.change(version1, version2, 2), rotation.Unknown)
		})
	}
}

func TestTrap11ConcurrentSetsMakeOneLogin(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		const attempts = 4
		errs := make(chan error, attempts)
		for range attempts {
			go func() {
				_, err := w.engine.Set(w.ctx, c)
				errs <- err
			}()
		}
		for range attempts {
			if err := <-errs; err != nil && fault.NameOf(err).Class() != fault.Retry {
				t.Errorf("a concurrent set ends with %v", err)
			}
		}
		w.until(rotation.Engine.Set, c, rotation.Done)
		w.until(rotation.Engine.Test, c, rotation.Done)
		conn := w.root("postgres")
		comment := ask(t, conn, "SELECT shobj_description($1::regrole, 'pg_authid')", w.login(version2).User)
		for _, part := range []string{`"keyturn":1`, `"identity":"` + w.app.User + `"`, version2, `"gen":1`} {
			if !strings.Contains(comment, part) {
				t.Errorf("the comment %s misses %s", comment, part)
			}
		}
	})
}

func TestTrap12NoPasswordReachesTheServersLog(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.set["adopt"], w.set["owner"] = "rename", w.app.User+"_owner"
		w.head(version1, version2)
		w.tail(version1, version2)
		secrets := []string{w.login(version1).Password, w.login(version2).Password, s.admin.Password}
		log, err := s.Primary.Log()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log, `ROLE "`+w.login(version2).User+`"`) {
			t.Fatal("the statement log doesn't show our statements, so it proves nothing")
		}
		statements := ""
		if s.version == "15" {
			root := w.root("postgres")
			execute(t, root, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
			statements = ask(t, root, "SELECT string_agg(query, E'\n') FROM pg_stat_statements")
		}
		for _, secret := range secrets {
			if strings.Contains(log, secret) || strings.Contains(statements, secret) || strings.Contains(w.log.String(), secret) {
				t.Error("a password stands in a log")
			}
		}
		for _, r := range w.login(version2).Password {
			if r <= ' ' || r > '~' || strings.ContainsRune(`:/@"'\`, r) {
				t.Errorf("the generated password has %q", r)
			}
		}
	})
}

func TestTrap13ANewLoginCommitsThePreparedTransaction(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		gid := "two-phase-" + w.app.User
		old := w.connect(w.app, "web")
		execute(t, old, "BEGIN", "INSERT INTO shop.orders (note) VALUES ('prepared')", "PREPARE TRANSACTION '"+gid+"'")
		w.head(version1, version2)
		_ = old.Close(w.ctx)
		w.seen.add("web", w.clock.Now)
		w.until(rotation.Engine.Drain, w.change(version1, version2, 2), rotation.Done) // so nobody waits for it
		renewed := w.connect(w.login(version2), "web")
		execute(t, renewed, "COMMIT PREPARED '"+gid+"'")
		if got := ask(t, renewed, "SELECT count(*)::text FROM shop.orders"); got != "2" {
			t.Errorf("%s orders", got)
		}
	})
}

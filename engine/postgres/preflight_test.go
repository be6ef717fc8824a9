package postgres_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/rotation"
)

// weakAdmin gives a world an admin that lacks rights, or has settings of its own.
func (w *world) weakAdmin(root *pgx.Conn, options string, more ...string) {
	w.t.Helper()
	name := fmt.Sprintf("weak%04d", numbers.Add(1))
	execute(w.t, root, "CREATE ROLE "+name+" LOGIN "+options+" PASSWORD "+pgtest.Literal(pgtest.Verifier("weak-password")))
	for _, sql := range more {
		execute(w.t, root, strings.ReplaceAll(sql, "$admin", name))
	}
	if err := w.s.CaughtUp(w.ctx); err != nil {
		w.t.Fatal(err)
	}
	w.store.Add(adminARN, "weak-version", encodeJSON(w.t, map[string]any{"username": name, "password": "weak-password"}))
}

// What would make a rotation unsafe is found before anything is changed, and the
// text says what it is and how to mend it.
func TestPreflightFindsWhatIsInTheWay(t *testing.T) {
	const both = "IN ROLE pg_read_all_stats, pg_signal_backend"
	for name, tc := range map[string]struct {
		plant func(w *world, root *pgx.Conn)
		text  string // $login is the application's
	}{
		"a superuser": {func(w *world, root *pgx.Conn) { execute(w.t, root, "ALTER ROLE "+w.app.User+" SUPERUSER") }, "login $login is a superuser"},
		"replication": {func(w *world, root *pgx.Conn) { execute(w.t, root, "ALTER ROLE "+w.app.User+" REPLICATION") }, "has REPLICATION"},
		"an expiry": {func(w *world, root *pgx.Conn) {
			execute(w.t, root, "ALTER ROLE "+w.app.User+" VALID UNTIL '2100-01-01'")
		}, "ends by the clock"},
		"no CREATEROLE": {func(w *world, root *pgx.Conn) { w.weakAdmin(root, both) }, "has no CREATEROLE"},
		"no right to see sessions": {func(w *world, root *pgx.Conn) {
			w.weakAdmin(root, "CREATEROLE IN ROLE pg_signal_backend")
		}, "isn't a member of pg_read_all_stats"},
		"no right to end sessions": {func(w *world, root *pgx.Conn) {
			w.policy.OnTimeout = rotation.Terminate
			w.weakAdmin(root, "CREATEROLE IN ROLE pg_read_all_stats")
		}, "isn't a member of pg_signal_backend"},
		"no right to administer": {func(w *world, root *pgx.Conn) {
			if w.s.version == "15" {
				w.weakAdmin(root, both) // there CREATEROLE is enough
				return
			}
			w.weakAdmin(root, "CREATEROLE "+both)
		}, "$rights"},
		"md5": {func(w *world, root *pgx.Conn) {
			w.weakAdmin(root, "CREATEROLE "+both, "ALTER ROLE $admin SET password_encryption = 'md5'")
		}, "password_encryption is md5"},
		"a line of pg_hba.conf": {func(w *world, root *pgx.Conn) {
			w.weakAdmin(root, "CREATEROLE "+both, "GRANT SELECT ON pg_hba_file_rules TO $admin", "GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO $admin")
			f, err := os.OpenFile(filepath.Join(w.s.Dir, "primary", "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				w.t.Fatal(err)
			}
			_, err = f.WriteString("hostssl all " + w.app.User + " 127.0.0.1/32 scram-sha-256\n")
			if err != nil || f.Close() != nil {
				w.t.Fatal(err)
			}
		}, "write +$login there"},
		"another node that is down, too": {func(w *world, root *pgx.Conn) {
			w.set["replicas"] = []string{w.s.Replica.Address(), "127.0.0.1:1"}
			execute(w.t, root, "ALTER ROLE "+w.app.User+" REPLICATION")
		}, "node 127.0.0.1:1: "},
		"a name of another version": {func(w *world, root *pgx.Conn) {
			taken, err := postgres.FreshName(w.app.User, version2)
			if err != nil {
				w.t.Fatal(err)
			}
			execute(w.t, root, "CREATE ROLE "+taken, "COMMENT ON ROLE "+taken+` IS '{"keyturn":1,"identity":"`+w.app.User+`","token":"other","gen":1}'`)
		}, "belongs to another version"},
		"a clone that is a superuser": {func(w *world, root *pgx.Conn) {
			w.set["mode"] = "pair"
			execute(w.t, root, "CREATE ROLE "+w.app.User+"_clone SUPERUSER")
		}, "role $login_clone is a superuser"},
		"a clone with a comment of others": {func(w *world, root *pgx.Conn) {
			w.set["mode"] = "pair"
			execute(w.t, root, "CREATE ROLE "+w.app.User+"_clone", "COMMENT ON ROLE "+w.app.User+"_clone IS 'theirs'")
		}, "role $login_clone has a comment that isn't ours"},
		"an owner's name that is taken": {func(w *world, root *pgx.Conn) {
			w.set["adopt"], w.set["owner"] = "rename", w.app.User+"_owner"
			execute(w.t, root, "CREATE ROLE "+w.app.User+"_owner")
		}, "role $login_owner exists already"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s *server) {
				w := newLogin(t, s)
				root := w.root("postgres")
				tc.plant(w, root)
				w.begin(version2)
				before, _ := w.picture(w.ctx)
				want := strings.ReplaceAll(tc.text, "$login", w.app.User)
				if want == "$rights" {
					want = map[string]string{"15": "has no CREATEROLE", "18": "may not administer " + w.app.User}[s.version]
				}
				if err := w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.Blocked); !strings.Contains(err.Error(), want) {
					t.Errorf("%q isn't in %v", want, err)
				}
				if after, _ := w.picture(w.ctx); after != before {
					t.Errorf("preflight has changed something:\n%s\n%s", before, after)
				}
			})
		})
	}
}

// What will be up again is tried again, and no reason to give a rotation up.
func TestPreflightWaitsForWhatIsDown(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.store.Add(poolerARN, "p1", encodeJSON(t, map[string]any{"username": "nobody", "password": "none"}))
		w.set["replicas"] = []string{s.Replica.Address(), "127.0.0.1:1"}
		w.set["poolers"] = []map[string]any{{"address": "127.0.0.1:2", "admin": poolerARN, "databases": []string{w.app.Database}}}
		w.begin(version2)
		err := w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.Unavailable)
		for _, want := range []string{"node 127.0.0.1:1: ", "pooler 127.0.0.1:2: "} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q isn't in %v", want, err)
			}
		}
		plan, err := w.engine.Plan(w.ctx, w.change(version1, version2, 1))
		if err != nil || len(plan.Blockers) != 2 {
			t.Errorf("blockers %q, %v, want both", plan.Blockers, err)
		}
		w.set["replicas"], w.set["poolers"] = []string{s.Replica.Address()}, nil
		w.until(rotation.Engine.Create, w.change(version1, version2, 1), rotation.Done)
	})
}

// What only the application's own database knows.
func TestPreflightLooksIntoTheDatabase(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		root := w.root(w.app.Database)
		execute(t, root, "CREATE SCHEMA cron", "CREATE TABLE cron.job (jobid int, username text)",
			"GRANT USAGE ON SCHEMA cron TO PUBLIC", "GRANT SELECT ON cron.job TO PUBLIC", "INSERT INTO cron.job VALUES (1, '"+w.app.User+"'), (2, 'other')",
			"CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
			"ALTER ROLE "+w.app.User+" SUPERUSER", "CREATE EVENT TRIGGER its_watch ON ddl_command_end EXECUTE FUNCTION public.watch()",
			"ALTER EVENT TRIGGER its_watch OWNER TO "+w.app.User, "ALTER ROLE "+w.app.User+" NOSUPERUSER",
			"ALTER DATABASE "+w.app.Database+" CONNECTION LIMIT 2")
		w.begin(version2)
		err := w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.Blocked)
		for _, want := range []string{"owns event triggers: its_watch", "has 1 pg_cron jobs", "has CONNECTION LIMIT 2"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q isn't in %v", want, err)
			}
		}
	})
}

// While two versions overlap, both logins' sessions are open: where the server
// hasn't room for them, the application would be turned away in the middle.
func TestPreflightKeepsRoomForASecondSet(t *testing.T) {
	t.Parallel()
	// Both leave 17 connections for clients; from PostgreSQL 16 on more may be reserved.
	for version, config := range map[string]map[string]string{
		"15": {"max_connections": "20"},
		"18": {"max_connections": "27", "reserved_connections": "7"},
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			t.Cleanup(cancel)
			c, err := pgtest.Start(ctx, pgtest.Options{Version: version, TLS: true, Config: config})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Stop)
			small := &server{Cluster: c, version: version}
			if small.admin, err = c.CreateAdmin(ctx, "rotator"); err != nil {
				t.Fatal(err)
			}
			w := newLogin(t, small)
			settled := func(sessions int) {
				t.Helper()
				for n, err := c.Sessions(ctx, w.app.User); n != sessions; n, err = c.Sessions(ctx, w.app.User) {
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			var pool []*pgx.Conn
			for range 8 { // and one for preflight: 9, twice, don't fit
				pool = append(pool, w.connect(w.app, "web"))
			}
			settled(8)
			w.begin(version2)
			order := w.change(version1, version2, 1)
			if err := w.fails(rotation.Engine.Create, order, fault.Blocked); !strings.Contains(err.Error(),
				w.app.User+" holds 9 of them: a second set doesn't fit into max_connections (17 for clients)") {
				t.Errorf("the limit isn't named: %v", err)
			}
			settled(8) // preflight's own session has gone
			_ = pool[0].Close(ctx)
			settled(7)
			w.until(rotation.Engine.Create, order, rotation.Done)
		})
	}
}

// A login that was given rights after preflight isn't rotated either.
func TestSetLooksAgain(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		root := w.root("postgres")
		execute(t, root, "ALTER ROLE "+w.app.User+" SUPERUSER")
		w.fails(rotation.Engine.Set, c, fault.Blocked)
		execute(t, root, "ALTER ROLE "+w.app.User+" NOSUPERUSER")
		w.until(rotation.Engine.Set, c, rotation.Done)

		// What a restored backup or somebody's hand has done to it is mended.
		made := w.login(version2).User
		execute(t, root, "ALTER ROLE "+made+" PASSWORD NULL VALID UNTIL '2100-01-01'")
		if err := s.CaughtUp(w.ctx); err != nil {
			t.Fatal(err)
		}
		w.until(rotation.Engine.Set, c, rotation.Done)
		if got := ask(t, root, "SELECT rolvaliduntil::text FROM pg_roles WHERE rolname = $1", made); got != "infinity" {
			t.Errorf("%s ends %s", made, got)
		}

		// The version that comes names another database of the same server.
		w.fields["dbname"], w.fields["username"] = "template1", made
		w.store.PutByHand(w.arn, version3, encodeJSON(t, w.fields))
		w.fails(rotation.Engine.Set, w.change(version1, version3, 1), fault.PolicyViolation)
	})
}

// The standby of a pair may be anything that AWS's samples or a person have left:
// what Set gives it is the current login's.
func TestThePairsStandbyBecomesEqual(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.set["mode"] = "pair"
		root := w.root("postgres")
		clone := w.app.User + "_clone"
		execute(t, root, "CREATE ROLE "+clone+" NOLOGIN NOINHERIT CONNECTION LIMIT 3 VALID UNTIL '2100-01-01'", "ALTER ROLE "+clone+" SET work_mem = '9MB'")
		if err := s.Administer(w.ctx, clone); err != nil {
			t.Fatal(err)
		}
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		w.until(rotation.Engine.Set, c, rotation.Done)
		got := ask(t, root, `SELECT format('%s %s %s %s %s', rolcanlogin, rolinherit, rolconnlimit, rolvaliduntil, pg_has_role(oid, $2, 'MEMBER'))
			FROM pg_roles WHERE rolname = $1`, clone, w.app.User)
		if got != "t t 90 infinity t" {
			t.Errorf("the standby has become %s", got)
		}
		w.until(rotation.Engine.Test, c, rotation.Done)
	})
}

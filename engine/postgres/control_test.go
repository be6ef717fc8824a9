package postgres_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/rotation"
)

// ends are the steps that take something away.
var ends = map[string]step{"Disable": rotation.Engine.Disable, "Revoke": rotation.Engine.Revoke}

// Nothing is taken from the old login while the new one doesn't work: that would
// leave nobody.
func TestTheLoginThatStaysHasToWorkFirst(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.head(version1, version2)
		w.seen.add("web", w.clock.Now)
		c := w.change(version1, version2, 2)
		w.until(rotation.Engine.Drain, c, rotation.Done)
		root, made := w.root("postgres"), w.login(version2).User
		by := "" // from PostgreSQL 16 on a grant knows who gave it
		if s.version == "18" {
			by = " GRANTED BY " + pgtest.AdminRole
		}
		for name, harm := range map[string][2]string{
			"acts as itself":  {"ALTER ROLE " + made + " RESET role", "ALTER ROLE " + made + " SET role = '" + w.app.User + "'"},
			"locked":          {"ALTER ROLE " + made + " NOLOGIN", "ALTER ROLE " + made + " LOGIN"},
			"another default": {"REVOKE " + w.app.User + " FROM " + made + by, "GRANT " + w.app.User + " TO " + made + by},
		} {
			execute(t, root, harm[0])
			if err := s.CaughtUp(w.ctx); err != nil {
				t.Fatal(err)
			}
			before, _ := w.picture(w.ctx)
			for what, act := range ends {
				w.fails(act, c, fault.CredentialRejected)
				if after, _ := w.picture(w.ctx); after != before {
					t.Fatalf("%s: %s has changed something:\n%s\n%s", name, what, before, after)
				}
			}
			execute(t, root, harm[1])
			if err := s.CaughtUp(w.ctx); err != nil {
				t.Fatal(err)
			}
		}
		w.until(rotation.Engine.Disable, c, rotation.Done)
		execute(t, root, "ALTER ROLE "+made+" NOLOGIN")
		if err := s.CaughtUp(w.ctx); err != nil {
			t.Fatal(err)
		}
		before, _ := w.picture(w.ctx)
		w.fails(rotation.Engine.Revoke, c, fault.CredentialRejected)
		if after, _ := w.picture(w.ctx); after != before {
			t.Errorf("Revoke has changed something:\n%s\n%s", before, after)
		}
	})
}

// rejectedBy lets one node turn a login away, as a node does that is behind or
// configured otherwise, until the function that it returns is called.
func (w *world) rejectedBy(node *pgtest.Server, folder, user string) (restore func()) {
	w.t.Helper()
	path := filepath.Join(w.s.Dir, folder, "pg_hba.conf")
	lines, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	reload := func(text string) {
		// In place: the file belongs to the server's account.
		if err := os.WriteFile(path, []byte(text), 0); err != nil {
			w.t.Fatal(err)
		}
		conn, err := w.s.Superuser(w.ctx, node, "postgres")
		if err != nil {
			w.t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.Background()) }()
		execute(w.t, conn, "SELECT pg_reload_conf()")
	}
	reload("host all " + user + " all reject\n" + string(lines))
	w.whether(node, user, false)
	return func() { reload(string(lines)); w.whether(node, user, true) }
}

// whether waits until a node lets a login of the secret in, or doesn't.
func (w *world) whether(node *pgtest.Server, user string, in bool) {
	w.t.Helper()
	for _, version := range []string{version1, version2} {
		l := w.login(version)
		for l.User == user && w.ctx.Err() == nil {
			conn, err := pgx.Connect(w.ctx, w.s.DSN(node, l))
			if err == nil {
				_ = conn.Close(w.ctx)
			}
			if (err == nil) == in {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// Every proof is asked of every node.
func TestEveryNodeHasToAgree(t *testing.T) {
	for _, version := range []string{"15", "18"} { // one after the other: they share a file
		t.Run(version, func(t *testing.T) {
			s := servers[version]
			w := newLogin(t, s)
			w.begin(version2)
			head, tail := w.change(version1, version2, 1), w.change(version1, version2, 2)
			w.until(rotation.Engine.Create, head, rotation.Done)
			w.until(rotation.Engine.Set, head, rotation.Done)
			if err := s.CaughtUp(w.ctx); err != nil {
				t.Fatal(err)
			}
			made := w.login(version2).User

			restore := w.rejectedBy(s.Replica, "replica", made)
			w.fails(rotation.Engine.Test, head, fault.CredentialRejected)
			w.store.Finish(w.arn, version2)
			before, _ := w.picture(w.ctx)
			w.fails(rotation.Engine.Disable, tail, fault.CredentialRejected)
			if after, _ := w.picture(w.ctx); after != before {
				t.Errorf("Disable has changed something:\n%s\n%s", before, after)
			}
			restore()
			w.until(rotation.Engine.Disable, tail, rotation.Done)

			restore = w.rejectedBy(s.Replica, "replica", w.app.User)
			w.fails(rotation.Engine.Disable, tail, fault.CredentialRejected) // pg_hba.conf's refusal proves nothing
			w.fails(rotation.Engine.Enable, tail, fault.CredentialRejected)
			restore()
			w.until(rotation.Engine.Enable, tail, rotation.Done)
		})
	}
}

// A failover or a restored backup brings a disabled login back, and a session may
// have come with it: revoke neither destroys the password nor drops the role.
func TestRevokeFindsWhatCameBack(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.head(version1, version2)
		w.tail(version1, version2)
		w.store.Finish(w.arn, version2)
		if err := w.store.Detach(w.ctx, w.arn, rotation.Pending, version2); err != nil {
			t.Fatal(err)
		}
		w.head(version2, version3)
		c := w.change(version2, version3, 2)
		w.seen.add("web", w.clock.Now)
		w.until(rotation.Engine.Disable, c, rotation.Done)
		root, goes := w.root("postgres"), w.login(version2)
		execute(t, root, "ALTER ROLE "+goes.User+" LOGIN")
		if err := s.CaughtUp(w.ctx); err != nil {
			t.Fatal(err)
		}
		before, _ := w.picture(w.ctx)
		w.until(rotation.Engine.Revoke, c, rotation.Reopened)
		survivor := w.connect(goes, "web")
		execute(t, root, "ALTER ROLE "+goes.User+" NOLOGIN")
		if err := s.CaughtUp(w.ctx); err != nil {
			t.Fatal(err)
		}
		locked, _ := w.picture(w.ctx)
		if res := w.until(rotation.Engine.Revoke, c, rotation.Wait); !strings.Contains(strings.Join(res.Missing, ""), "web@") {
			t.Errorf("missing: %q", res.Missing)
		}
		if after, _ := w.picture(w.ctx); after != locked {
			t.Errorf("revoke has changed a login that is in use (before %s):\n%s\n%s", before, locked, after)
		}
		_ = survivor.Close(w.ctx)
		w.until(rotation.Engine.Revoke, c, rotation.Done)

		// Repeated, it finds nothing to do, and isn't kept by a session of nobody's.
		execute(t, root, "CREATE ROLE "+goes.User+"_other LOGIN PASSWORD 'other'")
		orphan := w.connect(pgtest.Login{User: goes.User + "_other", Password: "other", Database: "postgres"}, "orphan")
		execute(t, root, "DROP ROLE "+goes.User+"_other")
		w.until(rotation.Engine.Revoke, c, rotation.Done)
		_ = orphan.Close(w.ctx)
	})
}

// A walsender isn't in the activity view's count, and a role that is gone leaves
// sessions without a name.
func TestADrainFindsTheHidden(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.head(version1, version2)
		w.seen.add("web", w.clock.Now)
		root := w.root("postgres")
		execute(t, root, "ALTER ROLE "+w.app.User+" REPLICATION")
		cfg, err := pgx.ParseConfig(s.DSN(s.Primary, w.app))
		if err != nil {
			t.Fatal(err)
		}
		cfg.RuntimeParams["replication"], cfg.RuntimeParams["application_name"] = "database", "feed"
		sender, err := pgx.ConnectConfig(w.ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		c := w.change(version1, version2, 2)
		if res := w.until(rotation.Engine.Drain, c, rotation.Wait); !slices.ContainsFunc(res.Missing, func(m string) bool { return strings.HasPrefix(m, "walsender feed@") }) {
			t.Errorf("missing: %q", res.Missing)
		}
		_ = sender.Close(w.ctx)

		// The new one, rolled back, and dropped by somebody while it is used.
		orphan := w.connect(w.login(version2), "orphan")
		back := w.change(version2, version1, 3)
		back.Rotation, back.Back = version2, true
		first, err := w.engine.Drain(w.ctx, back)
		if err != nil {
			t.Fatal(err)
		}
		execute(t, root, "DROP ROLE "+w.login(version2).User)
		if err := s.CaughtUp(w.ctx); err != nil {
			t.Fatal(err)
		}
		if res := w.until(rotation.Engine.Drain, back, rotation.Wait); !slices.ContainsFunc(res.Missing, func(m string) bool { return strings.HasPrefix(m, "orphan@") }) {
			t.Errorf("missing: %q", res.Missing)
		}
		// Made again under its name, it has another OID: an earlier look knows the first.
		execute(t, root, "CREATE ROLE "+w.login(version2).User)
		if err := s.CaughtUp(w.ctx); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			back.Cursor = first.Cursor
			if first, err = w.engine.Drain(w.ctx, back); err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(first.Missing, func(m string) bool { return strings.HasPrefix(m, "orphan@") }) {
				t.Errorf("missing: %q", first.Missing)
			}
		}
		_ = orphan.Close(w.ctx)
	})
}

// What can't be read is no evidence: a log that isn't there, one that has just
// begun, a pooler that is down.
func TestWhatCannotBeSeenIsUnknown(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.policy.Parties = nil
		w.head(version1, version2)
		never := func(what string) {
			t.Helper()
			c := w.change(version1, version2, 2)
			for range 2 { // logins of the rotation itself may be a moment old
				res := w.until(rotation.Engine.Drain, c, rotation.Unknown)
				c.Cursor = res.Cursor
				w.clock.Advance(time.Minute)
			}
			if res := w.until(rotation.Engine.Drain, c, rotation.Unknown); len(res.Missing) == 0 {
				t.Errorf("%s: nothing is named", what)
			}
		}
		logs := map[string]string{s.Primary.Address(): s.Primary.LogFile, s.Replica.Address(): s.Replica.LogFile}
		w.set["login_log"] = map[string]string{s.Primary.Address(): s.Primary.LogFile + ".gone", s.Replica.Address(): s.Replica.LogFile}
		never("a log that isn't there")

		rotated := filepath.Join(t.TempDir(), "postgresql.log")
		if err := os.WriteFile(rotated, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		w.set["login_log"] = map[string]string{s.Primary.Address(): rotated, s.Replica.Address(): s.Replica.LogFile}
		never("a log that has just begun")

		w.set["login_log"] = logs // now one would be done, but for this
		w.store.Add(poolerARN, "pooler-version", encodeJSON(t, map[string]any{"username": "pooler_admin", "password": "x"}))
		w.set["poolers"] = []map[string]any{{"address": "127.0.0.1:1", "admin": poolerARN, "databases": []string{"postgres"}}}
		never("a pooler that is down")
		if _, err := w.engine.Disable(w.ctx, w.change(version1, version2, 3)); !fault.Is(err, fault.Unavailable) {
			t.Errorf("disable beside a pooler that is down: %v", err)
		}

		// The admin isn't sent through one.
		w.set["poolers"] = []map[string]any{{"address": s.Primary.Address(), "admin": poolerARN, "databases": []string{"postgres"}}}
		w.fails(rotation.Engine.Drain, w.change(version1, version2, 3), fault.PolicyViolation)
	})
}

// A log to which the server doesn't write logins shows none, whoever comes.
func TestALogWithoutLoginsIsNoEvidence(t *testing.T) {
	for _, version := range []string{"15", "18"} { // beside no other test: they share the server's settings
		t.Run(version, func(t *testing.T) {
			s := servers[version]
			w := newLogin(t, s)
			root := w.root("postgres")
			logins := func(value string) {
				t.Helper()
				execute(t, root, "ALTER SYSTEM SET log_connections = "+value, "SELECT pg_reload_conf()")
				for ask(t, w.root("postgres"), "SHOW log_connections") != value && w.ctx.Err() == nil {
					time.Sleep(5 * time.Millisecond)
				}
			}
			w.policy.Parties = nil
			w.head(version1, version2)
			w.set["login_log"] = map[string]string{s.Primary.Address(): s.Primary.LogFile, s.Replica.Address(): s.Replica.LogFile}
			c := w.change(version1, version2, 2)
			logins("off")
			defer logins("on")
			for range 5 {
				res := w.until(rotation.Engine.Drain, c, rotation.Unknown)
				c.Cursor = res.Cursor
				w.clock.Advance(time.Minute)
			}
		})
	}
}

// Where the policy allows plaintext, a server in between that asks for the
// password itself doesn't get it.
func TestNoPasswordGoesOutInTheClear(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	heard := make(chan string, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			head := make([]byte, 4)
			if _, err := io.ReadFull(c, head); err == nil {
				_, _ = io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head))-4)
				_, _ = c.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3}) // AuthenticationCleartextPassword
				_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
				rest, _ := io.ReadAll(c)
				heard <- string(rest)
			}
			_ = c.Close()
		}
	}()
	w := newLogin(t, servers["15"])
	w.set["allow_plaintext"], w.set["hosts"] = true, []string{l.Addr().String()}
	w.fields["ssl"], w.fields["port"] = false, l.Addr().(*net.TCPAddr).Port
	w.store.Add(w.arn, version1, encodeJSON(t, w.fields))
	w.begin(version2)
	if _, err := w.engine.Create(w.ctx, w.change(version1, version2, 1)); err == nil {
		t.Error("it logs in there")
	}
	select {
	case got := <-heard:
		if strings.Contains(got, w.app.Password) {
			t.Error("the password was sent")
		}
	case <-w.ctx.Done():
		t.Error("nobody came")
	}
}

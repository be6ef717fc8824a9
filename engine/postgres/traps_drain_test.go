package postgres_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/rotation"
)

func TestTrap4QuietPollsAreNoEvidence(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.policy.Parties = nil
		w.head(version1, version2)
		c := w.change(version1, version2, 2)
		for range 5 {
			res, err := w.engine.Drain(w.ctx, c)
			if err != nil || res.Outcome != rotation.Unknown {
				t.Fatalf("without parties and log it is %s (%v)", res.Outcome, err)
			}
			c.Cursor = res.Cursor
			w.clock.Advance(time.Minute)
		}

		// With the login log, a login that no poll could see holds the drain.
		w.set["login_log"] = map[string]string{s.Primary.Address(): s.Primary.LogFile, s.Replica.Address(): s.Replica.LogFile}
		c = w.change(version1, version2, 2)
		look := func() rotation.Result {
			res, err := w.engine.Drain(w.ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			c.Cursor = res.Cursor
			w.clock.Advance(time.Second)
			return res
		}
		look()
		_ = w.connect(w.app, "cron").Close(w.ctx)
		if res := look(); res.Outcome != rotation.Wait || !strings.Contains(strings.Join(res.Missing, "\n"), w.app.User+" logged in on "+s.Primary.Address()) {
			t.Fatalf("the login between two polls was missed: %s %q", res.Outcome, res.Missing)
		}
		w.until(rotation.Engine.Drain, c, rotation.Done)

		// One node without a log, and the log says nothing about it.
		w.set["login_log"] = s.Primary.LogFile
		c = w.change(version1, version2, 2)
		for range 5 {
			if res := look(); res.Outcome != rotation.Unknown {
				t.Fatalf("a log of one node of two makes it %s", res.Outcome)
			}
		}
	})
}

func TestTrap4APartySeenOnTheNewLoginIsEvidence(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.policy.Parties = []rotation.Party{{Name: "web"}, {Name: "report"}}
		w.head(version1, version2)
		old := w.connect(w.app, "web")
		c := w.change(version1, version2, 2)
		res := w.until(rotation.Engine.Drain, c, rotation.Wait)
		if strings.Join(res.Missing, "") != "web@127.0.0.1 on "+s.Primary.Address()+" (1 sessions)" {
			t.Errorf("missing: %q", res.Missing)
		}
		if res.Sessions == nil || *res.Sessions != 1 {
			t.Errorf("%v sessions are counted, want 1", res.Sessions)
		}
		c.Cursor = res.Cursor
		_ = old.Close(w.ctx)
		w.connect(w.login(version2), "web")
		for range 10 {
			if res = w.until(rotation.Engine.Drain, c, rotation.Wait); strings.Contains(strings.Join(res.Missing, ""), "report not seen") {
				break
			}
			c.Cursor = res.Cursor
			w.clock.Advance(time.Second)
		}
		w.connect(w.login(version2), "report")
		c.Cursor = res.Cursor
		w.until(rotation.Engine.Drain, c, rotation.Done)
	})
}

func TestTrap5WithoutTheRightToSeeItIsUnknown(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.head(version1, version2)
		w.seen.add("web", w.clock.Now)
		blind := "blind_" + w.app.User
		execute(t, w.root("postgres"), "CREATE ROLE "+blind+" LOGIN CREATEROLE PASSWORD "+pgtest.Literal(pgtest.Verifier("blind-password")))
		if err := s.CaughtUp(w.ctx); err != nil {
			t.Fatal(err)
		}
		w.store.Add(adminARN, "admin-2", encodeJSON(t, map[string]any{"username": blind, "password": "blind-password"}))
		w.connect(w.app, "web")
		res := w.until(rotation.Engine.Drain, w.change(version1, version2, 2), rotation.Unknown)
		if !strings.Contains(strings.Join(res.Missing, "\n"), "pg_read_all_stats") {
			t.Errorf("missing: %q", res.Missing)
		}
		if res.Sessions != nil {
			t.Errorf("%d sessions are counted by a look that couldn't see", *res.Sessions)
		}
	})
}

func TestTrap9HoldersOutsideTheActivityView(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		w.set["prepared_grace"] = "0s"
		gid := "forgotten-" + w.app.User
		conn := w.connect(w.app, "web")
		prepare := []string{"BEGIN", "INSERT INTO shop.orders (note) VALUES ('prepared')", "PREPARE TRANSACTION '" + gid + "'"}
		execute(t, conn, prepare...)
		w.begin(version2)
		c := w.change(version1, version2, 1)
		if err := w.fails(rotation.Engine.Create, c, fault.Blocked); !strings.Contains(err.Error(), gid) {
			t.Errorf("the forgotten transaction isn't named: %v", err)
		}
		execute(t, conn, "ROLLBACK PREPARED '"+gid+"'")
		w.head(version1, version2)
		execute(t, conn, prepare...)
		_ = conn.Close(w.ctx)
		w.seen.add("web", w.clock.Now)
		res := w.until(rotation.Engine.Drain, w.change(version1, version2, 2), rotation.Wait)
		if !strings.Contains(strings.Join(res.Missing, "\n"), "prepared transaction "+gid) {
			t.Errorf("missing: %q", res.Missing)
		}
		execute(t, w.root(w.app.Database), "ROLLBACK PREPARED '"+gid+"'")
		w.until(rotation.Engine.Drain, w.change(version1, version2, 2), rotation.Done)
	})
}

func TestTrap9ASubscriptionBlocks(t *testing.T) {
	t.Parallel()
	s := servers["18"] // before 16 only superusers own subscriptions
	w := newWorld(t, s, "")
	root := w.root(w.app.Database)
	execute(t, root, "GRANT pg_create_subscription TO "+w.app.User)
	execute(t, w.connect(w.app, "setup"), `CREATE SUBSCRIPTION feed_`+w.app.User+` CONNECTION 'host=127.0.0.1 dbname=x user=y password=z'
		PUBLICATION p WITH (connect = false, slot_name = NONE)`)
	w.begin(version2)
	if err := w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.Blocked); !strings.Contains(err.Error(), "feed_"+w.app.User) {
		t.Errorf("the subscription isn't named: %v", err)
	}
	execute(t, root, "DROP SUBSCRIPTION feed_"+w.app.User)
}

const poolerARN = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:pooler"

func TestTrap10APoolerHidesConsumers(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		pooler, err := s.StartPgBouncer(w.ctx, pgtest.PoolerOptions{Databases: []string{w.app.Database}, Mode: "transaction"})
		if err != nil {
			t.Fatal(err)
		}
		w.store.Add(poolerARN, "p1", encodeJSON(t, map[string]any{"username": pooler.Admin.User, "password": pooler.Admin.Password}))
		w.set["poolers"] = []map[string]any{{"address": pooler.Address(), "admin": poolerARN, "databases": []string{w.app.Database}}}
		client := w.connectTo(pooler.DSN(w.app), "web")
		if got := ask(t, client, "SELECT note FROM shop.orders"); got != "first" {
			t.Fatalf("through the pooler: %q", got)
		}
		w.head(version1, version2)
		res := w.until(rotation.Engine.Test, w.change(version1, version2, 1), rotation.Done)
		if !slices.ContainsFunc(res.Evidence, func(e rotation.Evidence) bool { return e.Party == "pooler "+pooler.Address() }) {
			t.Errorf("the new login wasn't tested through the pooler: %+v", res.Evidence)
		}
		w.seen.add("web", w.clock.Now)
		for act, want := range map[string]rotation.Outcome{"Drain": rotation.Wait, "Disable": rotation.Reopened} {
			res := w.until(steps()[act], w.change(version1, version2, 2), want)
			if !strings.Contains(strings.Join(res.Missing, "\n"), "through pooler "+pooler.Address()) {
				t.Errorf("%s doesn't name the hidden client: %q", act, res.Missing)
			}
		}
		_ = client.Close(w.ctx)
		// The pooler's idle server connections are closed by RECONNECT.
		w.until(rotation.Engine.Drain, w.change(version1, version2, 2), rotation.Done)
		w.until(rotation.Engine.Disable, w.change(version1, version2, 2), rotation.Done)
		if _, err := pgx.Connect(w.ctx, pooler.DSN(w.app)); err == nil { // the pooler remembers that
			t.Error("the pooler lets the old login in")
		}
		w.until(rotation.Engine.Enable, w.change(version1, version2, 3), rotation.Done)
		if got := ask(t, w.connectTo(pooler.DSN(w.app), "web"), "SELECT current_user::text"); got != w.app.User {
			t.Errorf("after the enable the pooler serves %s", got)
		}
	})
}

func TestTrap10AUserlistForcesPair(t *testing.T) {
	t.Parallel()
	s := servers["15"]
	w := newWorld(t, s, "")
	pooler, err := s.StartPgBouncer(w.ctx, pgtest.PoolerOptions{Databases: []string{w.app.Database}, Userlist: []pgtest.Login{w.app}})
	if err != nil {
		t.Fatal(err)
	}
	w.store.Add(poolerARN, "p1", encodeJSON(t, map[string]any{"username": pooler.Admin.User, "password": pooler.Admin.Password}))
	w.set["poolers"] = []map[string]any{{"address": pooler.Address(), "admin": poolerARN, "databases": []string{w.app.Database}}}
	w.begin(version2)
	if err := w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.Blocked); !strings.Contains(err.Error(), "mode pair") {
		t.Errorf("the way out isn't named: %v", err)
	}
}

// Behind a shared port a look at the console meets one process by chance, and a
// RECONNECT reaches no other.
func TestTrap10APoolerThatSharesItsPortIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, servers["15"], "")
	pooler, err := w.s.StartPgBouncer(w.ctx, pgtest.PoolerOptions{
		Databases: []string{w.app.Database}, Config: map[string]string{"so_reuseport": "1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.store.Add(poolerARN, "p1", encodeJSON(t, map[string]any{"username": pooler.Admin.User, "password": pooler.Admin.Password}))
	w.set["poolers"] = []map[string]any{{"address": pooler.Address(), "admin": poolerARN, "databases": []string{w.app.Database}}}
	w.begin(version2)
	if err := w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.Blocked); !strings.Contains(err.Error(), "so_reuseport") {
		t.Errorf("the setting isn't named: %v", err)
	}
}

func TestDrainDeadline(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.head(version1, version2)
		w.connect(w.app, "stubborn")
		c := w.change(version1, version2, 2)
		res := w.until(rotation.Engine.Drain, c, rotation.Wait)
		c.Cursor = res.Cursor
		w.clock.Advance(2 * time.Hour)
		if err := w.fails(rotation.Engine.Drain, c, fault.DrainExpired); !strings.Contains(err.Error(), "stubborn@127.0.0.1") {
			t.Errorf("who is behind isn't named: %v", err)
		}
		w.policy.OnTimeout = rotation.Terminate
		c = w.change(version1, version2, 2)
		c.Cursor = res.Cursor
		res = w.until(rotation.Engine.Drain, c, rotation.Done)
		if last := res.Evidence[len(res.Evidence)-1]; last.By != "deadline" {
			t.Errorf("the last evidence is %+v", last)
		}
		w.until(rotation.Engine.Disable, c, rotation.Done)
	})
}

func TestLogFileKnowsWhatItCovers(t *testing.T) {
	t.Parallel()
	s := servers["15"]
	w := newLogin(t, s)
	start := time.Now().Truncate(time.Second).Add(time.Second)
	time.Sleep(time.Until(start)) // the log's times have no more than milliseconds
	for range 3 {
		_ = w.connect(w.app, "x").Close(w.ctx)
	}
	log := postgres.LogFile{Path: s.Primary.LogFile}
	n, last, complete, err := log.Logins(w.ctx, w.app.User, start)
	if err != nil || n < 3 || !complete || last.Before(start) {
		t.Errorf("%d logins, last %s, complete %t, %v", n, last, complete, err)
	}
	if n, _, _, _ = log.Logins(w.ctx, w.app.User[:len(w.app.User)-1], start); n != 0 {
		t.Errorf("another name's logins were counted: %d", n)
	}
	if _, _, complete, _ = log.Logins(w.ctx, w.app.User, start.AddDate(0, 0, -1)); complete {
		t.Error("the log can't cover a time before its first line")
	}
	if _, _, _, err = (postgres.LogFile{Path: "/nowhere"}).Logins(w.ctx, "x", start); err == nil {
		t.Error("a missing log is no error")
	}
}

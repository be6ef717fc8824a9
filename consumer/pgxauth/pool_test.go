package pgxauth_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyturn/keyturn/consumer/pgxauth"
	"github.com/keyturn/keyturn/consumer/pgxauth/pgxauthtest"
	"github.com/keyturn/keyturn/internal/pgtest"
)

func TestPoolFollowsARotationUnderLoad(t *testing.T) {
	t.Parallel()
	old, fresh := newRole(t, "one"), newRole(t, "two")
	secret := pgxauthtest.NewSecret("shop/db")
	secret.Put("v1", old, "one")
	c := follow(t, secret, func(cfg *pgxauth.Config) {
		cfg.TTL, cfg.MinRefresh, cfg.Spread = 200*time.Millisecond, 50*time.Millisecond, 400*time.Millisecond
	})
	cfg := poolConfig(t)
	cfg.MinConns = 3
	pool := openPool(t, c, cfg)

	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 3 {
		load.Go(func() {
			for ctx.Err() == nil {
				var one int
				if err := pool.QueryRow(context.Background(), "SELECT 1").Scan(&one); err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	await(t, "a warm pool", func() bool { return c.Stats().Versions["v1"] >= 3 })
	secret.Put("v2", fresh, "two")
	await(t, "nobody on the old version", func() bool {
		v := c.Stats().Versions
		return v["v1"] == 0 && v["v2"] >= 3
	})
	sql(t, "ALTER ROLE "+old+" NOLOGIN")
	await(t, "no session of the old login", func() bool { return sessions(t, old) == 0 })
	stop()
	load.Wait()
	if s := c.Stats(); s.AuthRetries != 0 || s.Lost != 0 || s.StaleServes != 0 {
		t.Errorf("got %+v, want no retry, nothing lost, nothing stale", s)
	}
}

func TestIdlePoolLeavesTheOldLogin(t *testing.T) {
	t.Parallel()
	old, fresh := newRole(t, "one"), newRole(t, "two")
	secret := pgxauthtest.NewSecret("shop/db")
	secret.Put("v1", old, "one")
	c := follow(t, secret, func(cfg *pgxauth.Config) {
		cfg.TTL, cfg.MinRefresh, cfg.Spread = 100*time.Millisecond, 50*time.Millisecond, 200*time.Millisecond
	})
	cfg := poolConfig(t)
	cfg.MinConns = 4
	openPool(t, c, cfg)
	await(t, "four idle connections", func() bool { return sessions(t, old) == 4 })
	secret.Put("v2", fresh, "two")
	await(t, "all replaced, with no request at all", func() bool { return sessions(t, old) == 0 && sessions(t, fresh) == 4 })
}

func TestLongTransactionKeepsItsConnection(t *testing.T) {
	t.Parallel()
	old, fresh := newRole(t, "one"), newRole(t, "two")
	secret := pgxauthtest.NewSecret("shop/db")
	secret.Put("v1", old, "one")
	var mu sync.Mutex
	var last pgxauth.Report
	c := follow(t, secret, func(cfg *pgxauth.Config) {
		cfg.TTL, cfg.MinRefresh, cfg.Spread = 100*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond
		cfg.ReportEvery = 20 * time.Millisecond
		cfg.Report = func(r pgxauth.Report) {
			mu.Lock()
			defer mu.Unlock()
			last = r
		}
	})
	report := func() pgxauth.Report {
		mu.Lock()
		defer mu.Unlock()
		return last
	}
	pool := openPool(t, c, poolConfig(t))
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	secret.Put("v2", fresh, "two")
	await(t, "a report of the new version with the old connection", func() bool {
		r := report()
		return r.Version == "v2" && r.Connections["v1"] == 1
	})
	if report().Loaded() {
		t.Error("reports the new version as loaded while a transaction uses the old one")
	}
	// Well past the spread, the transaction still works.
	await(t, "a new request on the new login", func() bool {
		var user string
		return pool.QueryRow(t.Context(), "SELECT session_user").Scan(&user) == nil && user == fresh
	})
	var user string
	if err := tx.QueryRow(t.Context(), "SELECT session_user").Scan(&user); err != nil || user != old {
		t.Fatalf("the open transaction got %q, %v", user, err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "loaded after the transaction's end", func() bool { r := report(); return r.Version == "v2" && r.Loaded() })
	if report().Secret != secret.ARN() {
		t.Errorf("the report names secret %q, want its ARN", report().Secret)
	}
	await(t, "no session of the old login", func() bool { return sessions(t, old) == 0 })
}

func TestConfiguredPoolKeepsItsHooksAndDropsOverdueConnections(t *testing.T) {
	t.Parallel()
	old, fresh := newRole(t, "one"), newRole(t, "two")
	secret := pgxauthtest.NewSecret("shop/db")
	secret.Put("v1", old, "one")
	clock := &manualClock{}
	c := follow(t, secret, func(cfg *pgxauth.Config) { cfg.Now, cfg.TTL, cfg.Spread = clock.now, time.Hour, time.Minute })
	called := make(map[string]int)
	var mu sync.Mutex
	count := func(hook string) {
		mu.Lock()
		defer mu.Unlock()
		called[hook]++
	}
	cfg := poolConfig(t)
	cfg.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { count("BeforeConnect"); return nil }
	cfg.AfterConnect = func(context.Context, *pgx.Conn) error { count("AfterConnect"); return nil }
	cfg.BeforeAcquire = func(context.Context, *pgx.Conn) bool { count("BeforeAcquire"); return true } //nolint:staticcheck // it still has to be called
	cfg.BeforeClose = func(*pgx.Conn) { count("BeforeClose") }
	c.Configure(cfg)
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	user := func() (name string) {
		t.Helper()
		if err := pool.QueryRow(t.Context(), "SELECT session_user").Scan(&name); err != nil {
			t.Fatal(err)
		}
		return name
	}
	if got := user(); got != old {
		t.Fatalf("logged in as %q, want %q", got, old)
	}
	secret.Put("v2", fresh, "two")
	clock.advance(2 * time.Hour)
	other, err := c.Connect(t.Context(), connConfig(t)) // reads the new version
	if err != nil {
		t.Fatal(err)
	}
	_ = other.Close(t.Context())
	if got := user(); got != old {
		t.Errorf("within the spread the open connection should still be used, got %q", got)
	}
	clock.advance(2 * time.Minute)
	if got := user(); got != fresh {
		t.Errorf("after the spread got %q, want %q", got, fresh)
	}
	pool.Close()
	want := map[string]int{"BeforeConnect": 2, "AfterConnect": 2, "BeforeAcquire": 3, "BeforeClose": 2}
	if diff := cmp.Diff(want, called); diff != "" {
		t.Errorf("hooks (-want +got):\n%s", diff)
	}
	if s := c.Stats(); len(s.Versions) != 0 || s.Lost != 0 {
		t.Errorf("after Close got %+v, want no connection and nothing lost", s)
	}
}

func TestBrokenConnectionIsCountedAsLost(t *testing.T) {
	t.Parallel()
	role := newRole(t, "pw")
	secret := pgxauthtest.NewSecret("shop/db")
	secret.Put("v1", role, "pw")
	c := follow(t, secret, nil)
	pool := openPool(t, c, poolConfig(t))
	err := pool.AcquireFunc(t.Context(), func(conn *pgxpool.Conn) error {
		sql(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = "+pgtest.Literal(role))
		_, err := conn.Exec(t.Context(), "SELECT 1")
		return err
	})
	if err == nil {
		t.Fatal("the connection survived its end")
	}
	await(t, "one connection lost", func() bool { return c.Stats().Lost == 1 })
	if err := pool.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAddressComesFromTheSecretWhereAsked(t *testing.T) {
	t.Parallel()
	role := newRole(t, "pw")
	secret := pgxauthtest.NewSecret("shop/db")
	secret.Put("v1", role, "pw", "host", cluster.Primary.Host, "port", cluster.Primary.Port, "dbname", "template1")
	cfg := poolConfig(t)
	cfg.ConnConfig.Host, cfg.ConnConfig.TLSConfig.ServerName, cfg.ConnConfig.Port = "nowhere.invalid", "nowhere.invalid", 1
	pool := openPool(t, follow(t, secret, func(cfg *pgxauth.Config) { cfg.Address = true }), cfg)
	var database string
	if err := pool.QueryRow(t.Context(), "SELECT current_database()").Scan(&database); err != nil {
		t.Fatal(err)
	}
	if database != "template1" {
		t.Errorf("connected to %q, want the secret's database", database)
	}

	several, err := pgxpool.ParseConfig("postgres://unset@one.invalid:1,two.invalid:2/db?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	pool = openPool(t, follow(t, secret, func(cfg *pgxauth.Config) { cfg.Address = true }), several)
	if err := pool.Ping(t.Context()); err == nil {
		t.Error("an address for several hosts should be refused")
	}
}

// sessions counts a login's sessions as the server sees them.
func sessions(t *testing.T, role string) int {
	t.Helper()
	n, err := cluster.Sessions(t.Context(), role)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

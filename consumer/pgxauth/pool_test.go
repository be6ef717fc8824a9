package pgxauth_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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

// refuse makes the login in use be refused from now on, with a new one in the
// secret that the cache doesn't know of.
func refuse(t *testing.T) (*pgxauth.Credentials, *pgxauth.Pool, *pgxauthtest.Secret) {
	t.Helper()
	clock := &manualClock{}
	role := newRole(t, "one")
	secret := pgxauthtest.NewSecret("shop/db")
	secret.Put("v1", role, "one")
	c := follow(t, secret, func(cfg *pgxauth.Config) { cfg.Now, cfg.TTL = clock.now, time.Hour })
	pool := openPool(t, c, poolConfig(t))
	if err := pool.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	setPassword(t, role, "two")
	secret.Put("v2", role, "two")
	clock.advance(time.Minute) // beyond MinRefresh, well within the TTL
	pool.Reset()
	await(t, "an empty pool", func() bool { return pool.Stat().TotalConns() == 0 })
	return c, pool, secret
}

func TestRefusedLoginIsRetriedOnce(t *testing.T) {
	t.Parallel()
	tests := map[string]func(context.Context, *pgxauth.Pool) error{
		"Acquire": func(ctx context.Context, p *pgxauth.Pool) error {
			conn, err := p.Acquire(ctx)
			if err == nil {
				conn.Release()
			}
			return err
		},
		"AcquireFunc": func(ctx context.Context, p *pgxauth.Pool) error {
			return p.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return conn.Ping(ctx) })
		},
		"Exec": func(ctx context.Context, p *pgxauth.Pool) error { _, err := p.Exec(ctx, "SELECT 1"); return err },
		"Query": func(ctx context.Context, p *pgxauth.Pool) error {
			rows, err := p.Query(ctx, "SELECT generate_series(1, 3)")
			if err != nil {
				return err
			}
			got, err := pgx.CollectRows(rows, pgx.RowTo[int])
			if err == nil && !cmp.Equal(got, []int{1, 2, 3}) {
				err = errors.New("other rows than asked for")
			}
			return err
		},
		"QueryRow": func(ctx context.Context, p *pgxauth.Pool) error {
			var n int
			return p.QueryRow(ctx, "SELECT 1").Scan(&n)
		},
		"Begin": func(ctx context.Context, p *pgxauth.Pool) error {
			tx, err := p.Begin(ctx)
			if err != nil {
				return err
			}
			return tx.Commit(ctx)
		},
		"CopyFrom": func(ctx context.Context, p *pgxauth.Pool) error {
			_, err := p.CopyFrom(ctx, pgx.Identifier{"no_such_table"}, []string{"a"}, pgx.CopyFromRows(nil))
			var answer *pgconn.PgError
			if errors.As(err, &answer) && answer.Code == "42P01" {
				return nil // it got as far as the table
			}
			return err
		},
		"SendBatch": func(ctx context.Context, p *pgxauth.Pool) error {
			batch := &pgx.Batch{}
			batch.Queue("SELECT 1")
			batch.Queue("SELECT 2")
			return p.SendBatch(ctx, batch).Close()
		},
		"SendBatch with a transaction": func(ctx context.Context, p *pgxauth.Pool) error {
			batch := &pgx.Batch{}
			batch.BeginTx(pgx.TxOptions{})
			batch.Queue("SELECT 1")
			results := p.SendBatch(ctx, batch)
			tx := results.Tx()
			if err := results.Close(); err != nil {
				return err
			}
			return tx.Commit(ctx)
		},
		"Ping": func(ctx context.Context, p *pgxauth.Pool) error { return p.Ping(ctx) },
	}
	for name, call := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, pool, secret := refuse(t)
			if err := call(t.Context(), pool); err != nil {
				t.Fatal(err)
			}
			if s := c.Stats(); s.AuthRetries != 1 || s.Refreshes != 2 || secret.Calls() != 2 {
				t.Errorf("got %+v, want one retry and one refresh", s)
			}
			// Every connection came back.
			await(t, "nothing acquired", func() bool { return pool.Stat().AcquiredConns() == 0 })
		})
	}
}

func TestConnectRetriesToo(t *testing.T) {
	t.Parallel()
	c, _, _ := refuse(t)
	conn, err := c.Connect(t.Context(), connConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if user, version := pgxauth.Login(conn); user == "" || version != "v2" {
		t.Errorf("logged in as %q with version %q, want v2", user, version)
	}
	if n := c.Stats().AuthRetries; n != 1 {
		t.Errorf("counted %d retries, want 1", n)
	}
}

func TestManyRefusedLoginsAskOnce(t *testing.T) {
	t.Parallel()
	c, pool, secret := refuse(t)
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			if err := pool.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if secret.Calls() != 2 {
		t.Errorf("Secrets Manager was asked %d times, want at start and once more", secret.Calls())
	}
	if c.Stats().AuthRetries == 0 {
		t.Error("no retry was counted")
	}
}

func TestUnchangedSecretIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	role := newRole(t, "one")
	secret := pgxauthtest.NewSecret("shop/db")
	secret.Put("v1", role, "one")
	clock := &manualClock{}
	c := follow(t, secret, func(cfg *pgxauth.Config) { cfg.Now, cfg.TTL = clock.now, time.Hour })
	pool := openPool(t, c, poolConfig(t))
	setPassword(t, role, "two")
	clock.advance(time.Minute)
	for range 5 {
		var answer *pgconn.PgError
		if err := pool.Ping(t.Context()); !errors.As(err, &answer) || answer.Code != "28P01" {
			t.Fatalf("got %v, want 28P01", err)
		}
	}
	if s := c.Stats(); s.AuthRetries != 0 || s.Refreshes != 2 {
		t.Errorf("got %+v, want no retry, and one refresh for all within MinRefresh", s)
	}
}

func TestStatementIsNeverSentTwice(t *testing.T) {
	t.Parallel()
	role := newRole(t, "pw")
	sequence := role + "_sent"
	sql(t, "CREATE SEQUENCE "+sequence, "GRANT ALL ON SEQUENCE "+sequence+" TO "+role)
	secret := pgxauthtest.NewSecret("shop/db")
	secret.Put("v1", role, "pw")
	c := follow(t, secret, nil)
	pool := openPool(t, c, poolConfig(t))
	// A statement may fail with the very code of a refused login.
	statement := "DO $$ BEGIN PERFORM nextval(" + pgtest.Literal(sequence) + "); RAISE EXCEPTION USING ERRCODE = '28000'; END $$"
	if _, err := pool.Exec(t.Context(), statement); err == nil {
		t.Fatal("the statement should fail")
	}
	var sent int64
	if err := pool.QueryRow(t.Context(), "SELECT last_value FROM "+sequence).Scan(&sent); err != nil {
		t.Fatal(err)
	}
	if sent != 1 || c.Stats().AuthRetries != 0 {
		t.Errorf("sent %d times, %d retries; want once and none", sent, c.Stats().AuthRetries)
	}
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

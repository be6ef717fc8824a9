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

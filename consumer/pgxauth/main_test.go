package pgxauth_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/keyturn/keyturn/consumer/pgxauth"
	"github.com/keyturn/keyturn/consumer/pgxauth/pgxauthtest"
	"github.com/keyturn/keyturn/internal/pgtest"
)

// cluster is one real server for all tests; each takes roles of its own.
var cluster *pgtest.Cluster

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(m.Run()) // the fuzzed decoder needs no server, and each worker comes here
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	cluster, err = pgtest.Start(ctx, pgtest.Options{TLS: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting PostgreSQL:", err)
		return 1
	}
	code := m.Run()
	cluster.Stop()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

var roles atomic.Int64

// newRole makes a login that nobody else uses.
func newRole(t testing.TB, password string) string {
	t.Helper()
	name := "consumer_" + strconv.FormatInt(roles.Add(1), 10)
	sql(t, "CREATE ROLE "+name+" LOGIN PASSWORD "+pgtest.Literal(pgtest.Verifier(password)))
	return name
}

func setPassword(t testing.TB, role, password string) {
	t.Helper()
	sql(t, "ALTER ROLE "+role+" PASSWORD "+pgtest.Literal(pgtest.Verifier(password)))
}

func sql(t testing.TB, statements ...string) {
	t.Helper()
	if err := cluster.Exec(t.Context(), "postgres", statements...); err != nil {
		t.Fatal(err)
	}
}

// connConfig names the server without a login.
func connConfig(t testing.TB) *pgx.ConnConfig {
	t.Helper()
	return poolConfig(t).ConnConfig
}

func poolConfig(t testing.TB) *pgxpool.Config {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(address())
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = 4
	return cfg
}

func address() string {
	return fmt.Sprintf("host=%s port=%d dbname=postgres user=unset sslmode=verify-full sslrootcert=%s",
		cluster.Primary.Host, cluster.Primary.Port, cluster.CAFile)
}

// follow starts to follow a secret until the test ends.
func follow(t testing.TB, secret *pgxauthtest.Secret, change func(*pgxauth.Config)) *pgxauth.Credentials {
	t.Helper()
	cfg := pgxauth.Config{Secrets: secret, SecretID: secret.ARN()}
	if change != nil {
		change(&cfg)
	}
	c, err := pgxauth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func openPool(t testing.TB, c *pgxauth.Credentials, cfg *pgxpool.Config) *pgxauth.Pool {
	t.Helper()
	pool, err := pgxauth.NewPool(t.Context(), c, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// await waits for a condition; only a machine that hangs reaches the deadline.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// manualClock is a clock that only moves when it is told to.
type manualClock struct{ offset atomic.Int64 }

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func (m *manualClock) now() time.Time          { return epoch.Add(time.Duration(m.offset.Load())) }
func (m *manualClock) advance(d time.Duration) { m.offset.Add(int64(d)) }

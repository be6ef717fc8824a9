package load_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyturn/keyturn/consumer/pgxauth/pgxauthtest"
	"github.com/keyturn/keyturn/internal/demo/load"
	"github.com/keyturn/keyturn/internal/pgtest"
)

var cluster *pgtest.Cluster

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	cluster, err = start()
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

func start() (*pgtest.Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return pgtest.Start(ctx, pgtest.Options{TLS: true, Config: map[string]string{"max_connections": "300"}})
}

var roles atomic.Int64

// fixture is one application: a role with its secret, and a table.
type fixture struct {
	cluster *pgtest.Cluster
	role    string
	secret  *pgxauthtest.Secret
}

func newFixture(t *testing.T, c *pgtest.Cluster) *fixture {
	t.Helper()
	f := &fixture{cluster: c, role: "load_" + strconv.FormatInt(roles.Add(1), 10), secret: pgxauthtest.NewSecret("shop/db")}
	f.newRole(t, f.role, "one")
	f.secret.Put("v1", f.role, "one")
	return f
}

func (f *fixture) newRole(t *testing.T, role, password string) {
	t.Helper()
	f.sql(t, "CREATE ROLE "+role+" LOGIN PASSWORD "+pgtest.Literal(pgtest.Verifier(password)))
}

func (f *fixture) sql(t *testing.T, statement string) {
	t.Helper()
	if err := f.cluster.Exec(t.Context(), "postgres", statement); err != nil {
		t.Fatal(err)
	}
}

// config is a small load; its deadline is long, so that a busy machine makes no
// failure that a test doesn't mean.
func (f *fixture) config() load.Config {
	return load.Config{
		Host: f.cluster.Primary.Host, Port: f.cluster.Primary.Port, Database: "postgres", CAFile: f.cluster.CAFile,
		Secrets: f.secret, SecretID: f.secret.ARN(), Consumers: 8, Rate: 80, Deadline: 20 * time.Second,
		TTL: 300 * time.Millisecond, Spread: 300 * time.Millisecond, Cadence: 500 * time.Millisecond,
		Transaction: 400 * time.Millisecond, Recycle: time.Second,
	}
}

func (f *fixture) start(t *testing.T, cfg load.Config) *load.Run {
	t.Helper()
	r, err := load.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Stop() })
	return r
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (f *fixture) sessions(t *testing.T, role string) int {
	t.Helper()
	n, err := f.cluster.Sessions(t.Context(), role)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

package pgtest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
)

func TestClusterStartsOnEachVersion(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"15", "18"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			c, err := pgtest.Start(ctx, pgtest.Options{Version: version, TLS: true, Replica: true, LogStatement: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Stop)
			admin, err := c.CreateAdmin(ctx, "rotator")
			if err != nil {
				t.Fatal(err)
			}
			app, err := c.CreateApp(ctx, "app", "app")
			if err != nil {
				t.Fatal(err)
			}
			if user := query(ctx, t, c.DSN(c.Primary, admin), "SELECT current_user"); user != pgtest.AdminRole {
				t.Errorf("the admin acts as %s, want %s", user, pgtest.AdminRole)
			}
			pooler, err := c.StartPgBouncer(ctx, pgtest.PoolerOptions{Databases: []string{"app"}})
			if err != nil {
				t.Fatal(err)
			}
			for name, dsn := range map[string]string{"pooler": pooler.DSN(app), "primary": c.DSN(c.Primary, app)} {
				if n := query(ctx, t, dsn, "SELECT note FROM shop.orders"); n != "first" {
					t.Errorf("through the %s the application reads %q", name, n)
				}
			}
			if in := query(ctx, t, c.DSN(c.Replica, app), "SELECT pg_is_in_recovery()::text"); in != "true" {
				t.Errorf("the replica says pg_is_in_recovery() = %s", in)
			}
			log, err := c.Primary.Log()
			if err != nil || !strings.Contains(log, "connection authorized: user=app") {
				t.Errorf("the log misses the application's login (error %v)", err)
			}
		})
	}
}

func TestMissingVersionSaysWhatInstallsIt(t *testing.T) {
	t.Parallel()
	_, err := pgtest.Start(context.Background(), pgtest.Options{Version: "9"})
	if err == nil || !strings.Contains(err.Error(), "apt-get install postgresql-9") || fault.HintOf(err) == "" {
		t.Fatalf("got %v, want a text that names the package", err)
	}
}

func query(ctx context.Context, t *testing.T, dsn, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var s string
	if err := conn.QueryRow(ctx, sql).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

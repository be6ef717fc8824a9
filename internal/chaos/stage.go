package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/internal/pgtest"
)

// stage is what walks share: one real PostgreSQL. A walk has a login, and with
// it everything that belongs to it, of its own.
type stage struct {
	cluster *pgtest.Cluster
	wire    *wire
	admin   pgtest.Login
	dir     string
	number  atomic.Int64 // of walks
}

const databaseName = "chaos"

func newStage(ctx context.Context) (*stage, error) {
	cluster, err := pgtest.Start(ctx, pgtest.Options{
		TLS: true, LogStatement: true,
		Config: map[string]string{
			"fsync": "off", "full_page_writes": "off", // its machine doesn't crash, only functions do
			"synchronous_commit": "off", "shared_buffers": "8MB", "autovacuum": "off", "jit": "off",
		},
		// The proxy and the consumers' attempts go without TLS: there are thousands.
		HBA: []string{"host all all 127.0.0.1/32 scram-sha-256"},
	})
	if err != nil {
		return nil, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	s := &stage{cluster: cluster}
	if err := s.open(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stage) open(ctx context.Context) error {
	var err error
	// The audit trail syncs each record: in memory where there is a place for it.
	if s.dir, err = os.MkdirTemp("/dev/shm", "keyturn-chaos-"); err != nil {
		s.dir, err = os.MkdirTemp("", "keyturn-chaos-")
	}
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	if s.wire, err = newWire(s.cluster); err != nil {
		return err
	}
	if s.admin, err = s.cluster.CreateAdmin(ctx, "rotator"); err != nil {
		return err
	}
	return s.cluster.Exec(ctx, "postgres", "CREATE DATABASE "+databaseName)
}

func (s *stage) close() {
	s.cluster.Stop()
	_ = os.RemoveAll(s.dir) // a temporary folder
}

// worker is what walks that come one after the other share.
type worker struct {
	*stage
	super *pgx.Conn
}

func (s *stage) newWorker(ctx context.Context) (*worker, error) {
	super, err := s.cluster.Superuser(ctx, s.cluster.Primary, databaseName)
	return &worker{s, super}, err
}

func (w *worker) close() { _ = w.super.Close(context.Background()) }

// makeLogin makes an application's login that owns something.
func (w *worker) makeLogin(ctx context.Context, name string) (credential, error) {
	c := credential{Engine: "postgres", Host: w.cluster.Primary.Host, Username: name, Password: randomPassword(), DBName: databaseName}
	who, data := pgtest.Ident(name), pgtest.Ident("data_"+name) // not "$user": a rename is refused then
	return c, w.exec(ctx,
		"CREATE ROLE "+who+" LOGIN PASSWORD "+pgtest.Literal(pgtest.Verifier(c.Password))+" CONNECTION LIMIT 90",
		"ALTER ROLE "+who+" IN DATABASE "+databaseName+" SET work_mem = '5MB'",
		"CREATE SCHEMA "+data+" AUTHORIZATION "+who,
		"CREATE TABLE "+data+".orders (id bigint, owner text NOT NULL DEFAULT current_user)",
		"ALTER TABLE "+data+".orders OWNER TO "+who,
	)
}

func (w *worker) exec(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		if _, err := w.super.Exec(ctx, sql); err != nil {
			return fmt.Errorf("setting the stage: %w", err)
		}
	}
	return nil
}

// role is a login as the server keeps it.
type role struct {
	Name     string
	Login    bool
	Password bool
}

// roles lists what a walk has left at the server.
func (w *worker) roles(ctx context.Context, name string) ([]role, error) {
	rows, err := w.super.Query(ctx, `SELECT rolname::text, rolcanlogin, rolpassword IS NOT NULL FROM pg_authid
		WHERE starts_with(rolname::text, $1) ORDER BY 1`, name)
	if err != nil {
		return nil, fmt.Errorf("listing the walk's logins: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[role])
}

// clear removes what a walk has left, so that later ones don't see it.
func (w *worker) clear(ctx context.Context, name string) error {
	roles, err := w.roles(ctx, name)
	if err != nil {
		return err
	}
	for _, r := range roles {
		if err := w.exec(ctx, "DROP OWNED BY "+pgtest.Ident(r.Name)+" CASCADE", "DROP ROLE "+pgtest.Ident(r.Name)); err != nil {
			return err
		}
	}
	return nil
}

// logSize is where the server's log ends now.
func (s *stage) logSize() int64 {
	info, err := os.Stat(s.cluster.Primary.LogFile)
	if err != nil {
		return 0
	}
	return info.Size()
}

func (s *stage) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

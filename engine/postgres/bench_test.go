package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/keyturn/keyturn/engine/enginetest"
	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

// server is one real cluster that all tests of a version share; each test has
// logins and a database of its own on it.
type server struct {
	*pgtest.Cluster
	version string
	admin   pgtest.Login
}

// servers are started once: 15 as Debian has it, 18 as make deps installs it.
var servers = map[string]*server{}

// numbers keep names apart; none may be the beginning of another.
var numbers atomic.Int64

func TestMain(m *testing.M) {
	flag.Parse()
	// Most tests wait for servers rather than for the processor.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(m.Run()) // the fuzzed decoders need no server, and each worker comes here
	}
	os.Exit(withServers(m))
}

func withServers(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var mu sync.Mutex
	var g errgroup.Group
	for _, version := range []string{"15", "18"} {
		g.Go(func() error {
			c, err := pgtest.Start(ctx, pgtest.Options{
				Version: version, TLS: true, Replica: true, LogStatement: true,
				// pgx can't log in as somebody whose pg_hba line it doesn't match.
				HBA: []string{"local all rejected reject", "host all rejected all reject"},
			})
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			servers[version] = &server{Cluster: c, version: version}
			servers[version].admin, err = c.CreateAdmin(ctx, "rotator")
			return err
		})
	}
	err := g.Wait()
	defer func() {
		for _, s := range servers {
			s.Stop()
		}
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// each runs a test on every version.
func each(t *testing.T, test func(t *testing.T, s *server)) {
	t.Helper()
	t.Parallel()
	for version, s := range servers {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

// world is one application's secret in front of a real server.
type world struct {
	t      *testing.T
	s      *server
	ctx    context.Context
	store  *rotationtest.Store
	engine *postgres.Engine
	app    pgtest.Login
	arn    string
	policy rotation.Policy
	set    map[string]any
	log    *lockedBuffer
	seen   *reports
	clock  *movable
	fields map[string]any
}

const (
	version1 = "11111111-1111-4111-8111-111111111111"
	version2 = "22222222-2222-4222-8222-222222222222"
	version3 = "33333333-3333-4333-8333-333333333333"
	adminARN = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:admin"
)

func newWorld(t *testing.T, s *server, name string) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	if name == "" {
		name = fmt.Sprintf("app%04d", numbers.Add(1))
	}
	app, err := s.CreateApp(ctx, name, fmt.Sprintf("db%04d", numbers.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	return worldFor(ctx, t, s, app)
}

// newLogin is a world without objects, in a shared database: quicker.
func newLogin(t *testing.T, s *server) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	app, err := s.CreateLogin(ctx, fmt.Sprintf("login%04d", numbers.Add(1)), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	return worldFor(ctx, t, s, app)
}

func worldFor(ctx context.Context, t *testing.T, s *server, app pgtest.Login) *world {
	t.Helper()
	w := &world{
		t: t, s: s, ctx: ctx, store: rotationtest.NewStore(), app: app,
		arn: "arn:aws:secretsmanager:eu-central-1:111122223333:secret:" + app.User,
		log: &lockedBuffer{}, seen: &reports{}, clock: &movable{now: time.Now()},
		set: map[string]any{
			"hosts": []string{s.Primary.Address()}, "admin": adminARN, "root_ca_file": s.CAFile,
		},
		policy: rotation.Policy{
			Kind: postgres.Kind, Driver: rotation.DriverSecretsManager, QuietPolls: 2, Poll: time.Second,
			Window: 2 * time.Second, FunctionLimit: time.Second, MaxOverlap: time.Hour, OnTimeout: rotation.Hold,
			Parties: []rotation.Party{{Name: "web"}},
		},
	}
	if s.Replica != nil {
		w.set["replicas"] = []string{s.Replica.Address()}
	}
	w.fields = map[string]any{
		"engine": "postgres", "host": s.Primary.Host, "port": s.Primary.Port, "dbname": app.Database,
		"username": app.User, "password": app.Password, "masterarn": adminARN,
	}
	w.store.Add(w.arn, version1, encodeJSON(t, w.fields))
	w.store.Add(adminARN, "admin-version", encodeJSON(t, map[string]any{"username": s.admin.User, "password": s.admin.Password}))
	w.engine = postgres.New(postgres.Config{
		Values: w.store, Now: w.clock.Now, Evidence: w.seen,
		Logger: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	return w
}

func encodeJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// change is an order under the current settings.
func (w *world) change(from, to string, rank int) rotation.Change {
	p := w.policy
	p.Settings = json.RawMessage(encodeJSON(w.t, w.set))
	return rotation.Change{
		Secret: w.arn, From: from, To: to, Rotation: to, Rank: rank, Policy: p,
		Fence: func(context.Context) error { return nil },
	}
}

type step func(rotation.Engine, context.Context, rotation.Change) (rotation.Result, error)

// until calls a step until it has an outcome.
func (w *world) until(s step, c rotation.Change, want rotation.Outcome) rotation.Result {
	w.t.Helper()
	var res rotation.Result
	var err error
	for w.ctx.Err() == nil {
		if res, err = s(w.engine, w.ctx, c); err != nil {
			w.t.Fatalf("%v (%s)", err, fault.HintOf(err))
		}
		if res.Outcome == want {
			return res
		}
		c.Cursor = res.Cursor
		w.clock.Advance(time.Second)
		time.Sleep(5 * time.Millisecond)
	}
	w.t.Fatalf("waited for %s, it is %s: %q", want, res.Outcome, res.Missing)
	return res
}

// fails calls a step once and wants a fault.
func (w *world) fails(s step, c rotation.Change, want fault.Name) error {
	w.t.Helper()
	res, err := s(w.engine, w.ctx, c)
	if !fault.Is(err, want) {
		w.t.Fatalf("got %v (%s), outcome %q, want %s", err, fault.NameOf(err), res.Outcome, want)
	}
	return err
}

// head creates, sets, tests and promotes a version.
func (w *world) head(from, to string) {
	w.t.Helper()
	w.begin(to)
	c := w.change(from, to, 1)
	w.until(rotation.Engine.Create, c, rotation.Done)
	w.until(rotation.Engine.Set, c, rotation.Done)
	w.until(rotation.Engine.Test, c, rotation.Done)
	w.store.Finish(w.arn, to)
}

func (w *world) begin(to string) {
	w.t.Helper()
	if err := w.store.Rotate(w.ctx, w.arn, to); err != nil {
		w.t.Fatal(err)
	}
}

// tail drains, disables and revokes; the registered party has followed.
func (w *world) tail(from, to string) rotation.Result {
	w.t.Helper()
	w.seen.add("web", w.clock.Now)
	c := w.change(from, to, 2)
	w.until(rotation.Engine.Drain, c, rotation.Done)
	w.until(rotation.Engine.Disable, c, rotation.Done)
	return w.until(rotation.Engine.Revoke, c, rotation.Done)
}

// login is a version's credential as its consumers read it.
func (w *world) login(version string) pgtest.Login {
	w.t.Helper()
	v, err := w.store.Value(w.ctx, w.arn, version)
	if err != nil {
		w.t.Fatal(err)
	}
	var fields struct{ Username, Password, Dbname string }
	if err := json.Unmarshal([]byte(v.Reveal()), &fields); err != nil {
		w.t.Fatal(err)
	}
	return pgtest.Login{User: fields.Username, Password: fields.Password, Database: fields.Dbname}
}

// connect opens a consumer's session on the primary.
func (w *world) connect(l pgtest.Login, application string) *pgx.Conn {
	w.t.Helper()
	return w.connectTo(w.s.DSN(w.s.Primary, l), application)
}

func (w *world) connectTo(dsn, application string) *pgx.Conn {
	w.t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg.RuntimeParams["application_name"] = application
	conn, err := pgx.ConnectConfig(w.ctx, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// ask runs a query with one text column.
func ask(t *testing.T, conn *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	var s *string
	if err := conn.QueryRow(context.Background(), sql, args...).Scan(&s); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if s == nil {
		return ""
	}
	return *s
}

func execute(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(context.Background(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// root is a superuser's session in a database of the primary.
func (w *world) root(database string) *pgx.Conn {
	w.t.Helper()
	conn, err := w.s.Superuser(w.ctx, w.s.Primary, database)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// roles pictures the roles and settings that belong to this test.
func (w *world) picture(ctx context.Context) (string, error) {
	conn, err := w.s.Superuser(ctx, w.s.Primary, "postgres")
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	var s string
	err = conn.QueryRow(ctx, `SELECT coalesce(string_agg(format('%s %s %s %s %s %s', r.rolname, r.rolcanlogin, r.rolconnlimit,
		r.rolpassword, r.rolvaliduntil, (SELECT array_agg(s.setdatabase || ' ' || s.setconfig::text) FROM pg_db_role_setting s WHERE s.setrole = r.oid)),
		E'\n' ORDER BY r.rolname), '') FROM pg_authid r WHERE strpos(r.rolname, $1) = 1`, w.app.User).Scan(&s)
	return s, err
}

// works tries a version on both nodes: it works when all accept it, and is
// refused when none does, by authentication.
func (w *world) works(ctx context.Context, version string) error {
	l := w.login(version)
	var errs []error
	for _, node := range []*pgtest.Server{w.s.Primary, w.s.Replica} {
		conn, err := pgx.Connect(ctx, w.s.DSN(node, l))
		if err == nil {
			_ = conn.Close(ctx)
		}
		errs = append(errs, err)
	}
	if (errs[0] == nil) != (errs[1] == nil) {
		w.t.Errorf("the nodes disagree: primary %v, replica %v", errs[0], errs[1])
	}
	return errors.Join(errs...)
}

func TestConformance(t *testing.T) {
	for _, mode := range []string{"fresh", "pair"} {
		t.Run(mode, func(t *testing.T) {
			each(t, func(t *testing.T, s *server) {
				enginetest.Exercise(t, func(t *testing.T) enginetest.Fixture {
					w := newLogin(t, s)
					w.set["mode"] = mode
					w.policy.Settings = json.RawMessage(encodeJSON(t, w.set))
					return enginetest.Fixture{
						Engine: w.engine, Store: w.store, Secret: w.arn, Policy: w.policy,
						Works: w.works, State: w.picture, Advance: w.clock.Advance, Logs: w.log.String,
						Adopted: func(context.Context, string) { w.seen.add("web", w.clock.Now) },
					}
				})
			})
		})
	}
}

// Package pgtest answers: where does a test, or the demo, get real PostgreSQL
// servers from?
//
// It starts them from the machine's own packages, as a user that isn't root,
// with certificates of their own, and they end with the process that started
// them. A missing binary is an error that says what installs it.
package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/scratch"
)

// superuser is the cluster's bootstrap role.
const superuser = "postgres"

// Options says what kind of cluster Start makes.
type Options struct {
	// Version is the major version, "15" or "18"; empty means Debian's newest.
	Version string
	// Replica adds a streaming replica.
	Replica bool
	// TLS switches ssl on, and plaintext connections by TCP off.
	TLS bool
	// LogStatement logs every statement, and loads pg_stat_statements where the
	// installation has it.
	LogStatement bool
	// Config overrides single settings of postgresql.conf.
	Config map[string]string
	// HBA are lines that pg_hba.conf begins with.
	HBA []string
}

// Cluster is a running primary, perhaps with a replica.
type Cluster struct {
	Primary *Server
	Replica *Server // nil without Options.Replica
	// Dir is removed by Stop. It belongs to the account that the servers run as.
	Dir string
	// CAFile verifies the servers' certificates; empty without TLS.
	CAFile string

	folder   *scratch.Dir
	root     string // bin, lib and share
	as       *account
	password string
	opts     Options

	pooling sync.Mutex // guards what follows
	poolers []*Pooler
	lookup  string // password of auth_query's role, once it is made
}

// Server is one node.
type Server struct {
	Host    string
	Port    int
	LogFile string // one log; log_connections lines included

	data    string
	process *process
}

// Address is host:port.
func (s *Server) Address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Log returns everything the server has logged.
func (s *Server) Log() (string, error) {
	content, err := os.ReadFile(s.LogFile)
	if err != nil {
		return "", fmt.Errorf("reading the server's log: %w", err)
	}
	return string(content), nil
}

// Start makes a cluster and waits until it answers. Stop ends it.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	root, err := findBinaries(opts.Version)
	if err != nil {
		return nil, err
	}
	as, err := serverAccount()
	if err != nil {
		return nil, err
	}
	folder, err := scratch.Make("", "keyturn-pg-")
	if err != nil {
		return nil, fmt.Errorf("making the cluster's folder: %w", err)
	}
	c := &Cluster{Dir: folder.Path, folder: folder, root: root, as: as, opts: opts, password: randomHex()}
	if err := c.start(ctx); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	if err := c.as.own(c.Dir); err != nil {
		return fmt.Errorf("handing over the cluster's folder: %w", err)
	}
	if !c.as.reachable(filepath.Dir(c.Dir)) {
		return fault.New(fault.InvalidInput, "PostgreSQL can't run below %s: it refuses root, and its account may not enter that folder", filepath.Dir(c.Dir)).
			WithHint("point TMPDIR at a folder that everybody may enter, such as /tmp, or run as another user than root")
	}
	if !c.as.reachable(filepath.Join(c.root, "bin")) {
		to := filepath.Join(c.Dir, "pg")
		if err := mirror(c.root, to); err != nil {
			return fmt.Errorf("making PostgreSQL's files readable for its account: %w", err)
		}
		c.root = to
	}
	if c.opts.TLS {
		if err := writeCertificates(c.Dir, c.as); err != nil {
			return err
		}
		c.CAFile = filepath.Join(c.Dir, "ca.crt")
	}
	if err := c.initialise(ctx); err != nil {
		return err
	}
	var err error
	if c.Primary, err = c.newServer(ctx, "primary"); err != nil {
		return err
	}
	if c.opts.Replica {
		if c.Replica, err = c.newServer(ctx, "replica"); err != nil {
			return err
		}
		// A freshly initialised cluster is shut down cleanly, so that its copy is
		// a base backup.
		if err := runAs(ctx, c.as, c.Dir, "/bin/cp", "-a", c.Primary.data, c.Replica.data); err != nil {
			return err
		}
	}
	if err := c.run(ctx, c.Primary, ""); err != nil {
		return err
	}
	if c.Replica == nil {
		return nil
	}
	return c.run(ctx, c.Replica, c.standbySettings())
}

func (c *Cluster) initialise(ctx context.Context) error {
	pwFile := filepath.Join(c.Dir, "pw")
	if err := os.WriteFile(pwFile, []byte(c.password), 0o600); err != nil {
		return fmt.Errorf("writing the superuser's password file: %w", err)
	}
	if err := c.as.own(pwFile); err != nil {
		return fmt.Errorf("handing over the password file: %w", err)
	}
	defer func() { _ = os.Remove(pwFile) }()
	return runAs(ctx, c.as, c.Dir, filepath.Join(c.root, "bin", "initdb"),
		"-D", filepath.Join(c.Dir, "primary"), "-U", superuser, "-A", "scram-sha-256",
		"--pwfile", pwFile, "--no-sync", "--locale=C", "-E", "UTF8")
}

func (c *Cluster) newServer(ctx context.Context, name string) (*Server, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	return &Server{
		Host: "127.0.0.1", Port: port,
		data: filepath.Join(c.Dir, name), LogFile: filepath.Join(c.Dir, name+".log"),
	}, nil
}

// standbySettings make a copy of the primary follow it.
func (c *Cluster) standbySettings() string {
	mode := "disable"
	if c.opts.TLS {
		mode = "verify-full sslrootcert=" + c.CAFile
	}
	return fmt.Sprintf("primary_conninfo = 'host=%s port=%d user=%s password=%s sslmode=%s'\n",
		c.Primary.Host, c.Primary.Port, superuser, c.password, mode)
}

// run writes the node's configuration, starts it and waits for it.
func (c *Cluster) run(ctx context.Context, s *Server, extra string) error {
	if err := c.configure(s, extra); err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		err := c.launch(ctx, s)
		if err == nil || attempt == 2 || ctx.Err() != nil || !strings.Contains(err.Error(), "could not bind") {
			return err
		}
		port, portErr := freePort(ctx)
		if portErr != nil {
			return errors.Join(err, portErr)
		}
		s.Port = port // somebody took ours between looking and listening
	}
}

func (c *Cluster) launch(ctx context.Context, s *Server) error {
	p, err := launch(c.as, s.LogFile, c.Dir, filepath.Join(c.root, "bin", "postgres"),
		"-D", s.data, "-F", "-k", "", "-h", s.Host, "-p", strconv.Itoa(s.Port))
	if err != nil {
		return err
	}
	s.process = p
	return p.await(ctx, s.LogFile, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, c.dsn(s, superuser, c.password, "postgres"))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

func (c *Cluster) configure(s *Server, extra string) error {
	settings := map[string]string{
		"log_connections": "on", "log_disconnections": "on", "log_timezone": "UTC",
		"log_line_prefix": "%m [%p] %q%u@%d/%a ", "max_connections": "200",
		"password_encryption": "scram-sha-256", "shared_buffers": "32MB",
		"max_prepared_transactions": "20", "wal_level": "logical",
		"hot_standby_feedback": "on", "wal_receiver_status_interval": "1s",
	}
	if c.opts.TLS {
		settings["ssl"] = "on"
		settings["ssl_cert_file"] = filepath.Join(c.Dir, "server.crt")
		settings["ssl_key_file"] = filepath.Join(c.Dir, "server.key")
	}
	if c.opts.LogStatement {
		settings["log_statement"] = "all"
		if hasLibrary(c.root, "pg_stat_statements") {
			settings["shared_preload_libraries"] = "pg_stat_statements"
		}
	}
	for k, v := range c.opts.Config {
		settings[k] = v
	}
	var conf strings.Builder
	for _, k := range sortedKeys(settings) {
		fmt.Fprintf(&conf, "%s = '%s'\n", k, strings.ReplaceAll(settings[k], "'", "''"))
	}
	host := "host"
	if c.opts.TLS {
		host = "hostssl"
	}
	hba := append(append([]string{}, c.opts.HBA...),
		"local all all scram-sha-256",
		host+" all all 127.0.0.1/32 scram-sha-256",
		host+" replication all 127.0.0.1/32 scram-sha-256")
	files := map[string]string{
		"postgresql.auto.conf": conf.String() + extra,
		"pg_hba.conf":          strings.Join(hba, "\n") + "\n",
	}
	if extra != "" {
		files["standby.signal"] = ""
	}
	for name, content := range files {
		path := filepath.Join(s.data, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
		if err := c.as.own(path); err != nil {
			return fmt.Errorf("handing over %s: %w", name, err)
		}
	}
	return nil
}

// Stop ends every server and removes the cluster's files. It may be called twice.
func (c *Cluster) Stop() {
	c.pooling.Lock()
	defer c.pooling.Unlock()
	for _, p := range c.poolers {
		p.stop()
	}
	for _, s := range []*Server{c.Replica, c.Primary} {
		if s != nil {
			s.process.stop(syscall.SIGINT)
		}
	}
	_ = c.folder.Remove() // the next cluster's start tries again
}

// StopNode ends one node, as a failure would.
func (c *Cluster) StopNode(s *Server) { s.process.stop(syscall.SIGINT) }

// dsn is a connection string with verify-full wherever the cluster has TLS.
func (c *Cluster) dsn(s *Server, user, password, database string) string {
	q := url.Values{"sslmode": {"disable"}}
	if c.opts.TLS {
		q = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {c.CAFile}}
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(user, password),
		Host: s.Address(), Path: "/" + database, RawQuery: q.Encode(),
	}
	return u.String()
}

// SuperuserDSN is the superuser's connection string to the primary.
func (c *Cluster) SuperuserDSN(database string) string {
	return c.dsn(c.Primary, superuser, c.password, database)
}

// DSN is the connection string of a login to one node.
func (c *Cluster) DSN(s *Server, login Login) string {
	return c.dsn(s, login.User, login.Password, login.Database)
}

// Superuser connects to a node's database as the superuser.
func (c *Cluster) Superuser(ctx context.Context, s *Server, database string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, c.dsn(s, superuser, c.password, database))
	if err != nil {
		return nil, fmt.Errorf("connecting as the superuser: %w", err)
	}
	return conn, nil
}

// Exec runs statements as the superuser in a database of the primary.
func (c *Cluster) Exec(ctx context.Context, database string, statements ...string) error {
	conn, err := c.Superuser(ctx, c.Primary, database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("running %q: %w", s, err)
		}
	}
	return nil
}

func randomHex() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// CaughtUp waits until the replica, if there is one, has replayed everything
// that the primary has written so far.
func (c *Cluster) CaughtUp(ctx context.Context) error {
	if c.Replica == nil {
		return nil
	}
	primary, err := c.Superuser(ctx, c.Primary, "postgres")
	if err != nil {
		return err
	}
	defer func() { _ = primary.Close(context.WithoutCancel(ctx)) }()
	var lsn string
	if err := primary.QueryRow(ctx, "SELECT pg_current_wal_lsn()::text").Scan(&lsn); err != nil {
		return fmt.Errorf("reading the primary's position: %w", err)
	}
	replica, err := c.Superuser(ctx, c.Replica, "postgres")
	if err != nil {
		return err
	}
	defer func() { _ = replica.Close(context.WithoutCancel(ctx)) }()
	for {
		var there bool
		if err := replica.QueryRow(ctx, "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)", lsn).Scan(&there); err != nil {
			return fmt.Errorf("reading the replica's position: %w", err)
		}
		if there {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the replica: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

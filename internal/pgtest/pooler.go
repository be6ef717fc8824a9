package pgtest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// PoolerOptions says which databases a PgBouncer serves and how.
type PoolerOptions struct {
	Databases []string
	// Userlist serves only these logins, from userlist.txt; empty means that
	// every login of the server is looked up with auth_query.
	Userlist []Login
	// Mode is pool_mode; empty means session.
	Mode string
	// Config overrides single settings.
	Config map[string]string
}

// Pooler is a running PgBouncer in front of the primary.
type Pooler struct {
	Host    string
	Port    int
	Admin   Login // of its console, database "pgbouncer"
	LogFile string

	cluster *Cluster
	process *process
}

// Address is host:port.
func (p *Pooler) Address() string { return net.JoinHostPort(p.Host, strconv.Itoa(p.Port)) }

// DSN is the connection string of a login through the pooler.
func (p *Pooler) DSN(login Login) string {
	s := &Server{Host: p.Host, Port: p.Port}
	u, err := url.Parse(p.cluster.DSN(s, login))
	if err != nil {
		return ""
	}
	q := u.Query()
	q.Set("default_query_exec_mode", "simple_protocol") // prepared statements don't survive transaction pooling
	u.RawQuery = q.Encode()
	return u.String()
}

// lookup is auth_query's role: it may read one login's verifier and nothing else.
const lookup = "pgbouncer_lookup"

// StartPgBouncer starts a pooler before the primary; the cluster's Stop ends it.
func (c *Cluster) StartPgBouncer(ctx context.Context, opts PoolerOptions) (*Pooler, error) {
	c.pooling.Lock()
	defer c.pooling.Unlock()
	binary, err := findPgBouncer()
	if err != nil {
		return nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(c.Dir, "pgbouncer-")
	if err != nil {
		return nil, fmt.Errorf("making the pooler's folder: %w", err)
	}
	if err := c.as.own(dir); err != nil {
		return nil, fmt.Errorf("handing over the pooler's folder: %w", err)
	}
	p := &Pooler{
		Host: "127.0.0.1", Port: port, LogFile: filepath.Join(dir, "pgbouncer.log"), cluster: c,
		Admin: Login{User: "pooler_admin", Password: randomHex(), Database: "pgbouncer"},
	}
	users := append([]Login{p.Admin}, opts.Userlist...)
	if len(opts.Userlist) == 0 {
		password, err := c.createLookup(ctx, opts.Databases)
		if err != nil {
			return nil, err
		}
		users = append(users, Login{User: lookup, Password: password})
	}
	if err := c.writePooler(dir, p, users, opts); err != nil {
		return nil, err
	}
	if p.process, err = launch(c.as, p.LogFile, dir, binary, filepath.Join(dir, "pgbouncer.ini")); err != nil {
		return nil, err
	}
	c.poolers = append(c.poolers, p)
	return p, p.process.await(ctx, p.LogFile, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, p.DSN(p.Admin))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

func (c *Cluster) createLookup(ctx context.Context, databases []string) (string, error) {
	if c.lookup == "" {
		password := randomHex()
		if err := c.Exec(ctx, "postgres", "CREATE ROLE "+lookup+" LOGIN PASSWORD "+Literal(Verifier(password))); err != nil {
			return "", err
		}
		c.lookup = password
	}
	for _, db := range databases {
		err := c.Exec(ctx, db,
			"CREATE SCHEMA IF NOT EXISTS pgbouncer",
			"GRANT USAGE ON SCHEMA pgbouncer TO "+lookup,
			`CREATE OR REPLACE FUNCTION pgbouncer.lookup(name text, OUT usename name, OUT passwd text) RETURNS record
			 LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS
			 $$ SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1 AND rolcanlogin $$`,
			"REVOKE ALL ON FUNCTION pgbouncer.lookup(text) FROM public",
			"GRANT EXECUTE ON FUNCTION pgbouncer.lookup(text) TO "+lookup)
		if err != nil {
			return "", err
		}
	}
	return c.lookup, nil
}

func (c *Cluster) writePooler(dir string, p *Pooler, users []Login, opts PoolerOptions) error {
	var ini, list strings.Builder
	ini.WriteString("[databases]\n")
	for _, db := range opts.Databases {
		fmt.Fprintf(&ini, "%s = host=%s port=%d dbname=%s\n", db, c.Primary.Host, c.Primary.Port, db)
	}
	settings := map[string]string{
		"listen_addr": p.Host, "listen_port": strconv.Itoa(p.Port), "unix_socket_dir": "",
		"auth_type": "scram-sha-256", "auth_file": filepath.Join(dir, "userlist.txt"),
		"admin_users": p.Admin.User, "pool_mode": "session",
		"ignore_startup_parameters": "extra_float_digits", "application_name_add_host": "0",
	}
	if opts.Mode != "" {
		settings["pool_mode"] = opts.Mode
	}
	if len(opts.Userlist) == 0 {
		settings["auth_user"] = lookup
		settings["auth_query"] = "SELECT usename, passwd FROM pgbouncer.lookup($1)"
	}
	if c.opts.TLS {
		settings["client_tls_sslmode"] = "require"
		settings["client_tls_cert_file"] = filepath.Join(c.Dir, "server.crt")
		settings["client_tls_key_file"] = filepath.Join(c.Dir, "server.key")
		settings["server_tls_sslmode"] = "verify-full"
		settings["server_tls_ca_file"] = c.CAFile
	}
	for k, v := range opts.Config {
		settings[k] = v
	}
	ini.WriteString("[pgbouncer]\n")
	for _, k := range sortedKeys(settings) {
		fmt.Fprintf(&ini, "%s = %s\n", k, settings[k])
	}
	quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
	for _, u := range users {
		fmt.Fprintf(&list, "%s %s\n", quote(u.User), quote(u.Password))
	}
	for name, content := range map[string]string{"pgbouncer.ini": ini.String(), "userlist.txt": list.String()} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
		if err := c.as.own(path); err != nil {
			return fmt.Errorf("handing over %s: %w", name, err)
		}
	}
	return nil
}

func (p *Pooler) stop() { p.process.stop(syscall.SIGINT) }

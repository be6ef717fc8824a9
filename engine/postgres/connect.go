package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// applicationName is how our own sessions show themselves.
const applicationName = "keyturn"

// credential is one login to one database.
type credential struct {
	user     string
	password rotation.Value
	database string
}

// session is one connection to one node.
type session struct {
	*pgx.Conn
	address  string
	warnings []string // that came with the login
	kept     bool     // for the whole step; target.release closes it
}

// farewell is how long the end of a session or of a transaction may take when
// nothing depends on it any more: a server that has fallen silent isn't waited for.
const farewell = 2 * time.Second

// close ends the session. It has its own deadline, so that a cancelled step
// still leaves no session behind.
func (s *session) close() {
	if s.kept {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	_ = s.Close(ctx) // the server ends it anyway
}

// undo rolls a transaction back; after a commit it has no effect. It has its own
// deadline too: a server that doesn't answer by then loses the session, and the
// transaction with it.
func undo(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	_ = tx.Rollback(ctx) // the server does it anyway
}

// dialer knows how a policy lets us connect.
type dialer struct {
	roots          *x509.CertPool // nil means the system's
	plaintext      bool
	connectTimeout time.Duration
	budget         *budget // nil: not bounded
}

func newDialer(s Settings, plaintext bool) (*dialer, error) {
	d := &dialer{plaintext: plaintext, connectTimeout: time.Duration(s.ConnectTimeout)}
	if s.RootCAFile == "" || plaintext {
		return d, nil
	}
	pem, err := os.ReadFile(s.RootCAFile)
	if err != nil {
		return nil, fault.Wrap(fault.InvalidInput, err, "reading root_ca_file")
	}
	d.roots = x509.NewCertPool()
	if !d.roots.AppendCertsFromPEM(pem) {
		return nil, fault.New(fault.InvalidInput, "root_ca_file %s holds no certificate", s.RootCAFile)
	}
	return d, nil
}

// connect makes exactly one attempt, unless the login was refused too often
// already, which is a fault; a refusal is counted. Any other error is the driver's
// own: callers look at its SQLSTATE before they name it.
func (d *dialer) connect(ctx context.Context, address string, as credential, options ...func(*pgx.ConnConfig)) (*session, error) {
	if err := d.budget.allows(ctx, as.user); err != nil {
		return nil, err
	}
	s, err := d.attempt(ctx, address, as, options...)
	d.budget.spend(ctx, as.user, err)
	return s, err
}

// unmoved gives a value to everything that a PG* variable of the environment could
// set, so that none is read; attempt then sets what matters.
const unmoved = "host=localhost port=5432 user=keyturn password=none dbname=postgres sslmode=disable sslrootcert='' sslcert='' sslkey='' " +
	"sslcertmode=disable sslnegotiation=postgres target_session_attrs=any require_auth='' channel_binding=prefer connect_timeout=60 " +
	"min_protocol_version=3.0 max_protocol_version=3.0"

// attempt makes one attempt that isn't counted, verified in full or, where the
// policy allows it, in plaintext. It is for logins of which a refusal is the
// expected answer and locks nobody out.
func (d *dialer) attempt(ctx context.Context, address string, as credential, options ...func(*pgx.ConnConfig)) (*session, error) {
	cfg, err := pgx.ParseConfig(unmoved)
	if err != nil {
		return nil, fault.New(fault.InvalidInput, "the environment's PGSERVICE can't be read").
			WithHint("take PG* variables out of the function's environment; the policy says how it connects")
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, err
	}
	cfg.Host, cfg.Port = host, uint16(port)
	cfg.User, cfg.Password, cfg.Database = as.user, as.password.Reveal(), as.database
	cfg.Fallbacks, cfg.ValidateConnect, cfg.AfterConnect = nil, nil, nil
	// The client's encoding decides what a quote is: nobody else may choose it.
	cfg.RuntimeParams = map[string]string{"application_name": applicationName, "client_encoding": "UTF8"}
	cfg.ConnectTimeout = d.connectTimeout
	if d.plaintext {
		cfg.RequireAuth = "scram-sha-256,md5" // never the password itself
	} else {
		cfg.TLSConfig = &tls.Config{RootCAs: d.roots, ServerName: host, MinVersion: tls.VersionTLS12}
	}
	s := &session{address: address}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" || n.Severity == "WARNING" {
			s.warnings = append(s.warnings, n.Message)
		}
	}
	for _, o := range options {
		o(cfg)
	}
	ctx, cancel := context.WithTimeout(ctx, d.connectTimeout)
	defer cancel()
	s.Conn, err = pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// simple is for poolers: their console knows nothing else, and statements
// prepared by name don't survive transaction pooling.
func simple(c *pgx.ConnConfig) { c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol }

// asAdministrator bounds every statement of an admin session, and lets its names
// mean PostgreSQL's own objects: a database's owner may choose the search path of
// everybody who comes, and what a client asks for outranks that. A transaction
// that is left open ends by itself: a function that is killed or frozen doesn't
// hang up, and TCP finds that out after hours, for which the lock would stay.
func asAdministrator(statement, idle time.Duration) func(*pgx.ConnConfig) {
	return func(c *pgx.ConnConfig) {
		c.RuntimeParams["statement_timeout"] = strconv.FormatInt(statement.Milliseconds(), 10)
		c.RuntimeParams["idle_in_transaction_session_timeout"] = strconv.FormatInt(idle.Milliseconds(), 10)
		c.RuntimeParams["search_path"] = "pg_catalog"
	}
}

// try logs in, and reports the login's warnings as an error: a default role
// that can't be set is only a WARNING (TestTrap3…).
func (d *dialer) try(ctx context.Context, address string, as credential, options ...func(*pgx.ConnConfig)) (*session, error) {
	s, err := d.connect(ctx, address, as, options...)
	if err != nil {
		return nil, named(err, "logging in as "+as.user+" on "+address)
	}
	if len(s.warnings) > 0 {
		defer s.close()
		return nil, fault.New(fault.CredentialRejected, "logging in as %s on %s: %s", as.user, address, strings.Join(s.warnings, "; ")).
			WithHint("the login works but not with its settings; its default role or a setting can't be applied")
	}
	return s, nil
}

// proves logs in and out again.
func (d *dialer) proves(ctx context.Context, address string, as credential) error {
	s, err := d.try(ctx, address, as)
	if err != nil {
		return err
	}
	s.close()
	return nil
}

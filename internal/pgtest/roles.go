package pgtest

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Login is somebody who can log in.
type Login struct {
	User     string
	Password string
	Database string
}

// AdminRole is the role whose rights admin logins act with. It can't log in
// itself, so that its logins can be rotated too.
const AdminRole = "keyturn_admin"

// CreateAdmin makes the role without login and a login that acts as it: no
// superuser, no ownership. Databases are created by CreateApp.
func (c *Cluster) CreateAdmin(ctx context.Context, user string) (Login, error) {
	login := Login{User: user, Password: randomHex(), Database: "postgres"}
	err := c.Exec(ctx, "postgres",
		"DO $$ BEGIN IF to_regrole('"+AdminRole+"') IS NULL THEN CREATE ROLE "+AdminRole+" NOLOGIN CREATEROLE; END IF; END $$",
		"GRANT pg_read_all_stats, pg_signal_backend TO "+AdminRole,
		"CREATE ROLE "+Ident(user)+" LOGIN IN ROLE "+AdminRole+" PASSWORD "+Literal(Verifier(login.Password)),
		"ALTER ROLE "+Ident(user)+" SET role = "+Literal(AdminRole),
	)
	return login, err
}

// Administer grants the admin role what PostgreSQL 16 and later ask for on top
// of CREATEROLE, before it may touch a role that it didn't make.
func (c *Cluster) Administer(ctx context.Context, roles ...string) error {
	conn, err := c.Superuser(ctx, c.Primary, "postgres")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var version int
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return fmt.Errorf("asking for the server's version: %w", err)
	}
	if version < 160000 {
		return nil
	}
	for _, role := range roles {
		sql := "GRANT " + Ident(role) + " TO " + AdminRole + " WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("letting the admin administer %s: %w", role, err)
		}
	}
	return nil
}

// Sessions counts a user's sessions, as the primary sees them.
func (c *Cluster) Sessions(ctx context.Context, user string) (int, error) {
	conn, err := c.Superuser(ctx, c.Primary, "postgres")
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var n int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", user).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting the sessions of %s: %w", user, err)
	}
	return n, nil
}

// CreateLogin makes an application's login to an existing database, with a
// limit and settings of its own. The admin may administer it.
func (c *Cluster) CreateLogin(ctx context.Context, user, database string) (Login, error) {
	login := Login{User: user, Password: randomHex(), Database: database}
	err := c.Exec(ctx, "postgres",
		"CREATE ROLE "+Ident(user)+" LOGIN PASSWORD "+Literal(Verifier(login.Password))+" CONNECTION LIMIT 90",
		"ALTER ROLE "+Ident(user)+" SET search_path = shop, \"$user\", public",
		"ALTER ROLE "+Ident(user)+" SET statement_timeout = '30s'",
		"ALTER ROLE "+Ident(user)+" IN DATABASE "+Ident(database)+" SET work_mem = '5MB'",
	)
	if err != nil {
		return login, err
	}
	if err := c.Administer(ctx, user); err != nil {
		return login, err
	}
	return login, c.CaughtUp(ctx)
}

// CreateApp makes an application's login with a database of its own: a schema
// and tables that it owns, a row-level policy, default privileges and a
// function.
func (c *Cluster) CreateApp(ctx context.Context, user, database string) (Login, error) {
	if err := c.Exec(ctx, "postgres", "CREATE DATABASE "+Ident(database)); err != nil {
		return Login{}, err
	}
	login, err := c.CreateLogin(ctx, user, database)
	if err != nil {
		return login, err
	}
	if err := c.Exec(ctx, "postgres", "ALTER DATABASE "+Ident(database)+" OWNER TO "+Ident(user)); err != nil {
		return login, err
	}
	conn, err := pgx.Connect(ctx, c.DSN(c.Primary, login))
	if err != nil {
		return login, fmt.Errorf("connecting as the application: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, sql := range []string{
		"CREATE SCHEMA shop",
		"CREATE TABLE shop.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text NOT NULL DEFAULT current_user, note text)",
		"ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY",
		"ALTER TABLE shop.orders FORCE ROW LEVEL SECURITY",
		"CREATE POLICY mine ON shop.orders USING (owner = current_user) WITH CHECK (owner = current_user)",
		"CREATE VIEW shop.latest AS SELECT * FROM shop.orders ORDER BY id DESC LIMIT 10",
		"CREATE FUNCTION shop.total() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM shop.orders'",
		"ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO pg_monitor",
		"INSERT INTO shop.orders (note) VALUES ('first')",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return login, fmt.Errorf("making the application's objects: %w", err)
		}
	}
	return login, c.CaughtUp(ctx)
}

// Ident quotes an identifier.
func Ident(name string) string { return pgx.Identifier{name}.Sanitize() }

// Literal quotes a string constant that standard_conforming_strings reads.
func Literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// Verifier is what the server keeps of an ASCII password (RFC 5802, RFC 7677).
// Sent instead of it, it keeps passwords out of the statement log.
func Verifier(password string) string {
	const iterations = 4096
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		panic("pgtest: deriving a key with constant parameters: " + err.Error())
	}
	sign := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(sign("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(sign("Server Key")))
}

package pgxauth

import (
	"context"
	"maps"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const sessionKey = "github.com/keyturn/keyturn/consumer/pgxauth"

// session is what a connection knows about its own login.
type session struct {
	version string
	login   string
	retired bool // closed on purpose, because of its version
}

func sessionOf(conn *pgconn.PgConn) *session {
	s, _ := conn.CustomData()[sessionKey].(*session)
	return s
}

// Login returns the user name and the secret's version id that a connection
// was made with, or empty strings if it wasn't made by this package. Call it
// only while you own the connection.
func Login(conn *pgx.Conn) (user, version string) {
	if s := sessionOf(conn.PgConn()); s != nil {
		return s.login, s.version
	}
	return "", ""
}

// Stats counts since New.
type Stats struct {
	// AuthRetries is how often a connection was tried a second time because the
	// server had refused the login. A good rotation leaves it at zero.
	AuthRetries int64
	// Refreshes is how often Secrets Manager was asked.
	Refreshes int64
	// StaleServes is how often a value older than its TTL was used, because
	// Secrets Manager didn't answer.
	StaleServes int64
	// Lost is how many of the pools' connections broke: ended by the server,
	// the network or a cancelled request, not by the pool.
	Lost int64
	// Versions counts the pools' open connections by version id.
	Versions map[string]int
}

// Stats returns the counts. A connection that was hijacked from its pool is
// counted for ever.
func (c *Credentials) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Versions = c.versionsLocked()
	return s
}

func (c *Credentials) versionsLocked() map[string]int {
	sum := make(map[string]int)
	for l := range c.ledgers {
		for version, n := range l.versions() {
			sum[version] += n
		}
	}
	return sum
}

// ledger counts one pool's open connections by version.
type ledger struct {
	poke chan struct{} // connections of an earlier version may be open

	mu   sync.Mutex
	open map[string]int
}

func (l *ledger) signal() {
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

func (l *ledger) versions() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.open)
}

// add changes a version's count and reports whether it became or left zero.
func (l *ledger) add(version string, n int) (edge bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.open[version]
	l.open[version] = before + n
	if l.open[version] == 0 {
		delete(l.open, version)
	}
	return before == 0 || before+n == 0
}

// others counts open connections of any version but this.
func (l *ledger) others(version string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for v, count := range l.open {
		if v != version {
			n += count
		}
	}
	return n
}

func (c *Credentials) forget(l *ledger) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ledgers, l)
}

// Configure makes a pool log in with the secret and counts its connections.
// Hooks that are already set go on being called. A pool that is only
// configured, and not made by NewPool, drops a connection of an earlier version
// when it is next acquired: it doesn't clear idle ones and doesn't retry.
func (c *Credentials) Configure(cfg *pgxpool.Config) { c.configure(cfg) }

func (c *Credentials) configure(cfg *pgxpool.Config) *ledger {
	l := &ledger{poke: make(chan struct{}, 1), open: make(map[string]int)}
	c.mu.Lock()
	c.ledgers[l] = struct{}{}
	c.mu.Unlock()

	before := cfg.BeforeConnect
	cfg.BeforeConnect = func(ctx context.Context, cc *pgx.ConnConfig) error {
		if before != nil {
			if err := before(ctx, cc); err != nil {
				return err
			}
		}
		doc, err := c.current(ctx)
		if err != nil {
			return err
		}
		return doc.apply(cc, c.cfg.Address)
	}
	after := cfg.AfterConnect
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if after != nil {
			if err := after(ctx, conn); err != nil {
				return err
			}
		}
		c.opened(l, conn)
		return nil
	}
	closing := cfg.BeforeClose
	cfg.BeforeClose = func(conn *pgx.Conn) {
		c.closing(l, conn)
		if closing != nil {
			closing(conn)
		}
	}
	c.configurePrepare(cfg)
	return l
}

func (c *Credentials) configurePrepare(cfg *pgxpool.Config) {
	prepare := cfg.PrepareConn
	acquire := cfg.BeforeAcquire //nolint:staticcheck // deprecated, but an application may still set it
	cfg.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		if ctx.Value(sweepKey{}) != nil {
			return true, nil // our own look at the idle ones
		}
		if s := sessionOf(conn.PgConn()); s != nil && c.overdue(s.version) {
			s.retired = true
			return false, nil
		}
		switch {
		case prepare != nil:
			return prepare(ctx, conn)
		case acquire != nil:
			return acquire(ctx, conn), nil
		}
		return true, nil
	}
}

func (c *Credentials) opened(l *ledger, conn *pgx.Conn) {
	_, version := Login(conn)
	if l.add(version, 1) {
		c.signal()
	}
	// A login that was under way when the version changed.
	if version != c.Version() {
		l.signal()
	}
}

func (c *Credentials) closing(l *ledger, conn *pgx.Conn) {
	s := sessionOf(conn.PgConn())
	if s == nil {
		return
	}
	if conn.IsClosed() && !s.retired {
		c.mu.Lock()
		c.stats.Lost++
		c.mu.Unlock()
	}
	if l.add(s.version, -1) {
		c.signal()
	}
}

// overdue reports whether connections of a version should be gone by now.
func (c *Credentials) overdue(version string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doc != nil && c.doc.version != version && !c.cfg.Now().Before(c.changed.Add(c.cfg.Spread))
}

package pgxauth

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Pool is a pgxpool.Pool that follows a secret. Where the server refuses a
// login it reads the secret again and tries once more. It only ever repeats a
// login: a statement that was sent is never sent again.
type Pool struct {
	inner       *pgxpool.Pool
	credentials *Credentials
	ledger      *ledger
	cancel      context.CancelFunc
	following   sync.WaitGroup
}

// NewPool opens a pool that logs in with the secret. It waits for the first
// value, and fails if the secret can't be read or has not the documented form;
// like pgxpool it doesn't wait for a connection. cfg isn't changed. Give it
// MinConns, so that connections are replaced before a request needs them.
func NewPool(ctx context.Context, c *Credentials, cfg *pgxpool.Config) (*Pool, error) {
	if _, err := c.current(ctx); err != nil {
		return nil, fmt.Errorf("opening a pool: %w", err)
	}
	cfg = cfg.Copy()
	l := c.configure(cfg)
	inner, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		c.forget(l)
		return nil, fmt.Errorf("opening a pool: %w", err)
	}
	following, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &Pool{inner: inner, credentials: c, ledger: l, cancel: cancel}
	p.following.Go(func() { p.follow(following) })
	return p, nil
}

// Close closes all connections and waits until they are returned.
func (p *Pool) Close() {
	p.cancel()
	p.following.Wait()
	p.inner.Close()
	p.credentials.forget(p.ledger)
}

// Reset closes all connections now; those in use when they are returned.
func (p *Pool) Reset() { p.inner.Reset() }

// Stat returns the pool's statistics.
func (p *Pool) Stat() *pgxpool.Stat { return p.inner.Stat() }

// Unwrap returns the pgxpool.Pool, for libraries that need one. It follows the
// secret too, but without the retry of a refused login.
func (p *Pool) Unwrap() *pgxpool.Pool { return p.inner }

// Acquire is pgxpool.Pool.Acquire with the retry.
func (p *Pool) Acquire(ctx context.Context) (*pgxpool.Conn, error) {
	return attempt(ctx, p.credentials, func() (*pgxpool.Conn, error) { return p.inner.Acquire(ctx) })
}

// AcquireFunc is pgxpool.Pool.AcquireFunc; f is called at most once.
func (p *Pool) AcquireFunc(ctx context.Context, f func(*pgxpool.Conn) error) error {
	conn, err := p.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return f(conn)
}

// Exec is pgxpool.Pool.Exec with the retry of the login.
func (p *Pool) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return attempt(ctx, p.credentials, func() (pgconn.CommandTag, error) { return p.inner.Exec(ctx, sql, args...) })
}

// Query is pgxpool.Pool.Query with the retry of the login.
func (p *Pool) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return attempt(ctx, p.credentials, func() (pgx.Rows, error) { return p.inner.Query(ctx, sql, args...) })
}

// QueryRow is pgxpool.Pool.QueryRow with the retry of the login. As there, the
// connection is returned to the pool by Scan.
func (p *Pool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	conn, err := p.Acquire(ctx)
	if err != nil {
		return failedRow{err}
	}
	return &row{Row: conn.QueryRow(ctx, sql, args...), conn: conn}
}

// Begin is pgxpool.Pool.Begin with the retry of the login.
func (p *Pool) Begin(ctx context.Context) (pgx.Tx, error) { return p.BeginTx(ctx, pgx.TxOptions{}) }

// BeginTx is pgxpool.Pool.BeginTx with the retry of the login.
func (p *Pool) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	return attempt(ctx, p.credentials, func() (pgx.Tx, error) { return p.inner.BeginTx(ctx, options) })
}

// CopyFrom is pgxpool.Pool.CopyFrom with the retry of the login.
func (p *Pool) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	return attempt(ctx, p.credentials, func() (int64, error) { return p.inner.CopyFrom(ctx, table, columns, rows) })
}

// SendBatch is pgxpool.Pool.SendBatch with the retry of the login. The
// connection is returned by Close of the results, or, for a batch that begins a
// transaction, by the end of that transaction.
func (p *Pool) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	conn, err := p.Acquire(ctx)
	if err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	results := &batchResults{BatchResults: conn.SendBatch(ctx, b), conn: conn}
	if tx := results.BatchResults.Tx(); tx != nil {
		results.tx = &batchTx{Tx: tx, conn: conn}
	}
	return results
}

// Ping is pgxpool.Pool.Ping with the retry of the login.
func (p *Pool) Ping(ctx context.Context) error {
	return p.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return conn.Ping(ctx) })
}

// Connect opens one connection outside a pool, as a job does that connects anew
// for each unit of work, with the retry of a refused login. cfg isn't changed.
func (c *Credentials) Connect(ctx context.Context, cfg *pgx.ConnConfig) (*pgx.Conn, error) {
	return attempt(ctx, c, func() (*pgx.Conn, error) {
		doc, err := c.current(ctx)
		if err != nil {
			return nil, err
		}
		cc := cfg.Copy()
		if err := doc.apply(cc, c.cfg.Address); err != nil {
			return nil, err
		}
		return pgx.ConnectConfig(ctx, cc)
	})
}

// attempt runs f, and once more if the server refused its login and there is
// another value by now. f must fail with a ConnectError only before it has sent
// a statement.
func attempt[T any](ctx context.Context, c *Credentials, f func() (T, error)) (T, error) {
	v, err := f()
	refused := refusedLogin(err)
	if refused == nil {
		return v, withoutPassword(err)
	}
	if !c.renew(ctx, refused.Config) {
		return v, withoutPassword(err)
	}
	c.mu.Lock()
	c.stats.AuthRetries++
	c.mu.Unlock()
	v, err = f()
	return v, withoutPassword(err)
}

// refusedLogin returns the error if it says that the server refused the login:
// 28P01 invalid_password, 28000 invalid_authorization_specification.
func refusedLogin(err error) *pgconn.ConnectError {
	var failed *pgconn.ConnectError
	var answer *pgconn.PgError
	if errors.As(err, &failed) && errors.As(err, &answer) && (answer.Code == "28P01" || answer.Code == "28000") {
		return failed
	}
	return nil
}

// withoutPassword clears the password in the configuration that pgx hangs on
// its error, so that nothing downstream can print it.
func withoutPassword(err error) error {
	var failed *pgconn.ConnectError
	if errors.As(err, &failed) && failed.Config != nil {
		failed.Config.Password = ""
	}
	return err
}

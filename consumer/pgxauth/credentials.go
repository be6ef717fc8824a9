// Package pgxauth answers: how does an application's pgxpool follow a rotation
// without a failed request?
//
// It reads the secret's AWSCURRENT version through a small cache, logs new
// connections in with user and password of one and the same version, replaces
// the connections of an earlier version a few at a time, and asks Secrets
// Manager at once when the server refuses a login.
//
//	credentials, err := pgxauth.New(pgxauth.Config{Secrets: client, SecretID: "shop/db"})
//	…
//	pool, err := pgxauth.NewPool(ctx, credentials, poolConfig)
//	…
//	rows, err := pool.Query(ctx, "SELECT …")
//
// # How long the drain has to be
//
// An application goes on using what it read for at most TTL, and then takes at
// most Spread to replace its idle connections. The rotation's drain window has
// to be longer than both together; a TTL of at most half the window leaves room.
package pgxauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/singleflight"
)

// Defaults of Config.
const (
	DefaultTTL         = 5 * time.Minute
	DefaultMinRefresh  = time.Second
	DefaultReportEvery = 30 * time.Second

	// fetchLimit ends one read of Secrets Manager, whoever waits for it.
	fetchLimit = 10 * time.Second
	// staleAfter is how long a new connection waits for a fresh value while an
	// older one is at hand.
	staleAfter = 2 * time.Second
)

// ErrClosed says that Close was called.
var ErrClosed = errors.New("pgxauth: credentials are closed")

// SecretsAPI is the one call of Secrets Manager that is needed;
// *secretsmanager.Client has it. An application's role needs
// secretsmanager:GetSecretValue (and kms:Decrypt for a customer managed key).
type SecretsAPI interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// Config says which secret to follow, and how closely.
type Config struct {
	// Secrets reads the secret. Required.
	Secrets SecretsAPI
	// SecretID is the secret's ARN or name. Required.
	SecretID string
	// TTL is the longest that a value is used without asking again: at most
	// half the rotation's drain window. Default 5 minutes.
	TTL time.Duration
	// Jitter is taken off the TTL at random, so that a fleet doesn't ask all at
	// once. Default a tenth of the TTL.
	Jitter time.Duration
	// MinRefresh is the least time between two reads, however many logins fail.
	// Default 1 second.
	MinRefresh time.Duration
	// Spread is the time over which a pool replaces its connections after a
	// change: at least 5 % of the drain window. Default a quarter of the TTL.
	Spread time.Duration
	// Address takes host, port and dbname from the secret too, where it has
	// them. It is meant for a configuration with one host.
	Address bool
	// ReportEvery is the longest time between two reports. Default 30 seconds.
	ReportEvery time.Duration
	// Report is called, from one goroutine, at each change and at least each
	// ReportEvery. It may be nil.
	Report func(Report)
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Logger gets changes and failed reads; never a value. Default: none.
	Logger *slog.Logger
}

func (cfg Config) complete() (Config, error) {
	var wrong []error
	if cfg.Secrets == nil {
		wrong = append(wrong, errors.New("set Secrets to a Secrets Manager client"))
	}
	if cfg.SecretID == "" {
		wrong = append(wrong, errors.New("set SecretID to the secret's ARN or name"))
	}
	for name, d := range map[string]time.Duration{
		"TTL": cfg.TTL, "Jitter": cfg.Jitter, "MinRefresh": cfg.MinRefresh, "Spread": cfg.Spread, "ReportEvery": cfg.ReportEvery,
	} {
		if d < 0 {
			wrong = append(wrong, fmt.Errorf("%s is negative", name))
		}
	}
	byDefault := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	byDefault(&cfg.TTL, DefaultTTL)
	byDefault(&cfg.Jitter, cfg.TTL/10)
	byDefault(&cfg.MinRefresh, min(DefaultMinRefresh, cfg.TTL))
	byDefault(&cfg.Spread, cfg.TTL/4)
	byDefault(&cfg.ReportEvery, DefaultReportEvery)
	if cfg.Jitter >= cfg.TTL && cfg.TTL > 0 {
		wrong = append(wrong, errors.New("the jitter has to be smaller than the TTL"))
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg, errors.Join(wrong...)
}

// Credentials is what one process knows of one secret. It is safe for
// concurrent use and may serve several pools. Close ends its goroutine.
type Credentials struct {
	cfg    Config
	flight singleflight.Group
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup
	poke   chan struct{} // something worth a report has changed

	mu      sync.Mutex
	closed  bool
	arn     string
	doc     *document
	expires time.Time // when doc has to be read again
	next    time.Time // no read before this
	lastErr error     // of the last read
	changed time.Time // when doc took the place of another version
	ledgers map[*ledger]struct{}
	stats   Stats
}

// New starts to follow a secret. It reads in the background; NewPool and
// Connect wait for the first value.
func New(cfg Config) (*Credentials, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("configuring pgxauth: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Credentials{
		cfg: cfg, ctx: ctx, cancel: cancel, arn: cfg.SecretID,
		poke:    make(chan struct{}, 1),
		ledgers: make(map[*ledger]struct{}),
	}
	c.work.Go(c.refreshLoop)
	c.work.Go(c.reportLoop)
	return c, nil
}

// Close ends the background refresh and waits for it. Close the pools first.
// It is idempotent.
func (c *Credentials) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.work.Wait()
}

// Version returns the version id in use, or "" before the first read.
func (c *Credentials) Version() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doc == nil {
		return ""
	}
	return c.doc.version
}

// String names the secret and its version; it implements fmt.Stringer, so that
// printing credentials by accident shows nothing else.
func (c *Credentials) String() string {
	return fmt.Sprintf("credentials of secret %s, version %q", c.cfg.SecretID, c.Version())
}

// GoString implements fmt.GoStringer.
func (c *Credentials) GoString() string { return c.String() }

// current returns the cached value, a fresh one when it is due, or the older
// one when Secrets Manager can't be asked: a login may still succeed with it.
func (c *Credentials) current(ctx context.Context) (*document, error) {
	c.mu.Lock()
	doc := c.doc
	fresh := doc != nil && c.cfg.Now().Before(c.expires)
	c.mu.Unlock()
	if fresh {
		return doc, nil
	}
	if doc != nil {
		bounded, cancel := context.WithTimeout(ctx, staleAfter)
		defer cancel()
		ctx = bounded
	}
	got, err := c.refresh(ctx)
	if err == nil {
		return got, nil
	}
	if doc == nil {
		return nil, err
	}
	c.mu.Lock()
	c.stats.StaleServes++
	c.mu.Unlock()
	return doc, nil
}

// renew is called when the server has refused a login. It reports whether
// there is another value to try than the one that was refused.
func (c *Credentials) renew(ctx context.Context, refused *pgconn.Config) bool {
	c.mu.Lock()
	doc := c.doc
	c.mu.Unlock()
	if doc != nil && doc.differs(refused) {
		return true
	}
	doc, err := c.refresh(ctx)
	return err == nil && doc.differs(refused)
}

// refresh reads the secret, once for all who ask at the same time.
func (c *Credentials) refresh(ctx context.Context) (*document, error) {
	// The read isn't any one caller's: it ends with Close, not with a ctx.
	read := c.flight.DoChan("", func() (any, error) { return c.fetch() }) //nolint:contextcheck // one read serves all who wait
	select {
	case got := <-read:
		if got.Err != nil {
			return nil, got.Err
		}
		return got.Val.(*document), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for secret %s: %w", c.cfg.SecretID, context.Cause(ctx))
	}
}

// fetch is the only place that calls Secrets Manager; it runs in the flight.
func (c *Credentials) fetch() (*document, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	if c.cfg.Now().Before(c.next) {
		defer c.mu.Unlock()
		return c.doc, c.lastErr
	}
	c.stats.Refreshes++
	c.work.Add(1) // under the lock, so that Close either waits for it or is seen above
	c.mu.Unlock()
	defer c.work.Done()

	ctx, cancel := context.WithTimeout(c.ctx, fetchLimit)
	defer cancel()
	out, err := c.cfg.Secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(c.cfg.SecretID), VersionStage: aws.String("AWSCURRENT"),
	})
	var doc *document
	if err == nil {
		doc, err = parse(aws.ToString(out.SecretString), aws.ToString(out.VersionId))
	}
	if err != nil {
		err = fmt.Errorf("reading secret %s: %w", c.cfg.SecretID, err)
		c.failed(err)
		return nil, err
	}
	return c.store(doc, aws.ToString(out.ARN)), nil
}

func (c *Credentials) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next, c.lastErr = c.cfg.Now().Add(c.cfg.MinRefresh), err
	if c.ctx.Err() == nil {
		c.cfg.Logger.Warn("secret not read, older value stays in use", "secret", c.cfg.SecretID, "error", err)
	}
}

func (c *Credentials) store(doc *document, arn string) *document {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.cfg.Now()
	c.next, c.lastErr = now.Add(c.cfg.MinRefresh), nil
	c.expires = now.Add(c.cfg.TTL - time.Duration(rand.Int64N(int64(c.cfg.Jitter)+1))) //nolint:gosec // spreads load, guards nothing
	if arn != "" {
		c.arn = arn
	}
	old := c.doc
	c.doc = doc
	if old != nil && old.version == doc.version {
		return doc
	}
	c.changed = now
	c.signal()
	for l := range c.ledgers {
		l.signal()
	}
	if old != nil {
		c.cfg.Logger.Info("secret changed", "secret", c.arn, "from", old.version, "to", doc.version)
	}
	return doc
}

// signal asks for a report soon.
func (c *Credentials) signal() {
	select {
	case c.poke <- struct{}{}:
	default:
	}
}

// refreshLoop keeps the cache warm, so that a new connection seldom waits.
func (c *Credentials) refreshLoop() {
	pause := time.Duration(0)
	for {
		timer := time.NewTimer(pause)
		select {
		case <-c.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if _, err := c.refresh(c.ctx); err != nil {
			// Back off, but never further than the value has any use.
			pause = min(max(2*pause, c.cfg.MinRefresh), max(c.cfg.TTL/2, c.cfg.MinRefresh))
			continue
		}
		c.mu.Lock()
		pause = max(c.expires.Sub(c.cfg.Now()), c.cfg.MinRefresh)
		c.mu.Unlock()
	}
}

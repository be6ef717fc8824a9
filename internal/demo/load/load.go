// Package load answers: does an application notice that its login is being
// rotated?
//
// It runs consumers of different habits against one PostgreSQL database, by a
// schedule that doesn't wait for answers (open loop), and counts without
// mercy: one attempt, latency from the moment that a request was due, and an
// answer later than the deadline is a failure.
package load

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/keyturn/keyturn/consumer/pgxauth"
	"github.com/keyturn/keyturn/internal/demo/witness"
	"github.com/keyturn/keyturn/rotation"
)

// Config says who consumes what, and how much.
type Config struct {
	// Host, Port and Database name the server. All but Port are required; the
	// port's default is 5432.
	Host     string
	Port     int
	Database string
	// CAFile is a PEM file; with it TLS is verified in full. Empty: no TLS.
	CAFile string

	// Secrets and SecretID are where consumers read user and password. Required.
	Secrets  pgxauth.SecretsAPI
	SecretID string

	// Consumers is how many there are in all. Default 10.
	Consumers int
	// Rate is requests per second over all consumers. Default 100.
	Rate float64
	// Deadline is when an answer is too late, from the due time. Default 250 ms.
	Deadline time.Duration
	// Mix weighs the habits. Default DefaultMix.
	Mix map[Habit]float64
	// Statement is what a request executes. Default "SELECT 1".
	Statement string

	// TTL and Spread are what the library's consumers pass to pgxauth. Defaults
	// 2 s and half the TTL.
	TTL    time.Duration
	Spread time.Duration
	// Cadence is how often a nightly consumer comes. Default 6 s.
	Cadence time.Duration
	// Transaction is how long a long transaction lasts. Default 3 s.
	Transaction time.Duration
	// Recycle is how long an environ consumer's connections live: each end is a
	// new login with what was read at start. Default 15 s.
	Recycle time.Duration

	// EvidenceDir is where the library's consumers report what they use, in
	// the layout of audit.EvidenceDir. Empty: nowhere.
	EvidenceDir string
	// Observer is a login with pg_monitor that counts connections by login each
	// second. Nil: they aren't counted.
	Observer *pgx.ConnConfig
	// Logger gets what consumers log. Default: none.
	Logger *slog.Logger
}

func (c Config) complete() (Config, error) {
	var wrong []error
	for name, missing := range map[string]bool{
		"Host": c.Host == "", "Database": c.Database == "", "Secrets": c.Secrets == nil, "SecretID": c.SecretID == "",
	} {
		if missing {
			wrong = append(wrong, fmt.Errorf("set %s", name))
		}
	}
	if c.Consumers < 0 || c.Rate < 0 {
		wrong = append(wrong, errors.New("consumers and rate can't be negative"))
	}
	setDefault(&c.Port, 5432)
	setDefault(&c.Consumers, 10)
	setDefault(&c.Rate, 100)
	setDefault(&c.Deadline, 250*time.Millisecond)
	setDefault(&c.Statement, "SELECT 1")
	setDefault(&c.TTL, 2*time.Second)
	setDefault(&c.Spread, c.TTL/2)
	setDefault(&c.Cadence, 6*time.Second)
	setDefault(&c.Transaction, 3*time.Second)
	setDefault(&c.Recycle, 15*time.Second)
	if c.Mix == nil {
		c.Mix = DefaultMix()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, errors.Join(wrong...)
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Connections is how many connections the consumers can hold at once, while a
// restarted instance still has its old pool: max_connections has to be larger.
func (c Config) Connections() int {
	c, _ = c.complete()
	counts := distribute(c.Consumers, c.Mix)
	return counts[Bursty]*burstyConns + counts[Environ]*2*environConns + counts[LongTx]*longTxConns +
		counts[PerConnect]*2 + counts[Nightly]
}

// Run is a load that is going on.
type Run struct {
	cfg       Config
	base      *pgx.ConnConfig
	consumers []*consumer
	recorder  *recorder
	witness   *witness.Witness
	restarts  *restarts // nil without environ consumers

	cancel   context.CancelFunc
	loops    sync.WaitGroup // schedule and ticker
	requests sync.WaitGroup
	stop     sync.Once
	final    Totals
}

// Start connects all consumers, and then lets the requests begin, in an
// interval named "start". ctx bounds the start; Stop ends the run.
func Start(ctx context.Context, cfg Config) (*Run, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("configuring the load: %w", err)
	}
	base, err := cfg.connConfig()
	if err != nil {
		return nil, err
	}
	r := &Run{cfg: cfg, base: base}
	r.consumers = r.plan()
	if err := r.open(ctx); err != nil {
		r.close(ctx)
		return nil, err
	}
	r.witness = witness.Start()
	r.recorder = newRecorder(cfg.Deadline, r.counters, r.witness.Lost)
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	r.loops.Go(func() { r.schedule(running) })
	r.loops.Go(func() { r.tick(running) })
	return r, nil
}

// connConfig is where to connect, without a login.
func (c Config) connConfig() (*pgx.ConnConfig, error) {
	tls := "disable"
	if c.CAFile != "" {
		tls = "verify-full"
	}
	dsn := "user=unset"
	for _, kv := range [][2]string{
		{"host", c.Host}, {"port", strconv.Itoa(c.Port)}, {"dbname", c.Database}, {"sslmode", tls}, {"sslrootcert", c.CAFile},
	} {
		if kv[1] != "" {
			dsn += " " + kv[0] + "='" + quoteDSN.Replace(kv[1]) + "'"
		}
	}
	cc, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("reading the load's address: %w", err)
	}
	return cc, nil
}

// open starts the consumers, a few at a time.
func (r *Run) open(ctx context.Context) error {
	if err := r.listen(ctx); err != nil {
		return err
	}
	starting, ctx := errgroup.WithContext(ctx)
	starting.SetLimit(4)
	for _, c := range r.consumers {
		starting.Go(func() error {
			work, err := r.employ(ctx, c)
			if err != nil {
				return fmt.Errorf("starting consumer %s: %w", c.name, err)
			}
			c.work = work
			return nil
		})
	}
	return starting.Wait()
}

func (r *Run) listen(ctx context.Context) error {
	for _, c := range r.consumers {
		if c.habit != Environ {
			continue
		}
		var config net.ListenConfig
		l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("listening for restarts: %w", err)
		}
		r.restarts = newRestarts(l)
		return nil
	}
	return nil
}

// Stop ends the schedule, waits for the answers that are due, and closes
// everything. It returns the totals of the whole run; later calls return the
// same.
func (r *Run) Stop() Totals {
	r.stop.Do(func() {
		r.cancel()
		r.loops.Wait()
		r.requests.Wait()
		r.witness.Stop()
		r.recorder.end(time.Now())
		r.final = r.recorder.totals()
		r.close(context.Background())
	})
	return r.final
}

func (r *Run) close(ctx context.Context) {
	if r.restarts != nil {
		r.restarts.close(ctx)
	}
	var closing sync.WaitGroup
	for _, c := range r.consumers {
		if c.work != nil {
			closing.Go(c.work.close)
		}
	}
	closing.Wait()
}

// Mark ends the current interval and begins one of this name. A name that was
// used before goes on being counted.
func (r *Run) Mark(interval string) { r.recorder.mark(interval, time.Now()) }

// Totals sums up the named intervals, or the whole run if none is named.
// Requests that are still due aren't in it.
func (r *Run) Totals(intervals ...string) Totals { return r.recorder.totals(intervals...) }

// Series returns a point for each second that is over.
func (r *Run) Series() []Second { return r.recorder.seconds() }

// Uses lists which consumer used which login, from its own requests, ordered by
// consumer and first use.
func (r *Run) Uses() []Use {
	var uses []Use
	for _, c := range r.consumers {
		uses = append(uses, c.uses()...)
	}
	return uses
}

// Snapshot is what a live view shows.
type Snapshot struct {
	At       time.Time
	Interval string
	Totals   Totals // of the whole run
	Second   Second // the last whole one
}

// Snapshot returns the state of this moment.
func (r *Run) Snapshot() Snapshot {
	s := Snapshot{At: time.Now(), Totals: r.recorder.totals()}
	s.Interval, s.Second = r.recorder.last()
	return s
}

// Parties lists the consumers as a policy names them.
func (r *Run) Parties() []rotation.Party {
	var parties []rotation.Party
	var restarted rotation.Party
	for _, c := range r.consumers {
		p := rotation.Party{Name: c.party}
		switch c.habit {
		case Environ:
			restarted.Name = c.party
			restarted.Follow = append(restarted.Follow, r.restarts.url(c.name))
			continue
		case Bursty, LongTx:
			p.CacheAge = r.cfg.TTL + r.cfg.Spread
		case PerConnect, Nightly:
			p.CacheAge = r.cfg.TTL
		}
		p.Cadence = c.every
		if c.habit == Bursty {
			p.Cadence = 0
		}
		parties = append(parties, p)
	}
	if n := len(restarted.Follow); n > 0 {
		restarted.Wave = (n + 7) / 8
		parties = append(parties, restarted)
	}
	return parties
}

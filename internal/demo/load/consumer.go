package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyturn/keyturn/consumer/pgxauth"
)

// consumer is one instance of an application.
type consumer struct {
	name  string
	party string // application_name
	habit Habit
	every time.Duration // between visits
	lasts time.Duration // what a request takes by itself

	perVisit, owed float64 // requests of a burst; only the schedule touches them
	work           work

	mu      sync.Mutex
	byLogin map[string]*Use
}

// work is what a habit does for one request.
type work interface {
	// do makes one attempt and returns the login that it was made with.
	do(ctx context.Context) (login string, err error)
	counters() counters
	close()
}

// counters are what consumers count beside their requests.
type counters struct{ authRetries, reconnects int64 }

func (r *Run) counters() counters {
	var sum counters
	for _, c := range r.consumers {
		n := c.work.counters()
		sum.authRetries += n.authRetries
		sum.reconnects += n.reconnects
	}
	return sum
}

// Use is one consumer's use of one login.
type Use struct {
	Consumer string
	Party    string
	Habit    Habit
	Login    string
	First    time.Time // answers, not questions
	Last     time.Time
	Requests int64
}

// keptUses bounds what a consumer remembers.
const keptUses = 64

func (c *consumer) used(login string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.byLogin[login]
	if u == nil {
		if len(c.byLogin) >= keptUses {
			delete(c.byLogin, c.sortedLocked()[0].Login)
		}
		u = &Use{Consumer: c.name, Party: c.party, Habit: c.habit, Login: login, First: at}
		c.byLogin[login] = u
	}
	if at.After(u.Last) {
		u.Last = at
	}
	u.Requests++
}

func (c *consumer) uses() []Use {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sortedLocked()
}

func (c *consumer) sortedLocked() []Use {
	uses := make([]Use, 0, len(c.byLogin))
	for _, u := range c.byLogin {
		uses = append(uses, *u)
	}
	slices.SortFunc(uses, func(a, b Use) int {
		return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Login, b.Login))
	})
	return uses
}

// employ puts a consumer to work.
func (r *Run) employ(ctx context.Context, c *consumer) (work, error) {
	if c.habit == Environ {
		return r.startEnviron(ctx, c)
	}
	credentials, err := r.credentials(c)
	if err != nil {
		return nil, err
	}
	var w work
	switch c.habit {
	case Bursty:
		w, err = r.openPool(ctx, c, credentials, burstyConns)
	case LongTx:
		w, err = r.openPool(ctx, c, credentials, longTxConns)
	default:
		w = &visitor{credentials: credentials, cfg: r.connConfig(c), statement: r.cfg.Statement}
		_, err = w.do(ctx)
	}
	if err != nil {
		credentials.Close()
		return nil, err
	}
	return w, nil
}

func (r *Run) credentials(c *consumer) (*pgxauth.Credentials, error) {
	cfg := pgxauth.Config{
		Secrets: r.cfg.Secrets, SecretID: r.cfg.SecretID, TTL: r.cfg.TTL, Spread: r.cfg.Spread, Logger: r.cfg.Logger.With("consumer", c.name),
	}
	if r.cfg.EvidenceDir != "" {
		evidence, err := pgxauth.NewDirReporter(r.cfg.EvidenceDir, c.party, cfg.Logger)
		if err != nil {
			return nil, err
		}
		cfg.Report = evidence.Report
	}
	return pgxauth.New(cfg)
}

func (r *Run) connConfig(c *consumer) *pgx.ConnConfig {
	cc := r.base.Copy()
	cc.RuntimeParams["application_name"] = c.party
	return cc
}

func (r *Run) poolConfig(c *consumer, conns int32) *pgxpool.Config {
	pc, err := pgxpool.ParseConfig("user=unset host=unset")
	if err != nil {
		panic(fmt.Sprintf("load: %v", err)) // a constant
	}
	pc.ConnConfig = r.connConfig(c)
	pc.MaxConns, pc.MinConns = conns, warmConns
	return pc
}

// pooled is a consumer with a pool of the library.
type pooled struct {
	credentials *pgxauth.Credentials
	pool        *pgxauth.Pool
	statement   string
	lasts       time.Duration
}

func (r *Run) openPool(ctx context.Context, c *consumer, credentials *pgxauth.Credentials, conns int32) (work, error) {
	pc := r.poolConfig(c, conns)
	pool, err := pgxauth.NewPool(ctx, credentials, pc)
	if err != nil {
		return nil, err
	}
	w := &pooled{credentials: credentials, pool: pool, statement: r.cfg.Statement, lasts: c.lasts}
	if err := warm(ctx, pool.Acquire, w.statement); err != nil {
		pool.Close()
		return nil, err
	}
	return w, nil
}

// warm opens a pool's first connections before it has to answer.
func warm(ctx context.Context, acquire func(context.Context) (*pgxpool.Conn, error), statement string) error {
	for range warmConns {
		conn, err := acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release() // all together, so that each is another one
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func (w *pooled) do(ctx context.Context) (string, error) {
	conn, err := w.pool.Acquire(ctx)
	if err != nil {
		return "", errors.Join(errNoConnection, err)
	}
	defer conn.Release()
	login, _ := pgxauth.Login(conn.Conn())
	if w.lasts == 0 {
		_, err = conn.Exec(ctx, w.statement)
		return login, err
	}
	return login, w.transaction(ctx, conn)
}

// transaction works at its begin and its end and stays open in between.
func (w *pooled) transaction(ctx context.Context, conn *pgxpool.Conn) error {
	end := time.NewTimer(w.lasts)
	defer end.Stop()
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, w.statement); err != nil {
			return err
		}
		select {
		case <-end.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		_, err := tx.Exec(ctx, w.statement)
		return err
	})
}

func (w *pooled) counters() counters {
	s := w.credentials.Stats()
	return counters{authRetries: s.AuthRetries, reconnects: s.Lost}
}

func (w *pooled) close() {
	w.pool.Close()
	w.credentials.Close()
}

// visitor connects anew for each request.
type visitor struct {
	credentials *pgxauth.Credentials
	cfg         *pgx.ConnConfig
	statement   string
}

func (w *visitor) do(ctx context.Context) (string, error) {
	conn, err := w.credentials.Connect(ctx, w.cfg)
	if err != nil {
		return "", errors.Join(errNoConnection, err)
	}
	login, _ := pgxauth.Login(conn)
	_, err = conn.Exec(ctx, w.statement)
	if closed := conn.Close(ctx); err == nil {
		err = closed
	}
	return login, err
}

func (w *visitor) counters() counters {
	return counters{authRetries: w.credentials.Stats().AuthRetries}
}

func (w *visitor) close() { w.credentials.Close() }

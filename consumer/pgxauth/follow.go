package pgxauth

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// sweepKey marks the context of our own look at a pool's idle connections.
type sweepKey struct{}

const (
	// closeLimit ends the polite end of a connection.
	closeLimit = 5 * time.Second
	// leastPause keeps the sweep from spinning over connections in use.
	leastPause = 50 * time.Millisecond
	mostPause  = time.Second
)

// follow replaces the pool's connections each time that the version changes.
func (p *Pool) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.ledger.poke:
		}
		p.replace(ctx)
	}
}

// replace closes idle connections of earlier versions one after the other over
// the Spread, starting at a random moment: the pool stays warm, because pgxpool
// refills MinConns after each, and a fleet of pools doesn't log in all at once.
// After the Spread, all that are idle go at once, and PrepareConn hands out no
// more of them. It ends when none is open; a long transaction delays it.
func (p *Pool) replace(ctx context.Context) {
	c := p.credentials
	if p.ledger.others(c.Version()) == 0 {
		return
	}
	if !sleep(ctx, time.Duration(rand.Int64N(int64(c.cfg.Spread/2)+1))) { //nolint:gosec // spreads load, guards nothing
		return
	}
	for {
		version := c.Version()
		stale := p.ledger.others(version)
		if stale == 0 {
			return
		}
		pause := c.cfg.Spread / 3 / time.Duration(stale)
		if c.overdueNow() {
			p.retireIdle(ctx, version, math.MaxInt)
			pause = c.cfg.Spread / 4
		} else {
			p.retireIdle(ctx, version, 1)
		}
		if !sleep(ctx, min(max(pause, leastPause), mostPause)) {
			return
		}
	}
}

func (c *Credentials) overdueNow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.cfg.Now().Before(c.changed.Add(c.cfg.Spread))
}

// retireIdle closes up to limit idle connections that aren't of this version.
func (p *Pool) retireIdle(ctx context.Context, version string, limit int) {
	var retire []*pgxpool.Conn
	for _, conn := range p.inner.AcquireAllIdle(context.WithValue(ctx, sweepKey{}, true)) {
		s := sessionOf(conn.Conn().PgConn())
		if s == nil || s.version == version || len(retire) >= limit {
			conn.Release() // before anything that takes time: requests wait for it
			continue
		}
		s.retired = true
		retire = append(retire, conn)
	}
	for _, conn := range retire {
		closing, cancel := context.WithTimeout(ctx, closeLimit)
		_ = conn.Conn().Close(closing) // it goes either way
		cancel()
		// Releasing a closed connection makes pgxpool refill MinConns soon;
		// destroying an open one would not.
		conn.Release()
	}
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

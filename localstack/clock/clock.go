// Package clock answers: what time is it in the local AWS?
//
// It runs with real time and can be moved forward, so that a hold of a day or
// a drain of a week takes no longer than the functions that it calls.
package clock

import (
	"context"
	"sync"
	"time"
)

// Clock is real time plus an offset that only grows. The zero value is not
// usable; make one with New or At. It is safe for concurrent use.
type Clock struct {
	mu      sync.Mutex
	offset  time.Duration
	changed chan struct{} // closed and replaced whenever the offset moves
}

// New returns a clock that shows real time.
func New() *Clock { return &Clock{changed: make(chan struct{})} }

// At returns a clock that shows t now. Started in the past it can be moved by
// days without running ahead of functions, whose own clocks nobody moves.
func At(t time.Time) *Clock {
	c := New()
	c.offset = time.Until(t)
	return c
}

// Now returns the local AWS's time in UTC.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset).UTC()
}

// Advance moves the clock forward and wakes every sleeper whose time has come.
// A negative or zero duration does nothing.
func (c *Clock) Advance(d time.Duration) {
	if d <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
	close(c.changed)
	c.changed = make(chan struct{})
}

// Sleep returns nil once d has passed on this clock, or the context's error.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error {
	return c.SleepUntil(ctx, c.Now().Add(d))
}

// SleepUntil returns nil once the clock shows t or later, or the context's error.
func (c *Clock) SleepUntil(ctx context.Context, t time.Time) error {
	for {
		c.mu.Lock()
		left := t.Sub(time.Now().Add(c.offset))
		changed := c.changed
		c.mu.Unlock()
		if left <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(left)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		case <-changed:
			timer.Stop()
		}
	}
}

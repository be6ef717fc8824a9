package clock

import (
	"context"
	"sync"
	"time"
)

// Alarm waits for the next of several dates while they may change. The zero
// value is ready to use; it is safe for concurrent use.
type Alarm struct {
	mu   sync.Mutex
	wake context.CancelFunc
}

// Run calls look, which does what is due and returns the next date, or the zero
// time if there is none. It calls look again when the clock shows that date or
// when Reset is called, until ctx ends. A jump over several dates is one call.
func (a *Alarm) Run(ctx context.Context, c *Clock, look func() time.Time) {
	for ctx.Err() == nil {
		// Set before look, so that a change while it looks isn't missed.
		sleep, wake := context.WithCancel(ctx)
		a.set(wake)
		if next := look(); next.IsZero() {
			<-sleep.Done()
		} else {
			// Waking early means that the dates changed: look again either way.
			_ = c.SleepUntil(sleep, next)
		}
		wake()
	}
}

// Reset says that the dates have changed.
func (a *Alarm) Reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wake != nil {
		a.wake()
	}
}

func (a *Alarm) set(wake context.CancelFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wake = wake
}

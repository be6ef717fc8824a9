package load

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"time"
)

// visit is the next time that a consumer has something to do.
type visit struct {
	due time.Time
	who *consumer
}

type agenda []visit

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].due.Before(a[j].due) }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(visit)) }
func (a *agenda) Pop() any {
	last := len(*a) - 1
	v := (*a)[last]
	*a = (*a)[:last]
	return v
}

// schedule starts every request when it is due, with one timer for all. It
// never waits for an answer; where it is late itself, that counts as latency.
func (r *Run) schedule(ctx context.Context) {
	start := time.Now()
	var next agenda
	for _, c := range r.consumers {
		first := time.Duration(rand.Int64N(int64(c.every) + 1)) //nolint:gosec // spreads load, guards nothing
		heap.Push(&next, visit{start.Add(first), c})
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(time.Until(next[0].due))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		for now := time.Now(); !next[0].due.After(now); {
			v := next[0]
			for range v.who.arrivals() {
				r.launch(ctx, v.who, v.due)
			}
			next[0].due = v.due.Add(v.who.pause())
			heap.Fix(&next, 0)
		}
	}
}

// arrivals is how many requests one visit brings: a burst, or one.
func (c *consumer) arrivals() int {
	if c.habit != Bursty {
		return 1
	}
	c.owed += c.perVisit
	n := int(c.owed)
	c.owed -= float64(n)
	return n
}

// pause is the time to the next visit: random for the pool of an online
// service, whose users don't know of each other; regular for the others.
func (c *consumer) pause() time.Duration {
	if c.habit == Environ {
		return time.Duration(rand.ExpFloat64() * float64(c.every)) //nolint:gosec // spreads load, guards nothing
	}
	return c.every
}

// launch runs one request: one attempt, whose time began when it was due. The
// end of the schedule doesn't end it.
func (r *Run) launch(ctx context.Context, c *consumer, due time.Time) {
	interval := r.recorder.current()
	r.requests.Go(func() {
		deadline := due.Add(c.lasts + r.cfg.Deadline)
		ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
		defer cancel()
		login, err := c.work.do(ctx)
		now := time.Now()
		if err == nil {
			c.used(login, now)
		}
		a := answer{at: now, consumer: c.name, latency: now.Sub(due) - c.lasts, reason: reasonOf(err, now.After(deadline))}
		if a.reason == reasonLate {
			a.where = where(err)
		}
		r.recorder.record(interval, a)
	})
}

// tick closes a second of the series each second, with the connections of that
// moment.
func (r *Run) tick(ctx context.Context) {
	observer := observer{cfg: r.cfg.Observer, parties: r.partyNames(), logger: r.cfg.Logger}
	defer observer.close(ctx)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			r.recorder.roll(now, observer.logins(ctx))
		}
	}
}

func (r *Run) partyNames() []string {
	var names []string
	for _, p := range r.Parties() {
		names = append(names, p.Name)
	}
	return names
}

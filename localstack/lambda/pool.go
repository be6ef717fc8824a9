package lambda

import (
	"slices"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

// admit counts an invocation in, or refuses it.
func (f *function) admit() error {
	s := f.service
	refused := ""
	if s.config.Throttle != nil && s.config.Throttle(f.Name) {
		refused = "Rate Exceeded."
	}
	s.mu.Lock()
	f.mu.Lock()
	defer s.mu.Unlock()
	defer f.mu.Unlock()
	switch {
	case s.closed:
		return &awsproto.Error{Code: "ServiceException", Status: 500, Message: "the local Lambda is closed"}
	case refused != "":
	case s.busy >= s.config.Concurrency || f.MaxConcurrency > 0 && f.busy >= f.MaxConcurrency:
		refused = "Rate Exceeded."
	default:
		s.busy++
		f.busy++
		f.stats.Invocations++
		s.work.Add(1)
		return nil
	}
	f.stats.Throttles++
	return &awsproto.Error{Code: "TooManyRequestsException", Status: 429, Message: refused}
}

func (f *function) leave(failed bool) {
	f.service.mu.Lock()
	f.service.busy--
	f.service.mu.Unlock()
	f.mu.Lock()
	f.busy--
	if failed {
		f.stats.Errors++
	}
	f.mu.Unlock()
}

// settleTime is how long a caller waits for an environment that has answered
// and hasn't asked for more work; a sound runtime takes less than a millisecond.
const settleTime = 5 * time.Second

// warm takes an idle environment, or one that is about to be idle. Nil means
// that there is none.
func (f *function) warm() *environment {
	for limit := time.Now().Add(settleTime); ; {
		f.mu.Lock()
		for len(f.idle) > 0 {
			e := f.idle[len(f.idle)-1]
			f.idle = f.idle[:len(f.idle)-1]
			select {
			case <-e.exited: // it died while nobody used it
			default:
				f.mu.Unlock()
				return e
			}
		}
		if f.posted == 0 {
			f.mu.Unlock()
			return nil
		}
		if f.settled == nil {
			f.settled = make(chan struct{})
		}
		settled := f.settled
		f.mu.Unlock()
		select {
		case <-settled:
		case <-time.After(time.Until(limit)):
			return nil
		case <-f.service.ctx.Done():
			return nil
		}
	}
}

// settling counts environments that have answered and aren't idle yet.
func (f *function) settling(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.posted += n
	if n < 0 && f.settled != nil {
		close(f.settled)
		f.settled = nil
	}
}

// acquire takes a warm environment or starts a cold one.
func (f *function) acquire() (e *environment, cold bool, err error) {
	if e := f.warm(); e != nil {
		return e, false, nil
	}
	if e, err = f.launch(); err != nil {
		return nil, true, err
	}
	f.mu.Lock()
	f.stats.Environments++
	select {
	case <-e.exited: // forgotten before it was known
		f.stats.add(e)
	default:
		f.all[e] = true
	}
	f.mu.Unlock()
	e.lastUsed = f.service.config.Clock.Now()
	f.service.work.Go(func() { e.retireWhenIdle(f.service.ctx) })
	if f.service.ctx.Err() != nil { // Close hasn't seen this one
		e.kill()
	}
	return e, true, nil
}

// release makes an environment idle again that answered at this time, unless it
// has been unused for the idle time since.
func (f *function) release(e *environment, answered time.Time) {
	e.sample()
	e.mu.Lock()
	e.lastUsed = answered
	e.mu.Unlock()
	unused := f.service.config.Clock.Now().Sub(answered)
	f.mu.Lock()
	keep := !f.replaced && unused < f.service.config.IdleTimeout
	if keep {
		f.idle = append(f.idle, e)
	}
	f.mu.Unlock()
	if !keep {
		e.kill()
	}
}

// takeIdle takes one environment out of use if it is idle since then.
func (f *function) takeIdle(e *environment, since time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	e.mu.Lock()
	unused := !e.lastUsed.After(since)
	e.mu.Unlock()
	i := slices.Index(f.idle, e)
	if i < 0 || !unused {
		return false
	}
	f.idle = slices.Delete(f.idle, i, i+1)
	return true
}

// forget drops an environment whose process is gone.
func (f *function) forget(e *environment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all[e] {
		delete(f.all, e)
		f.stats.add(e)
	}
	if i := slices.Index(f.idle, e); i >= 0 {
		f.idle = slices.Delete(f.idle, i, i+1)
	}
}

// replace ends the idle environments now and the others after their work; on
// Close all of them now.
func (f *function) replace() {
	closing := f.service.ctx.Err() != nil
	f.mu.Lock()
	f.replaced = true
	var end []*environment
	for e := range f.all {
		if closing || slices.Contains(f.idle, e) {
			end = append(end, e)
		}
	}
	f.idle = nil
	f.mu.Unlock()
	for _, e := range end {
		e.kill()
	}
}

package lambda

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

// function is a registered function and its environments. Locks are taken in
// the order service, function, environment.
type function struct {
	Function
	service  *Service
	modified time.Time

	mu       sync.Mutex
	replaced bool // environments end with their invocation
	busy     int
	idle     []*environment // the latest used last
	all      map[*environment]bool
	tail     []string // the latest log lines
	tailSize int
	stats    Stats
}

// Stats are figures of one function since it was registered.
type Stats struct {
	Invocations  int
	Errors       int // answered with a FunctionError
	Throttles    int
	Environments int             // started so far
	Alive        int             // running now
	ColdStarts   []time.Duration // from exec to the first request for work, one an environment
	PeakMemory   []int64         // resident bytes at most, one an environment that has asked for work
}

// keptFigures is of how many environments Stats holds figures: of the latest.
const keptFigures = 1000

// Stats returns the figures of a function; false if there is none of that name.
func (s *Service) Stats(name string) (Stats, bool) {
	s.mu.Lock()
	f := s.functions[name]
	s.mu.Unlock()
	if f == nil {
		return Stats{}, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.stats
	out.ColdStarts = slices.Clone(out.ColdStarts)
	out.PeakMemory = slices.Clone(out.PeakMemory)
	out.Alive = len(f.all)
	for e := range f.all {
		e.sample()
		out.add(e)
	}
	return out, true
}

// add counts an environment's own figures.
func (s *Stats) add(e *environment) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.coldStart > 0 {
		s.ColdStarts = kept(append(s.ColdStarts, e.coldStart))
		s.PeakMemory = kept(append(s.PeakMemory, e.peak))
	}
}

func kept[T any](figures []T) []T {
	return slices.Delete(figures, 0, max(0, len(figures)-keptFigures))
}

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
	f.service.work.Done()
}

// acquire takes a warm environment or starts a cold one.
func (f *function) acquire() (e *environment, cold bool, err error) {
	f.mu.Lock()
	for len(f.idle) > 0 {
		e := f.idle[len(f.idle)-1]
		f.idle = f.idle[:len(f.idle)-1]
		select {
		case <-e.exited: // it died while nobody used it
		default:
			f.mu.Unlock()
			return e, false, nil
		}
	}
	f.mu.Unlock()
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

// release makes an environment idle again.
func (f *function) release(e *environment) {
	e.sample()
	e.mu.Lock()
	e.lastUsed = f.service.config.Clock.Now()
	e.mu.Unlock()
	f.mu.Lock()
	keep := !f.replaced
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

// result is a finished invocation.
type result struct {
	id      string
	payload []byte
	failed  bool
}

// run executes one invocation from start to end; the caller has been admitted.
func (f *function) run(id string, payload []byte) result {
	f.log("START RequestId: " + id + " Version: " + latest)
	r := result{id: id}
	begun, initial, peak := time.Now(), "", int64(0)
	e, cold, err := f.acquire()
	if err != nil {
		r.payload, r.failed = f.startFailure(id, err), true
	} else {
		r.payload, r.failed = e.invoke(&invocation{id: id, payload: payload, arn: f.arn(), done: make(chan struct{})})
		e.mu.Lock()
		peak = e.peak
		if cold {
			initial = fmt.Sprintf("\tInit Duration: %.2f ms", milliseconds(e.coldStart))
		}
		e.mu.Unlock()
	}
	f.log("END RequestId: " + id)
	took := milliseconds(time.Since(begun))
	f.log(fmt.Sprintf("REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %.0f ms\tMemory Size: %d MB\tMax Memory Used: %d MB%s",
		id, took, math.Ceil(took), f.MemoryMB, peak>>20, initial))
	return r
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (f *function) startFailure(id string, err error) []byte {
	var start *startError
	if errors.As(err, &start) {
		return document(invalidEntry, "RequestId: %s Error: %v", id, err)
	}
	f.service.config.Logger.Error("an environment couldn't be started", "function", f.Name, "error", err)
	return document(runtimeUnknown, "RequestId: %s Error: %v", id, err)
}

// invoke hands the invocation to the runtime and waits for its end.
func (e *environment) invoke(i *invocation) (payload []byte, failed bool) {
	f := e.function
	initial := time.NewTimer(f.service.config.InitTimeout)
	defer initial.Stop()
	select {
	case <-e.ready:
	case <-e.exited:
		return e.ended(i)
	case <-initial.C:
		return e.expired(i)
	}
	i.deadline = time.Now().Add(f.Timeout)
	e.mu.Lock()
	e.current = i
	e.mu.Unlock()
	limit := time.NewTimer(f.Timeout)
	defer limit.Stop()
	select {
	case e.work <- i:
	case <-e.exited:
		return e.ended(i)
	case <-limit.C:
		return e.expired(i)
	}
	if kill := f.service.config.Kill; kill != nil {
		if d := kill(f.Name); d > 0 {
			defer time.AfterFunc(d, e.kill).Stop()
		}
	}
	select {
	case <-i.done:
		f.release(e)
		return i.answer, i.failed // next has published them
	case <-e.exited:
		return e.ended(i)
	case <-limit.C:
		return e.expired(i)
	}
}

// ended is the answer of an environment that is gone: what it managed to post,
// or that it exited.
func (e *environment) ended(i *invocation) ([]byte, bool) {
	e.mu.Lock()
	text := "RequestId: " + i.id + " Error: " + e.exit
	answered, initError := i.answered, e.initError
	e.mu.Unlock()
	switch {
	case answered:
		return i.answer, i.failed // written once
	case initError != nil:
		return initError, true
	}
	e.function.log(text)
	return document(exitError, "%s", text), true
}

// expired kills an environment that took too long.
func (e *environment) expired(i *invocation) ([]byte, bool) {
	e.kill()
	e.mu.Lock()
	failure := e.initError
	e.mu.Unlock()
	if failure != nil { // it said why it wouldn't get ready, and stayed
		return failure, true
	}
	text := fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", i.id, e.function.Timeout.Seconds())
	e.function.log(text)
	return document(timedOut, "%s", text), true
}

func newID() string { return uuid.NewString() }

// tailBytes is how much of the log Invoke returns.
const tailBytes = 4 << 10

func (f *function) log(line string) {
	f.mu.Lock()
	f.tail = append(f.tail, line)
	f.tailSize += len(line) + 1
	for len(f.tail) > 1 && f.tailSize-len(f.tail[0])-1 >= tailBytes {
		f.tailSize -= len(f.tail[0]) + 1
		f.tail = f.tail[1:]
	}
	f.mu.Unlock()
	f.service.config.LogSink(f.Name, line)
}

package lambda

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
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
	posted   int            // environments that have answered and aren't idle yet
	settled  chan struct{}  // closed when one of those is idle or gone; nil if nobody waits
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

// result is an invocation's answer.
type result struct {
	id      string
	payload []byte
	failed  bool
}

// run executes one invocation from start to end; the caller has been admitted.
// It passes the answer on, once, as soon as the runtime has posted it: Lambda's
// callers don't wait until the environment is free (developer guide, "Invoking
// a function synchronously").
func (f *function) run(id, arn string, payload []byte, answer func(result)) {
	defer f.service.work.Done()
	f.log("START RequestId: " + id + " Version: " + latest)
	pass := func(payload []byte, failed bool) {
		f.leave(failed)
		answer(result{id: id, payload: payload, failed: failed})
	}
	begun, initial, peak := time.Now(), "", int64(0)
	e, cold, err := f.acquire()
	if err != nil {
		pass(f.startFailure(id, err), true)
	} else {
		e.invoke(&invocation{
			id: id, payload: payload, arn: arn, posted: make(chan struct{}), done: make(chan struct{}),
		}, pass)
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

// invoke hands the invocation to the runtime, passes its answer on, and returns
// when the environment is free again or gone.
func (e *environment) invoke(i *invocation, pass func(payload []byte, failed bool)) {
	f := e.function
	initial := time.NewTimer(f.service.config.InitTimeout)
	defer initial.Stop()
	select {
	case <-e.ready:
	case <-e.exited:
		pass(e.ended(i))
		return
	case <-initial.C:
		pass(e.expired(i), true)
		return
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
		pass(e.ended(i))
		return
	case <-limit.C:
		pass(e.expired(i), true)
		return
	}
	if kill := f.service.config.Kill; kill != nil {
		if d := kill(f.Name); d > 0 {
			defer time.AfterFunc(d, e.kill).Stop()
		}
	}
	select {
	case <-i.posted:
		answered := f.service.config.Clock.Now()
		f.settling(1)            // before the caller hears of it
		pass(i.answer, i.failed) // written before posted was closed
		e.settle(i, answered, limit.C)
	case <-e.exited:
		pass(e.ended(i))
	case <-limit.C:
		pass(e.expired(i), true)
	}
}

// settle waits until an environment that has answered is idle again or gone. One
// that does neither is killed when its time is up.
func (e *environment) settle(i *invocation, answered time.Time, limit <-chan time.Time) {
	defer e.function.settling(-1)
	select {
	case <-i.done:
		e.function.release(e, answered)
	case <-e.exited:
	case <-limit:
		e.kill()
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
func (e *environment) expired(i *invocation) []byte {
	e.kill()
	e.mu.Lock()
	failure := e.initError
	e.mu.Unlock()
	if failure != nil { // it said why it wouldn't get ready, and stayed
		return failure
	}
	text := fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", i.id, e.function.Timeout.Seconds())
	e.function.log(text)
	return document(timedOut, "%s", text)
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

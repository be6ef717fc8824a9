package rotation_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// verdict is what becomes of the call that a process is about to make.
type verdict int

const (
	proceed    verdict = iota
	refuse             // it isn't made, and the process hears an error
	loseAnswer         // it takes effect, and the process hears an error all the same
	die                // the process ends here, without another word
)

// process is one invocation of a function. It stops before each call of the
// store, of the target and of Step Functions, and goes on when it is told what
// becomes of that call. Only one process runs at a time: the order of all calls is
// what the test has drawn.
type process struct {
	name     string
	at       string    // the call that it is about to make
	deadline time.Time // Lambda ends it then
	verdicts chan verdict
	stopped  chan struct{}
	zombie   bool   // who called it hears nothing of it any more
	losing   bool   // the answer of the call that is being made
	rejected string // the version that was turned back when it began
	returned bool
	over     bool
	res      rotation.Result
	err      error
	answered func(rotation.Result, error) // nil: nobody waits for it
	crashed  func()
}

// disown leaves a process to itself: it runs on, and nobody waits for it.
func (p *process) disown() { p.answered, p.crashed, p.zombie = nil, nil, true }

// writes reports that the process is about to change something.
func (p *process) writes() bool {
	reads := []string{"its beginning", "Describe", "Current", "prove", "look at", "log in"}
	return !slices.ContainsFunc(reads, func(read string) bool { return strings.HasPrefix(p.at, read) })
}

// work is what a process does.
type work func(context.Context, *rotation.Rotator) (rotation.Result, error)

// gate is called before every call.
func (p *process) gate(call string) error {
	p.at = call
	p.stopped <- struct{}{}
	switch <-p.verdicts {
	case die:
		runtime.Goexit() // deferred calls run: a target gives up the lock of a lost connection
	case refuse:
		return fault.New(fault.Unavailable, "interrupted before: %s", call)
	case loseAnswer:
		p.losing = true
	default:
	}
	return nil
}

// heard is what a process hears of a call that was made.
func (p *process) heard(err error) error {
	if losing := p.losing; losing {
		p.losing = false
		if err == nil {
			return fault.New(fault.Ambiguous, "the answer is lost: %s", p.at)
		}
	}
	return err
}

// start makes a process, which stops before it has done anything.
func (m *model) start(name string, do work) *process {
	p := &process{
		name: name, deadline: m.now.Add(m.policy.FunctionLimit), rejected: m.store.Labels(arn).Holder(rotation.Rejected),
		verdicts: make(chan verdict), stopped: make(chan struct{}),
	}
	// Waiting for the store to catch up would be waiting in real time: the time of
	// each step is up, which only its records don't notice.
	hurry, cancel := context.WithCancel(context.Background())
	cancel()
	go func() {
		defer func() {
			if r := recover(); r != nil {
				m.broken = fmt.Sprintf("%s panics: %v", name, r)
			}
			p.over = true
			p.stopped <- struct{}{}
		}()
		if p.err = p.gate("its beginning"); p.err == nil {
			p.res, p.err = do(hurry, m.rotator(p))
		}
		p.returned = true
	}()
	<-p.stopped
	m.processes = append(m.processes, p)
	return p
}

// letGo lets a process make some calls, or all of them (0).
func (m *model) letGo(p *process, calls int) {
	const most = 1000
	for n := 0; !p.over && (calls == 0 || n < calls); n++ {
		m.resume(p, proceed)
		if n > most {
			m.rt.Fatalf("%s never ends; it is at: %s", p.name, p.at)
		}
	}
}

// resume lets a process make one call, then looks at the whole world.
func (m *model) resume(p *process, v verdict) {
	m.rt.Logf("%s  %s: %s%s", m.now.Format("15:04:05"), p.name, p.at, map[verdict]string{
		refuse: " (fails)", loseAnswer: " (its answer is lost)", die: " (dies before)",
	}[v])
	m.witness(p, v)
	p.verdicts <- v
	<-p.stopped
	m.check()
	if !p.over {
		return
	}
	m.processes = slices.DeleteFunc(m.processes, func(q *process) bool { return q == p })
	switch {
	case p.returned:
		m.rt.Logf("%s  %s answers %s %v %v", m.now.Format("15:04:05"), p.name, p.res.Outcome, p.res.Missing, p.err)
		if p.answered != nil {
			p.answered(p.res, p.err)
		}
	case p.crashed != nil:
		p.crashed()
	}
}

// end ends every goroutine, whatever has happened.
func (m *model) end() {
	for _, p := range m.processes {
		if p.over { // the look at what it did last has failed
			continue
		}
		p.verdicts <- die
		<-p.stopped
	}
	m.processes = nil
}

func (m *model) rotator(p *process) *rotation.Rotator {
	return &rotation.Rotator{
		Store: modelStore{m, p}, Engines: modelEngine{m, p}, Runs: modelRuns{m, p},
		Policies: policies{m.policy}, Journal: modelJournal{m.trail},
		Now: func() time.Time { return m.now }, Log: m.log,
		Sleep: func(context.Context, time.Duration) error { return context.DeadlineExceeded }, // here nothing is late
	}
}

// modelJournal is the real journal, which isn't told that time is up.
type modelJournal struct{ journal *audit.Journal }

func (j modelJournal) Record(_ context.Context, r audit.Record) error {
	return j.journal.Record(context.Background(), r)
}

func (j modelJournal) Note(_ context.Context, r audit.Record) {
	j.journal.Note(context.Background(), r)
}

// modelRuns is Step Functions as one process sees it.
type modelRuns struct {
	m *model
	p *process
}

func (r modelRuns) Start(ctx context.Context, name string, in rotation.Input) error {
	if err := r.p.gate("StartExecution " + r.m.short(name)); err != nil {
		return err
	}
	return r.p.heard(r.m.runs.Start(ctx, name, in))
}

func (r modelRuns) Describe(ctx context.Context, secret, name string) (rotation.Run, error) {
	return r.m.runs.Describe(ctx, secret, name)
}

func (r modelRuns) Stop(_ context.Context, _, name, _ string) error {
	if err := r.p.gate("StopExecution " + r.m.short(name)); err != nil {
		return err
	}
	if r.m.runs.runs[name].Status == rotation.RunRunning { // one that has ended has ended
		r.m.stop(name)
	}
	return r.p.heard(nil)
}

// modelStore is the store as one process sees it. Reading a value is no event:
// a version never changes its value.
type modelStore struct {
	m *model
	p *process
}

func (s modelStore) Value(ctx context.Context, secret, version string) (rotation.Value, error) {
	return s.m.store.Value(ctx, secret, version)
}

func (s modelStore) Current(ctx context.Context, secret string) (rotation.Value, string, error) {
	if err := s.p.gate("Current"); err != nil {
		return rotation.Value{}, "", err
	}
	return s.m.store.Current(ctx, secret)
}

// Put steals AWSPENDING as PutSecretValue does, also when Secrets Manager has
// abandoned the rotation since the caller looked.
func (s modelStore) Put(ctx context.Context, c rotation.Change, v rotation.Value) error {
	if err := s.p.gate("Put " + s.m.short(c.To)); err != nil {
		return err
	}
	if s.m.policy.Driver == rotation.DriverSecretsManager {
		s.m.steal(rotation.Pending, c.To)
	}
	return s.p.heard(s.m.store.Put(ctx, c, v))
}

func (s modelStore) Describe(ctx context.Context, secret string) (rotation.Description, error) {
	if err := s.p.gate("Describe"); err != nil {
		return rotation.Description{}, err
	}
	return s.m.store.Describe(ctx, secret)
}

func (s modelStore) Attach(ctx context.Context, secret string, l rotation.Label, version string) error {
	if err := s.p.gate("Attach " + s.m.short(string(l)) + " " + s.m.short(version)); err != nil {
		return err
	}
	return s.p.heard(s.m.store.Attach(ctx, secret, l, version))
}

func (s modelStore) Move(ctx context.Context, secret string, l rotation.Label, to, from string) error {
	if err := s.p.gate("Move " + s.m.short(string(l)) + " " + s.m.short(from) + "→" + s.m.short(to)); err != nil {
		return err
	}
	return s.p.heard(s.m.store.Move(ctx, secret, l, to, from))
}

func (s modelStore) Detach(ctx context.Context, secret string, l rotation.Label, version string) error {
	if err := s.p.gate("Detach " + s.m.short(string(l)) + " " + s.m.short(version)); err != nil {
		return err
	}
	return s.p.heard(s.m.store.Detach(ctx, secret, l, version))
}

func (s modelStore) Rotate(ctx context.Context, secret, token string) error {
	if err := s.p.gate("RotateSecret " + s.m.short(token)); err != nil {
		return err
	}
	return s.p.heard(s.m.rotateSecret(ctx, secret, token))
}

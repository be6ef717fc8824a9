package rotation_test

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/rotation"
)

// The model draws who acts next, up to which of its calls, and who dies, hangs or
// answers too late: schedules, two watchdogs, operators, executions that are
// stopped while their function runs on, calls that fail or whose answer is lost.
// After every single call, what any consumer has last read works and no login is
// lost track of. When all are left in peace it ends stable or rolled back, where
// need be after a person has done what a named fault asks for; one login is left,
// and the audit trail verifies.
//
// It draws anew each time, and make model longer cases; the seed that a failure
// prints repeats it (add -model.search if that had it).
func TestModel(t *testing.T) {
	t.Parallel()
	if !*search {
		if err := flag.Set("rapid.steps", modelSteps); err != nil {
			t.Fatal(err)
		}
	}
	hits, worlds := &coverage{seen: map[string]int{}}, 0
	t.Cleanup(func() { hits.judge(t, worlds) })
	for _, driver := range drivers {
		for _, pair := range []bool{false, true} {
			for _, hands := range []bool{false, true} {
				worlds++
				t.Run(fmt.Sprintf("%s, pair %v, hands %v", driver, pair, hands), func(t *testing.T) {
					t.Parallel()
					rapid.Check(t, func(rt *rapid.T) {
						m := newModel(rt, driver, pair, rapid.Bool().Draw(rt, "AWSPENDING stays"), rapid.SampledFrom(slowest()).Draw(rt, "parties"))
						defer m.end()
						m.zoned = rapid.Bool().Draw(rt, "zoned")
						m.hits = hits
						hits.begin()
						rt.Repeat(m.actions(hands))
						m.settle()
						m.settled()
					})
				})
			}
		}
	}
}

var search = flag.Bool("model.search", false, "the model draws cases of rapid's own length")

const modelSteps = "10" // on average in a case; a search takes rapid's own 30

// calls draws how far somebody gets: to the end (0), or to before a call.
func calls(rt *rapid.T) int { return rapid.IntRange(0, 14).Draw(rt, "calls") }

// action is something that may happen next, as often as its weight says.
type action struct {
	name   string
	weight int
	act    func(*rapid.T)
}

// actions lists what may happen: a choice among all of it by weight.
func (m *model) actions(hands bool) map[string]func(*rapid.T) {
	all := []action{
		{"all work", 3, m.allWork},
		{"time passes", 2, m.timePasses},
		{"schedule", 3, m.schedule},
		{"Secrets Manager", 3, m.storeWorks},
		{"its clean-up", 1, func(*rapid.T) { must(m.tidy()) }},
		{"machine", 3, m.machineWorks},
		{"operator rotates", 2, m.operatorRotates},
		{"operator turns", 2, m.turns},
		{"operator turns late", 1, m.turnsLate},
		{"operator resumes", 1, m.resumes},
		{"late login", 1, m.triesLate},
		{"late login in the hold", 2, m.triesWhileHeld},
		{"watchdog", 2, m.person(func(ctx context.Context, r *rotation.Rotator) error {
			_, err := r.Watch(ctx, arn, rotation.EnsureOptions{Retry: true})
			return err
		})},
		{"goes on", 3, m.goesOn},
		{"dies", 1, m.dies},
		{"is retried", 2, m.isRetried},
		{"stop", 2, m.stops},
		{"hangs", 5, func(rt *rapid.T) { m.hangs(rt, hands) }},
		{"cancel", 1, m.cancels},
		{"consumer", 2, m.consumerActs},
		{"emergency", 1, m.emergencyBegins},
		{"emergency works", 2, m.emergencyWorks},
	}
	if hands {
		all = append(all, m.hands()...)
	}
	return map[string]func(*rapid.T){
		"": func(*rapid.T) { m.check() },
		"next": func(rt *rapid.T) {
			next := oneOf(rt, all)
			for !attempt(rt, next) {
				next = oneOf(rt, all)
			}
			m.hit("action: " + next.name)
		},
	}
}

// oneOf draws by weight. What rapid draws from a list or range is mostly from its
// beginning; single bits are drawn evenly.
func oneOf(rt *rapid.T, all []action) action {
	const bits = 8
	total, at := 0, 0
	for _, a := range all {
		total += a.weight
	}
	for range bits {
		at *= 2
		if rapid.Bool().Draw(rt, "bit") {
			at++
		}
	}
	at = at * total >> bits
	for _, a := range all {
		if at -= a.weight; at < 0 {
			rt.Logf("next: %s", a.name)
			return a
		}
	}
	panic("no action")
}

// noOccasion ends an action in a world where there is nothing for it to do. It
// isn't rapid's Skip: rapid forgets what it has drawn for an action that is
// skipped, and when it repeats the case everything that was done before is missing.
type noOccasion struct{}

func must(occasion bool) {
	if !occasion {
		panic(noOccasion{})
	}
}

// attempt reports whether there was an occasion for an action.
func attempt(rt *rapid.T, a action) (acted bool) {
	defer func() {
		switch r := recover(); r.(type) {
		case nil:
		case noOccasion:
			rt.Logf("no occasion")
		default:
			panic(r)
		}
	}()
	a.act(rt)
	return true
}

func (m *model) allWork(rt *rapid.T) {
	for range rapid.IntRange(1, 12).Draw(rt, "half minutes") {
		m.tick()
	}
}

func (m *model) timePasses(rt *rapid.T) {
	m.pass(time.Duration(rapid.IntRange(1, 24).Draw(rt, "ten seconds")) * 10 * time.Second)
}

// schedule is Secrets Manager's own, or whatever else starts a machine.
func (m *model) schedule(rt *rapid.T) {
	if m.store.Driver == rotation.DriverMachine {
		m.operatorRotates(rt)
		return
	}
	must(!m.cancelled())
	_ = m.rotateSecret(context.Background(), arn, m.newVersion()) // a rotation that is going on is tried again
}

func (m *model) operatorRotates(rt *rapid.T) {
	token := m.newVersion()
	m.person(func(ctx context.Context, r *rotation.Rotator) error {
		_, err := r.StartHead(ctx, arn, token)
		return err
	})(rt)
}

func (m *model) storeWorks(rt *rapid.T) { must(m.secretsManager(calls(rt))) }

func (m *model) machineWorks(rt *rapid.T) {
	names := m.running()
	must(len(names) > 0)
	must(m.drive(names[rapid.IntRange(0, len(names)-1).Draw(rt, "run")], calls(rt)))
}

// person is anybody who calls once, and may be suspended like a function.
func (m *model) person(do func(context.Context, *rotation.Rotator) error) func(*rapid.T) {
	return func(rt *rapid.T) {
		n := calls(rt)
		m.letGo(m.start("caller", func(ctx context.Context, r *rotation.Rotator) (rotation.Result, error) {
			return noResult, do(ctx, r)
		}), n)
	}
}

func (m *model) resumes(rt *rapid.T) {
	m.person(func(ctx context.Context, r *rotation.Rotator) error {
		_, err := r.EnsureRun(ctx, arn, rotation.EnsureOptions{Resume: true})
		return err
	})(rt)
}

// turns is a person who asks for a rollback.
func (m *model) turns(rt *rapid.T) {
	m.witnessRollback()
	m.person(func(ctx context.Context, r *rotation.Rotator) error {
		_, err := r.RequestRollback(ctx, arn)
		return err
	})(rt)
}

// turnsLate is a person who asks for a rollback when the old login is refused.
func (m *model) turnsLate(rt *rapid.T) {
	const most = 12 // half minutes
	for range most {
		v := m.store.Labels(arn)
		goes := v.Holder(rotation.Retiring)
		must(goes != "" && goes != v.Holder(rotation.Current) && !v.Has(goes, rotation.Rejected))
		if v.Has(goes, rotation.Disabled) {
			m.turns(rt)
			return
		}
		m.tick()
	}
}

// hangs is a function that comes to a halt in the middle of a step. Its run is
// stopped, or tries the step again, or notices nothing; somebody may ask for
// something else; all others work. Shortly before Lambda would end it, it goes on.
func (m *model) hangs(rt *rapid.T, hands bool) {
	p := m.halfway(rt)
	must(p != nil)
	switch name := m.owner(p); rapid.SampledFrom([]string{"is stopped", "is tried again", "waits"}).Draw(rt, "its run") {
	case "is stopped":
		if name != "" {
			m.stop(name)
		} else {
			m.forsake()
		}
	case "is tried again":
		m.retry(p)
	}
	meanwhile := []action{
		{"nothing", 2, func(*rapid.T) {}}, {"rollback", 5, m.turns}, {"resume", 1, m.resumes}, {"emergency", 1, m.emergencyBegins},
		{"late login", 1, m.triesLate},
	}
	if hands {
		meanwhile = append(meanwhile, m.hands()...)
	}
	m.hit("a function hangs")
	attempt(rt, oneOf(rt, meanwhile))
	for m.work(); m.now.Add(halfMinute).Before(p.deadline); m.work() {
		m.pass(halfMinute)
	}
	m.pass(p.deadline.Sub(m.now) - moment)
	m.work()
	m.letGo(p, 0)
}

// halfway lets a run, or Secrets Manager, make some steps and part of another. If
// there is nothing to do a rotation begins.
func (m *model) halfway(rt *rapid.T) *process {
	if len(m.running()) == 0 && m.sm.p == nil && rotation.Read(m.store.Labels(arn), m.store.Driver).Need == rotation.NeedNothing {
		m.schedule(rt)
	}
	steps := rapid.IntRange(0, len(fourSteps)-1).Draw(rt, "whole steps")
	n := rapid.IntRange(1, 14).Draw(rt, "calls")
	if m.sm.p == nil && rapid.Bool().Draw(rt, "Secrets Manager's") {
		for range steps {
			m.secretsManager(0)
		}
		m.secretsManager(n)
		return m.sm.p
	}
	names := m.running()
	must(len(names) > 0)
	name := names[rapid.IntRange(0, len(names)-1).Draw(rt, "run")]
	for range steps {
		m.drive(name, 0)
	}
	must(m.runs.runs[name].Status == rotation.RunRunning)
	m.drive(name, n)
	return m.inFlight[name]
}

// retry is what becomes of a function of which Lambda has lost the answer.
func (m *model) retry(p *process) {
	m.hit("a function is retried while it still runs")
	name := m.owner(p)
	p.disown()
	if name != "" {
		m.again(name)
	} else {
		m.forsake()
	}
}

// suspended draws one of those who are in the middle of something.
func (m *model) suspended(rt *rapid.T) *process {
	must(len(m.processes) > 0)
	return m.processes[rapid.IntRange(0, len(m.processes)-1).Draw(rt, "process")]
}

// goesOn resumes somebody; the first call may fail, or its answer be lost.
func (m *model) goesOn(rt *rapid.T) {
	p := m.suspended(rt)
	first := rapid.SampledFrom([]verdict{proceed, refuse, loseAnswer}).Draw(rt, "first call")
	n := calls(rt)
	if m.resume(p, first); n != 1 {
		m.letGo(p, max(0, n-1))
	}
}

func (m *model) dies(rt *rapid.T) { m.resume(m.suspended(rt), die) }

// isRetried: Lambda has lost the answer, and the function still runs.
func (m *model) isRetried(rt *rapid.T) {
	p := m.suspended(rt)
	must(m.owner(p) != "" || p == m.sm.p)
	m.retry(p)
}

func (m *model) stops(rt *rapid.T) {
	names := m.running()
	must(len(names) > 0)
	m.stop(names[rapid.IntRange(0, len(names)-1).Draw(rt, "run")])
}

// cancels is CancelRotateSecret, and what takes it back.
func (m *model) cancels(*rapid.T) {
	must(m.store.Driver == rotation.DriverSecretsManager)
	if m.cancelled() {
		m.enable(true)
		return
	}
	if m.sm.token != "" {
		m.hit("cancelled in the middle of a head")
	} else if v := m.store.Labels(arn); v.Holder(rotation.Retiring) != "" {
		m.hit("cancelled during a drain")
	}
	m.enable(false)
	m.forsake()
}

func (m *model) consumerActs(rt *rapid.T) {
	c := m.consumers[rapid.IntRange(0, len(m.consumers)-1).Draw(rt, "consumer")]
	switch rapid.SampledFrom([]string{"connects", "reads", "leaves", "is silent"}).Draw(rt, "does") {
	case "connects":
		m.connect(c)
	case "reads":
		m.refresh(c)
	case "is silent":
		const long = 6 * time.Minute
		m.silent[c.party.Name] = m.now.Add(long)
	default:
		c.session, c.away = "", true
	}
}

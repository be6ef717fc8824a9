package rotation_test

import (
	"context"
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
func TestModel(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		for _, pair := range []bool{false, true} {
			for _, hands := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, pair %v, hands %v", driver, pair, hands), func(t *testing.T) {
					t.Parallel()
					rapid.Check(t, func(rt *rapid.T) {
						m := newModel(rt, driver, pair, rapid.Bool().Draw(rt, "AWSPENDING stays"), rapid.SampledFrom(slowest()).Draw(rt, "parties"))
						defer m.end()
						rt.Repeat(m.actions(hands))
						m.settle()
						m.settled()
					})
				})
			}
		}
	}
}

// calls draws how far somebody gets: to the end (0), or to before a call.
func calls(rt *rapid.T) int { return rapid.IntRange(0, 14).Draw(rt, "calls") }

func (m *model) actions(hands bool) map[string]func(*rapid.T) {
	all := map[string]func(*rapid.T){
		"":                 func(*rapid.T) { m.check() },
		"all work":         m.allWork,
		"time passes":      m.timePasses,
		"schedule":         m.schedule,
		"Secrets Manager":  m.storeWorks,
		"its clean-up":     func(rt *rapid.T) { must(rt, m.tidy()) },
		"machine":          m.machineWorks,
		"operator rotates": m.operatorRotates,
		"operator turns": m.person(func(ctx context.Context, r *rotation.Rotator) error {
			_, err := r.RequestRollback(ctx, arn)
			return err
		}),
		"operator resumes": m.person(func(ctx context.Context, r *rotation.Rotator) error {
			_, err := r.EnsureRun(ctx, arn, rotation.EnsureOptions{Resume: true})
			return err
		}),
		"watchdog": m.person(func(ctx context.Context, r *rotation.Rotator) error {
			_, err := r.Watch(ctx, arn, rotation.EnsureOptions{Retry: true})
			return err
		}),
		"goes on":    m.goesOn,
		"dies":       m.dies,
		"is retried": m.isRetried,
		"stop":       m.stops,
		"cancel":     m.cancels,
		"consumer":   m.consumerActs,
	}
	if hands {
		for name, act := range m.hands() {
			all["hand: "+name] = act
		}
	}
	return all
}

// must skips an action for which there is no occasion.
func must(rt *rapid.T, occasion bool) {
	if !occasion {
		rt.Skip("no occasion")
	}
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
	must(rt, !m.cancelled())
	_ = m.rotateSecret(context.Background(), arn, m.newVersion()) // a rotation that is going on is tried again
}

func (m *model) operatorRotates(rt *rapid.T) {
	token := m.newVersion()
	m.person(func(ctx context.Context, r *rotation.Rotator) error {
		_, err := r.StartHead(ctx, arn, token)
		return err
	})(rt)
}

func (m *model) storeWorks(rt *rapid.T) { must(rt, m.secretsManager(calls(rt))) }

func (m *model) machineWorks(rt *rapid.T) {
	names := m.running()
	must(rt, len(names) > 0)
	must(rt, m.drive(names[rapid.IntRange(0, len(names)-1).Draw(rt, "run")], calls(rt)))
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

// suspended draws one of those who are in the middle of something.
func (m *model) suspended(rt *rapid.T) *process {
	must(rt, len(m.processes) > 0)
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
	name := m.owner(p)
	must(rt, name != "" || p == m.sm.p)
	if p == m.sm.p {
		m.forsake()
		return
	}
	p.answered, p.crashed = nil, nil
	m.again(name)
}

func (m *model) stops(rt *rapid.T) {
	names := m.running()
	must(rt, len(names) > 0)
	m.stop(names[rapid.IntRange(0, len(names)-1).Draw(rt, "run")])
}

// cancels is CancelRotateSecret, and what takes it back.
func (m *model) cancels(rt *rapid.T) {
	must(rt, m.store.Driver == rotation.DriverSecretsManager)
	if m.cancelled() {
		m.enable(true)
		return
	}
	m.enable(false)
	m.forsake()
}

func (m *model) consumerActs(rt *rapid.T) {
	c := m.consumers[rapid.IntRange(0, len(m.consumers)-1).Draw(rt, "consumer")]
	switch rapid.SampledFrom([]string{"connects", "reads", "leaves"}).Draw(rt, "does") {
	case "connects":
		m.connect(c)
	case "reads":
		m.refresh(c)
	default:
		c.session, c.away = "", true
	}
}

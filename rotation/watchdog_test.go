package rotation_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

// massacre kills everything at one call of the store: the function that makes
// it, every execution and Secrets Manager's own rotation. From then on only the
// watchdog acts, and what it sets going.
type massacre struct {
	*house
	at    int  // the call, counted over everybody
	after bool // it has taken effect when its caller dies
	// forgetful is a Secrets Manager that never takes a rotation up again, even
	// if it is asked.
	forgetful bool

	calls  int
	killed bool
	asked  bool // the watchdog has asked Secrets Manager since
}

// death ends whoever made the call, as a process that is killed ends.
type death struct{}

func (m *massacre) before(c rotationtest.Call) error {
	m.calls++
	m.asked = m.killed && (m.asked || c.Op == "Rotate")
	if !m.killed && !m.after && m.calls-1 == m.at {
		panic(death{})
	}
	return nil
}

func (m *massacre) done(rotationtest.Call) error {
	if !m.killed && m.after && m.calls-1 == m.at {
		panic(death{})
	}
	return nil
}

// live lets everybody work, as house.settle does, until the call: then nobody
// is left, and no execution either.
func (m *massacre) live() {
	defer func() {
		switch dead := recover(); dead.(type) {
		case nil:
			return
		case death:
			m.killed, m.rollbackAt = true, ""
		default:
			panic(dead)
		}
		for name, run := range m.runs.runs {
			if run.Status == rotation.RunRunning {
				m.runs.end(name, rotation.RunAborted, m.now, "")
			}
		}
		m.check()
	}()
	m.settle()
}

// watch is half a minute of the time in which only the watchdog is left. It asks
// Secrets Manager once an hour, as its function does.
func (m *massacre) watch() (busy bool) {
	w, err := m.Watch(m.t.Context(), arn, rotation.EnsureOptions{Retry: m.now.Truncate(time.Hour).Equal(m.now)})
	m.must(err)
	m.check()
	for _, f := range w.Findings {
		if f.Name != rotation.RotationOff {
			m.t.Fatalf("the watchdog gives up: %+v, labels %s", f, m.labels())
		}
	}
	if m.asked && !m.forgetful {
		m.secretsManager()
	}
	for _, name := range slices.Sorted(maps.Keys(m.runs.in)) {
		if m.runs.runs[name].Status == rotation.RunRunning {
			busy = true
			m.step(name, m.runs.in[name])
		}
	}
	m.now = m.now.Add(30 * time.Second)
	return busy || w.Situation.Need != rotation.NeedNothing
}

// TestTheWatchdogAloneEndsWhatWasKilledAnywhere: whatever was going on when
// everything died, one login is alone in the end, the one that is current.
func TestTheWatchdogAloneEndsWhatWasKilledAnywhere(t *testing.T) {
	t.Parallel()
	type kill struct {
		interruption
		forgetful, cancelled bool
	}
	var kills []kill
	for _, i := range interruptions() {
		kills = append(kills, kill{interruption: i})
		if i.driver == rotation.DriverSecretsManager {
			forgetful, cancelled := i, i
			forgetful.name += ", never taken up again"
			cancelled.name += ", rotation cancelled"
			kills = append(kills, kill{forgetful, true, false}, kill{cancelled, true, true})
		}
	}
	for _, k := range kills {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			for at, going := 0, true; going; at++ {
				for _, after := range []bool{false, true} {
					t.Run(fmt.Sprintf("at call %d, after it %v", at, after), func(t *testing.T) {
						m := &massacre{house: newHouse(newWorld(t, k.driver)), at: at, after: after, forgetful: k.forgetful}
						m.keepPending, m.rollbackAt = k.keepPending, k.rollbackAt
						_, err := m.StartHead(t.Context(), arn, v2)
						m.must(err)
						m.store.Fail, m.store.FailAfter = m.before, m.done
						m.live()
						if !after {
							going = m.killed
						}
						if !m.killed { // there is no such call, or it is refused
							return
						}
						if k.cancelled {
							no := false
							m.store.Edit(arn, func(d *rotation.Description) { d.RotationEnabled = &no })
						}
						m.survive()
					})
				}
			}
		})
	}
}

// survive lets the watchdog work until nothing is left to do.
func (m *massacre) survive() {
	m.t.Helper()
	const most = 2000
	for range most {
		if !m.watch() {
			m.settled(m.target.login(m.t.Context(), m.store.Labels(arn).Holder(rotation.Current)))
			if p := m.store.Labels(arn).Holder(rotation.Pending); p != "" && !m.store.Labels(arn).Has(p, rotation.Current) {
				m.t.Fatalf("AWSPENDING is left: %s", m.labels())
			}
			return
		}
	}
	m.t.Fatalf("the watchdog never ends it: labels %s, logins %v, runs %v", m.labels(), m.target.logins, m.runs.runs)
}

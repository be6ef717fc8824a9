package rotation_test

import (
	"context"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// until lets a process go on to before a call.
func (m *model) until(p *process, call string) {
	for !strings.HasPrefix(p.at, call) && !p.over {
		m.resume(p, proceed)
	}
	if p.over {
		m.rt.Fatalf("%s never comes to: %s", p.name, call)
	}
}

// begin starts the head of a new version and returns its run.
func (m *model) begin() (version, run string) {
	version = m.newVersion()
	m.letGo(m.start("operator", func(ctx context.Context, r *rotation.Rotator) (rotation.Result, error) {
		_, err := r.StartHead(ctx, arn, version)
		return noResult, err
	}), 0)
	return version, rotation.RunName(arn, version, rotation.Head) + "-g1"
}

// turnBack is a person who asks for a rollback.
func (m *model) turnBack() {
	m.letGo(m.start("operator", func(ctx context.Context, r *rotation.Rotator) (rotation.Result, error) {
		_, err := r.RequestRollback(ctx, arn)
		return noResult, err
	}), 0)
}

// Two machines begin at once. One is stopped before it claims AWSPENDING; the
// other's version becomes current, and in pair mode the
// two versions have one login. The first, taken up later, can't be set, and is
// turned back: its login, which is the current one, is nothing to retire. It used
// to end as IdentityInUse for ever.
func TestModelFoundAMachineOvertakenBeforeItsClaim(t *testing.T) {
	t.Parallel()
	m := newModel(t, rotation.DriverMachine, true, false, slowest()[1])
	defer m.end()
	slow, run := m.begin()
	m.drive(run, 1)
	m.until(m.inFlight[run], "Attach PENDING")
	m.stop(run)
	overtaking, _ := m.begin()
	for range 5 {
		m.tick()
	}
	if v := m.store.Labels(arn); !v.Has(overtaking, rotation.Current) || !v.Has(slow, rotation.Candidate(slow)) {
		t.Fatalf("labels before the first is taken up: %s", m.describe())
	}
	m.settle()
	m.settled()
	if !m.store.Labels(arn).Has(overtaking, rotation.Current) {
		t.Errorf("at the end: %s", m.describe())
	}
}

// A person stores the new login again during its drain, while AWSPENDING is left
// over on the version that it was made for, and then the rotation is turned back.
// The leftover used to make that version look like one that is being made: the
// rollback ended as IdentityInUse, and Secrets Manager would have promoted the
// login again that was turned back.
func TestModelFoundARollbackOfALoginStoredAgain(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		w := newWorld(t, driver)
		h := newHouse(w)
		h.keepPending = true
		w.must(w.rotate(v2))
		w.store.PutByHand(arn, v3, "login-2")
		requestRollback(t, w, v3)
		h.settle()
		h.settled("login-1")
	}
}

// A person stores the login again that is being turned back: that is what is
// wanted now. It used to end as IdentityInUse for ever.
func TestModelFoundARejectedLoginStoredAgain(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		w := newWorld(t, driver)
		h := newHouse(w)
		w.must(w.rotate(v2))
		w.unpend()
		requestRollback(t, w, v2)
		_, err := w.Rollback(t.Context(), back(v2))
		w.must(err)
		w.store.PutByHand(arn, v3, "login-2")
		h.settle()
		h.settled("login-2")
	}
}

// A finish has looked at the labels for the last time when its rotation, which
// replaces a stolen credential, is turned back. The haste of the
// emergency used to destroy the new login before that finish could have ended,
// which then made it current.
func TestModelFoundAFinishThatOutlivesARollbackInAnEmergency(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		m := newModel(t, driver, false, false, slowest()[2])
		defer m.end()
		e := m.emergency(false)
		m.hurry(e, 0) // marks
		finish := m.toFinish(e)
		m.until(finish, "Attach RETIRING")
		m.turnBack()
		m.work()
		m.pass(halfMinute)
		m.work()
		m.letGo(finish, 0)
		m.settle()
		m.settled()
	}
}

// toFinish lets the rotation that an emergency has asked for come to its finish.
func (m *model) toFinish(e *emergency) *process {
	for range 20 {
		m.hurry(e, 0)
		if m.store.Driver == rotation.DriverSecretsManager && m.sm.at == len(fourSteps)-1 && m.sm.token != "" {
			m.secretsManager(1)
			return m.sm.p
		}
		m.secretsManager(0)
		for _, name := range m.running() {
			if m.execution(name, m.runs.in[name]).at == rotation.StepFinish {
				m.drive(name, 1)
				return m.inFlight[name]
			}
			m.drive(name, 0)
		}
		m.pass(moment)
	}
	m.rt.Fatalf("no finish: %s; runs %v", m.describe(), m.ends())
	return nil
}

// A person stores the login again that is being drained: everybody presents it,
// and its drain would never end. It used to be said only after that.
func TestModelFoundTheLoginThatGoesStoredAgain(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		w := newWorld(t, driver)
		w.must(w.rotate(v2))
		w.unpend()
		w.store.PutByHand(arn, v3, "login-1")
		_, err := w.Adopt(t.Context(), forward(v3))
		wantFault(t, err, fault.IdentityInUse)
		w.wantLogins("login-1 accepted", "login-2 accepted")
	}
}

// A person stores the current login again, then another one, and asks for a
// rollback of that: what comes back is still, at the target, the login of the
// version that it was made for, and only its password says that it is this one's.
func TestModelFoundARollbackToALoginStoredAgain(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		m := newModel(t, driver, false, false, slowest()[2])
		defer m.end()
		m.begin()
		m.settle()
		again := m.put(m.credential(m.store.Labels(arn).Holder(rotation.Current)))
		m.settle()
		m.storeAnother()
		m.tick()
		m.work()
		m.turnBack()
		m.settle()
		m.settled()
		if !m.store.Labels(arn).Has(again, rotation.Current) {
			t.Errorf("%s: at the end %s", driver, m.describe())
		}
	}
}

// A rollback has enabled the old login, and so raised the rank at the target, when
// an emergency declares that login stolen. The rollback is taken back; the forward
// run used to be fenced by its rank for ever, and the stolen login lived on.
func TestModelFoundARollbackThatAnEmergencyTakesBack(t *testing.T) {
	t.Parallel()
	for _, zoned := range []bool{false, true} {
		for _, driver := range drivers {
			m := newModel(t, driver, false, false, slowest()[2])
			defer m.end()
			m.zoned = zoned
			version, _ := m.begin()
			for !m.store.Labels(arn).Has(version, rotation.Current) {
				m.tick()
			}
			m.turnBack()
			back := rotation.RunName(arn, version, rotation.Back) + "-g1"
			m.drive(back, 1)
			m.until(m.inFlight[back], "Move CURRENT")
			m.hurry(m.emergency(true), 0)
			m.settle()
			m.settled()
		}
	}
}

// In pair mode two versions wait for their turn with one login: a person's put
// has displaced the one that has it, and the other, which was never set, is turned
// back first. Its end used to take the displaced one's label off too, as if
// the login had been destroyed with it.
func TestModelFoundADisplacedLoginBesideOneThatWasNeverSet(t *testing.T) {
	t.Parallel()
	m := newModel(t, rotation.DriverMachine, true, true, slowest()[1])
	defer m.end()
	slow, run := m.begin()
	m.drive(run, 1)
	create := m.inFlight[run]
	m.until(create, "Put")
	first, _ := m.begin()
	for !m.store.Labels(arn).Has(first, rotation.Current) {
		m.tick()
	}
	m.letGo(create, 0) // while the drain goes on
	m.storeAnother()
	m.settle()
	m.settled()
	if v := m.store.Labels(arn); len(v[slow]) > 1 || v.Has(first, rotation.Live(first)) {
		t.Errorf("at the end: %s", m.describe())
	}
}

// A version that is turned back has the login that is being retired, as the turns
// of a pair come out when a person stores others in between. Nobody may use
// it, so that it doesn't keep the drain from ending: each waited for the other.
func TestModelFoundADrainThatWaitedForWhatIsTurnedBack(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		w := newWorld(t, driver)
		w.must(w.rotate(v2))
		w.unpend()
		w.store.PutByHand(arn, v3, "login-1")
		w.store.Edit(arn, func(d *rotation.Description) {
			d.Versions[v1] = []rotation.Label{rotation.Retiring, rotation.Previous, rotation.Live(v1)}
			d.Versions[v3] = []rotation.Label{rotation.Pending, rotation.Candidate(v3), rotation.Live(v3), rotation.Rejected}
			d.Versions[v2] = []rotation.Label{rotation.Current, rotation.Live(v2)}
		})
		_, err := w.Disable(t.Context(), forward(v2))
		w.must(err)
		w.store.Edit(arn, func(d *rotation.Description) { d.Versions[v3] = []rotation.Label{rotation.Pending, rotation.Live(v3)} })
		_, err = w.Disable(t.Context(), forward(v2))
		wantFault(t, err, fault.IdentityInUse)
	}
}

// A person stores the login that is turned back again while its drain goes on:
// everybody presents it then, and that drain used to go on for ever.
func TestModelFoundARejectedLoginStoredAgainDuringItsDrain(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		m := newModel(t, driver, false, false, slowest()[2])
		defer m.end()
		version, _ := m.begin()
		for !m.store.Labels(arn).Has(version, rotation.Current) {
			m.tick()
		}
		m.turnBack()
		back := rotation.RunName(arn, version, rotation.Back) + "-g1"
		for m.execution(back, m.runs.in[back]).at != rotation.StepDrain {
			m.drive(back, 0)
		}
		m.drive(back, 0)
		again := m.storeAgain(version)
		m.settle()
		m.settled()
		if !m.store.Labels(arn).Has(again, rotation.Current) {
			t.Errorf("%s: at the end %s", driver, m.describe())
		}
	}
}

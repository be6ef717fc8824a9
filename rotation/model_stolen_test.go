package rotation_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// An emergency declares the current login stolen, and while its replacement is
// made a person stores that login again. The replacement becomes current over the
// version of the person, which nobody had declared stolen: a rollback used to let
// the stolen login in again and to make it current.
func TestModelFoundARollbackToAStolenLoginStoredAgain(t *testing.T) {
	t.Parallel()
	for _, pair := range []bool{false, true} {
		for _, disabled := range []bool{false, true} {
			t.Run(fmt.Sprintf("pair %v, disabled %v", pair, disabled), func(t *testing.T) {
				t.Parallel()
				m, again := stolenStoredAgain(t, pair)
				defer m.end()
				current := m.store.Labels(arn).Holder(rotation.Current)
				for disabled && m.db.accepts(m.credential(again)) {
					m.tick()
				}
				m.turnBack()
				m.settle()
				m.settled()
				if v := m.store.Labels(arn); !v.Has(current, rotation.Current) {
					t.Errorf("at the end: %s", m.describe())
				}
			})
		}
	}
}

// stolenStoredAgain is a world in which a login that is stolen under one version
// goes under another, under which a person has stored it again.
func stolenStoredAgain(t *testing.T, pair bool) (m *model, again string) {
	t.Helper()
	m = newModel(t, rotation.DriverMachine, pair, false, slowest()[2])
	stolen := m.store.Labels(arn).Holder(rotation.Current)
	e := m.emergency(false)
	m.hurry(e, 0) // marks
	m.hurry(e, 0) // begins a rotation
	run := m.running()[0]
	for m.executions[run] == nil || m.executions[run].at != rotation.StepFinish {
		m.drive(run, 0)
	}
	again = m.put(m.credential(stolen))
	m.drive(run, 0)
	if v := m.store.Labels(arn); !v.Has(again, rotation.Retiring) || !v.Has(stolen, rotation.Stolen(stolen)) {
		t.Fatalf("it doesn't go: %s", m.describe())
	}
	return m, again
}

// The same login goes in haste, as it would under the version that was declared
// stolen: whoever has it may use it for no longer than that.
func TestAStolenLoginStoredAgainGoesInHaste(t *testing.T) {
	t.Parallel()
	for _, pair := range []bool{false, true} {
		m, again := stolenStoredAgain(t, pair)
		defer m.end()
		began := m.now
		for m.db.accepts(m.credential(again)) {
			m.tick()
		}
		if took := m.now.Sub(began); took > m.policy.Emergency+halfMinute {
			t.Errorf("pair %v: it is refused after %s: %s", pair, took, m.describe())
		}
		m.settle()
		m.settled()
	}
}

// stolenTwin is a world whose second version has the first one's login, which was
// declared stolen under the first alone. It is refused by now.
func stolenTwin(t *testing.T, driver rotation.Driver, labels ...rotation.Label) *world {
	t.Helper()
	w := newWorld(t, driver)
	w.putByHand(v3, "login-3")
	w.store.PutByHand(arn, v2, "login-1")
	w.target.logins["login-1"] = "refused"
	w.store.Edit(arn, func(d *rotation.Description) {
		d.Versions = rotation.Versions{
			v1: {rotation.Stolen(v1), rotation.Live(v1)},
			v2: append(labels, rotation.Live(v2)),
			v3: {rotation.Previous, rotation.Live(v3)},
		}
	})
	return w
}

// A person moves AWSCURRENT back to a version that is disabled: it isn't let in
// again if its login is stolen, and counts as stolen itself from then on.
func TestAStolenLoginIsNotReinstated(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		w := stolenTwin(t, driver, rotation.Current, rotation.Disabled)
		_, err := w.Adopt(t.Context(), forward(v2))
		if v := w.store.Labels(arn); slices.Contains(w.target.steps, "enable") || !v.Has(v2, rotation.Stolen(v2)) {
			t.Errorf("%s: %v: %v after %v", driver, err, w.store.Labels(arn), w.target.steps)
		}
	}
}

// A person labels a version as pending whose login is stolen: it is neither set
// nor promoted, be it marked itself or stored again.
func TestAStolenLoginIsNotPromoted(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		for _, itself := range []bool{false, true} {
			w := stolenTwin(t, driver, rotation.Pending)
			w.target.logins["login-1"] = "accepted"
			w.store.Edit(arn, func(d *rotation.Description) {
				d.Versions[v3] = []rotation.Label{rotation.Current, rotation.Live(v3)}
				if itself {
					d.Versions[v1], d.Versions[v2] = nil, append(d.Versions[v2], rotation.Stolen(v2))
				}
			})
			req := rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, Generation: 1}
			_, err := w.Set(t.Context(), req)
			wantFault(t, err, fault.TooLate)
			_, err = w.Finish(t.Context(), req)
			wantFault(t, err, fault.TooLate)
			if !w.store.Labels(arn).Has(v3, rotation.Current) {
				t.Errorf("%s: %v", driver, w.store.Labels(arn))
			}
		}
	}
}

// A person makes a stolen login current again while it is being retired: nothing
// would be taken from it, so it is replaced first, without anybody's help, and goes
// then. It used to end as IdentityInUse.
func TestModelFoundAStolenLoginStoredAgainDuringItsDrain(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		for _, pair := range []bool{false, true} {
			for _, refused := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, pair %v, refused %v", driver, pair, refused), func(t *testing.T) {
					t.Parallel()
					m := newModel(t, driver, pair, false, slowest()[2])
					defer m.end()
					stolen := m.store.Labels(arn).Holder(rotation.Current)
					m.hurry(m.emergency(false), 0)
					m.untilItGoes(stolen, refused)
					again := m.storeAgain(stolen)
					m.settle()
					m.settled()
					for name, run := range m.runs.runs {
						if strings.Contains(run.Cause, string(fault.IdentityInUse)) {
							t.Errorf("run %s, after version %s was stored: %s", m.short(name), m.short(again), run.Cause)
						}
					}
				})
			}
		}
	}
}

// untilItGoes lets everybody work until a version is being retired and, if that is
// asked for, refused.
func (m *model) untilItGoes(version string, refused bool) {
	const most = 200 // steps
	for range most {
		for _, e := range m.underWay() {
			m.hurry(e, 0)
		}
		m.secretsManager(0)
		for _, name := range m.running() {
			m.drive(name, 0)
			v := m.store.Labels(arn)
			if v.Holder(rotation.Retiring) == version && !v.Has(version, rotation.Current) && refused != m.db.accepts(m.credential(version)) {
				return
			}
		}
		m.pass(moment)
	}
	m.rt.Fatalf("%s doesn't go: %s", m.short(version), m.describe())
}

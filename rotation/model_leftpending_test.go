package rotation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// A finish dies before it takes AWSPENDING off, or a person has moved AWSCURRENT
// on and it stays there. Then that login is stored again, and another one after
// that: AWSPREVIOUS is no longer on the version, so that it looks as if it were
// being made. The drain of its login used to end as IdentityInUse for ever,
// whatever a person stored.
func TestModelFoundALeftoverPendingWithTheLoginThatGoes(t *testing.T) {
	t.Parallel()
	for _, pair := range []bool{false, true} {
		for _, dies := range []bool{false, true} {
			for _, emergency := range []bool{false, true} {
				t.Run(fmt.Sprintf("pair %v, dies %v, emergency %v", pair, dies, emergency), func(t *testing.T) {
					t.Parallel()
					m := leftPending(t, pair, dies)
					defer m.end()
					if emergency {
						m.emergency(false)
					}
					m.settle()
					m.settled()
					for name, run := range m.runs.runs {
						if strings.Contains(run.Cause, string(fault.IdentityInUse)) {
							t.Errorf("run %s: %s", m.short(name), run.Cause)
						}
					}
				})
			}
		}
	}
}

// leftPending is a world in which AWSPENDING may be left over on a version that
// was current, and whose login goes under another one.
func leftPending(t *testing.T, pair, dies bool) *model {
	t.Helper()
	m := newModel(t, rotation.DriverMachine, pair, true, slowest()[2])
	version, run := m.begin()
	for m.executions[run] == nil || m.executions[run].at != rotation.StepFinish {
		m.drive(run, 0)
	}
	if dies {
		m.drive(run, 1)
		finish := m.inFlight[run]
		m.until(finish, "Detach PENDING")
		m.stop(run)
		m.resume(finish, die)
	} else {
		m.move(rotation.Current, version)
		m.drive(run, 0)
	}
	m.put(m.credential(version))
	m.storeAnother()
	return m
}

// What keeps the login that goes may be no version that is current: the hint says
// which label comes off, and who does that gets out.
func TestTheHintOfALoginInUseGetsOut(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		for _, keeps := range []rotation.Label{rotation.Pending, rotation.Disabled, rotation.Current} {
			w := newWorld(t, driver)
			w.must(w.rotate(v2))
			w.unpend()
			w.store.PutByHand(arn, v3, "login-1")
			if keeps != rotation.Current {
				w.store.Edit(arn, func(d *rotation.Description) {
					d.Versions[v1] = []rotation.Label{rotation.Retiring, rotation.Live(v1)}
					d.Versions[v2] = []rotation.Label{rotation.Current, rotation.Live(v2)}
					d.Versions[v3] = []rotation.Label{keeps, rotation.Live(v3)}
				})
			}
			current := w.store.Labels(arn).Holder(rotation.Current)
			_, err := w.Disable(t.Context(), forward(current))
			wantFault(t, err, fault.IdentityInUse)
			wantHint(t, err, map[rotation.Label]string{
				rotation.Current:  "give AWSCURRENT a login of its own, then keyturn resume",
				rotation.Pending:  "--secret-id " + arn + " --version-stage AWSPENDING --remove-from-version-id " + v3 + ", then keyturn resume",
				rotation.Disabled: "--secret-id " + arn + " --version-stage KEYTURN_DISABLED --remove-from-version-id " + v3 + ", then keyturn resume",
			}[keeps])
			if keeps == rotation.Current {
				current = "44444444-4444-4444-8444-444444444444"
				w.putByHand(current, "login-4")
			} else {
				w.must(w.store.Detach(t.Context(), arn, keeps, v3))
			}
			w.must(w.tail(current, rotation.Forward))
			if v := w.store.Labels(arn); v.Holder(rotation.Retiring) == v1 || w.target.logins["login-1"] != "" {
				t.Errorf("%s, %s: %v, logins %v", driver, keeps, v, w.target.logins)
			}
		}
	}
}

func wantHint(t *testing.T, err error, want string) {
	t.Helper()
	if hint := fault.HintOf(err); !strings.HasSuffix(hint, want) {
		t.Errorf("hint %q, want it to end in %q", hint, want)
	}
}

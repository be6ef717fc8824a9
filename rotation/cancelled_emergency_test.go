package rotation_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// theft declares the current credential stolen, to be replaced by v2.
func (m *massacre) theft() {
	m.t.Helper()
	_, err := m.MarkStolen(m.t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, Generation: 1})
	m.must(err)
}

func (m *massacre) switchOn() {
	yes := true
	m.store.Edit(arn, func(d *rotation.Description) { d.RotationEnabled = &yes })
}

// alone lets the watchdog and what it starts work, and returns what it found last.
func (m *massacre) alone(looks int) (found []rotation.Finding) {
	m.t.Helper()
	for range looks {
		w, err := m.Watch(m.t.Context(), arn, rotation.EnsureOptions{Retry: true, RetryStolen: true})
		m.must(err)
		found = w.Findings
		for name, in := range m.runs.in {
			if m.runs.runs[name].Status == rotation.RunRunning {
				m.step(name, in)
			}
		}
		m.now = m.now.Add(30 * time.Second)
	}
	return found
}

// Somebody switches rotation off in the middle of an emergency. What was made by
// then replaces the stolen credential; else nobody asks Secrets Manager, which
// would switch rotation on again, the finding has the command for a person, and
// when that was called the watchdog goes on alone.
func TestACancelledEmergency(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		made  string // how far the replacement was
		needs bool   // a person
	}{
		{"nothing", true}, {"", true}, {"create", true}, {"set", false},
	} {
		t.Run("made "+tt.made, func(t *testing.T) {
			t.Parallel()
			m := &massacre{house: newHouse(newWorld(t, rotation.DriverSecretsManager)), killed: true}
			begun := 0
			if tt.made != "nothing" {
				begun = 1
				m = strand(t, tt.made)
			}
			m.theft()
			m.cancel()
			found := m.alone(200)
			if n := m.asks() + 1 - begun; n != 0 {
				t.Errorf("Secrets Manager was asked %d times", n)
			}
			current := m.store.Labels(arn).Holder(rotation.Current)
			if !tt.needs {
				if m.settled(m.login(current)); current != v2 {
					t.Errorf("%s is current", current)
				}
				return
			}
			if current != v1 || m.store.Labels(arn).Holder(rotation.Pending) != "" || len(m.runs.runs) > 2 {
				t.Errorf("labels %s, runs %v", m.labels(), m.runs.runs)
			}
			if !commands(found) {
				t.Errorf("found %+v", found)
			}
			m.switchOn()
			m.forgetful = false
			m.store.Fail = m.before
			m.buried("switched on again")
		})
	}
}

// commands reports a finding that tells a person how a stolen credential is
// replaced although rotation is off.
func commands(all []rotation.Finding) bool {
	for _, f := range all {
		if f.Name == rotation.RotationOff {
			return strings.Contains(f.Saw, "stolen") && strings.Contains(f.Do, "aws secretsmanager rotate-secret --secret-id "+arn)
		}
	}
	return false
}

// An emergency that was stopped by the switch, before it knew of it or after, goes
// on by the watchdog as soon as it is on.
func TestAnEmergencyThatFailedByTheSwitchGoesOn(t *testing.T) {
	t.Parallel()
	m := &massacre{house: newHouse(newWorld(t, rotation.DriverSecretsManager)), killed: true}
	m.theft()
	_, err := m.Watch(t.Context(), arn, rotation.EnsureOptions{})
	m.must(err)
	m.cancel() // its head is running
	m.alone(20)
	if n := len(m.runs.runs); n != 1 {
		t.Fatalf("runs %v", m.runs.runs)
	}
	_, err = m.Replace(t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, Generation: 1})
	wantFault(t, err, fault.RotationDisabled)
	_, err = m.EnsureRun(t.Context(), arn, rotation.EnsureOptions{Resume: true})
	wantFault(t, err, fault.RotationDisabled)
	if hint := fault.HintOf(err); !strings.Contains(hint, "rotate-secret --secret-id "+arn) {
		t.Errorf("hint %q", hint)
	}
	m.switchOn()
	m.store.Fail = m.before
	m.buried("switched on again")
}

// Nobody is surprised: what the switch prevents is told beforehand.
func TestAnEmergencyForetellsThatRotationIsOff(t *testing.T) {
	t.Parallel()
	for _, off := range []bool{false, true} {
		m := &massacre{house: newHouse(newWorld(t, rotation.DriverSecretsManager))}
		if off {
			m.cancel()
		}
		plan, err := m.Foretell(t.Context(), arn, true)
		m.must(err)
		if told := strings.Contains(strings.Join(plan.Breaks, "\n"), "rotate-secret --secret-id "+arn); told != off {
			t.Errorf("off %v: %q", off, plan.Breaks)
		}
	}
}

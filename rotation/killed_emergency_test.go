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

// An emergency is killed at every one of its calls, with everything else. From
// the first credential on that counts as stolen the watchdog alone goes on:
// every stolen one dies, whatever was going on beside it.
func TestTheWatchdogAloneEndsAKilledEmergency(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		for name, begin := range emergencies() {
			for _, cut := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, cut %v", name, driver, cut), func(t *testing.T) {
					t.Parallel()
					for at, going := 0, true; going; at++ {
						for _, after := range []bool{false, true} {
							m := &massacre{house: newHouse(newWorld(t, driver)), at: at, after: after}
							begin(m.house)
							m.emergencyUntil(cut)
							if !after {
								going = m.killed
							}
							if !m.killed {
								continue
							}
							m.buried(fmt.Sprintf("%s at call %d, after it %v", name, at, after))
						}
					}
				})
			}
		}
	}
}

// emergencyUntil runs an emergency until the call at which everybody dies.
func (m *massacre) emergencyUntil(cut bool) {
	m.store.Fail, m.store.FailAfter = m.before, m.done
	defer func() {
		switch dead := recover(); dead.(type) {
		case nil:
			return
		case death:
			m.killed, m.excused = true, m.excused || cut
		default:
			panic(dead)
		}
		for name, run := range m.runs.runs {
			if run.Status == rotation.RunRunning {
				m.runs.end(name, rotation.RunAborted, m.now, "")
			}
		}
	}()
	m.emergency(v4, cut)
}

// stolen are the versions that count as stolen.
func (m *massacre) stolen() (ids []string) {
	for id, labels := range m.store.Labels(arn) {
		if slices.Contains(labels, rotation.Stolen(id)) {
			ids = append(ids, id)
		}
	}
	return ids
}

// buried lets the watchdog work until nothing is left to do. Whatever counted as
// stolen at the beginning, and what lived beside it, is dead then.
func (m *massacre) buried(when string) {
	m.t.Helper()
	doomed := map[string]string{}
	if v := m.store.Labels(arn); len(m.stolen()) > 0 {
		for _, id := range append(m.stolen(), v.Displaced()...) {
			doomed[id] = m.login(id)
		}
		if current := v.Holder(rotation.Current); v.Has(current, rotation.Stolen(current)) && v.Holder(rotation.Retiring) != "" {
			doomed[v.Holder(rotation.Retiring)] = m.login(v.Holder(rotation.Retiring))
		}
	}
	started := m.now
	for range 2000 {
		if m.watch() {
			continue
		}
		current := m.store.Labels(arn).Holder(rotation.Current)
		m.settled(m.login(current))
		for id, login := range doomed {
			if state := m.target.logins[login]; state != "" || id == current {
				m.t.Fatalf("%s: the stolen %s is %q: %s", when, login, state, m.labels())
			}
		}
		if took := m.now.Sub(started); len(doomed) > 0 && took > 2*time.Hour {
			m.t.Fatalf("%s: it lived on for %s", when, took)
		}
		return
	}
	m.t.Fatalf("%s: the watchdog never ends it: labels %s, logins %v, runs %v", when, m.labels(), m.target.logins, m.runs.runs)
}

// The token is written down, so that whoever goes on makes the same version:
// a killed emergency that is called again can't have two replacements beside it.
func TestTheWatchdogReplacesUnderTheEmergencysToken(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		w := newWorld(t, driver)
		_, err := w.MarkStolen(t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, Generation: 1})
		w.must(err)
		for range 2 { // two watchdogs
			seen, err := w.Watch(t.Context(), arn, rotation.EnsureOptions{})
			w.must(err)
			if seen.Situation.Need != rotation.NeedReplace || seen.Situation.Token != v2 {
				t.Errorf("%s: saw %+v", driver, seen.Situation)
			}
		}
		if got := slices.Collect(maps.Keys(w.runs.runs)); len(got) != 1 || got[0] != rotation.RunName(arn, v2, rotation.Head)+"-g1" {
			t.Errorf("%s: runs %v", driver, got)
		}
	}
}

// A mark without the other, from an emergency of an earlier release or by hand,
// is enough: the token is derived then, by everybody alike.
func TestAStolenCredentialIsReplacedWhateverItsMarks(t *testing.T) {
	t.Parallel()
	for _, label := range []rotation.Label{rotation.Stolen(v1), rotation.Replace("short"), rotation.Replace(v2 + v3)} {
		w := newWorld(t, rotation.DriverMachine)
		w.must(w.store.Attach(t.Context(), arn, label, v1))
		tokens := map[string]bool{}
		for range 2 {
			seen, err := w.Watch(t.Context(), arn, rotation.EnsureOptions{})
			w.must(err)
			tokens[seen.Situation.Token] = true
			if v := w.store.Labels(arn); !v.Has(v1, rotation.Stolen(v1)) || !v.Has(v1, rotation.Live(v1)) || len(seen.Situation.Token) != 36 {
				t.Errorf("%s: token %s, labels %v", label, seen.Situation.Token, v)
			}
		}
		if len(tokens) != 1 || len(w.runs.runs) != 1 {
			t.Errorf("%s: tokens %v, runs %v", label, tokens, w.runs.runs)
		}
	}
}

// A replacement that had to be discarded is tried again under another token,
// after a pause, unless a person has to mend something first.
func TestADiscardedReplacementIsTriedAgain(t *testing.T) {
	t.Parallel()
	for cause, again := range map[string]bool{"Keyturn.HeadExpired": true, "Keyturn.Unavailable": true, "Keyturn.PermissionDenied": false} {
		w := newWorld(t, rotation.DriverSecretsManager)
		_, err := w.MarkStolen(t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, Generation: 1})
		w.must(err)
		_, err = w.Watch(t.Context(), arn, rotation.EnsureOptions{})
		w.must(err)
		head, back := rotation.RunName(arn, v2, rotation.Head)+"-g1", rotation.RunName(arn, v2, rotation.Back)+"-g1"
		w.runs.runs[back] = rotation.Run{Name: back, Status: rotation.RunSucceeded, Stopped: w.now}
		w.runs.end(head, rotation.RunFailed, w.now, `{"Error":"`+cause+`","Cause":"x"}`)
		soon, err := w.Watch(t.Context(), arn, rotation.EnsureOptions{})
		w.must(err)
		if soon.Started || (soon.After > 0) != again {
			t.Errorf("%s: at once %+v", cause, soon)
		}
		w.now = w.now.Add(5 * time.Minute)
		later, err := w.Watch(t.Context(), arn, rotation.EnsureOptions{})
		w.must(err)
		if later.Started != again || (later.Situation.Token == v2) || named(later.Findings, rotation.RunStuck) == again {
			t.Errorf("%s: later %+v", cause, later)
		}
		if resumed, err := w.EnsureRun(t.Context(), arn, rotation.EnsureOptions{Resume: true}); err != nil || resumed.Run.Status != rotation.RunRunning {
			t.Errorf("%s: resumed %+v, %v", cause, resumed, err)
		}
	}
}

// Somebody answers a theft by storing a login by hand. The stolen one was never
// Keyturn's, and dies all the same; stored again, it stays stolen.
func TestAStolenCredentialThatIsDisplacedByHandDies(t *testing.T) {
	t.Parallel()
	for login, want := range map[string]string{"by-hand": "by-hand", "login-1": ""} {
		m := &massacre{house: newHouse(newWorld(t, rotation.DriverSecretsManager))}
		_, err := m.MarkStolen(t.Context(), rotation.Request{Secret: arn, Token: v4, Direction: rotation.Head, Generation: 1})
		m.must(err)
		m.putByHand(v3, login)
		m.killed = true // only the watchdog is left
		m.store.Fail = func(c rotationtest.Call) error { m.asked = m.asked || c.Op == "Rotate"; return nil }
		m.buried("stored " + login)
		if state := m.target.logins["login-1"]; state != "" {
			t.Errorf("stored %s: the stolen login is %s: %s", login, state, m.labels())
		}
		if got := m.login(m.store.Labels(arn).Holder(rotation.Current)); want != "" && got != want {
			t.Errorf("stored %s: %s is current", login, got)
		}
	}
}

func (m *massacre) login(version string) string { return m.target.login(m.t.Context(), version) }

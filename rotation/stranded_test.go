package rotation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// strand makes a house in which Secrets Manager has begun a rotation and is no
// longer at work; the login was made as far as the step says.
func strand(t *testing.T, made string) *massacre {
	t.Helper()
	m := &massacre{house: newHouse(newWorld(t, rotation.DriverSecretsManager)), killed: true, forgetful: true}
	m.must(m.store.Rotate(t.Context(), arn, v2))
	req := rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, ByStore: true}
	if made != "" {
		_, err := m.Create(t.Context(), req)
		m.must(err)
	}
	if made == "set" {
		_, err := m.Set(t.Context(), req)
		m.must(err)
	}
	return m
}

func (m *massacre) cancel() {
	no := false
	m.store.Edit(arn, func(d *rotation.Description) { d.RotationEnabled = &no })
}

// asks counts how often Secrets Manager was asked.
func (m *massacre) asks() (n int) {
	for _, c := range m.store.Calls() {
		if c.Op == "Rotate" {
			n++
		}
	}
	return n - 1 // the rotation itself
}

func TestAStrandedPendingIsDecidedByWhatWorks(t *testing.T) {
	t.Parallel()
	const discarded, promoted = "1:CURRENT+LIVE 2:REJECTED", "1:PREVIOUS 2:CURRENT+LIVE"
	tests := []struct {
		name      string
		made      string // how far the rotation came
		cancelled bool
		refused   bool // the current login
		want      string
		asked     bool // Secrets Manager, although it never answers
	}{
		{"nothing was made, and nobody takes it up", "", false, false, discarded, true},
		{"the login wasn't made", "create", false, false, discarded, true},
		{"both logins work", "set", false, false, discarded, true},
		{"only the pending login works", "set", false, true, promoted, true},
		{"cancelled before anything was made", "", true, false, discarded, false},
		{"cancelled before the login was made", "create", true, false, discarded, false},
		{"cancelled, and both logins work", "set", true, false, discarded, false},
		{"cancelled, and only the pending login works", "set", true, true, promoted, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := strand(t, tt.made)
			if tt.cancelled {
				m.cancel()
			}
			if tt.refused {
				m.target.logins["login-1"], m.excused = "refused", true
			}
			m.survive()
			m.unpend()
			m.wantLabels(tt.want)
			if asked := m.asks() > 0; asked != tt.asked {
				t.Errorf("Secrets Manager was asked %d times", m.asks())
			}
		})
	}
}

func TestAStrandedPendingThatWorksIsAskedForOnceMore(t *testing.T) {
	t.Parallel()
	m := strand(t, "set")
	m.survive()
	if n := m.asks(); n != 2 {
		t.Errorf("asked %d times, want once by the watchdog and once by the run", n)
	}
}

// What can't be seen decides nothing: while the database is away the rotation is
// neither discarded nor promoted.
func TestAStrandedPendingWaitsForAnAnswer(t *testing.T) {
	t.Parallel()
	m := strand(t, "set")
	m.cancel()
	for range 400 {
		m.target.fail["test"] = fault.New(fault.Unavailable, "the database is down")
		m.watch()
	}
	if got, want := m.labels(), "1:CURRENT+LIVE 2:CANDIDATE+LIVE+PENDING"; got != want {
		t.Errorf("labels %q, want %q", got, want)
	}
	delete(m.target.fail, "test")
	m.survive()
	m.wantLabels("1:CURRENT+LIVE 2:REJECTED")
}

// While the engine's own login is refused, nothing is known of either credential:
// nothing is decided, and what the run waits for says whose login it is.
func TestAStrandedPendingWaitsForTheAdmin(t *testing.T) {
	t.Parallel()
	refused := &rotation.OwnLoginError{Err: fault.New(fault.CredentialRejected, "the admin is refused")}
	m := strand(t, "set")
	m.cancel()
	m.target.admin = fmt.Errorf("looking at the nodes: %w", refused)
	for range 400 {
		m.watch()
	}
	if got, want := m.labels(), "1:CURRENT+LIVE 2:CANDIDATE+LIVE+PENDING"; got != want {
		t.Errorf("labels %q, want %q", got, want)
	}
	for name, in := range m.runs.in {
		if m.runs.runs[name].Status != rotation.RunRunning {
			continue
		}
		res, err := m.call(rotation.StepCreate, m.executions[name].request(in))
		m.must(err)
		if res.Outcome != rotation.Unknown || len(res.Missing) != 1 || !strings.Contains(res.Missing[0], "the admin is refused") {
			t.Errorf("answered %+v", res)
		}
	}
	m.target.admin = nil
	m.survive()
	m.wantLabels("1:CURRENT+LIVE 2:REJECTED")
}

// What has no value works nowhere, whatever the admin could say: it is given up, and
// the fault is the admin's.
func TestAStrandedPendingWithoutAValueDoesntWaitForTheAdmin(t *testing.T) {
	t.Parallel()
	m := strand(t, "")
	m.cancel()
	m.target.admin = &rotation.OwnLoginError{Err: fault.New(fault.CredentialRejected, "the admin is refused")}
	m.survive()
	m.wantLabels("1:CURRENT+LIVE 2:REJECTED")
	var causes []string
	for _, x := range m.executions {
		causes = append(causes, x.cause)
	}
	if all := strings.Join(causes, "\n"); !strings.Contains(all, "the admin is refused") || !strings.Contains(all, string(fault.CredentialRejected)) {
		t.Errorf("the run failed by %q", all)
	}
}

func TestNothingIsDecidedWhenNeitherWorks(t *testing.T) {
	t.Parallel()
	m := strand(t, "create")
	m.cancel()
	m.target.logins["login-1"], m.excused = "refused", true
	var found []rotation.Finding
	for range 400 {
		w, err := m.Watch(t.Context(), arn, rotation.EnsureOptions{Retry: true})
		m.must(err)
		found = w.Findings
		for name, in := range m.runs.in {
			if m.runs.runs[name].Status == rotation.RunRunning {
				m.step(name, in)
			}
		}
		m.now = m.now.Add(m.policy().HeadLimit)
	}
	if !named(found, rotation.RunStuck) || m.target.logins["login-1"] != "refused" {
		t.Errorf("found %+v, labels %s", found, m.labels())
	}
	m.target.logins["login-1"] = "accepted" // a person has mended it
	_, err := m.EnsureRun(t.Context(), arn, rotation.EnsureOptions{Resume: true})
	m.must(err)
	m.survive()
	m.wantLabels("1:CURRENT+LIVE 2:REJECTED")
}

func TestAPausedSecretIsntTouched(t *testing.T) {
	t.Parallel()
	m := strand(t, "set")
	m.cancel()
	m.store.Edit(arn, func(d *rotation.Description) { d.Paused = true })
	before := m.labels()
	w, err := m.Watch(t.Context(), arn, rotation.EnsureOptions{Retry: true})
	m.must(err)
	if len(m.runs.runs) > 0 || m.labels() != before || !named(w.Findings, rotation.Paused) {
		t.Errorf("runs %v, labels %s, found %+v", m.runs.runs, m.labels(), w.Findings)
	}
}

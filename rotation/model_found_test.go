package rotation_test

import (
	"context"
	"strings"
	"testing"

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

package rotation_test

import (
	"slices"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

// functionLimit is that of the fixture's policy.
const functionLimit = 10 * time.Second

// A machine's create that was killed between its two writes is taken up again.
func TestCreateKilledBeforeItClaimedPending(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverMachine)
	w.store.Fail = func(c rotationtest.Call) error {
		if c.Op == "Attach" && c.Label == rotation.Pending {
			w.store.Fail = nil
			return fault.New(fault.Unavailable, "killed")
		}
		return nil
	}
	wantFault(t, w.rotate(v2), fault.Unavailable)
	w.must(w.rotate(v2))
	w.wantLabels("1:LIVE+PREVIOUS+RETIRING 2:CURRENT+LIVE")
	w.must(w.tail(v2, rotation.Forward))
	w.wantLabels("1:PREVIOUS 2:CURRENT+LIVE")
}

func TestAbortTakesTheCandidatesLabelOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverMachine)
	change := rotation.Change{Secret: arn, To: v3, Policy: rotation.Policy{Driver: rotation.DriverMachine}}
	w.must(w.store.Put(t.Context(), change, rotation.NewValue("login-3")))
	req := rotation.Request{Secret: arn, Token: v3, Direction: rotation.Head, Generation: 1}
	res, err := w.Rollback(t.Context(), req)
	w.must(err)
	if res.Outcome != rotation.Wait || res.After != functionLimit || len(w.store.Labels(arn)[v3]) == 0 {
		t.Errorf("a function may still claim it: %s, after %s, labels %s", res.Outcome, res.After, w.labels())
	}
	req.Cursor, w.now = res.Cursor, w.now.Add(res.After)
	res, err = w.Rollback(t.Context(), req)
	w.must(err)
	if res.Outcome != rotation.Done || len(w.store.Labels(arn)[v3]) > 0 {
		t.Errorf("%s, labels %s", res.Outcome, w.labels())
	}
}

// Found by the model: the head failed by the other run's fault, and was left to a
// person for ever, though that person had mended the other run.
func TestAHeadGoesOnAfterTheRunThatWasStuckBeforeIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverMachine)
	w.must(w.rotate(v2))
	w.must(w.store.Put(t.Context(), rotation.Change{Secret: arn, To: v3}, rotation.NewValue("login-3")))
	w.must(w.store.Attach(t.Context(), arn, rotation.Pending, v3))
	forward, head := rotation.RunName(arn, v2, rotation.Forward), rotation.RunName(arn, v3, rotation.Head)
	w.runs.end(forward+"-g1", rotation.RunFailed, w.now, `{"Error":"Keyturn.IdentityInUse"}`)
	_, err := w.Rollback(t.Context(), rotation.Request{Secret: arn, Token: v3, Direction: rotation.Head, Generation: 1})
	wantFault(t, err, fault.DrainInProgress)
	w.must(w.runs.Start(t.Context(), head+"-g1", rotation.Input{}))
	w.runs.end(head+"-g1", rotation.RunFailed, w.now, `{"Error":"Keyturn.DrainInProgress"}`)

	w.must(w.tail(v2, rotation.Forward))
	w.must(w.store.Detach(t.Context(), arn, rotation.Rejected, v3)) // moved to another rollback since
	w.now = w.now.Add(time.Hour)
	e, err := w.EnsureRun(t.Context(), arn, rotation.EnsureOptions{})
	w.must(err)
	if !e.Started || e.Run.Name != head+"-g2" {
		t.Errorf("%+v", e)
	}
}

// A head whose own rollback is stuck says why in that one's words.
func TestAHeadWhoseOwnRollbackIsStuck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverMachine)
	w.must(w.store.Put(t.Context(), rotation.Change{Secret: arn, To: v3}, rotation.NewValue("login-3")))
	w.must(w.store.Attach(t.Context(), arn, rotation.Pending, v3))
	back := rotation.RunName(arn, v3, rotation.Back)
	w.must(w.runs.Start(t.Context(), back+"-g1", rotation.Input{}))
	w.runs.end(back+"-g1", rotation.RunFailed, w.now.Add(-time.Hour), `{"Error":"Keyturn.PermissionDenied"}`)
	_, err := w.Rollback(t.Context(), rotation.Request{Secret: arn, Token: v3, Direction: rotation.Head, Generation: 1})
	wantFault(t, err, fault.PermissionDenied)
}

func TestTheTrailShowsWhetherARollbackCouldBeAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverMachine)
	w.must(w.rotate(v2))
	w.store.Fail = func(c rotationtest.Call) error {
		if c.Op == "Attach" && c.Label == rotation.Rejected {
			w.store.Fail = nil
			return fault.New(fault.Unavailable, "5xx")
		}
		return nil
	}
	before := len(w.journal.records)
	_, err := w.RequestRollback(t.Context(), arn)
	wantFault(t, err, fault.Unavailable)
	requestRollback(t, w, v2)
	var got []string
	for _, r := range w.journal.records[before:] {
		got = append(got, string(r.Phase)+" "+r.Outcome)
	}
	if want := []string{"intent ", "result Keyturn.Unavailable", "intent ", "result done"}; !slices.Equal(got, want) {
		t.Errorf("records %q, want %q", got, want)
	}
}

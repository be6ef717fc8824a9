package rotation_test

import (
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

// once fails one kind of write one time.
func once(op string, l rotation.Label, w *world) func(rotationtest.Call) error {
	return func(c rotationtest.Call) error {
		if c.Op == op && c.Label == l {
			w.store.Fail, w.store.FailAfter = nil, nil
			return fault.New(fault.Unavailable, "interrupted")
		}
		return nil
	}
}

// In pair mode the dead previous version has the login of the discarded one. A
// revoke that broke off took it for somebody's displaced version, and got stuck.
func TestDiscardInPairModeThatBreaksOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.promote(v2)
	w.must(w.tail(v2, rotation.Forward))
	w.pend(v3, "login-1")
	requestRollback(t, w, v3)
	w.store.FailAfter = once("Detach", rotation.Pending, w)
	wantFault(t, w.tail(v3, rotation.Back), fault.Unavailable)
	_, err := w.Revoke(t.Context(), back(v3))
	w.must(err)
	wantFault(t, w.tail(v3, rotation.Back), fault.Superseded)
	w.wantLogins("login-2 accepted")
	w.wantLabels("1:PREVIOUS 2:CURRENT+LIVE 3:REJECTED")
}

// The same, when Secrets Manager abandons a rotation that is being turned back
// and takes AWSPENDING off itself.
func TestAbandonedWhileDiscardedInPairMode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.promote(v2)
	w.must(w.tail(v2, rotation.Forward))
	w.pend(v3, "login-1")
	requestRollback(t, w, v3)
	_, err := w.Rollback(t.Context(), back(v3))
	w.must(err)
	w.must(w.store.Detach(t.Context(), arn, rotation.Pending, v3))
	w.must(w.tail(v3, rotation.Back))
	w.wantLogins("login-2 accepted")
	w.wantLabels("1:PREVIOUS 2:CURRENT+LIVE 3:REJECTED")
}

// A version put by hand between the two writes of a finish starts a drain. The
// head that fails beside it waits for that drain, and then is turned back.
func TestPutByHandWithinAFinish(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		w := newWorld(t, driver)
		h := newHouse(w)
		w.store.Fail = func(c rotationtest.Call) error {
			if c.Op == "Move" && c.Label == rotation.Current {
				w.store.Fail = nil
				return fault.New(fault.Unavailable, "interrupted")
			}
			return nil
		}
		_, err := w.StartHead(t.Context(), arn, v2)
		w.must(err)
		for w.store.Labels(arn).Holder(rotation.Retiring) == "" {
			h.tick()
		}
		w.putByHand(v3, "login-3")
		h.settle()
		h.settled("login-3")
	}
}

// Nobody polls when the version is put by hand: the run that drains towards it
// finds the one that was current in between.
func TestPutByHandAfterADrainThatIsStuck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.promote(v2)
	w.runs.end(rotation.RunName(arn, v2, rotation.Forward)+"-g1", rotation.RunFailed, w.now, `{"Error":"Keyturn.DrainExpired"}`)
	w.putByHand(v3, "login-3")
	h := newHouse(w)
	h.settle()
	h.settled("login-3")
}

// The same, when a rollback comes before anybody has polled.
func TestRollbackOfAVersionPutByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.promote(v2)
	w.putByHand(v3, "login-3")
	requestRollback(t, w, v3)
	h := newHouse(w)
	h.settle()
	h.settled("login-1")
}

// A head doesn't wait for ever for a back run that waits for a person.
func TestAbortEndsWhenTheRollbackIsStuck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverMachine)
	w.target.fail["test"] = fault.New(fault.Internal, "broken")
	if err := w.rotate(v2); err == nil {
		t.Fatal("no failure")
	}
	abort := rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, Generation: 1}
	_, err := w.Rollback(t.Context(), abort)
	w.must(err)
	w.runs.end(rotation.RunName(arn, v2, rotation.Back)+"-g1", rotation.RunFailed, w.now, `{"Error":"Keyturn.PermissionDenied"}`)
	_, err = w.Rollback(t.Context(), abort)
	wantFault(t, err, fault.PermissionDenied)
}

// In pair mode the previous login is the next rotation's: a finish that comes so
// late must not start a drain of it.
func TestLateFinishBesideTheNextRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.promote(v2)
	w.must(w.tail(v2, rotation.Forward))
	w.pend(v3, "login-1")
	_, err := w.Finish(t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, ByStore: true})
	w.must(err)
	w.wantLabels("1:PREVIOUS 2:CURRENT+LIVE 3:CANDIDATE+LIVE+PENDING")
}

// The claim's last write may never succeed.
func TestDiscardTakesTheCandidatesLabelOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverMachine)
	w.store.Fail = once("Detach", rotation.Candidate(v2), w)
	wantFault(t, w.rotate(v2), fault.Unavailable)
	requestRollback(t, w, v2)
	w.must(w.tail(v2, rotation.Back))
	w.wantLabels("1:CURRENT+LIVE 2:REJECTED")
}

// A version that has come back isn't left marked as disabled.
func TestMoveBackThatBreaksOffAfterTheMove(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.must(w.rotate(v2))
	_, err := w.Disable(t.Context(), forward(v2))
	w.must(err)
	requestRollback(t, w, v2)
	w.store.FailAfter = once("Move", rotation.Current, w)
	_, _ = w.Rollback(t.Context(), back(v2))
	_, err = w.Rollback(t.Context(), back(v2))
	w.must(err)
	if w.store.Labels(arn).Has(v1, rotation.Disabled) {
		t.Error(w.labels())
	}
}

// A rollback before promotion waits for somebody else's drain, and that is driven.
func TestRollbackWaitsForAnotherDrain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverMachine)
	w.target.logins["login-2"] = "accepted"
	w.store.PutByHand(arn, v2, "login-2") // login-1 stays alive
	h := newHouse(w)
	_, err := w.StartHead(t.Context(), arn, v3)
	w.must(err)
	h.tick() // create
	_, err = w.RetirePrevious(t.Context(), arn)
	w.must(err)
	w.target.fail["set"] = fault.New(fault.Internal, "broken")
	h.settle()
	h.settled("login-2")
}

// A head that fails while another rollback is under way doesn't take its mark.
func TestAbortLeavesAnotherRollbackItsMark(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.promote(v2)
	wantFault(t, w.rotate(v3), fault.DrainInProgress)
	requestRollback(t, w, v2)
	_, err := w.Rollback(t.Context(), back(v2))
	w.must(err)
	res, err := w.Rollback(t.Context(), rotation.Request{Secret: arn, Token: v3, Direction: rotation.Head, Generation: 1})
	w.must(err)
	if res.Outcome != rotation.Wait || !w.store.Labels(arn).Has(v2, rotation.Rejected) {
		t.Fatalf("%s, labels %s", res.Outcome, w.labels())
	}
	w.must(w.tail(v2, rotation.Back))
	w.wantLogins("login-1 accepted")
}

// A rollback that runs on after its execution was stopped, or that is called
// again because its answer was lost, may come when another run has ended the
// rollback. It took the drain's lock for the dead version again.
func TestRollbackThatComesLateDoesNothing(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		w := newWorld(t, driver)
		w.promote(v2)
		requestRollback(t, w, v2)
		w.must(w.tail(v2, rotation.Back))
		before := w.labels()
		_, err := w.Rollback(t.Context(), back(v2))
		wantFault(t, err, fault.Superseded)
		w.wantLabels(before)
	}
}

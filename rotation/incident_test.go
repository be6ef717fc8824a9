package rotation_test

import (
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

func forward(token string) rotation.Request {
	return rotation.Request{Secret: arn, Token: token, Direction: rotation.Forward, Generation: 1}
}

func back(token string) rotation.Request {
	return rotation.Request{Secret: arn, Token: token, Direction: rotation.Back, Generation: 1}
}

// requestRollback asks for it and checks that the back run is started.
func requestRollback(t *testing.T, w *world, token string) {
	t.Helper()
	e, err := w.RequestRollback(t.Context(), arn)
	w.must(err)
	if e.Situation.Direction != rotation.Back || e.Situation.Token != token || e.Run.Status != rotation.RunRunning {
		t.Fatalf("the request gave %+v", e)
	}
}

func TestRollbackBeforePromotionDiscardsTheNewOne(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		for _, until := range []string{"set", "test", "finish"} {
			t.Run(string(driver)+" fails in "+until, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, driver)
				if until == "finish" {
					w.store.Fail = func(c rotationtest.Call) error {
						if c.Op == "Move" && c.Label == rotation.Current {
							return fault.New(fault.Internal, "broken")
						}
						return nil
					}
				} else {
					w.target.fail[until] = fault.New(fault.Internal, "broken")
				}
				if err := w.rotate(v2); err == nil {
					t.Fatal("the head didn't fail")
				}
				w.store.Fail = nil
				abort := rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, Generation: 1}
				res, err := w.Rollback(t.Context(), abort)
				w.must(err)
				if res.Outcome != rotation.Wait {
					t.Fatalf("abort answered %s before the back run ended", res.Outcome)
				}
				w.must(w.tail(v2, rotation.Back))
				res, err = w.Rollback(t.Context(), abort)
				w.must(err)
				if res.Outcome != rotation.Done {
					t.Fatalf("abort answered %s", res.Outcome)
				}
				w.wantLogins("login-1 accepted")
				w.wantLabels("1:CURRENT+LIVE 2:REJECTED")
				w.must(w.rotate(v3))
				w.must(w.tail(v3, rotation.Forward))
				w.wantLogins("login-3 accepted")
			})
		}
	}
}

func TestRollbackAfterPromotionExchangesOldAndNew(t *testing.T) {
	t.Parallel()
	eachSetting(t, func(t *testing.T, w *world, afterHead func()) {
		w.must(w.rotate(v2))
		afterHead()
		_, err := w.Disable(t.Context(), forward(v2))
		w.must(err)
		requestRollback(t, w, v2)
		requestRollback(t, w, v2)
		if _, err := w.Revoke(t.Context(), forward(v2)); !fault.Is(err, fault.Superseded) {
			t.Fatalf("the forward run revoked during a rollback: %v", err)
		}
		w.must(w.tail(v2, rotation.Back))
		w.wantLogins("login-1 accepted")
		w.wantLabels("1:CURRENT+LIVE 2:PREVIOUS+REJECTED")
		for _, late := range []string{v2} {
			_, err := w.Set(t.Context(), rotation.Request{Secret: arn, Token: late, Direction: rotation.Head, ByStore: true})
			wantFault(t, err, fault.Rejected)
		}
		w.must(w.rotate(v3))
		afterHead()
		w.must(w.tail(v3, rotation.Forward))
		w.wantLogins("login-3 accepted")
	})
}

// A label write that breaks off anywhere in a rollback leaves consumers with a
// working credential, and calling again converges.
func TestRollbackConvergesWhereverItStops(t *testing.T) {
	t.Parallel()
	for n := range 12 {
		w := newWorld(t, rotation.DriverSecretsManager)
		w.must(w.rotate(v2))
		_, err := w.Disable(t.Context(), forward(v2))
		w.must(err)
		requestRollback(t, w, v2)
		writes := 0
		stop := func(c rotationtest.Call) error {
			if c.Op == "Move" || c.Op == "Detach" || c.Op == "Attach" {
				if writes++; writes == n/2+1 {
					return fault.New(fault.Unavailable, "stopped")
				}
			}
			return nil
		}
		if n%2 == 0 {
			w.store.Fail = stop
		} else {
			w.store.FailAfter = stop
		}
		for range 4 {
			_, _ = w.Rollback(t.Context(), back(v2))
			w.check()
		}
		w.store.Fail, w.store.FailAfter = nil, nil
		w.must(w.tail(v2, rotation.Back))
		w.wantLogins("login-1 accepted")
	}
}

func TestRollbackAfterRevokeIsTooLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.promote(v2)
	_, err := w.Disable(t.Context(), forward(v2))
	w.must(err)
	requestRollback(t, w, v2)
	delete(w.target.logins, "login-1") // a revoke that was faster
	_, err = w.Rollback(t.Context(), back(v2))
	wantFault(t, err, fault.TooLate)
	w.wantLabels("1:DISABLED+LIVE+PREVIOUS+RETIRING 2:CURRENT+LIVE")
	w.must(w.tail(v2, rotation.Forward))
	w.wantLogins("login-2 accepted")
	_, err = w.RequestRollback(t.Context(), arn)
	wantFault(t, err, fault.TooLate)
}

// A finish that was past its guard when the rollback came moves AWSCURRENT to
// the rejected version: the new version may not be disabled then.
func TestZombieFinishDuringARollback(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.must(w.rotate(v2))
	requestRollback(t, w, v2)
	_, err := w.Rollback(t.Context(), back(v2))
	w.must(err)
	w.must(w.store.Move(t.Context(), arn, rotation.Current, v2, v1)) // the zombie
	_, err = w.Disable(t.Context(), back(v2))
	wantFault(t, err, fault.Superseded)
	w.check()
	w.must(w.tail(v2, rotation.Back))
	w.wantLogins("login-1 accepted")
}

func TestRollbackDuringSecretsManagersRetries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.target.fail["test"] = fault.New(fault.Unavailable, "the replica is down")
	wantFault(t, w.rotate(v2), fault.Unavailable)
	requestRollback(t, w, v2)
	wantFault(t, w.rotate(v2), fault.Rejected) // Secrets Manager tries again
	w.must(w.tail(v2, rotation.Back))
	w.wantLogins("login-1 accepted")
	w.wantLabels("1:CURRENT+LIVE 2:REJECTED")
	_, err := w.Create(t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, ByStore: true})
	wantFault(t, err, fault.Rejected)
}

func TestPutByHandDuringADrain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.promote(v2)
	w.putByHand(v3, "login-3")
	_, err := w.Drain(t.Context(), forward(v2))
	wantFault(t, err, fault.Superseded)
	w.wantLabels("1:LIVE+RETIRING 2:LIVE+PREVIOUS 3:CURRENT")
	if run, _ := w.runs.Describe(t.Context(), arn, rotation.RunName(arn, v3, rotation.Forward)+"-g1"); run.Status != rotation.RunRunning {
		t.Errorf("no run drains towards the version put by hand: %v", w.runs.names())
	}
	wantFault(t, w.rotate("44444444-4444-4444-8444-444444444444"), fault.DrainInProgress)
	w.must(w.tail(v3, rotation.Forward))
	w.wantLogins("login-3 accepted")
	w.wantLabels("2:PREVIOUS 3:CURRENT+LIVE")
}

func TestPutByHandWithTheSameLoginIsNotRetired(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.promote(v2)
	w.store.PutByHand(arn, v3, "login-2")
	_, err := w.Drain(t.Context(), forward(v2))
	wantFault(t, err, fault.Superseded)
	w.wantLabels("1:LIVE+RETIRING 2:LIVE+PREVIOUS 3:CURRENT")
	w.must(w.tail(v3, rotation.Forward))
	w.wantLogins("login-2 accepted")
}

func TestPutByHandOfTheOldLoginIsNeverDisabled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.promote(v2)
	w.store.PutByHand(arn, v3, "login-1")
	_, err := w.Disable(t.Context(), forward(v3))
	wantFault(t, err, fault.IdentityInUse)
	w.wantLogins("login-1 accepted", "login-2 accepted")
	if w.store.Labels(arn).Has(v1, rotation.Disabled) {
		t.Error("the label of the disable was put on")
	}
}

func TestPutByHandDuringARollback(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.must(w.rotate(v2))
	requestRollback(t, w, v2)
	_, err := w.Rollback(t.Context(), back(v2))
	w.must(err)
	w.putByHand(v3, "login-3")
	w.must(w.tail(v2, rotation.Back))
	w.wantLabels("1:LIVE+PREVIOUS 2:REJECTED 3:CURRENT+LIVE")
	e, err := w.EnsureRun(t.Context(), arn, rotation.EnsureOptions{})
	w.must(err)
	if e.Run.Status != rotation.RunRunning || e.Situation.Direction != rotation.Forward {
		t.Fatalf("nobody drains the displaced version: %+v", e)
	}
	w.must(w.tail(v3, rotation.Forward))
	w.wantLogins("login-3 accepted")
}

func TestRevokeIsDoneWhenItsAnswerWasLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.must(w.rotate(v2))
	w.must(w.tail(v2, rotation.Forward))
	res, err := w.Revoke(t.Context(), forward(v2))
	if err != nil || res.Outcome != rotation.Done {
		t.Errorf("%v %v", res.Outcome, err)
	}
}

func TestRevokeWithoutDisableGoesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.must(w.rotate(v2))
	res, err := w.Revoke(t.Context(), forward(v2))
	if err != nil || res.Outcome != rotation.Reopened {
		t.Errorf("%v %v", res.Outcome, err)
	}
	w.wantLogins("login-1 accepted", "login-2 accepted")
}

func TestMachineDrivesSecretsManager(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	req := rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, Generation: 1}
	res, err := w.Create(t.Context(), req)
	w.must(err)
	if res.Outcome != rotation.Wait {
		t.Fatalf("create answered %s", res.Outcome)
	}
	w.wantLabels("1:CURRENT 2:PENDING")
	req.Cursor = res.Cursor
	other := rotation.Request{Secret: arn, Token: v3, Direction: rotation.Head, Generation: 1}
	_, err = w.Create(t.Context(), other)
	wantFault(t, err, fault.RotationInProgress)
	if res, err := w.Rollback(t.Context(), other); err != nil || res.Outcome != rotation.Done {
		t.Errorf("the second machine turned something back: %v %v", res, err)
	}
	w.wantLabels("1:CURRENT 2:PENDING")
	w.must(w.rotate(v2))
	res, err = w.Create(t.Context(), req)
	w.must(err)
	if res.Outcome != rotation.Done {
		t.Errorf("create answered %s after promotion", res.Outcome)
	}
}

func TestHeadThatTakesTooLongExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	req := rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, Generation: 1}
	res, err := w.Create(t.Context(), req)
	w.must(err)
	req.Cursor = res.Cursor
	w.now = w.now.Add(2 * w.policy().HeadLimit)
	_, err = w.Create(t.Context(), req)
	wantFault(t, err, fault.HeadExpired)
}

func TestTwoMachinesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverMachine)
	first := rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, Generation: 1}
	second := rotation.Request{Secret: arn, Token: v3, Direction: rotation.Head, Generation: 1}
	// The second stores its candidate before the first has claimed AWSPENDING.
	w.must(w.store.Put(t.Context(), rotation.Change{Secret: arn, To: v3, Policy: rotation.Policy{Driver: rotation.DriverMachine}}, rotation.NewValue("login-3")))
	_, err := w.Create(t.Context(), first)
	w.must(err)
	_, err = w.Create(t.Context(), second)
	wantFault(t, err, fault.RotationInProgress)
	if w.store.Labels(arn).Holder(rotation.Pending) != v2 {
		t.Errorf("labels %s", w.labels())
	}
}

func (w *world) policy() rotation.Policy {
	p, err := w.Policies.Policy(arn)
	w.must(err)
	return p
}

// In pair mode the previous, revoked version and the pending one have one login.
func TestDiscardInPairModeBesideADeadPreviousVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.promote(v2)
	w.must(w.tail(v2, rotation.Forward))
	w.wantLabels("1:PREVIOUS 2:CURRENT+LIVE")
	w.pend(v3, "login-1")
	requestRollback(t, w, v3)
	w.must(w.tail(v3, rotation.Back))
	w.wantLogins("login-2 accepted")
}

func TestDiscardOfAVersionWithoutAValue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.must(w.store.Rotate(t.Context(), arn, v2))
	requestRollback(t, w, v2)
	w.must(w.tail(v2, rotation.Back))
	w.wantLabels("1:CURRENT+LIVE 2:REJECTED")
	w.wantLogins("login-1 accepted")
}

// A secret that AWS's sample functions have rotated: the standby is alive.
func TestAdoptRetiresThePreviousLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.putByHand(v2, "login-2")
	w.wantLabels("1:PREVIOUS 2:CURRENT")
	e, err := w.RetirePrevious(t.Context(), arn)
	w.must(err)
	if !e.Started {
		t.Fatalf("%+v", e)
	}
	w.must(w.tail(v2, rotation.Forward))
	w.wantLogins("login-2 accepted")
	w.wantLabels("1:PREVIOUS 2:CURRENT+LIVE")
}

// A rotation that waits for a drain isn't what a person wants turned back.
func TestRollbackWhileAnotherRotationWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.promote(v2)
	wantFault(t, w.rotate(v3), fault.DrainInProgress)
	requestRollback(t, w, v2)
	w.must(w.tail(v2, rotation.Back))
	w.wantLabels("1:CURRENT+LIVE 2:PREVIOUS+REJECTED 3:PENDING")
	w.must(w.rotate(v3))
	w.must(w.tail(v3, rotation.Forward))
	w.wantLogins("login-3 accepted")
}

package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

var drivers = []rotation.Driver{rotation.DriverSecretsManager, rotation.DriverMachine}

// eachSetting runs a test under both drivers, with AWSPENDING left or removed
// after success.
func eachSetting(t *testing.T, test func(*testing.T, *world, func())) {
	t.Helper()
	for _, driver := range drivers {
		for _, keep := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/keep pending %v", driver, keep), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, driver)
				test(t, w, func() {
					if !keep {
						w.unpend()
					}
				})
			})
		}
	}
}

func TestRotationEndsStable(t *testing.T) {
	t.Parallel()
	eachSetting(t, func(_ *testing.T, w *world, afterHead func()) {
		w.must(w.rotate(v2))
		afterHead()
		if !w.store.Labels(arn).Has(v1, rotation.Retiring) {
			t.Errorf("labels after finish: %s", w.labels())
		}
		w.must(w.tail(v2, rotation.Forward))
		w.wantLogins("login-2 accepted")
		w.must(w.store.Detach(w.t.Context(), arn, rotation.Pending, v2))
		w.wantLabels("1:PREVIOUS 2:CURRENT+LIVE")
		w.must(w.rotate(v3))
		w.must(w.tail(v3, rotation.Forward))
		w.wantLogins("login-3 accepted")
	})
}

func TestRetiringIsAttachedBeforeCurrentMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.must(w.rotate(v2))
	var writes []string
	for _, c := range w.store.Calls() {
		if c.Op == "Attach" || c.Op == "Move" || c.Op == "Detach" {
			writes = append(writes, c.Op+" "+string(c.Label))
		}
	}
	if want := []string{"Attach KEYTURN_LIVE_" + v1, "Attach KEYTURN_RETIRING", "Detach KEYTURN_CANDIDATE_" + v2, "Move AWSCURRENT"}; !slices.Equal(writes, want) {
		t.Errorf("label writes %v, want %v", writes, want)
	}
}

func TestEveryStepMayRunTwice(t *testing.T) {
	t.Parallel()
	eachSetting(t, func(t *testing.T, w *world, afterHead func()) {
		w.must(w.rotate(v2))
		req := rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, Generation: 1, ByStore: true}
		for _, late := range []func(context.Context, rotation.Request) (rotation.Result, error){w.Create, w.Set, w.Test, w.Finish} {
			if res, err := late(t.Context(), req); err != nil || res.Outcome != rotation.Done {
				t.Errorf("a late step of a promoted version: %v %v", res.Outcome, err)
			}
		}
		afterHead()
		tail := rotation.Request{Secret: arn, Token: v2, Direction: rotation.Forward, Generation: 1}
		for _, step := range []func(context.Context, rotation.Request) (rotation.Result, error){w.Adopt, w.Adopt, w.Drain, w.Drain, w.Disable, w.Disable, w.Revoke, w.Revoke} {
			if res, err := step(t.Context(), tail); err != nil || res.Outcome != rotation.Done {
				t.Fatalf("%v %v", res.Outcome, err)
			}
			w.check()
		}
		w.wantLogins("login-2 accepted")
	})
}

func TestBadEntriesChangeNothing(t *testing.T) {
	t.Parallel()
	disabled := false
	tests := []struct {
		name    string
		prepare func(*world)
		secret  string
		token   string
		want    fault.Name
	}{
		{"unlisted secret", nil, "arn:other", v2, fault.NotManaged},
		{"no secret", nil, "", v2, fault.InvalidInput},
		{"short token", nil, arn, "short", fault.InvalidInput},
		{"foreign token", nil, arn, v3, fault.InvalidStage},
		{"deleted secret", func(w *world) { w.store.Edit(arn, func(d *rotation.Description) { d.Deleted = true }) }, arn, v2, fault.RotationDisabled},
		{"replica", func(w *world) { w.store.Edit(arn, func(d *rotation.Description) { d.ReplicaOf = "eu-west-1" }) }, arn, v2, fault.RotationDisabled},
		{"managed by a service", func(w *world) { w.store.Edit(arn, func(d *rotation.Description) { d.OwningService = "rds" }) }, arn, v2, fault.RotationDisabled},
		{"rotation disabled", func(w *world) {
			w.store.Edit(arn, func(d *rotation.Description) { d.RotationEnabled = &disabled })
		}, arn, v2, fault.RotationDisabled},
		{"paused", func(w *world) { w.store.Edit(arn, func(d *rotation.Description) { d.Paused = true }) }, arn, v2, fault.RotationDisabled},
		{"not pending", func(w *world) { w.must(w.store.Detach(context.Background(), arn, rotation.Pending, v2)) }, arn, v2, fault.InvalidStage},
		{"rolled back", func(w *world) { w.must(w.store.Attach(context.Background(), arn, rotation.Rejected, v2)) }, arn, v2, fault.Rejected},
		{"no AWSCURRENT", func(w *world) {
			w.store.Edit(arn, func(d *rotation.Description) { d.Versions[v1] = []rotation.Label{rotation.Previous} })
		}, arn, v2, fault.InvalidStage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rotation.DriverSecretsManager)
			w.must(w.store.Rotate(t.Context(), arn, v2))
			if tt.prepare != nil {
				tt.prepare(w)
			}
			before := w.labels()
			_, err := w.Create(t.Context(), rotation.Request{Secret: tt.secret, Token: tt.token, ByStore: true, Direction: rotation.Head})
			wantFault(t, err, tt.want)
			if fault.HintOf(err) == "" {
				t.Errorf("%v says nothing about the mend", err)
			}
			if after := w.labels(); after != before || len(w.target.steps) > 0 || len(w.target.logins) != 1 {
				t.Errorf("something changed: %q to %q, %v", before, after, w.target.steps)
			}
		})
	}
}

func TestRotationDuringADrainIsRefusedAndTakenUpAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.promote(v2)
	wantFault(t, w.rotate(v3), fault.DrainInProgress)
	if _, err := w.store.Value(t.Context(), arn, v3); !fault.Is(err, fault.InvalidStage) {
		t.Errorf("the refused rotation made a value: %v", err)
	}
	before := len(w.store.Calls())
	w.must(w.tail(v2, rotation.Forward))
	asked := slices.ContainsFunc(w.store.Calls()[before:], func(c rotationtest.Call) bool { return c.Op == "Rotate" && c.Version == v3 })
	if !asked {
		t.Error("revoke didn't ask for the rotation that waited")
	}
	w.must(w.rotate(v3))
	w.must(w.tail(v3, rotation.Forward))
	w.wantLogins("login-3 accepted")
}

func TestAStoppedPromotionIsFinishedByTheNextCall(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("answer lost %v", after), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rotation.DriverSecretsManager)
			once := func(c rotationtest.Call) error {
				if c.Op == "Move" && c.Label == rotation.Current {
					w.store.Fail, w.store.FailAfter = nil, nil
					return fault.New(fault.Ambiguous, "the connection broke")
				}
				return nil
			}
			if after {
				w.store.FailAfter = once
			} else {
				w.store.Fail = once
			}
			err := w.rotate(v2)
			if after {
				w.must(err) // the labels show that the label has moved
			} else {
				wantFault(t, err, fault.Ambiguous)
				w.wantLabels("1:CURRENT+LIVE+RETIRING 2:LIVE+PENDING")
				w.must(w.rotate(v2))
			}
			w.unpend()
			w.must(w.tail(v2, rotation.Forward))
			w.wantLogins("login-2 accepted")
		})
	}
}

func TestFinishSucceedsWithoutStepFunctions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.runs.down = true
	w.must(w.rotate(v2))
	w.runs.down = false
	if len(w.runs.names()) != 0 {
		t.Fatal("a run was started while Step Functions was down")
	}
	e, err := w.EnsureRun(t.Context(), arn, rotation.EnsureOptions{})
	w.must(err)
	if !e.Started || e.Situation.Direction != rotation.Forward {
		t.Errorf("the watchdog found %+v", e)
	}
}

func TestForwardStepsRecordIntentFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.must(w.rotate(v2))
	w.journal.down = true
	_, err := w.Adopt(t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Forward, Generation: 1})
	wantFault(t, err, fault.AuditUnavailable)
	if slices.Contains(w.target.steps, "adopt") {
		t.Error("adopt acted without its intent being recorded")
	}
	res, err := w.Disable(t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Forward, Generation: 1})
	if err != nil || res.Outcome != rotation.Done {
		t.Errorf("disable waited for the audit sink: %v %v", res.Outcome, err)
	}
}

func TestPollingRecordsOnlyNews(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.must(w.rotate(v2))
	w.target.waits["drain"] = 5
	before := len(w.journal.records)
	w.must(w.tail(v2, rotation.Forward))
	var drains []string
	for _, r := range w.journal.records[before:] {
		if r.Step == "drain" {
			drains = append(drains, string(r.Phase)+" "+r.Outcome)
		}
	}
	if want := []string{"intent ", "result wait", "result done"}; !slices.Equal(drains, want) {
		t.Errorf("records of the drain: %v, want %v", drains, want)
	}
}

func TestHoldIsAnsweredByDisable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.must(w.rotate(v2))
	res, err := w.Disable(t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Forward, Generation: 1})
	w.must(err)
	if res.After != 30*time.Second {
		t.Errorf("hold is %s", res.After)
	}
	w.unpend()
	w.wantLabels("1:DISABLED+LIVE+PREVIOUS+RETIRING 2:CURRENT+LIVE")
}

func TestDisableThatFindsSomebodyReopens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.must(w.rotate(v2))
	w.target.holders = 1
	w.must(w.tail(v2, rotation.Forward))
	want := []string{"create", "set", "test", "test", "adopt", "drain", "disable", "drain", "disable", "revoke"}
	if !slices.Equal(w.target.steps, want) {
		t.Errorf("steps %v, want %v", w.target.steps, want)
	}
}

func TestNoSecretValueInWhatIsPrintedOrRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.target.fail["set"] = fault.Wrap(fault.Internal, errors.New("x"), "y")
	_ = w.rotate(v2)
	w.must(w.rotate(v2))
	w.must(w.tail(v2, rotation.Forward))
	if text := fmt.Sprintf("%+v", w.journal.records); strings.Contains(text, "login-2") {
		t.Errorf("a value is in the records: %s", text)
	}
	v := rotation.NewValue("canary")
	for _, text := range []string{fmt.Sprint(v), fmt.Sprintf("%#v", v), fmt.Sprintf("%q %x %s %d", v, v, v, v), fmt.Sprintf("%v", struct{ V rotation.Value }{v})} {
		if strings.Contains(text, "canary") {
			t.Errorf("the value prints as %s", text)
		}
	}
}

func TestSetWaitsForAValueThatIsntReadableYet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	lag := 0
	w.store.Fail = func(c rotationtest.Call) error {
		if c.Op == "Value" && c.Version == v2 && lag > 0 {
			lag--
			return fault.New(fault.InvalidStage, "no value yet")
		}
		return nil
	}
	w.must(w.store.Rotate(t.Context(), arn, v2))
	req := rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, ByStore: true}
	_, err := w.Create(t.Context(), req)
	w.must(err)
	lag = 2
	w.target.fail["set"] = fault.New(fault.InvalidStage, "version %s has no value", v2)
	if res, err := w.Set(t.Context(), req); err != nil || res.Outcome != rotation.Done {
		t.Errorf("%v %v", res.Outcome, err)
	}
}

// lateStore shows labels as they were some reads ago.
type lateStore struct {
	*rotationtest.Store
	shown []rotation.Versions // answers, oldest first; then what is true
	moves bool                // the labels after a move show late
}

func (s *lateStore) Move(ctx context.Context, secret string, l rotation.Label, to, from string) error {
	if s.moves {
		s.shown = append(s.shown, s.Labels(secret))
	}
	return s.Store.Move(ctx, secret, l, to, from)
}

func (s *lateStore) Describe(ctx context.Context, secret string) (rotation.Description, error) {
	desc, err := s.Store.Describe(ctx, secret)
	if err == nil && len(s.shown) > 0 {
		desc.Versions, s.shown = s.shown[0], s.shown[1:]
	}
	return desc, err
}

func TestHeadStepsWaitForLabelsThatShowLate(t *testing.T) {
	t.Parallel()
	const looks, wait = 5, 1500 * time.Millisecond
	unmade := rotation.Versions{v1: {rotation.Current}}
	unclaimed := rotation.Versions{v1: {rotation.Current}, v2: {rotation.Candidate(v2)}}
	steps := func(r *rotation.Rotator) map[string]func(context.Context, rotation.Request) (rotation.Result, error) {
		return map[string]func(context.Context, rotation.Request) (rotation.Result, error){
			"create": r.Create, "set": r.Set, "test": r.Test, "finish": r.Finish,
		}
	}
	for _, driver := range []rotation.Driver{rotation.DriverSecretsManager, rotation.DriverMachine} {
		for _, step := range []string{"create", "set", "test", "finish"} {
			for _, late := range []rotation.Versions{unmade, unclaimed} {
				w := newWorld(t, driver)
				byStore := driver == rotation.DriverSecretsManager
				if byStore {
					w.must(w.store.Rotate(t.Context(), arn, v2))
				}
				req := rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, Generation: 1, ByStore: byStore}
				for _, before := range []string{"create", "set", "test"} {
					if before == step {
						break
					}
					_, err := steps(w.Rotator)[before](t.Context(), req)
					w.must(err)
				}
				w.slept = 0
				w.Store = &lateStore{Store: w.store, shown: slices.Repeat([]rotation.Versions{late}, looks)}
				res, err := steps(w.Rotator)[step](t.Context(), req)
				if err != nil || res.Outcome != rotation.Done || w.slept > wait {
					t.Errorf("%s, %s: %s, %v after %s", driver, step, res.Outcome, err, w.slept)
				}
			}
		}
	}

	t.Run("a foreign token is refused all the same", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, rotation.DriverSecretsManager)
		w.must(w.store.Rotate(t.Context(), arn, v2))
		_, err := w.Set(t.Context(), rotation.Request{Secret: arn, Token: v3, Direction: rotation.Head, ByStore: true})
		wantFault(t, err, fault.InvalidStage)
		if want := "steps are called by the rotation that made the version; start one with rotate-secret"; fault.HintOf(err) != want {
			t.Errorf("hint %q", fault.HintOf(err))
		}
		if w.slept != wait {
			t.Errorf("it waited %s, want %s", w.slept, wait)
		}
	})
	t.Run("what isn't late isn't waited for", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, rotation.DriverSecretsManager)
		w.must(w.store.Rotate(t.Context(), arn, v2))
		w.must(w.store.Attach(t.Context(), arn, rotation.Rejected, v2))
		_, err := w.Set(t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, ByStore: true})
		wantFault(t, err, fault.Rejected)
		if w.slept != 0 {
			t.Errorf("it waited %s", w.slept)
		}
	})
	t.Run("a look that fails decides nothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, rotation.DriverSecretsManager)
		describes := 0
		w.store.Fail = func(c rotationtest.Call) error {
			if c.Op == "Describe" {
				describes++
			}
			if describes == 2 {
				return fault.New(fault.Throttled, "slower")
			}
			return nil
		}
		_, err := w.Set(t.Context(), rotation.Request{Secret: arn, Token: v3, Direction: rotation.Head, ByStore: true})
		wantFault(t, err, fault.Throttled)
	})
}

// Found by internal/chaos: right after AWSCURRENT had moved back, the lock's holder
// didn't show as current yet, and was taken for somebody else's drain.
func TestARollbackGoesOnThoughItsMoveShowsLate(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		w := newWorld(t, driver)
		w.promote(v2)
		requestRollback(t, w, v2)
		w.Store = &lateStore{Store: w.store, moves: true}
		res, err := w.Rollback(t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Back, Generation: 1})
		if err != nil || res.Outcome != rotation.Done {
			t.Errorf("%s: %s, %v", driver, res.Outcome, err)
		}
		if v := w.store.Labels(arn); !v.Has(v1, rotation.Current) || !v.Has(v2, rotation.Retiring) {
			t.Errorf("%s: labels %s", driver, w.labels())
		}
	}
}

// Found by internal/chaos: the rollback's next generation began its drain anew, so
// that one which needs longer than a generation has polls never came to its end.
func TestTheNextGenerationOfARollbackGoesOnWithItsDrain(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		w := newWorld(t, driver)
		w.promote(v2)
		requestRollback(t, w, v2)
		w.target.waits["drain"] = 1
		req := rotation.Request{Secret: arn, Token: v2, Direction: rotation.Back, Generation: 1}
		for _, step := range []func(context.Context, rotation.Request) (rotation.Result, error){w.Rollback, w.Adopt, w.Drain} {
			res, err := step(t.Context(), req)
			w.must(err)
			req.Cursor = res.Cursor
		}
		remembered := req.Cursor
		if remembered == "" {
			t.Fatal("the drain remembers nothing")
		}
		req.Generation = 2
		for name, step := range map[string]func(context.Context, rotation.Request) (rotation.Result, error){"rollback": w.Rollback, "adopt": w.Adopt} {
			if res, err := step(t.Context(), req); err != nil || res.Outcome != rotation.Done || res.Cursor != remembered {
				t.Errorf("%s, %s: %s, %v; it remembers %q, not %q", driver, name, res.Outcome, err, res.Cursor, remembered)
			}
		}
	}
}

package rotation_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

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

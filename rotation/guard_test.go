package rotation_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// What labels say about a version that isn't the one to work on (FACTS C2.5, C2.7).
func TestHeadStepsRefuseAVersionWhoseTurnIsOver(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		labels []rotation.Label
		want   fault.Name
	}{
		"current before, AWSPENDING left over": {[]rotation.Label{rotation.Pending, rotation.Previous}, fault.InvalidStage},
		"current before":                       {[]rotation.Label{rotation.Previous}, fault.InvalidStage},
		"being retired":                        {[]rotation.Label{rotation.Pending, rotation.Retiring}, fault.Superseded},
		"rolled back":                          {[]rotation.Label{rotation.Pending, rotation.Rejected}, fault.Rejected},
	} {
		w := newWorld(t, rotation.DriverSecretsManager)
		w.must(w.store.Rotate(t.Context(), arn, v2))
		w.store.Edit(arn, func(d *rotation.Description) { d.Versions[v2] = tt.labels })
		for step, do := range map[string]func(context.Context, rotation.Request) (rotation.Result, error){
			"create": w.Create, "set": w.Set, "test": w.Test, "finish": w.Finish,
		} {
			before := w.labels()
			_, err := do(t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, ByStore: true})
			if !fault.Is(err, tt.want) {
				t.Errorf("%s: %s: error %v, want %s", name, step, err, tt.want)
			}
			if after := w.labels(); after != before || len(w.target.steps) > 0 {
				t.Errorf("%s: %s changed something: %q to %q, %v", name, step, before, after, w.target.steps)
			}
		}
	}
}

// A version that was promoted since a step looked isn't changed at its target
// any more: the fence looks again (FACTS C2.7).
func TestAHeadStepThatIsOvertakenDoesNotAct(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	req := rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, ByStore: true}
	w.must(w.store.Rotate(t.Context(), arn, v2))
	_, err := w.Create(t.Context(), req)
	w.must(err)
	seen := w.store.Labels(arn)
	w.store.Finish(arn, v2)
	w.target.steps = nil
	w.Store = &lateStore{Store: w.store, shown: []rotation.Versions{seen}}
	_, err = w.Set(t.Context(), req)
	wantFault(t, err, fault.Superseded)
	if len(w.target.steps) > 0 {
		t.Errorf("acted: %v", w.target.steps)
	}
}

// A secret has 20 labels at most: a rotation that might lack one doesn't begin.
func TestARotationNeedsRoomForItsLabels(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		for others, want := range map[int]fault.Name{8: "", 9: fault.Blocked} {
			w := newWorld(t, driver)
			w.store.Edit(arn, func(d *rotation.Description) {
				for i := range others {
					d.Versions[v1] = append(d.Versions[v1], rotation.Label(fmt.Sprint("blue", i)))
				}
			})
			if driver == rotation.DriverSecretsManager {
				w.must(w.store.Rotate(t.Context(), arn, v2))
			}
			before := w.labels()
			_, err := w.Create(t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, ByStore: driver == rotation.DriverSecretsManager})
			if want == "" {
				w.must(err)
				continue
			}
			wantFault(t, err, want)
			if after := w.labels(); after != before || len(w.target.steps) > 0 || fault.HintOf(err) == "" {
				t.Errorf("%s: %q to %q, %v, hint %q", driver, before, after, w.target.steps, fault.HintOf(err))
			}
		}
	}
}

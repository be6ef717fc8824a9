package rotation_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// What labels say about a version that isn't the one to work on (rule C2.5, C2.7).
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
// any more: the fence looks again (rule C2.7).
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

// The model found it: AWSPENDING was taken off a version by hand, the version was
// discarded, and the run that watched it asked Secrets Manager for it again, which
// made its destroyed credential current.
func TestAVersionThatIsDiscardedIsNotAskedForAgain(t *testing.T) {
	t.Parallel()
	req := rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head}
	asked := func(t *testing.T) (*world, string) {
		t.Helper()
		w := newWorld(t, rotation.DriverSecretsManager)
		res, err := w.Create(t.Context(), req)
		w.must(err)
		_, err = w.Create(t.Context(), rotation.Request{Secret: arn, Token: v2, Direction: rotation.Head, ByStore: true})
		w.must(err)
		w.must(w.store.Detach(t.Context(), arn, rotation.Pending, v2))
		return w, res.Cursor
	}
	gone := func(d *rotation.Description) { delete(d.Versions, v2) }
	for name, tt := range map[string]struct {
		edit   func(*rotation.Description)
		cursor bool
		after  time.Duration
		want   fault.Name // "": it waits
	}{
		"displaced":                  {func(*rotation.Description) {}, true, 0, fault.InvalidStage},
		"displaced, another run":     {func(*rotation.Description) {}, false, 0, fault.InvalidStage},
		"being retired":              {func(d *rotation.Description) { d.Versions[v2] = append(d.Versions[v2], rotation.Retiring) }, false, 0, fault.Superseded},
		"gone, or not there to see":  {gone, true, 0, ""},
		"gone for as long as a head": {gone, true, 25 * time.Hour, fault.InvalidStage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, cursor := asked(t)
			w.store.Edit(arn, tt.edit)
			w.now = w.now.Add(tt.after)
			again := req
			if tt.cursor {
				again.Cursor = cursor
			}
			before := w.labels()
			res, err := w.Create(t.Context(), again)
			if tt.want != "" {
				wantFault(t, err, tt.want)
			} else if err != nil || res.Outcome != rotation.Wait {
				t.Errorf("%s, %v; want to wait", res.Outcome, err)
			}
			if after := w.labels(); after != before {
				t.Errorf("%q became %q", before, after)
			}
		})
	}
}

// Package enginetest answers: does an engine keep the promises that the step
// logic relies on?
//
// Every engine has to pass Exercise against its real target. It repeats steps,
// calls them late and out of order, refuses them at the fence, and looks for
// secret values in whatever comes out.
package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

// Fixture is one engine in front of one target with one credential of its own.
type Fixture struct {
	Engine rotation.Engine
	// Store holds Secret, whose AWSCURRENT works at the target.
	Store  *rotationtest.Store
	Secret string
	Policy rotation.Policy
	// Works tries the credential of a version on a fresh connection.
	Works func(ctx context.Context, version string) error
	// State pictures the target; equal texts mean that nothing was changed.
	State func(ctx context.Context) (string, error)
	// Adopted makes every registered party show itself with a version.
	Adopted func(ctx context.Context, version string)
	// Advance moves the engine's clock.
	Advance func(time.Duration)
	// Logs returns what the engine has logged.
	Logs func() string
}

// Ranks of the runs, as rotation.Rank gives them.
var (
	head    = rotation.Rank(rotation.Head, 1)
	forward = rotation.Rank(rotation.Forward, 1)
	back    = rotation.Rank(rotation.Back, 1)
)

const (
	oldVersionDescription = "the old version"
	next                  = "22222222-2222-4222-8222-222222222222"
	patience              = 2 * time.Minute
)

type step func(rotation.Engine, context.Context, rotation.Change) (rotation.Result, error)

// run is a fixture with what the suite notes about it.
type run struct {
	Fixture
	t       *testing.T
	old     string
	printed strings.Builder // every result and error
}

// Exercise runs the suite. setup is called once per test and registers its own
// clean-up.
func Exercise(t *testing.T, setup func(t *testing.T) Fixture) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(context.Context, *run)
	}{
		{"EachStepTwice", eachStepTwice},
		{"EachStepAgainAfterTheNext", eachStepAgainAfterTheNext},
		{"RollbackBeforePromotion", rollbackBeforePromotion},
		{"RollbackAfterPromotion", rollbackAfterPromotion},
		{"DisableAndEnable", disableAndEnable},
		{"FenceRefuses", fenceRefuses},
		{"StaleRankIsRefused", staleRankIsRefused},
		{"LateStepsAfterTheEnd", lateStepsAfterTheEnd},
		{"EnableAfterRevokeIsTooLate", enableAfterRevoke},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			r := &run{Fixture: setup(t), t: t}
			r.old = r.Store.Labels(r.Secret).Holder(rotation.Current)
			if r.old == "" {
				t.Fatal("the fixture's secret has no AWSCURRENT version")
			}
			test.run(ctx, r)
			r.leaks(ctx)
		})
	}
}

// change is an order of this rotation.
func (r *run) change(from, to string, rank int) rotation.Change {
	return rotation.Change{
		Secret: r.Secret, From: from, To: to, Rotation: next, Rank: rank, Back: rank >= back,
		Policy: r.Policy, Fence: func(context.Context) error { return nil },
	}
}

func (r *run) forward() rotation.Change { return r.change(r.old, next, forward) }
func (r *run) backward() rotation.Change {
	return r.change(next, r.old, back)
}

// call calls a step once and notes what came out.
func (r *run) call(ctx context.Context, s step, c rotation.Change) (rotation.Result, error) {
	res, err := s(r.Engine, ctx, c)
	text, jsonErr := json.Marshal(res)
	if jsonErr != nil {
		r.t.Fatalf("a result can't be encoded: %v", jsonErr)
	}
	fmt.Fprintf(&r.printed, "%s %+v %v %#v %s\n", text, res, err, err, fault.HintOf(err))
	return res, err
}

// done calls a step until it is done.
func (r *run) done(ctx context.Context, what string, s step, c rotation.Change) {
	r.t.Helper()
	for {
		res, err := r.call(ctx, s, c)
		if err != nil {
			r.t.Fatalf("%s: %v (%s)", what, err, fault.HintOf(err))
		}
		if res.Outcome == rotation.Done {
			return
		}
		if ctx.Err() != nil {
			r.t.Fatalf("%s is %s for ever: %q", what, res.Outcome, res.Missing)
		}
		c.Cursor = res.Cursor
		r.Adopted(ctx, c.To)
		r.Advance(max(res.After, time.Second))
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// head makes, sets and tests the new version.
func (r *run) head(ctx context.Context) {
	r.t.Helper()
	r.begin(ctx)
	c := r.change(r.old, next, head)
	r.done(ctx, "create", rotation.Engine.Create, c)
	r.done(ctx, "set", rotation.Engine.Set, c)
	r.done(ctx, "test", rotation.Engine.Test, c)
}

func (r *run) begin(ctx context.Context) {
	r.t.Helper()
	if err := r.Store.Rotate(ctx, r.Secret, next); err != nil {
		r.t.Fatal(err)
	}
}

// tail retires From of the order.
func (r *run) tail(ctx context.Context, c rotation.Change) {
	r.t.Helper()
	r.done(ctx, "adopt", rotation.Engine.Adopt, c)
	r.done(ctx, "drain", rotation.Engine.Drain, c)
	r.done(ctx, "disable", rotation.Engine.Disable, c)
	r.done(ctx, "revoke", rotation.Engine.Revoke, c)
}

// expect compares what works with what should.
func (r *run) expect(ctx context.Context, version string, works bool) {
	r.t.Helper()
	err := r.Works(ctx, version)
	name := oldVersionDescription
	if version == next {
		name = "the new version"
	}
	if works && err != nil {
		r.t.Fatalf("%s doesn't work: %v", name, err)
	}
	if !works && err == nil {
		r.t.Fatalf("%s still works", name)
	}
}

func (r *run) state(ctx context.Context) string {
	r.t.Helper()
	s, err := r.State(ctx)
	if err != nil {
		r.t.Fatalf("picturing the target: %v", err)
	}
	return s
}

// unchanged compares the target with an earlier picture.
func (r *run) unchanged(ctx context.Context, before, after string) {
	r.t.Helper()
	if diff := cmp.Diff(before, r.state(ctx)); diff != "" {
		r.t.Fatalf("the target has changed although %s (-before +after):\n%s", after, diff)
	}
}

// leaks looks for every stored value, and every string inside it, in what the
// engine has answered and logged.
func (r *run) leaks(ctx context.Context) {
	r.t.Helper()
	out := r.printed.String() + r.Logs()
	for _, version := range []string{r.old, next} {
		v, err := r.Store.Value(ctx, r.Secret, version)
		if err != nil {
			continue
		}
		for _, canary := range canaries(v) {
			if strings.Contains(out, canary) {
				r.t.Errorf("a secret value of version %s stands in a result, an error or the log", version)
			}
		}
	}
}

// canaries are the parts of a value that must not appear: all of it, and what
// its JSON calls password, secret, token or key.
func canaries(v rotation.Value) []string {
	found := []string{v.Reveal()}
	var fields map[string]any
	if json.Unmarshal([]byte(v.Reveal()), &fields) != nil {
		return found
	}
	for name, value := range fields {
		text, ok := value.(string)
		secret := strings.Contains(strings.ToLower(name), "password") || strings.Contains(strings.ToLower(name), "secret") ||
			strings.Contains(strings.ToLower(name), "token") || strings.Contains(strings.ToLower(name), "key")
		if ok && secret && len(text) >= 8 {
			found = append(found, text)
		}
	}
	return found
}

package enginetest

import (
	"context"
	"strings"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

func eachStepTwice(ctx context.Context, r *run) {
	r.begin(ctx)
	c := r.change(r.old, next, head)
	twice := func(what string, s step, c rotation.Change) {
		r.t.Helper()
		r.done(ctx, what, s, c)
		r.done(ctx, what+" again", s, c)
	}
	twice("create", rotation.Engine.Create, c)
	value, err := r.Store.Value(ctx, r.Secret, next)
	if err != nil {
		r.t.Fatal(err)
	}
	twice("set", rotation.Engine.Set, c)
	twice("test", rotation.Engine.Test, c)
	r.expect(ctx, r.old, true)
	r.expect(ctx, next, true)
	r.Store.Finish(r.Secret, next)
	f := r.forward()
	twice("adopt", rotation.Engine.Adopt, f)
	twice("drain", rotation.Engine.Drain, f)
	twice("disable", rotation.Engine.Disable, f)
	r.expect(ctx, r.old, false)
	twice("revoke", rotation.Engine.Revoke, f)
	r.expect(ctx, r.old, false)
	r.expect(ctx, next, true)
	again, err := r.Store.Value(ctx, r.Secret, next)
	if err != nil {
		r.t.Fatal(err)
	}
	if again.Reveal() != value.Reveal() {
		r.t.Error("a repeated create has made another value")
	}
}

func eachStepAgainAfterTheNext(ctx context.Context, r *run) {
	r.begin(ctx)
	c := r.change(r.old, next, head)
	steps := []struct {
		name string
		step step
	}{{"create", rotation.Engine.Create}, {"set", rotation.Engine.Set}, {"test", rotation.Engine.Test}}
	for i, s := range steps {
		r.done(ctx, s.name, s.step, c)
		if i > 0 {
			before := steps[i-1] //nolint:gosec // i is at least 1
			r.done(ctx, before.name+" after "+s.name, before.step, c)
		}
	}
	r.Store.Finish(r.Secret, next)
	f := r.forward()
	r.done(ctx, "test after finish", rotation.Engine.Test, c)
	r.done(ctx, "drain", rotation.Engine.Drain, f)
	r.done(ctx, "adopt after drain", rotation.Engine.Adopt, f)
	r.done(ctx, "disable", rotation.Engine.Disable, f)
	r.done(ctx, "drain after disable", rotation.Engine.Drain, f)
	r.expect(ctx, r.old, false)
	r.done(ctx, "revoke", rotation.Engine.Revoke, f)
	r.done(ctx, "disable after revoke", rotation.Engine.Disable, f)
	r.expect(ctx, r.old, false)
	r.expect(ctx, next, true)
}

func rollbackBeforePromotion(ctx context.Context, r *run) {
	r.head(ctx)
	r.expect(ctx, next, true)
	c := r.backward()
	c.Unpresented = true
	r.tail(ctx, c)
	r.expect(ctx, r.old, true)
	r.expect(ctx, next, false)
}

func rollbackAfterPromotion(ctx context.Context, r *run) {
	r.head(ctx)
	r.Store.Finish(r.Secret, next)
	r.done(ctx, "drain", rotation.Engine.Drain, r.forward())
	r.done(ctx, "disable", rotation.Engine.Disable, r.forward())
	r.expect(ctx, r.old, false)
	r.done(ctx, "enable", rotation.Engine.Enable, r.change(r.old, next, back))
	r.expect(ctx, r.old, true)
	r.expect(ctx, next, true)
	r.Store.Finish(r.Secret, r.old)
	r.tail(ctx, r.backward())
	r.expect(ctx, r.old, true)
	r.expect(ctx, next, false)
}

func disableAndEnable(ctx context.Context, r *run) {
	r.head(ctx)
	r.Store.Finish(r.Secret, next)
	for range 2 {
		r.done(ctx, "disable", rotation.Engine.Disable, r.forward())
		r.expect(ctx, r.old, false)
		r.expect(ctx, next, true)
		r.done(ctx, "enable", rotation.Engine.Enable, r.forward())
		r.expect(ctx, r.old, true)
		r.expect(ctx, next, true)
	}
}

func fenceRefuses(ctx context.Context, r *run) {
	refuse := func(what string, s step, c rotation.Change) {
		r.t.Helper()
		before := r.state(ctx)
		asked := 0
		c.Fence = func(context.Context) error {
			asked++
			return fault.New(fault.Superseded, "the suite's fence refuses")
		}
		_, err := r.call(ctx, s, c)
		if !fault.Is(err, fault.Superseded) || asked == 0 {
			r.t.Fatalf("%s: got %v after %d questions, want the fence's refusal", what, err, asked)
		}
		r.unchanged(ctx, before, what+" was refused at the fence")
	}
	r.begin(ctx)
	c := r.change(r.old, next, head)
	r.done(ctx, "create", rotation.Engine.Create, c)
	refuse("set", rotation.Engine.Set, c)
	r.expect(ctx, next, false)
	r.done(ctx, "set", rotation.Engine.Set, c)
	r.Store.Finish(r.Secret, next)
	refuse("disable", rotation.Engine.Disable, r.forward())
	r.expect(ctx, r.old, true)
	r.done(ctx, "disable", rotation.Engine.Disable, r.forward())
	refuse("enable", rotation.Engine.Enable, r.forward())
	refuse("revoke", rotation.Engine.Revoke, r.forward())
	r.done(ctx, "enable", rotation.Engine.Enable, r.forward())
}

func staleRankIsRefused(ctx context.Context, r *run) {
	r.head(ctx)
	r.Store.Finish(r.Secret, next)
	r.done(ctx, "disable", rotation.Engine.Disable, r.forward())
	r.done(ctx, "enable", rotation.Engine.Enable, r.change(r.old, next, back))
	before := r.state(ctx)
	for what, s := range map[string]step{"disable": rotation.Engine.Disable, "revoke": rotation.Engine.Revoke} {
		if _, err := r.call(ctx, s, r.forward()); err == nil {
			r.t.Errorf("a %s of an outranked run was carried out", what)
		}
	}
	if _, err := r.call(ctx, rotation.Engine.Disable, r.forward()); !fault.Is(err, fault.Fenced) {
		r.t.Errorf("got %v, want %s", err, fault.Fenced)
	}
	r.unchanged(ctx, before, "the run is outranked")
	r.expect(ctx, r.old, true)
	r.expect(ctx, next, true)
}

func lateStepsAfterTheEnd(ctx context.Context, r *run) {
	r.head(ctx)
	r.Store.Finish(r.Secret, next)
	r.tail(ctx, r.forward())
	before := r.state(ctx)
	c := r.change(r.old, next, head)
	for what, s := range map[string]step{
		"create": rotation.Engine.Create, "set": rotation.Engine.Set, "test": rotation.Engine.Test,
		"drain": rotation.Engine.Drain, "disable": rotation.Engine.Disable, "revoke": rotation.Engine.Revoke,
	} {
		if _, err := r.call(ctx, s, c); fault.Is(err, fault.Internal) {
			r.t.Errorf("a late %s ends in a defect: %v", what, err)
		}
		r.unchanged(ctx, before, "a late "+what+" came after the end")
	}
	r.expect(ctx, r.old, false)
	r.expect(ctx, next, true)
}

func enableAfterRevoke(ctx context.Context, r *run) {
	r.head(ctx)
	r.Store.Finish(r.Secret, next)
	r.tail(ctx, r.forward())
	before := r.state(ctx)
	_, err := r.call(ctx, rotation.Engine.Enable, r.change(r.old, next, back))
	if !fault.Is(err, fault.TooLate) {
		r.t.Fatalf("got %v, want %s", err, fault.TooLate)
	}
	r.unchanged(ctx, before, "it is too late")
	id, err := r.Engine.Identity(ctx, r.Secret, next)
	if err != nil || id == "" || strings.Contains(id, "@") {
		r.t.Errorf("the identity of the new version is %q (%v)", id, err)
	}
}

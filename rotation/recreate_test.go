package rotation_test

import (
	"context"
	"testing"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// restorable is a target that can make a lost login again.
type restorable struct{ *target }

func (r restorable) Recreate(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	return r.look(ctx, "recreate", c, func() error { r.logins[r.login(ctx, c.To)] = "accepted"; return nil })
}

func (r restorable) Engine(string) (rotation.Engine, error) { return r, nil }

func TestALostLoginIsMadeAgainAndNoLabelChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverMachine)
	w.Engines = restorable{w.target}
	delete(w.target.logins, "login-1")
	before := w.store.Labels(arn)
	req := rotation.Request{Secret: arn, Token: v3, Direction: rotation.Head, Generation: 1}
	res, err := w.Recreate(t.Context(), req)
	if err != nil || res.Outcome != rotation.Done {
		t.Fatalf("got %+v, %v", res, err)
	}
	w.check()
	if after := w.store.Labels(arn); len(after) != len(before) || len(after[v1]) != len(before[v1]) {
		t.Errorf("labels %v, before %v", after, before)
	}
	if len(w.journal.records) != 2 {
		t.Fatalf("recorded %+v", w.journal.records)
	}
	for i, phase := range []audit.Phase{audit.Intent, audit.ResultPhase} {
		if rec := w.journal.records[i]; rec.Phase != phase || rec.Step != "recreate" || rec.RotationID != v3 || rec.To != v1 || rec.From != "" {
			t.Errorf("recorded %+v", rec)
		}
	}
}

func TestALostLoginIsntMadeAgainWhere(t *testing.T) {
	t.Parallel()
	req := rotation.Request{Secret: arn, Token: v3, Direction: rotation.Head, Generation: 1}
	for name, tt := range map[string]struct {
		change func(*world)
		want   fault.Name
	}{
		"the kind can't":            {func(w *world) { w.Engines = w.target }, fault.InvalidInput},
		"nothing is current":        {func(w *world) { w.store.Edit(arn, func(d *rotation.Description) { d.Versions = rotation.Versions{} }) }, fault.InvalidStage},
		"a rotation is under way":   {func(w *world) { w.must(w.rotate(v2)) }, fault.RotationInProgress},
		"it is deleted":             {func(w *world) { w.store.Edit(arn, func(d *rotation.Description) { d.Deleted = true }) }, fault.RotationDisabled},
		"the audit sink is away":    {func(w *world) { w.journal.down = true }, fault.AuditUnavailable},
		"the target has gone again": {func(w *world) { w.target.fail["recreate"] = fault.New(fault.Unavailable, "away") }, fault.Unavailable},
	} {
		w := newWorld(t, rotation.DriverMachine)
		w.Engines = restorable{w.target}
		tt.change(w)
		steps := len(w.target.steps)
		if _, err := w.Recreate(t.Context(), req); !fault.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
		}
		if len(w.target.steps) != steps {
			t.Errorf("%s: it acted: %v", name, w.target.steps[steps:])
		}
	}
}

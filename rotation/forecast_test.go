package rotation_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// planned is a target that says what a rotation would do.
type planned struct {
	*target
	plan rotation.Plan
	err  error
}

func (p planned) Plan(_ context.Context, c rotation.Change) (rotation.Plan, error) {
	if c.From != v1 || c.To == "" || c.Policy.Secret != arn {
		return rotation.Plan{}, fault.New(fault.Internal, "planned %+v", c)
	}
	return p.plan, p.err
}

func (p planned) Engine(string) (rotation.Engine, error) { return p, nil }

func TestForecast(t *testing.T) {
	t.Parallel()
	on, off := true, false
	for _, tt := range []struct {
		name    string
		driver  rotation.Driver
		edit    func(*rotation.Description)
		plan    rotation.Plan
		err     error
		blocked string // the start of the only blocker; empty: it would go
		note    string
	}{
		{name: "it goes", driver: rotation.DriverMachine, note: "no rotation is scheduled"},
		{name: "without rotation configured", driver: rotation.DriverSecretsManager, edit: func(d *rotation.Description) { d.RotationEnabled = &off }, note: "isn't switched on"},
		{name: "two drivers", driver: rotation.DriverMachine, edit: func(d *rotation.Description) { d.RotationEnabled = &on }, note: "rotates it too"},
		{name: "paused", driver: rotation.DriverMachine, edit: func(d *rotation.Description) { d.Paused = true }, blocked: "Keyturn.RotationDisabled: it is paused"},
		{name: "deleted", driver: rotation.DriverMachine, edit: func(d *rotation.Description) { d.Deleted = true }, blocked: "Keyturn.RotationDisabled"},
		{name: "pending", driver: rotation.DriverMachine, edit: func(d *rotation.Description) { d.Versions[v2] = []rotation.Label{rotation.Pending} }, blocked: "Keyturn.RotationInProgress"},
		{name: "draining", driver: rotation.DriverMachine, edit: func(d *rotation.Description) { d.Versions[v2] = []rotation.Label{rotation.Retiring} }, blocked: "Keyturn.DrainInProgress"},
		{name: "the engine's", driver: rotation.DriverMachine, plan: rotation.Plan{Blockers: []string{"the login is a superuser"}}, blocked: "the login is a superuser"},
		{name: "out of reach", driver: rotation.DriverMachine, err: fault.New(fault.Unavailable, "no route"), blocked: "Keyturn.Unavailable: no route"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tt.driver)
			w.Engines = planned{w.target, tt.plan, tt.err}
			if tt.edit != nil {
				w.store.Edit(arn, tt.edit)
			}
			f, err := w.Forecast(t.Context(), arn)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case tt.blocked == "" && len(f.Blockers) > 0, tt.blocked != "" && (len(f.Blockers) != 1 || !strings.HasPrefix(f.Blockers[0], tt.blocked)):
				t.Errorf("blockers %q, want %q", f.Blockers, tt.blocked)
			case tt.note != "" && !slices.ContainsFunc(f.Notes, func(n string) bool { return strings.Contains(n, tt.note) }):
				t.Errorf("notes %q, want %q", f.Notes, tt.note)
			case len(w.journal.records) > 0 || len(w.runs.names()) > 0 || len(w.target.steps) > 0:
				t.Errorf("it did something: %v %v %v", w.journal.records, w.runs.names(), w.target.steps)
			}
		})
	}
}

func TestForecastOfWhatIsntThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverMachine)
	if _, err := w.Forecast(t.Context(), "arn:other"); !fault.Is(err, fault.NotManaged) {
		t.Errorf("unlisted: %v", err)
	}
	w.store.Edit(arn, func(d *rotation.Description) { d.Versions = rotation.Versions{} })
	f, err := w.Forecast(t.Context(), arn)
	if err != nil || len(f.Blockers) != 1 || !strings.Contains(f.Blockers[0], "no version is AWSCURRENT") {
		t.Errorf("got %+v, %v", f, err)
	}
}

// What a person sees is what the watchdog would see, and is only looked at.
func TestSeeAllChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverMachine)
	all := w.SeeAll(t.Context())
	if len(all) != 1 || all[0].Description.ARN != arn || all[0].Situation.Need != rotation.NeedNothing || all[0].Err != nil {
		t.Fatalf("got %+v", all)
	}
	w.must(w.rotate(v2))
	w.now = w.now.Add(time.Hour)
	runs := len(w.runs.names())
	all = w.SeeAll(t.Context())
	if s := all[0].Situation; s.Need != rotation.NeedRun || s.Direction != rotation.Forward || s.Token != v2 {
		t.Errorf("got %+v", s)
	}
	if n := len(w.runs.names()); n != runs {
		t.Errorf("%d runs were started", n-runs)
	}
	w.store.Edit(arn, func(d *rotation.Description) { d.Deleted = true })
	if all = w.SeeAll(t.Context()); len(all[0].Findings) != 1 || all[0].Findings[0].Name != rotation.SecretUnfit {
		t.Errorf("got %+v", all[0].Findings)
	}
}

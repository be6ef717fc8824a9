package detect_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/audittest"
	"github.com/keyturn/keyturn/audit/detect"
	"github.com/keyturn/keyturn/rotation"
)

const secret = "arn:aws:secretsmanager:us-east-1:000000000000:secret:orders/db-AbCdEf"

var policy = rotation.Policy{
	Secret: secret, Kind: "postgres", Window: 30 * time.Minute, Hold: 24 * time.Hour, HeadLimit: 15 * time.Minute, MaxOverlap: 48 * time.Hour,
	FunctionLimit: time.Minute,
}

// did is an intent and, a minute later, its end.
type did struct {
	at       string // since the first one
	step     rotation.Step
	rotation string
	from, to string
	outcome  string // "done" if empty
	by       audit.ActorType
}

// happened records what was done, and returns the last record.
func happened(t *testing.T, steps ...did) (*audittest.Memory, audit.Record) {
	t.Helper()
	ledger := &audittest.Memory{}
	journal := &audit.Journal{Ledger: ledger, Actor: "a", ActorType: audit.Controller}
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var last audit.Record
	for _, s := range steps {
		after, err := time.ParseDuration(s.at)
		if err != nil {
			t.Fatal(err)
		}
		r := audit.Record{
			Time: start.Add(after - time.Minute), SecretID: secret, RotationID: s.rotation, Step: string(s.step), From: s.from, To: s.to,
			Phase: audit.Intent, Actor: "a", ActorType: s.by, Engine: "postgres",
		}
		if err := journal.Record(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		r.Time, r.Phase, r.Outcome = start.Add(after), audit.ResultPhase, "done"
		if s.outcome != "" {
			r.Outcome = s.outcome
		}
		if err := journal.Record(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		last = r
	}
	return ledger, last
}

// rotated is a rotation from v1 to v2 as it should be, with times that tests change.
func rotated(finish, disable, revoke string) []did {
	all := []did{
		{at: "1m", step: rotation.StepCreate, rotation: "v2", from: "v1", to: "v2"},
		{at: finish, step: rotation.StepFinish, rotation: "v2", from: "v1", to: "v2"},
	}
	if disable != "" {
		all = append(all, did{at: disable, step: rotation.StepDisable, rotation: "v2", from: "v1", to: "v2"})
	}
	if revoke != "" {
		all = append(all, did{at: revoke, step: rotation.StepRevoke, rotation: "v2", from: "v1", to: "v2"})
	}
	return all
}

func TestRecord(t *testing.T) {
	t.Parallel()
	stolen := did{at: "12m", step: rotation.StepEmergency, rotation: "v2", from: "v1", to: "v2"}
	back := func(rollback, disable, revoke string) []did {
		return append(rotated("10m", "", ""),
			did{at: rollback, step: rotation.StepRollback, rotation: "v2", from: "v2", to: "v1", by: audit.Human},
			did{at: disable, step: rotation.StepDisable, rotation: "v2", from: "v2", to: "v1"},
			did{at: revoke, step: rotation.StepRevoke, rotation: "v2", from: "v2", to: "v1"})
	}
	// The function's record names what it enables first, and what it takes AWSCURRENT
	// from second; who asked for it isn't recorded.
	carriedOut := func(rollback, disable string) []did {
		return append(rotated("10m", "", ""),
			did{at: rollback, step: rotation.StepRollback, rotation: "v2", from: "v1", to: "v2"},
			did{at: disable, step: rotation.StepDisable, rotation: "v2", from: "v2", to: "v1"})
	}
	tests := map[string]struct {
		steps []did
		want  []string // name, and part of what was seen
	}{
		"as it should be, promoted":  {rotated("10m", "", ""), nil},
		"as it should be, refused":   {rotated("10m", "45m", ""), nil},
		"as it should be, destroyed": {rotated("10m", "45m", "25h"), nil},
		"at the limits":              {rotated("30m", "60m", "25h"), nil},
		"propagating for long":       {rotated("31m1s", "", ""), []string{"PropagatingTooLong: the new credential became current after 31m1s; the limit is 30m"}},
		"draining for long":          {rotated("10m", "71m", ""), []string{"PropagatingTooLong: the old credential was refused after 1h1m0s; the limit is 1h0m0s"}},
		"refused at once":            {rotated("10m", "12m", ""), []string{"RevokedTooEarly: version v1 was refused 2m0s after promotion; the policy asks for 30m0s"}},
		"destroyed at once":          {rotated("10m", "45m", "46m"), []string{"RevokedTooEarly: version v1 was destroyed 1m0s after its refusal; the policy asks for 24h0m0s"}},
		"refused at once, as stolen": {append(append(rotated("10m", "", ""), stolen), did{at: "13m", step: rotation.StepDisable, rotation: "v2", from: "v1", to: "v2"}), nil},
		"refused at once, another was stolen": {append(append(rotated("10m", "", ""), did{at: "12m", step: rotation.StepEmergency, rotation: "v2", from: "v0", to: "v2"}),
			did{at: "13m", step: rotation.StepDisable, rotation: "v2", from: "v1", to: "v2"}), []string{"RevokedTooEarly: version v1"}},
		"turned back, as it should be":                         {back("20m", "51m", "25h"), nil},
		"turned back, and refused":                             {back("20m", "25m", "25h")[:4], []string{"RevokedTooEarly: version v2 was refused 5m0s after promotion"}},
		"turned back by nobody that is known, as it should be": {carriedOut("20m", "51m"), nil},
		"turned back by nobody that is known, and refused":     {carriedOut("20m", "25m"), []string{"RevokedTooEarly: version v2 was refused 5m0s after promotion"}},
		"turned back by nobody that is known, for long":        {carriedOut("20m", "81m"), []string{"PropagatingTooLong: the old credential was refused after 1h1m0s"}},
		"turned back before promotion": {[]did{
			{at: "1m", step: rotation.StepCreate, rotation: "v2", from: "v1", to: "v2"},
			{at: "2m", step: rotation.StepRollback, rotation: "v2", from: "v2", to: "v1"},
			{at: "3m", step: rotation.StepDisable, rotation: "v2", from: "v2", to: "v1"},
			{at: "4m", step: rotation.StepRevoke, rotation: "v2", from: "v2", to: "v1"},
		}, nil},
		"a refusal that failed":    {append(rotated("10m", "", ""), did{at: "12m", step: rotation.StepDisable, rotation: "v2", from: "v1", to: "v2", outcome: "Keyturn.Conflict"}), nil},
		"a version stored by hand": {[]did{{at: "5m", step: rotation.StepDisable, rotation: "v2", from: "v1", to: "v2"}}, nil},
		"a person turns it back":   {back("20m", "25m", "26m")[:3], []string{"HumanAction: a asked for rollback"}},
		"a person makes a login again, from here": {[]did{{at: "5m", step: rotation.StepRecreate, rotation: "v2", from: "v1", to: "v2", by: audit.Human}},
			[]string{`HumanAction: a had the current login made again, which came to "done"`}},
		"a person makes a login again, by a function": {[]did{{at: "5m", step: rotation.StepRecreate, rotation: "v2", from: "v1", to: "v2"}},
			[]string{`HumanAction: somebody had the current login made again by a, which came to "done"`}},
		"an emergency": {append(rotated("10m", "", ""), stolen, did{at: "13m", step: rotation.StepEmergency, rotation: "v3", from: "v2", to: "v3"}),
			[]string{`HumanAction: somebody declared version v2 stolen by a, which came to "done"`}},
		"an emergency that fails": {[]did{{at: "5m", step: rotation.StepEmergency, rotation: "v3", from: "v2", to: "v3", outcome: "Keyturn.Unavailable"}},
			[]string{`HumanAction: somebody declared version v2 stolen by a, which came to "Keyturn.Unavailable"`}},
		"an emergency that failed first": {[]did{
			{at: "5m", step: rotation.StepEmergency, rotation: "v3", from: "v2", to: "v3", outcome: "Keyturn.Unavailable"},
			{at: "7m", step: rotation.StepEmergency, rotation: "v3", from: "v2", to: "v3"},
		}, []string{`HumanAction: somebody declared version v2 stolen by a, which came to "done"`}},
		"what an emergency marks besides": {[]did{
			{at: "5m", step: rotation.StepEmergency, rotation: "v3", from: "v2", to: "v3"},
			{at: "6m", step: rotation.StepEmergency, rotation: "v3", from: "v1", to: "v3"},
		}, nil},
		"what an emergency cuts": {[]did{
			{at: "5m", step: rotation.StepEmergency, rotation: "v3", from: "v2", to: "v3"},
			{at: "7m", step: rotation.StepEmergency, rotation: "v3", from: "v2", outcome: "Keyturn.Unavailable"},
		}, nil},
		"a person lets nothing begin": {[]did{{at: "5m", step: rotation.StepPause, rotation: "p", by: audit.Human}},
			[]string{`HumanAction: a asked for pause, which came to "done"`}},
		"a person takes it up again, in vain": {[]did{{at: "5m", step: rotation.StepResume, rotation: "p", by: audit.Human, outcome: "Keyturn.Unavailable"}},
			[]string{`HumanAction: a asked for resume, which came to "Keyturn.Unavailable"`}},
		"a login that isn't proven everywhere yet": {[]did{{at: "5m", step: rotation.StepRecreate, rotation: "v2", from: "v1", to: "v2", by: audit.Human, outcome: "wait"}}, nil},
		"a second rotation":                        {append(rotated("10m", "45m", "25h"), did{at: "721h", step: rotation.StepCreate, rotation: "v3", from: "v2", to: "v3"}, did{at: "722h", step: rotation.StepFinish, rotation: "v3", from: "v2", to: "v3"}), []string{"PropagatingTooLong: the new credential became current after 1h1m0s"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ledger, last := happened(t, tt.steps...)
			j, err := detect.Record(t.Context(), ledger, policy, last)
			if err != nil {
				t.Fatal(err)
			}
			if len(j.Findings) != len(tt.want) {
				t.Fatalf("found %+v, want %q", j.Findings, tt.want)
			}
			for i, f := range j.Findings {
				if got := string(f.Name) + ": " + f.Saw; !strings.HasPrefix(got, tt.want[i]) || f.Secret != secret || f.Do == "" || !f.Since.Equal(last.Time) {
					t.Errorf("found %q, %+v; want %q", got, f, tt.want[i])
				}
			}
		})
	}
}

func TestPhasesAreMeasured(t *testing.T) {
	t.Parallel()
	ledger, last := happened(t, rotated("10m", "45m", "")...)
	j, err := detect.Record(t.Context(), ledger, policy, last)
	want := &detect.Phase{Step: "disable", Took: time.Minute, Ended: last.Time}
	if diff := cmp.Diff(want, j.Phase); diff != "" || err != nil || j.OldCredential != 35*time.Minute {
		t.Errorf("%v, the old credential lived for %s\n%s", err, j.OldCredential, diff)
	}
	// An intent ends nothing, nor does a result that nobody intended.
	intent := last
	intent.Phase, intent.Outcome = audit.Intent, ""
	alone := last
	alone.Step = string(rotation.StepAdopt)
	for _, r := range []audit.Record{intent, alone} {
		if j, err := detect.Record(t.Context(), ledger, policy, r); err != nil || j.Phase != nil || j.OldCredential != 0 || len(j.Findings) > 0 {
			t.Errorf("%s %s: %+v, %v", r.Step, r.Phase, j, err)
		}
	}
}

func TestATrailThatCantBeReadIsAnError(t *testing.T) {
	t.Parallel()
	ledger, last := happened(t, rotated("10m", "12m", "")...)
	ledger.Before = func(context.Context, string, string) error { return errors.New("down") }
	if j, err := detect.Record(t.Context(), ledger, policy, last); err == nil {
		t.Errorf("%+v", j)
	}
}

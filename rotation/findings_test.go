package rotation_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

func named(all []rotation.Finding, name rotation.FindingName) bool {
	return slices.ContainsFunc(all, func(f rotation.Finding) bool { return f.Name == name })
}

// history are runs with the times at which they began.
type history struct {
	*runs
	list []rotation.Run
}

func (h history) Describe(_ context.Context, _, name string) (rotation.Run, error) {
	for _, run := range h.list {
		if run.Name == name {
			return run, nil
		}
	}
	return rotation.Run{Name: name, Status: rotation.RunAbsent}, nil
}

func TestFindings(t *testing.T) {
	t.Parallel()
	const c, p, pr, r, d = rotation.Current, rotation.Pending, rotation.Previous, rotation.Retiring, rotation.Disabled
	sm, machine := rotation.DriverSecretsManager, rotation.DriverMachine
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	forward, head := rotation.RunName(arn, v2, rotation.Forward)+"-g", rotation.RunName(arn, v2, rotation.Head)+"-g"
	draining := rotation.Versions{v1: {pr, r, rotation.Live(v1)}, v2: {c, rotation.Live(v2)}}
	disabled := rotation.Versions{v1: {pr, r, d, rotation.Live(v1)}, v2: {c, rotation.Live(v2)}}
	pending := rotation.Versions{v1: {c}, v2: {p}}
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	edit := func(change func(*rotation.Description)) func(*rotation.Description) { return change }
	stuck := `{"Error":"Keyturn.IdentityInUse","Cause":"{\"errorMessage\":\"version x uses it\"}"}`
	tests := []struct {
		name   string
		driver rotation.Driver
		v      rotation.Versions
		edit   func(*rotation.Description)
		runs   []rotation.Run
		want   rotation.FindingName // empty: none
		says   string
		stuck  rotation.Stuck
	}{
		{name: "stable", driver: sm, v: rotation.Versions{v1: {c}}},
		{name: "stable, by the machine", driver: machine, v: rotation.Versions{v1: {c}}},
		{"deleted", sm, draining, edit(func(d *rotation.Description) { d.Deleted = true }), nil, rotation.SecretUnfit, "deletion", rotation.Stuck{}},
		{"replica", sm, draining, edit(func(d *rotation.Description) { d.ReplicaOf = "eu-west-1" }), nil, rotation.SecretUnfit, "eu-west-1", rotation.Stuck{}},
		{"another service's", sm, draining, edit(func(d *rotation.Description) { d.OwningService = "rds" }), nil, rotation.SecretUnfit, "rds", rotation.Stuck{}},
		{"nothing current", sm, rotation.Versions{v1: {pr}}, nil, nil, rotation.CurrentMissing, "AWSCURRENT", rotation.Stuck{}},
		{"two drivers", machine, rotation.Versions{v1: {c}}, edit(func(d *rotation.Description) { yes := true; d.RotationEnabled = &yes }), nil, rotation.TwoDrivers, "machine", rotation.Stuck{}},
		{"rotation off", sm, rotation.Versions{v1: {c}}, edit(func(d *rotation.Description) { no := false; d.RotationEnabled = &no }), nil, rotation.RotationOff, "switched on", rotation.Stuck{}},
		{"never configured", sm, rotation.Versions{v1: {c}}, edit(func(d *rotation.Description) { d.RotationEnabled = nil }), nil, rotation.RotationOff, "switched on", rotation.Stuck{}},
		{name: "due soon", driver: sm, v: rotation.Versions{v1: {c}}, edit: edit(func(d *rotation.Description) { d.NextRotation = now.Add(time.Second) })},
		{name: "just due", driver: sm, v: rotation.Versions{v1: {c}}, edit: edit(func(d *rotation.Description) { d.NextRotation = ago(time.Minute) })},
		{"overdue", sm, rotation.Versions{v1: {c}}, edit(func(d *rotation.Description) { d.NextRotation = ago(time.Hour) }), nil, rotation.RotationOverdue, "2025-12-31T23:00:00Z", rotation.Stuck{}},
		{name: "rotated in time", driver: sm, v: rotation.Versions{v1: {c}}, edit: edit(func(d *rotation.Description) {
			d.LastRotated, d.Every = ago(60*24*time.Hour), 30*24*time.Hour
		})},
		{"rotated too long ago", sm, rotation.Versions{v1: {c}}, edit(func(d *rotation.Description) {
			d.LastRotated, d.Every, d.NextRotation = ago(62*24*time.Hour), 30*24*time.Hour, now.Add(time.Hour)
		}), nil, rotation.RotationOverdue, "2025-12-31", rotation.Stuck{}},
		{"paused in a drain", sm, draining, edit(func(d *rotation.Description) { d.Paused = true }), nil, rotation.Paused, "two credentials", rotation.Stuck{}},
		{"paused in a head", sm, pending, edit(func(d *rotation.Description) { d.Paused = true }), nil, rotation.Paused, "isn't current", rotation.Stuck{}},
		{name: "paused and stable", driver: sm, v: rotation.Versions{v1: {c}}, edit: edit(func(d *rotation.Description) { d.Paused = true })},
		{"AWSPENDING left over", sm, rotation.Versions{v1: {pr, p}, v2: {c}}, nil, nil, rotation.PendingLeftOver, "AWSPENDING", rotation.Stuck{}},
		{name: "AWSPENDING left over on a live one", driver: sm, v: rotation.Versions{v1: {pr, p, rotation.Live(v1)}, v2: {c}}},
		{"KEYTURN_DISABLED left over", sm, rotation.Versions{v1: {pr, d}, v2: {c}}, nil, nil, rotation.DisabledLeftOver, "disabled", rotation.Stuck{}},
		{name: "disabled on its way", driver: sm, v: disabled},
		{name: "disabled and current", driver: sm, v: rotation.Versions{v1: {c, d}}},
		{"stuck", sm, draining, nil, []rotation.Run{
			{Name: forward + "1", Status: rotation.RunFailed, Error: "RotationStuck", Cause: stuck, Started: ago(time.Minute), Stopped: ago(time.Second)},
		}, rotation.RunStuck, "by Keyturn.IdentityInUse: version x uses it", rotation.Stuck{}},
		{name: "stuck by what passes", driver: sm, v: draining, runs: []rotation.Run{
			{Name: forward + "1", Status: rotation.RunFailed, Cause: `{"Error":"Keyturn.Unavailable"}`, Started: ago(time.Minute), Stopped: ago(time.Second)},
		}},
		{name: "stuck once", driver: sm, v: draining, runs: []rotation.Run{
			{Name: forward + "1", Status: rotation.RunFailed, Cause: stuck, Started: ago(time.Minute), Stopped: ago(time.Second)},
			{Name: forward + "2", Status: rotation.RunRunning, Started: ago(time.Second)},
		}},
		{name: "draining", driver: sm, v: draining, runs: []rotation.Run{{Name: forward + "1", Status: rotation.RunRunning, Started: ago(30 * time.Minute)}}},
		{"draining too long", sm, draining, nil, []rotation.Run{
			{Name: forward + "1", Status: rotation.RunRunning, Started: ago(time.Hour)},
		}, rotation.TailTooLong, "two credentials are alive for longer than 30m10s", rotation.Stuck{}},
		{"draining too long, in two generations", sm, draining, nil, []rotation.Run{
			{Name: forward + "1", Status: rotation.RunAborted, Started: ago(time.Hour), Stopped: ago(50 * time.Minute)},
			{Name: forward + "2", Status: rotation.RunRunning, Started: ago(time.Minute)},
		}, rotation.TailTooLong, "30m10s", rotation.Stuck{}},
		{"draining too long, handed over", sm, draining, nil, []rotation.Run{
			{Name: forward + "1", Status: rotation.RunSucceeded, Started: ago(time.Hour), Stopped: ago(50 * time.Minute)},
			{Name: forward + "2", Status: rotation.RunRunning, Started: ago(50*time.Minute - time.Second)},
		}, rotation.TailTooLong, "30m10s", rotation.Stuck{}},
		{name: "the second drain towards this version", driver: sm, v: draining, runs: []rotation.Run{
			{Name: forward + "1", Status: rotation.RunSucceeded, Started: ago(time.Hour), Stopped: ago(50 * time.Minute)},
			{Name: forward + "2", Status: rotation.RunRunning, Started: ago(time.Minute)},
		}},
		{name: "held", driver: sm, v: disabled, runs: []rotation.Run{{Name: forward + "1", Status: rotation.RunRunning, Started: ago(30 * time.Minute)}}},
		{"held too long", sm, disabled, nil, []rotation.Run{
			{Name: forward + "1", Status: rotation.RunRunning, Started: ago(time.Hour)},
		}, rotation.TailTooLong, "isn't revoked", rotation.Stuck{}},
		{name: "head", driver: sm, v: pending, runs: []rotation.Run{{Name: head + "1", Status: rotation.RunRunning, Started: ago(time.Minute)}}},
		{"head too long", sm, pending, nil, []rotation.Run{
			{Name: head + "1", Status: rotation.RunRunning, Started: ago(time.Hour)},
		}, rotation.HeadTooLong, "isn't current", rotation.Stuck{}},
		{name: "a head that may take long", driver: sm, v: pending, stuck: rotation.Stuck{Head: 2 * time.Hour}, runs: []rotation.Run{
			{Name: head + "1", Status: rotation.RunRunning, Started: ago(time.Hour)},
		}},
		{"a head that may not", sm, pending, nil, []rotation.Run{
			{Name: head + "1", Status: rotation.RunRunning, Started: ago(3 * time.Minute)},
		}, rotation.HeadTooLong, "for longer than 2m0s", rotation.Stuck{Head: 2 * time.Minute}},
		{name: "a drain that may take long", driver: sm, v: draining, stuck: rotation.Stuck{Drain: 2 * time.Hour}, runs: []rotation.Run{
			{Name: forward + "1", Status: rotation.RunRunning, Started: ago(time.Hour)},
		}},
		{"a drain that may not", sm, draining, nil, []rotation.Run{
			{Name: forward + "1", Status: rotation.RunRunning, Started: ago(10 * time.Minute)},
		}, rotation.TailTooLong, "two credentials are alive for longer than 5m0s", rotation.Stuck{Drain: 5 * time.Minute}},
		{name: "a hold within its limit", driver: sm, v: disabled, stuck: rotation.Stuck{Drain: 5 * time.Minute, Revoke: 2 * time.Hour}, runs: []rotation.Run{
			{Name: forward + "1", Status: rotation.RunRunning, Started: ago(time.Hour)},
		}},
		{"a hold beyond it", sm, disabled, nil, []rotation.Run{
			{Name: forward + "1", Status: rotation.RunRunning, Started: ago(3 * time.Hour)},
		}, rotation.TailTooLong, "isn't revoked for longer than 2h0m0s", rotation.Stuck{Revoke: 2 * time.Hour}},
		{"a stolen one that isn't replaced", sm, rotation.Versions{v1: {c, rotation.Live(v1), rotation.Stolen(v1), rotation.Replace(v2)}}, nil, []rotation.Run{
			{Name: head + "1", Status: rotation.RunRunning, Started: ago(time.Hour)},
		}, rotation.HeadTooLong, "a stolen credential is current for longer than", rotation.Stuck{}},
		{"a stolen one that is drained", sm, rotation.Versions{v1: {pr, r, rotation.Live(v1), rotation.Stolen(v1)}, v2: {c, rotation.Live(v2)}}, nil, []rotation.Run{
			{Name: forward + "1", Status: rotation.RunRunning, Started: ago(time.Hour)},
		}, rotation.TailTooLong, "two credentials are alive for longer than 30m0s", rotation.Stuck{Drain: 3 * time.Hour}},
		{"machine's head too long", machine, pending, nil, []rotation.Run{
			{Name: head + "1", Status: rotation.RunRunning, Started: ago(time.Hour)},
		}, rotation.HeadTooLong, "isn't current", rotation.Stuck{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tt.driver)
			w.now, w.Runs = now, history{w.runs, tt.runs}
			if tt.stuck != (rotation.Stuck{}) {
				p := w.policy()
				p.Stuck = tt.stuck
				w.Policies = policies{p}
			}
			w.store.Edit(arn, func(d *rotation.Description) { d.Versions = tt.v })
			if tt.edit != nil {
				w.store.Edit(arn, tt.edit)
			}
			got, err := w.Findings(t.Context(), arn)
			w.must(err)
			if tt.want == "" {
				if len(got) > 0 {
					t.Errorf("found %+v", got)
				}
				return
			}
			if len(got) != 1 || got[0].Name != tt.want || !strings.Contains(got[0].Saw, tt.says) || got[0].Do == "" || got[0].Secret != arn {
				t.Errorf("found %+v, want %s that says %q", got, tt.want, tt.says)
			}
		})
	}
}

func TestASecretThatDoesntExistIsAFinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	got, err := w.Watch(t.Context(), "app", rotation.EnsureOptions{})
	w.must(err)
	if !named(got.Findings, rotation.SecretMissing) {
		t.Errorf("found %+v", got)
	}
}

func TestFindingsChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.must(w.rotate(v2))
	w.runs.end(rotation.RunName(arn, v2, rotation.Forward)+"-g1", rotation.RunAborted, w.now, "")
	w.now = w.now.Add(time.Hour)
	before, runs := w.labels(), len(w.runs.runs)
	_, err := w.Findings(t.Context(), arn)
	w.must(err)
	if w.labels() != before || len(w.runs.runs) != runs {
		t.Errorf("labels %s, runs %v", w.labels(), w.runs.runs)
	}
}

// Every constant is in the list, and in the operator's table.
func TestFindingNamesAreComplete(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "findings.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../docs/findings.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || spec.Type == nil {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != "FindingName" {
			return true
		}
		name := spec.Names[0].Name
		n++
		if !slices.Contains(rotation.FindingNames(), rotation.FindingName(name)) || !strings.Contains(string(doc), "| "+name+" |") {
			t.Errorf("%s isn't listed, or not in docs/findings.md", name)
		}
		return true
	})
	if n != len(rotation.FindingNames()) || n == 0 {
		t.Errorf("%d constants, %d listed", n, len(rotation.FindingNames()))
	}
}

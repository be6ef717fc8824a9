package rotation_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/rotation"
)

func TestReadDerivesTheSituationFromLabels(t *testing.T) {
	t.Parallel()
	const c, p, pr, r, d, x = rotation.Current, rotation.Pending, rotation.Previous, rotation.Retiring, rotation.Disabled, rotation.Rejected
	sm, machine := rotation.DriverSecretsManager, rotation.DriverMachine
	run := func(token string, dir rotation.Direction) rotation.Situation {
		return rotation.Situation{Need: rotation.NeedRun, Token: token, Direction: dir}
	}
	nothing := rotation.Situation{Need: rotation.NeedNothing}
	displaced := func(version, current string) rotation.Situation {
		return rotation.Situation{Need: rotation.NeedRun, Token: current, Direction: rotation.Forward, Displaced: version}
	}
	live, candidate := rotation.Live, rotation.Candidate
	tests := []struct {
		name   string
		v      rotation.Versions
		driver rotation.Driver
		want   rotation.Situation
	}{
		{"stable", rotation.Versions{v1: {c}}, sm, nothing},
		{"stable, pending left on current", rotation.Versions{v1: {pr}, v2: {c, p}}, sm, nothing},
		{"store at work", rotation.Versions{v1: {c}, v2: {p}}, sm, rotation.Situation{Need: rotation.NeedStore, Token: v2}},
		{"machine at work", rotation.Versions{v1: {c}, v2: {p}}, machine, run(v2, rotation.Head)},
		{"promotion broke off", rotation.Versions{v1: {c, r}, v2: {p}}, sm, rotation.Situation{Need: rotation.NeedStore, Token: v2}},
		{"promotion broke off, pending gone", rotation.Versions{v1: {c, r}}, sm, nothing},
		{"draining", rotation.Versions{v1: {pr, r}, v2: {c, p}}, sm, run(v2, rotation.Forward)},
		{"draining while another waits", rotation.Versions{v1: {pr, r}, v2: {c}, v3: {p}}, sm, run(v2, rotation.Forward)},
		{"disabled", rotation.Versions{v1: {pr, r, d}, v2: {c}}, sm, run(v2, rotation.Forward)},
		{"rollback asked before promotion", rotation.Versions{v1: {c}, v2: {p, x}}, sm, run(v2, rotation.Back)},
		{"rollback asked after it", rotation.Versions{v1: {pr, r}, v2: {c, x}}, sm, run(v2, rotation.Back)},
		{"rolling back", rotation.Versions{v1: {c}, v2: {pr, r, x}}, sm, run(v2, rotation.Back)},
		{"rollback asked while another drains", rotation.Versions{v1: {r}, v2: {p, x}, v3: {c}}, sm, run(v3, rotation.Forward)},
		{"rolled back", rotation.Versions{v1: {c}, v2: {pr, x}}, sm, nothing},
		{"displaced", rotation.Versions{v2: {pr, live(v2)}, v3: {c}}, sm, displaced(v2, v3)},
		{"displaced during a drain", rotation.Versions{v1: {r}, v2: {pr, live(v2)}, v3: {c}}, sm, run(v3, rotation.Forward)},
		{"dead and previous", rotation.Versions{v1: {pr}, v2: {c, live(v2)}}, sm, nothing},
		{"current moved back by hand", rotation.Versions{v1: {c, r, live(v1)}, v2: {pr, live(v2)}}, sm, displaced(v2, v1)},
		{"the same, with AWSPENDING left over", rotation.Versions{v1: {c, r, live(v1)}, v2: {pr, p, live(v2)}}, sm, displaced(v2, v1)},
		{"moved back to a disabled one", rotation.Versions{v1: {c, d}}, sm, run(v1, rotation.Forward)},
		{"AWSPENDING taken off after set", rotation.Versions{v1: {c}, v2: {live(v2), candidate(v2)}}, sm, displaced(v2, v1)},
		{"promotion broke off beside a displaced one", rotation.Versions{v1: {live(v1)}, v2: {c, r}, v3: {p, live(v3)}}, sm, displaced(v1, v2)},
		{"rollback broke off after AWSCURRENT", rotation.Versions{v1: {c, r, d}, v2: {pr, x, live(v2)}}, sm, run(v2, rotation.Back)},
		{"stored and not claimed", rotation.Versions{v1: {c}, v2: {candidate(v2)}}, machine, run(v2, rotation.Head)},
		{"stored and turned back", rotation.Versions{v1: {c}, v2: {candidate(v2), x}}, machine, run(v2, rotation.Back)},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, rotation.Read(tt.v, tt.driver)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestRunNamesFitAndDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, token := range []string{v1, v2, "", "é", "a\nb", strings.Repeat("x", 36), strings.Repeat("x", 37), "a b/" + strings.Repeat("c", 40)} {
		for _, d := range []rotation.Direction{rotation.Head, rotation.Forward, rotation.Back} {
			name := rotation.RunName(arn, token, d) + "-g1000000"
			if len(name) > 80 || strings.ContainsAny(name, " /:\né") {
				t.Errorf("%q can't name an execution", name)
			}
			if seen[name] {
				t.Errorf("%q names two runs", name)
			}
			seen[name] = true
		}
	}
}

func TestInputIsCanonicalAndHoldsIdentifiersOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.must(w.rotate(v2))
	name := rotation.RunName(arn, v2, rotation.Forward)
	got, err := json.Marshal(w.runs.in[name+"-g1"])
	w.must(err)
	want := `{"secret":"` + arn + `","token":"` + v2 + `","direction":"forward","driver":"secretsmanager","run":"` + name + `","generation":1,"cursor":""}`
	if string(got) != want {
		t.Errorf("input %s\nwant  %s", got, want)
	}
}

func TestOneRunHoweverManyAsk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.must(w.rotate(v2))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := w.EnsureRun(t.Context(), arn, rotation.EnsureOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if names := w.runs.names(); len(names) != 1 {
		t.Errorf("runs %v", names)
	}
}

func TestTheNextGeneration(t *testing.T) {
	t.Parallel()
	const retryable, terminal = `{"Error":"Keyturn.Unavailable","Cause":"x"}`, `{"Error":"Keyturn.IdentityInUse","Cause":"x"}`
	tests := []struct {
		name   string
		status rotation.RunStatus
		cause  string
		since  time.Duration
		resume bool
		starts bool
	}{
		{"running", rotation.RunRunning, "", time.Hour, true, false},
		{"stopped just now: its function may still act", rotation.RunAborted, "", 9 * time.Second, false, false},
		{"stopped", rotation.RunAborted, "", 10 * time.Second, false, true},
		{"timed out", rotation.RunTimedOut, "", 10 * time.Second, false, true},
		{"stuck by what passes, just now", rotation.RunFailed, retryable, 15 * time.Second, false, false},
		{"stuck by what passes", rotation.RunFailed, retryable, 20 * time.Second, false, true},
		{"stuck by a time-out of Lambda", rotation.RunFailed, `{"Error":"Sandbox.Timedout"}`, 20 * time.Second, false, true},
		{"stuck for a person", rotation.RunFailed, terminal, time.Hour, false, false},
		{"a person has looked", rotation.RunFailed, terminal, 10 * time.Second, true, true},
		{"a person is too quick", rotation.RunFailed, terminal, 9 * time.Second, true, false},
		{"too many events", rotation.RunFailed, "The execution reached the maximum number of history events (25000).", 20 * time.Second, false, true},
		{"cause that nobody wrote", rotation.RunFailed, "text", time.Hour, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rotation.DriverSecretsManager)
			w.must(w.rotate(v2))
			name := rotation.RunName(arn, v2, rotation.Forward)
			w.runs.end(name+"-g1", tt.status, w.now, tt.cause)
			w.now = w.now.Add(tt.since)
			e, err := w.EnsureRun(t.Context(), arn, rotation.EnsureOptions{Resume: tt.resume})
			w.must(err)
			if e.Started != tt.starts {
				t.Errorf("started %v, want %v: %+v", e.Started, tt.starts, e)
			}
			if e.Started && e.Run.Name != name+"-g2" {
				t.Errorf("started %s", e.Run.Name)
			}
			waits := tt.status != rotation.RunRunning && !tt.starts && tt.since < time.Minute
			if (e.After > 0) != waits {
				t.Errorf("says to ask again after %s", e.After)
			}
		})
	}
}

func TestTheWatchdogAsksForTheRotationThatWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverSecretsManager)
	w.must(w.store.Rotate(t.Context(), arn, v2))
	before := len(w.store.Calls())
	_, err := w.EnsureRun(t.Context(), arn, rotation.EnsureOptions{Retry: true})
	w.must(err)
	asked := false
	for _, c := range w.store.Calls()[before:] {
		asked = asked || c.Op == "Rotate"
	}
	if !asked {
		t.Error("nobody asked Secrets Manager")
	}
}

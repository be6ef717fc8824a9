package conformance_test

import (
	"testing"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

// TestC9_1_ADrainWaitsForItsSlowestConsumer: nobody who may still have the old
// value in a cache, and no function that still runs, is overtaken by a drain,
// however quiet it is.
func TestC9_1_ADrainWaitsForItsSlowestConsumer(t *testing.T) {
	t.Parallel()
	const window, limit = 10 * time.Minute, time.Minute
	for name, tt := range map[string]struct {
		policy rotation.Policy
		floor  time.Duration
	}{
		"the window":    {rotation.Policy{Window: window, FunctionLimit: limit}, window},
		"a function":    {rotation.Policy{Window: time.Second, FunctionLimit: limit}, limit},
		"a cache":       {rotation.Policy{Window: window, FunctionLimit: limit, Parties: []rotation.Party{{Name: "web", CacheAge: time.Hour}, {Name: "api", CacheAge: time.Minute}}}, time.Hour},
		"a nightly job": {rotation.Policy{Window: window, FunctionLimit: limit, Parties: []rotation.Party{{Name: "job", Cadence: 24 * time.Hour}, {Name: "web", CacheAge: time.Hour}}}, 24 * time.Hour},
	} {
		p := tt.policy
		if got := p.DrainFloor(); got != tt.floor {
			t.Errorf("%s: the floor is %s, want %s", name, got, tt.floor)
		}
		p.QuietPolls, p.Poll, p.MaxOverlap, p.OnTimeout = 1, time.Second, 48*time.Hour, rotation.Hold
		seen := rotation.Observation{Subject: "old", Logged: true}
		begun := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		cursor := ""
		for _, look := range []struct {
			after time.Duration
			done  bool
		}{{0, false}, {tt.floor - time.Second, false}, {tt.floor, true}} {
			result, err := rotation.JudgeDrain(p, cursor, begun.Add(look.after), seen)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if done := result.Outcome == rotation.Done; done != look.done {
				t.Errorf("%s: after %s it is %s: %v", name, look.after, result.Outcome, result.Missing)
			}
			cursor = result.Cursor
		}
	}
}

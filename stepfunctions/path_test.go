package stepfunctions_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
	"github.com/keyturn/keyturn/rotation"
)

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			p := play(t, s)
			if got := steps(p.Path); got != s.want {
				t.Errorf("path %s\nwant %s\nerror %v", got, s.want, p.Error)
			}
		})
	}
}

func TestEveryFaultHasItsEnd(t *testing.T) {
	t.Parallel()
	for _, name := range fault.Names() {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			p := play(t, scenario{direction: rotation.Forward, script: script{"drainCheck": {":" + string(name)}}})
			calls, end := 1, "RotationStuck"
			switch {
			case name == fault.Throttled:
				calls = 9
			case name.Class() == fault.Retry:
				calls = 7
			case name == fault.Superseded:
				end = "HandedOver"
			}
			if p.calls["drainCheck"] != calls || p.Path[len(p.Path)-1] != end {
				t.Errorf("%d calls, end %s; want %d, %s", p.calls["drainCheck"], p.Path[len(p.Path)-1], calls, end)
			}
			if end == "RotationStuck" && (p.Error == nil || p.Error.Name != "RotationStuck" || !strings.Contains(p.Error.Cause, string(name))) {
				t.Errorf("the end says %v", p.Error)
			}
		})
	}
}

// The cause that the real file writes is the one that EnsureRun reads.
func TestCauseOfAStuckRunNamesTheFault(t *testing.T) {
	t.Parallel()
	p := play(t, scenario{direction: rotation.Forward, script: script{"drainCheck": {":Keyturn.IdentityInUse"}}})
	var cause struct{ Error string }
	if err := json.Unmarshal([]byte(p.Error.Cause), &cause); err != nil || cause.Error != "Keyturn.IdentityInUse" {
		t.Errorf("cause %s: %v", p.Error.Cause, err)
	}
}

func TestHandOverToTheNextGeneration(t *testing.T) {
	t.Parallel()
	for _, taken := range []bool{false, true} {
		s := script{"drainCheck": {"wait"}}
		if taken {
			s["startExecution"] = []string{":Sfn.ExecutionAlreadyExistsException"}
		}
		p := play(t, scenario{direction: rotation.Forward, driver: rotation.DriverSecretsManager, script: s})
		if p.calls["drainCheck"] != 1500 || p.Path[len(p.Path)-1] != "HandedOver" || p.Status != asl.Succeeded {
			t.Fatalf("taken %v: %d polls, end %s, %v", taken, p.calls["drainCheck"], p.Path[len(p.Path)-1], p.Error)
		}
		last := p.trace.Calls[len(p.trace.Calls)-1].Input.(map[string]any)
		var got rotation.Input
		if err := json.Unmarshal([]byte(last["Input"].(string)), &got); err != nil {
			t.Fatal(err)
		}
		want := rotation.Input{Secret: "arn:secret", Token: "t", Direction: rotation.Forward, Driver: rotation.DriverSecretsManager, Run: "run", Generation: 2, Cursor: "c"}
		if diff := cmp.Diff(want, got); diff != "" || last["Name"] != "run-g2" || last["StateMachineArn"] != machineARN {
			t.Errorf("%s %s (-want +got):\n%s", last["StateMachineArn"], last["Name"], diff)
		}
	}
}

func TestHoldTakesWhatDisableSays(t *testing.T) {
	t.Parallel()
	p := play(t, scenario{direction: rotation.Forward, driver: rotation.DriverSecretsManager})
	if !slices.Equal(p.trace.Slept, []int64{60_000}) || !slices.Contains(p.Path, "Hold") {
		t.Errorf("the run waited %v ms", p.trace.Slept)
	}
}

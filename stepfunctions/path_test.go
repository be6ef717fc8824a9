package stepfunctions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/stepfunctions"
)

// still is a clock on which waits take no time.
type still struct{ now time.Time }

func (s *still) Now() time.Time { return s.now }

func (s *still) Sleep(ctx context.Context, d time.Duration) error {
	s.now = s.now.Add(d)
	return ctx.Err()
}

// script answers the calls of a function in order; the last answer repeats. An
// answer is an outcome, or the name of an error with a colon before it.
type script map[string][]string

type played struct {
	*asl.Execution
	calls map[string]int
	took  time.Duration
	input []string // of startExecution
}

// play runs the real file with scripted functions.
func play(t *testing.T, d rotation.Direction, driver rotation.Driver, s script) played {
	t.Helper()
	names := map[string]string{}
	for _, name := range stepfunctions.Functions(stepfunctions.Rotation) {
		names[name] = name
	}
	definition, err := stepfunctions.Definition(stepfunctions.Rotation, names)
	if err != nil {
		t.Fatal(err)
	}
	m, err := asl.Parse([]byte(definition))
	if err != nil {
		t.Fatal(err)
	}
	clock := &still{now: time.Unix(1_000_000, 0)}
	p := played{calls: map[string]int{}}
	env := asl.Environment{
		Clock: clock, TaskClock: asl.RealTime{}, Random: func() float64 { return 1 },
		Context: asl.Context{StateMachineID: "arn:machine", ExecutionName: "x"},
		Task: func(_ context.Context, call asl.TaskCall) ([]byte, *asl.Error) {
			if call.SDK {
				p.input = append(p.input, string(call.Input))
				return answerOf(t, s, "startExecution", &p, `{"ExecutionArn":"arn:next"}`)
			}
			var in struct {
				FunctionName string
				Payload      struct{ Polls int }
			}
			if err := json.Unmarshal(call.Input, &in); err != nil {
				t.Errorf("reading a call: %v", err)
			}
			return answerOf(t, s, in.FunctionName, &p, in.Payload.Polls)
		},
	}
	input, err := json.Marshal(rotation.Input{Secret: "arn:secret", Token: "t", Direction: d, Driver: driver, Run: "run", Generation: 1})
	if err != nil {
		t.Fatal(err)
	}
	p.Execution = m.Run(t.Context(), env, input)
	p.took = clock.now.Sub(time.Unix(1_000_000, 0))
	return p
}

func answerOf(t *testing.T, s script, function string, p *played, detail any) ([]byte, *asl.Error) {
	t.Helper()
	answers := s[function]
	if len(answers) == 0 {
		answers = []string{"done"}
	}
	i := min(p.calls[function], len(answers)-1)
	p.calls[function]++
	if name, isError := strings.CutPrefix(answers[i], ":"); isError {
		return nil, &asl.Error{Name: name, Cause: `{"errorType":"` + name + `"}`}
	}
	if text, ok := detail.(string); ok {
		return []byte(text), nil
	}
	polls, _ := detail.(int)
	if answers[i] == "wait" || answers[i] == "unknown" {
		polls++
	}
	return fmt.Appendf(nil, `{"Payload":{"outcome":%q,"missing":[],"after_seconds":60,"cursor":"c","polls":%d}}`, answers[i], polls), nil
}

// steps leaves the states that are steps or ends.
func steps(path []string) string {
	var kept []string
	for _, state := range path {
		internal := state == "Begin" || state == "Direction" || state == "Driver" || state == "End" || state == "NextInput" ||
			strings.HasSuffix(state, "Answer") || strings.HasSuffix(state, "Wait") || strings.HasSuffix(state, "Cause")
		if !internal {
			kept = append(kept, state)
		}
	}
	return strings.Join(kept, " ")
}

func TestPaths(t *testing.T) {
	t.Parallel()
	const sm, machine = rotation.DriverSecretsManager, rotation.DriverMachine
	tests := []struct {
		name      string
		direction rotation.Direction
		driver    rotation.Driver
		script    script
		want      string
	}{
		{"head of the machine", rotation.Head, machine, nil, "Create Set Test Finish Promoted"},
		{"head of Secrets Manager", rotation.Head, sm, script{"createSecret": {"wait", "wait", "done"}}, "Create Create Create Promoted"},
		{"head that waits", rotation.Head, machine, script{"testSecret": {"wait", "unknown", "done"}}, "Create Set Test Test Test Finish Promoted"},
		{"head refused", rotation.Head, sm, script{"createSecret": {":Keyturn.DrainInProgress"}}, "Create Abort RotationAborted"},
		{"head fails in test", rotation.Head, machine, script{"testSecret": {":Keyturn.CredentialRejected"}, "rollback": {"wait", "done"}}, "Create Set Test Abort Abort RotationAborted"},
		{"head fails, but was promoted", rotation.Head, machine, script{"finishSecret": {":Keyturn.Internal"}, "rollback": {"promoted"}}, "Create Set Test Finish Abort Promoted"},
		{"head overtaken", rotation.Head, machine, script{"setSecret": {":Keyturn.Superseded"}}, "Create Set HandedOver"},
		{"abort fails", rotation.Head, machine, script{"setSecret": {":Keyturn.Internal"}, "rollback": {":Keyturn.PermissionDenied"}}, "Create Set Abort RotationStuck"},
		{"tail", rotation.Forward, sm, nil, "Adopt Drain Disable Hold Revoke Stable"},
		{"tail that waits", rotation.Forward, sm, script{"drainCheck": {"wait", "unknown", "done"}, "adoptSecret": {"wait", "done"}}, "Adopt Adopt Drain Drain Drain Disable Hold Revoke Stable"},
		{"disable reopens", rotation.Forward, sm, script{"disableSecret": {"reopened", "done"}}, "Adopt Drain Disable Drain Disable Hold Revoke Stable"},
		{"revoke goes on with an orphan", rotation.Forward, sm, script{"revokeSecret": {"reopened", "done"}}, "Adopt Drain Disable Hold Revoke Adopt Drain Disable Hold Revoke Stable"},
		{"rolled back or overtaken meanwhile", rotation.Forward, sm, script{"disableSecret": {":Keyturn.Superseded"}}, "Adopt Drain Disable HandedOver"},
		{"drain expires", rotation.Forward, sm, script{"drainCheck": {"wait", ":Keyturn.DrainExpired"}}, "Adopt Drain Drain RotationStuck"},
		{"back", rotation.Back, sm, script{"rollback": {"wait", "done"}}, "Rollback Rollback Adopt Drain Disable Hold Revoke RolledBack"},
		{"back too late", rotation.Back, sm, script{"rollback": {":Keyturn.TooLate"}}, "Rollback HandedOver"},
		{"a direction that nobody knows", "sideways", sm, nil, "AnswerNotUnderstood RotationStuck"},
		{"an answer that nobody knows", rotation.Forward, sm, script{"adoptSecret": {"perhaps"}}, "Adopt AnswerNotUnderstood RotationStuck"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := play(t, tt.direction, tt.driver, tt.script)
			if got := steps(p.Path); got != tt.want {
				t.Errorf("path %s\nwant %s\nerror %v", got, tt.want, p.Error)
			}
		})
	}
}

func TestEveryFaultHasItsEnd(t *testing.T) {
	t.Parallel()
	for _, name := range fault.Names() {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			p := play(t, rotation.Forward, rotation.DriverSecretsManager, script{"drainCheck": {":" + string(name)}})
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
	p := play(t, rotation.Forward, rotation.DriverSecretsManager, script{"drainCheck": {":Keyturn.IdentityInUse"}})
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
		p := play(t, rotation.Forward, rotation.DriverSecretsManager, s)
		if p.calls["drainCheck"] != 2000 || p.Path[len(p.Path)-1] != "HandedOver" || p.Status != asl.Succeeded {
			t.Fatalf("taken %v: %d polls, end %s, %v", taken, p.calls["drainCheck"], p.Path[len(p.Path)-1], p.Error)
		}
		var call struct{ StateMachineArn, Name, Input string }
		if err := json.Unmarshal([]byte(p.input[0]), &call); err != nil {
			t.Fatal(err)
		}
		var got rotation.Input
		if err := json.Unmarshal([]byte(call.Input), &got); err != nil {
			t.Fatal(err)
		}
		want := rotation.Input{Secret: "arn:secret", Token: "t", Direction: rotation.Forward, Driver: rotation.DriverSecretsManager, Run: "run", Generation: 2, Cursor: "c"}
		if diff := cmp.Diff(want, got); diff != "" || call.Name != "run-g2" || call.StateMachineArn != "arn:machine" {
			t.Errorf("%s %s (-want +got):\n%s", call.StateMachineArn, call.Name, diff)
		}
	}
}

func TestHoldTakesWhatDisableSays(t *testing.T) {
	t.Parallel()
	p := play(t, rotation.Forward, rotation.DriverSecretsManager, nil)
	if p.took != time.Minute || !slices.Contains(p.Path, "Hold") {
		t.Errorf("the run waited %s", p.took)
	}
}

package stepfunctions_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/stepfunctions"
)

// script answers the calls of a function in order; the last answer repeats, and
// a function that isn't named is done at once. An answer is one of
//
//	done, wait, …   an outcome; wait and unknown count a poll
//	:Name           an error of that name
//	hang            no answer before the state's time is up
//	{…}             the payload as it stands
type script map[string][]string

// scenario is one run of the rotation's file.
type scenario struct {
	name      string
	direction rotation.Direction
	driver    rotation.Driver
	script    script
	want      string // the steps and the end (see steps)
}

const (
	bySecretsManager = rotation.DriverSecretsManager
	byMachine        = rotation.DriverMachine
)

// scenarios are what the paths of the file are about. Both interpreters run
// them; want is what they must visit.
var scenarios = []scenario{
	{"head of the machine", rotation.Head, byMachine, nil, "Create Set Test Finish Promoted"},
	{"head of Secrets Manager", rotation.Head, bySecretsManager, script{"createSecret": {"wait", "wait", "done"}}, "Create Create Create Promoted"},
	{"head that waits", rotation.Head, byMachine, script{"testSecret": {"wait", "unknown", "done"}}, "Create Set Test Test Test Finish Promoted"},
	{"head that waits in every step", rotation.Head, byMachine, script{"createSecret": {"unknown", "done"}, "setSecret": {"wait", "done"}, "finishSecret": {"wait", "done"}}, "Create Create Set Set Test Finish Finish Promoted"},
	{"head refused", rotation.Head, bySecretsManager, script{"createSecret": {":Keyturn.DrainInProgress"}}, "Create Abort RotationAborted"},
	{"head fails in test", rotation.Head, byMachine, script{"testSecret": {":Keyturn.CredentialRejected"}, "abortSecret": {"wait", "done"}}, "Create Set Test Abort Abort RotationAborted"},
	{"head fails, but was promoted", rotation.Head, byMachine, script{"finishSecret": {":Keyturn.Internal"}, "abortSecret": {"promoted"}}, "Create Set Test Finish Abort Promoted"},
	{"head overtaken", rotation.Head, byMachine, script{"setSecret": {":Keyturn.Superseded"}}, "Create Set HandedOver"},
	{"abort fails", rotation.Head, byMachine, script{"setSecret": {":Keyturn.Internal"}, "abortSecret": {":Keyturn.PermissionDenied"}}, "Create Set Abort RotationStuck"},
	{"abort succeeds at the second call", rotation.Head, byMachine, script{"setSecret": {":Keyturn.Blocked"}, "abortSecret": {":Keyturn.Unavailable", "done"}}, "Create Set Abort RotationAborted"},
	{"tail", rotation.Forward, bySecretsManager, nil, "Adopt Drain Disable Hold Revoke Stable"},
	{"tail of the machine's driver", rotation.Forward, byMachine, nil, "Adopt Drain Disable Hold Revoke Stable"},
	{"tail that waits", rotation.Forward, bySecretsManager, script{"drainCheck": {"wait", "unknown", "done"}, "adoptSecret": {"wait", "done"}}, "Adopt Adopt Drain Drain Drain Disable Hold Revoke Stable"},
	{"disable reopens", rotation.Forward, bySecretsManager, script{"disableSecret": {"reopened", "done"}}, "Adopt Drain Disable Drain Disable Hold Revoke Stable"},
	{"revoke goes on with an orphan", rotation.Forward, bySecretsManager, script{"revokeSecret": {"reopened", "done"}}, "Adopt Drain Disable Hold Revoke Adopt Drain Disable Hold Revoke Stable"},
	{"rolled back or overtaken meanwhile", rotation.Forward, bySecretsManager, script{"disableSecret": {":Keyturn.Superseded"}}, "Adopt Drain Disable HandedOver"},
	{"drain expires", rotation.Forward, bySecretsManager, script{"drainCheck": {"wait", ":Keyturn.DrainExpired"}}, "Adopt Drain Drain RotationStuck"},
	{"drain reopened has no meaning", rotation.Forward, bySecretsManager, script{"drainCheck": {"reopened"}}, "Adopt Drain AnswerNotUnderstood RotationStuck"},
	{"back", rotation.Back, bySecretsManager, script{"rollback": {"wait", "done"}}, "Rollback Rollback Adopt Drain Disable Hold Revoke RolledBack"},
	{"back too late", rotation.Back, bySecretsManager, script{"rollback": {":Keyturn.TooLate"}}, "Rollback HandedOver"},
	{"back, overtaken", rotation.Back, bySecretsManager, script{"rollback": {":Keyturn.Superseded"}}, "Rollback HandedOver"},
	{"a direction that nobody knows", "sideways", bySecretsManager, nil, "AnswerNotUnderstood RotationStuck"},
	{"an answer that nobody knows", rotation.Forward, bySecretsManager, script{"adoptSecret": {"perhaps"}}, "Adopt AnswerNotUnderstood RotationStuck"},

	{"errors of two retriers are counted apart", rotation.Forward, bySecretsManager, script{"drainCheck": {
		":Keyturn.Throttled", ":Lambda.Unknown", ":Keyturn.Throttled", ":Keyturn.Conflict", ":Lambda.TooManyRequestsException", "wait", ":Keyturn.Ambiguous", "done",
	}}, "Adopt Drain Drain Disable Hold Revoke Stable"},
	{"counts begin anew with every stay", rotation.Forward, bySecretsManager, script{"drainCheck": slices.Concat(
		slices.Repeat([]string{":Keyturn.Conflict"}, 6), []string{"wait"}, slices.Repeat([]string{":Keyturn.Conflict"}, 6), []string{"done"},
	)}, "Adopt Drain Drain Disable Hold Revoke Stable"},
	{"a call hangs", rotation.Forward, bySecretsManager, script{"disableSecret": {"hang", "done"}}, "Adopt Drain Disable Hold Revoke Stable"},
	{"every call hangs", rotation.Forward, bySecretsManager, script{"disableSecret": {"hang"}}, "Adopt Drain Disable RotationStuck"},
	{"the head hangs", rotation.Head, byMachine, script{"createSecret": {"hang"}}, "Create Abort RotationAborted"},
	{"an answer without an outcome", rotation.Forward, bySecretsManager, script{"revokeSecret": {`{"missing":[],"after_seconds":1,"cursor":"","polls":0}`}}, "Adopt Drain Disable Hold Revoke"},
	{"no answer at all", rotation.Head, byMachine, script{"setSecret": {`{}`}}, "Create Set"},
	{"an outcome that is no text", rotation.Forward, bySecretsManager, script{"adoptSecret": {answered("null", "60", "1")}}, "Adopt AnswerNotUnderstood RotationStuck"},
	{"polls that are no number", rotation.Forward, bySecretsManager, script{"adoptSecret": {answered(`"wait"`, "60", "null"), "done"}}, "Adopt Adopt Drain Disable Hold Revoke Stable"},
	{"a wait of no time", rotation.Forward, bySecretsManager, script{"adoptSecret": {answered(`"wait"`, "0", "1"), "done"}}, "Adopt Adopt Drain Disable Hold Revoke Stable"},
	{"a wait of a year", rotation.Forward, bySecretsManager, script{"adoptSecret": {answered(`"wait"`, "31536000", "1"), "done"}}, "Adopt Adopt Drain Disable Hold Revoke Stable"},
	{"a wait that is no whole number", rotation.Forward, bySecretsManager, script{"adoptSecret": {answered(`"wait"`, "1.5", "1")}}, "Adopt"},
	{"a wait that is negative", rotation.Forward, bySecretsManager, script{"adoptSecret": {answered(`"wait"`, "-1", "1")}}, "Adopt"},
	{"a wait that is text", rotation.Forward, bySecretsManager, script{"adoptSecret": {answered(`"wait"`, `"60"`, "1")}}, "Adopt"},
	{"a hold that is absurd", rotation.Forward, bySecretsManager, script{"disableSecret": {answered(`"done"`, `{}`, "1")}}, "Adopt Drain Disable Hold"},

	{"the last poll", rotation.Forward, bySecretsManager, script{"drainCheck": {answered(`"wait"`, "60", "1499"), "done"}}, "Adopt Drain Drain Disable Hold Revoke Stable"},
	{"one poll too many", rotation.Forward, bySecretsManager, script{"drainCheck": {answered(`"unknown"`, "60", "1500")}}, "Adopt Drain HandOver HandedOver"},
	{"done at the last poll", rotation.Forward, bySecretsManager, script{"drainCheck": {answered(`"done"`, "60", "1500")}, "disableSecret": {answered(`"reopened"`, "60", "1500")}}, "Adopt Drain Disable HandOver HandedOver"},
	{"two steps send each other back for ever", rotation.Forward, bySecretsManager, script{"drainCheck": {answered(`"done"`, "60", "1497"), "done"}, "disableSecret": {"reopened"}}, "Adopt" + strings.Repeat(" Drain Disable", 3) + " HandOver HandedOver"},
	{"displaced versions without end", rotation.Forward, bySecretsManager, script{"revokeSecret": {answered(`"reopened"`, "60", "1500")}}, "Adopt Drain Disable Hold Revoke HandOver HandedOver"},
	{"1500 polls", rotation.Forward, bySecretsManager, script{"adoptSecret": {answered(`"done"`, "60", "1490")}, "drainCheck": {"wait"}}, "Adopt" + strings.Repeat(" Drain", 10) + " HandOver HandedOver"},
	{"1500 polls of the head", rotation.Head, byMachine, script{"testSecret": {answered(`"wait"`, "60", "1500")}}, "Create Set Test HandOver HandedOver"},
	{"1500 polls of the abort", rotation.Head, byMachine, script{"testSecret": {":Keyturn.Internal"}, "abortSecret": {answered(`"wait"`, "60", "1500")}}, "Create Set Test Abort HandOver HandedOver"},
	{"1500 polls on the way back", rotation.Back, bySecretsManager, script{"rollback": {answered(`"unknown"`, "60", "1500")}}, "Rollback HandOver HandedOver"},
	{"the next run is there already", rotation.Forward, bySecretsManager, script{
		"drainCheck": {answered(`"wait"`, "60", "1500")}, "startExecution": {":Sfn.ExecutionAlreadyExistsException"},
	}, "Adopt Drain HandOver HandedOver"},
	{"the next run can't be started", rotation.Forward, bySecretsManager, script{
		"drainCheck": {answered(`"wait"`, "60", "1500")}, "startExecution": {":Sfn.StateMachineDoesNotExistException"},
	}, "Adopt Drain HandOver RotationStuck"},
	{"the next run is started at the third try", rotation.Forward, bySecretsManager, script{
		"drainCheck": {answered(`"wait"`, "60", "1500")}, "startExecution": {":Sfn.SdkClientException", "hang", "done"},
	}, "Adopt Drain HandOver HandedOver"},
}

// answered is a payload whose members are JSON texts of one's own.
func answered(outcome, after, polls string) string {
	return fmt.Sprintf(`{"outcome":%s,"missing":["db-2"],"after_seconds":%s,"cursor":"c","polls":%s}`, outcome, after, polls)
}

// everyError lets each function fail with each error, once and for ever.
func everyError() []scenario {
	type call struct {
		function  string
		direction rotation.Direction
		before    script
	}
	pending := answered(`"wait"`, "60", "1500")
	calls := []call{
		{"createSecret", rotation.Head, nil}, {"setSecret", rotation.Head, nil}, {"testSecret", rotation.Head, nil}, {"finishSecret", rotation.Head, nil},
		{"abortSecret", rotation.Head, script{"testSecret": {":Keyturn.CredentialRejected"}}}, {"rollback", rotation.Back, nil},
		{"adoptSecret", rotation.Forward, nil}, {"drainCheck", rotation.Forward, nil}, {"disableSecret", rotation.Forward, nil}, {"revokeSecret", rotation.Back, nil},
		{"startExecution", rotation.Forward, script{"drainCheck": {pending}}},
	}
	var all []scenario
	for _, c := range calls {
		for _, name := range errorNames() {
			for _, answers := range [][]string{{name}, {name, "done"}} {
				s := script{c.function: answers}
				for function, before := range c.before {
					s[function] = before
				}
				all = append(all, scenario{
					name:      fmt.Sprintf("%s %s: %s", c.direction, c.function, strings.Join(answers, ", ")),
					direction: c.direction, driver: byMachine, script: s,
				})
			}
		}
	}
	return all
}

// errorNames are answers that are errors: every fault, those of Lambda and of
// Step Functions, and a function's name for something unforeseen.
func errorNames() []string {
	names := []string{
		"hang", ":Runtime.ExitError", ":Sandbox.Timedout", ":Lambda.Unknown", ":Lambda.ServiceException", ":Lambda.AWSLambdaException",
		":Lambda.SdkClientException", ":Lambda.ClientExecutionTimeoutException", ":Lambda.TooManyRequestsException",
		":Lambda.ResourceNotFoundException", ":Sfn.SdkClientException", ":Sfn.SfnException", ":Sfn.ExecutionAlreadyExistsException",
		":States.TaskFailed", ":States.Permissions", ":errorString",
	}
	for _, name := range fault.Names() {
		names = append(names, ":"+string(name))
	}
	return names
}

// played is a run of the rotation's file.
type played struct {
	*asl.Execution
	trace   trace
	calls   map[string]int      // by function
	answers map[string][]answer // by state, as given
}

// rotationFile is the rotation's definition, with each function's own name
// filled in, and the machine that our interpreter makes of it.
var rotationFile = sync.OnceValues(func() (string, *asl.Machine) {
	text, err := filled(stepfunctions.Rotation)
	if err != nil {
		panic(err)
	}
	m, err := asl.Parse([]byte(text))
	if err != nil {
		panic(err)
	}
	return text, m
})

func filled(definition string) (string, error) {
	names := map[string]string{}
	for _, name := range stepfunctions.Functions(definition) {
		names[name] = name
	}
	return stepfunctions.Definition(definition, names)
}

func inputOf(d rotation.Direction, driver rotation.Driver) rotation.Input {
	return rotation.Input{Secret: "arn:secret", Token: "t", Direction: d, Driver: driver, Run: "run", Generation: 1}
}

// play runs the rotation's file on our interpreter with scripted functions.
func play(t fataler, s scenario) played {
	t.Helper()
	_, machine := rotationFile()
	p := played{calls: map[string]int{}, answers: map[string][]answer{}}
	p.Execution, p.trace = interpret(t, machine, inputOf(s.direction, s.driver), func(call asl.TaskCall) answer {
		function, polls := "startExecution", 0
		if !call.SDK {
			var in struct {
				FunctionName string
				Payload      struct{ Polls any }
			}
			if err := json.Unmarshal(call.Input, &in); err != nil {
				t.Fatalf("reading a call: %v", err)
			}
			counted, _ := in.Payload.Polls.(float64)
			function, polls = in.FunctionName, int(counted)
		}
		a := answerOf(s.script[function], p.calls[function], polls, call.SDK)
		p.calls[function]++
		p.answers[call.State] = append(p.answers[call.State], a)
		return a
	})
	return p
}

// answerOf is the answer to the nth call (from 0) of a function.
func answerOf(answers []string, n, polls int, started bool) answer {
	text := "done"
	if len(answers) > 0 {
		text = answers[min(n, len(answers)-1)]
	}
	name, isError := strings.CutPrefix(text, ":")
	switch {
	case text == "hang":
		return answer{Hang: true}
	case isError:
		return answer{Error: name, Cause: fmt.Sprintf(`{"errorMessage":"a \"quoted\" text","errorType":%q}`, name)}
	case started:
		return answer{Result: json.RawMessage(`{"ExecutionArn":"arn:next","StartDate":"2026-01-01T00:00:00Z"}`)}
	case strings.HasPrefix(text, "{"):
		return answer{Result: asl.LambdaResult([]byte(text))}
	case text == "wait" || text == "unknown" || text == "reopened":
		polls++
	}
	return answer{Result: asl.LambdaResult(fmt.Appendf(nil, `{"outcome":%q,"missing":[],"after_seconds":60,"cursor":"c","polls":%d}`, text, polls))}
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

func TestScenarioNamesAreUnique(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range slices.Concat(scenarios, everyError()) {
		if seen[s.name] {
			t.Errorf("two scenarios are named %q", s.name)
		}
		seen[s.name] = true
	}
}

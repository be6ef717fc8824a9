package stepfunctions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/stepfunctions"
)

func codeOf(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

// The borders of StartExecution and StopExecution (API reference).
func TestBordersOfExecutions(t *testing.T) {
	t.Parallel()
	b := setup(t, stepfunctions.Config{})
	arn := b.create("m", machine(onlyAPass))
	for name, want := range map[string]string{
		strings.Repeat("ü", 80): "", strings.Repeat("ü", 81): "InvalidName",
		"a-b_c.d=e+f@g!": "", "a%b": "InvalidName", `a\b`: "InvalidName", "a^b": "InvalidName", "a|b": "InvalidName",
		"a~b": "InvalidName", "a`b": "InvalidName", "a$b": "InvalidName", "a&b": "InvalidName", "a;b": "InvalidName",
		"a<b": "InvalidName", "a>b": "InvalidName", "a{b": "InvalidName", "a}b": "InvalidName", "a[b": "InvalidName",
		"a]b": "InvalidName", "a?b": "InvalidName", "a\u0085b": "InvalidName",
	} {
		_, err := b.client.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: arn, Name: &name})
		if codeOf(err) != want || want == "" && err != nil {
			t.Errorf("name %q: %v, want %q", name, err, want)
		}
	}
	longest := `"` + strings.Repeat("x", 262_144-2) + `"`
	if d := b.end(b.start(arn, "longest", longest)); d.Status != types.ExecutionStatusSucceeded {
		t.Errorf("the longest input: %s %s", d.Status, aws.ToString(d.Cause))
	}
	out, err := b.client.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: arn})
	if err != nil {
		t.Fatal(err)
	}
	if d := b.end(out.ExecutionArn); aws.ToString(d.Input) != `{}` || len(aws.ToString(d.Name)) != 36 {
		t.Errorf("without name and input: %q %q", aws.ToString(d.Name), aws.ToString(d.Input))
	}

	waiting := b.create("waiting", machine(waitADay))
	run := b.start(waiting, "r", `{}`)
	stop := func(name, cause int) error {
		_, err := b.client.StopExecution(t.Context(), &sfn.StopExecutionInput{
			ExecutionArn: run, Error: aws.String(strings.Repeat("e", name)), Cause: aws.String(strings.Repeat("c", cause)),
		})
		return err
	}
	if err := stop(257, 1); codeOf(err) != "ValidationException" {
		t.Errorf("an error of 257 characters: %v", err)
	}
	if err := stop(1, 32_769); codeOf(err) != "ValidationException" {
		t.Errorf("a cause of 32,769 characters: %v", err)
	}
	if d := b.describe(run); d.Status != types.ExecutionStatusRunning {
		t.Errorf("refused, and still %s", d.Status)
	}
	if err := stop(256, 32_768); err != nil {
		t.Error(err)
	}
	if d := b.describe(run); d.Status != types.ExecutionStatusAborted || len(aws.ToString(d.Error)) != 256 || len(aws.ToString(d.Cause)) != 32_768 {
		t.Errorf("stopped: %s", d.Status)
	}
	quiet := b.start(waiting, "quiet", `{}`)
	if _, err := b.client.StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: quiet}); err != nil || b.describe(quiet).Status != types.ExecutionStatusAborted {
		t.Errorf("stopped without words: %v", err)
	}
}

// What a function says is cut at what an execution's cause holds.
func TestLongCausesAreCut(t *testing.T) {
	t.Parallel()
	long := `{"errorType":"X","errorMessage":"` + strings.Repeat("ü", 20_000) + `"}`
	b := setup(t, stepfunctions.Config{Invoker: functions{"f": fails(long), "g": answers(`no JSON`)}})
	d := b.end(b.start(b.create("m", machine(`"A":{`+call("f")+`,"End":true}`)), "r", `{}`))
	if n := len(aws.ToString(d.Cause)); aws.ToString(d.Error) != "X" || n > 32_768 || n < 32_760 || !strings.HasPrefix(long, aws.ToString(d.Cause)) {
		t.Errorf("%s with a cause of %d bytes", aws.ToString(d.Error), n)
	}
	if d := b.end(b.start(b.create("n", machine(`"A":{`+call("g")+`,"End":true}`)), "r", `{}`)); aws.ToString(d.Error) != "States.Runtime" {
		t.Errorf("an answer that is no JSON: %s", aws.ToString(d.Error))
	}
}

// A qualifier goes to Lambda with the function's name.
func TestTheQualifierIsInvoked(t *testing.T) {
	t.Parallel()
	b := setup(t, stepfunctions.Config{Invoker: functions{"f:live": answers(`1`)}})
	d := b.end(b.start(b.create("m", machine(`"A":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","Parameters":{"FunctionName":"f","Qualifier":"live"},"End":true}`)), "r", `{}`))
	if d.Status != types.ExecutionStatusSucceeded {
		t.Errorf("%s: %s", aws.ToString(d.Error), aws.ToString(d.Cause))
	}
}

// What may be redriven (API reference, RedriveExecution): not what runs, what is
// older than 14 days, what has no room in its history, or whose machine is gone.
func TestWhatMayBeRedriven(t *testing.T) {
	t.Parallel()
	broken := func(context.Context, []byte) (host.Invocation, error) {
		return host.Invocation{Payload: []byte(`{"errorType":"X"}`), FunctionError: "Unhandled"}, nil
	}
	b := setup(t, stepfunctions.Config{Invoker: functions{"f": broken}})
	redrive := func(arn *string, token string) error {
		in := &sfn.RedriveExecutionInput{ExecutionArn: arn}
		if token != "" {
			in.ClientToken = &token
		}
		_, err := b.client.RedriveExecution(t.Context(), in)
		return err
	}
	arn := b.create("m", machine(`"A":{`+call("f")+`,"Next":"B"},"B":{"Type":"Pass","Parameters":{"n.$":"$$.Execution.RedriveCount"},"End":true}`))
	run := b.start(arn, "r", `{}`)
	b.end(run)
	b.clock.Advance(14*24*time.Hour - time.Hour)
	for n := range 2 { // without a token each is a redrive of its own
		if err := redrive(run, ""); err != nil {
			t.Fatalf("redrive %d, after %s: %v", n+1, "13 days and 23 hours", err)
		}
		d := b.end(run)
		if aws.ToInt32(d.RedriveCount) != int32(n+1) || d.RedriveDate.Before(*d.StartDate) || d.RedriveDate.Equal(*d.StartDate) || d.StopDate.Before(*d.RedriveDate) {
			t.Errorf("redriven: %+v", d)
		}
	}
	b.clock.Advance(14*24*time.Hour + time.Hour)
	if err := redrive(run, ""); codeOf(err) != "ExecutionNotRedrivable" {
		t.Errorf("after 14 days and an hour: %v", err)
	}

	waits := b.create("waits", machine(waitADay))
	running := b.start(waits, "r", `{}`)
	if err := redrive(running, ""); codeOf(err) != "ExecutionNotRedrivable" {
		t.Errorf("while it runs: %v", err)
	}
	fresh := b.start(arn, "fresh", `{}`)
	b.end(fresh)
	endless := b.create("endless", machine(`"A":{"Type":"Choice","Choices":[{"Variable":"$.x","IsPresent":true,"Next":"B"}],"Default":"A"},"B":{"Type":"Succeed"}`))
	full := b.start(endless, "r", `{}`)
	if d := b.end(full); aws.ToString(d.Error) != "States.Runtime" || d.RedriveStatus != types.ExecutionRedriveStatusNotRedrivable {
		t.Errorf("a full history: %s %s", aws.ToString(d.Error), d.RedriveStatus)
	}
	if err := redrive(full, ""); codeOf(err) != "ExecutionNotRedrivable" {
		t.Errorf("a full history: %v", err)
	}
	if _, err := b.client.DeleteStateMachine(t.Context(), &sfn.DeleteStateMachineInput{StateMachineArn: arn}); err != nil {
		t.Fatal(err)
	}
	if err := redrive(fresh, ""); codeOf(err) != "ExecutionNotRedrivable" {
		t.Errorf("without its machine: %v", err)
	}
}

// A redriven execution runs: it has no end while it does, and the context counts.
func TestARedrivenExecutionRuns(t *testing.T) {
	t.Parallel()
	let, calls := make(chan struct{}), make(chan string, 2)
	b := setup(t, stepfunctions.Config{Invoker: functions{"f": func(_ context.Context, payload []byte) (host.Invocation, error) {
		calls <- string(payload)
		if string(payload) == `{"n":0}` {
			return host.Invocation{Payload: []byte(`{"errorType":"X"}`), FunctionError: "Unhandled"}, nil
		}
		<-let
		return host.Invocation{Payload: []byte(`1`)}, nil
	}}})
	run := b.start(b.create("m", machine(`"A":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","Parameters":{"FunctionName":"f","Payload":{"n.$":"$$.Execution.RedriveCount"}},"End":true}`)), "r", `{}`)
	b.end(run)
	if _, err := b.client.RedriveExecution(t.Context(), &sfn.RedriveExecutionInput{ExecutionArn: run}); err != nil {
		t.Fatal(err)
	}
	<-calls
	if got := <-calls; got != `{"n":1}` {
		t.Errorf("the second call got %s", got)
	}
	if d := b.describe(run); d.Status != types.ExecutionStatusRunning || d.StopDate != nil || d.Error != nil {
		t.Errorf("while it runs again: %s, stopped %v, %v", d.Status, d.StopDate, aws.ToString(d.Error))
	}
	close(let)
	b.end(run)
}

// Machines: the same again is the same, whatever its role; deleting waits for
// what runs, and nothing new starts (API reference, CreateStateMachine,
// DeleteStateMachine, UpdateStateMachine).
func TestMachinesThatStayAndGo(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t, stepfunctions.Config{}), t.Context()
	definition := machine(waitADay)
	arn := b.create("m", definition)
	again, err := b.client.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{
		Name: aws.String("m"), Definition: &definition, RoleArn: aws.String("arn:aws:iam::000000000000:role/another"),
	})
	if err != nil || *again.StateMachineArn != *arn {
		t.Errorf("the same with another role: %v", err)
	}
	_, err = b.client.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{
		Name: aws.String("m"), Definition: aws.String(machine(onlyAPass)), RoleArn: aws.String(role),
	})
	if codeOf(err) != "StateMachineAlreadyExists" {
		t.Errorf("another definition: %v", err)
	}
	same, err := b.client.UpdateStateMachine(ctx, &sfn.UpdateStateMachineInput{StateMachineArn: arn, Definition: &definition})
	if err != nil || same.RevisionId != nil {
		t.Errorf("an update that changes nothing: revision %v, %v", aws.ToString(same.RevisionId), err)
	}
	run := b.start(arn, "r", `{}`)
	if _, err := b.client.DeleteStateMachine(ctx, &sfn.DeleteStateMachineInput{StateMachineArn: arn}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: arn}); codeOf(err) != "StateMachineDeleting" {
		t.Errorf("a start while it is being deleted: %v", err)
	}
	if d := b.describe(run); d.Status != types.ExecutionStatusRunning {
		t.Errorf("the execution is %s", d.Status)
	}
	if _, err := b.client.StopExecution(ctx, &sfn.StopExecutionInput{ExecutionArn: run}); err != nil {
		t.Fatal(err)
	}
	b.eventually("the machine is gone", func() bool {
		_, err := b.client.DescribeStateMachine(ctx, &sfn.DescribeStateMachineInput{StateMachineArn: arn})
		return codeOf(err) == "StateMachineDoesNotExist"
	})
}

// Lists have 100 items if nobody says how many, and a thousand at most.
func TestBordersOfPages(t *testing.T) {
	t.Parallel()
	b := setup(t, stepfunctions.Config{})
	arn := b.create("m", machine(onlyAPass))
	for i := range 102 {
		b.end(b.start(arn, fmt.Sprint("r", i), `{}`))
	}
	list := func(n int32, token string) (*sfn.ListExecutionsOutput, error) {
		in := &sfn.ListExecutionsInput{StateMachineArn: arn, MaxResults: n}
		if token != "" {
			in.NextToken = &token
		}
		return b.client.ListExecutions(t.Context(), in)
	}
	first, err := list(0, "")
	if err != nil || len(first.Executions) != 100 || *first.Executions[0].Name != "r101" {
		t.Fatalf("%v, %v", first, err)
	}
	if rest, err := list(0, *first.NextToken); err != nil || len(rest.Executions) != 2 || rest.NextToken != nil {
		t.Errorf("%v, %v", rest, err)
	}
	if all, err := list(1000, ""); err != nil || len(all.Executions) != 102 {
		t.Errorf("a thousand: %v", err)
	}
	if _, err := list(1001, ""); codeOf(err) != "ValidationException" {
		t.Errorf("1001: %v", err)
	}
	for _, token := range []string{"0", "-1", "103", "x"} {
		if _, err := list(0, token); codeOf(err) != "InvalidToken" {
			t.Errorf("token %s: %v", token, err)
		}
	}
	run := aws.String(strings.Replace(*arn, ":stateMachine:", ":execution:", 1) + ":r0")
	var kinds []string
	pages := sfn.NewGetExecutionHistoryPaginator(b.client, &sfn.GetExecutionHistoryInput{ExecutionArn: run, ReverseOrder: true, MaxResults: 3})
	for pages.HasMorePages() {
		p, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Events {
			kinds = append(kinds, string(e.Type))
		}
	}
	if got := strings.Join(kinds, " "); got != "ExecutionSucceeded PassStateExited PassStateEntered ExecutionStarted" {
		t.Errorf("backwards: %s", got)
	}
}

// An event has less room than an execution: a status change leaves out what is
// too long for it, and says so.
func TestStatusChangesLeaveOutLongPayloads(t *testing.T) {
	t.Parallel()
	b := setup(t, stepfunctions.Config{})
	arn := b.create("m", machine(`"A":{"Type":"Succeed"}`))
	text := func(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }
	for _, tt := range []struct {
		n             int
		input, output bool
	}{{124<<10 - 1, true, true}, {125 << 10, true, false}, {248<<10 - 1, true, false}, {248 << 10, false, false}} {
		b.bus.mu.Lock()
		b.bus.events = nil
		b.bus.mu.Unlock()
		b.end(b.start(arn, fmt.Sprint("r", tt.n), text(tt.n)))
		b.bus.mu.Lock()
		last := b.bus.events[len(b.bus.events)-1]
		b.bus.mu.Unlock()
		var detail struct {
			Input, Output               *string
			InputDetails, OutputDetails struct{ Included bool }
		}
		if err := json.Unmarshal(last.Detail, &detail); err != nil {
			t.Fatal(err)
		}
		if (detail.Input != nil) != tt.input || (detail.Output != nil) != tt.output ||
			detail.InputDetails.Included != tt.input || detail.OutputDetails.Included != tt.output {
			t.Errorf("%d bytes: input %v, output %v, want %v, %v", tt.n, detail.Input != nil, detail.Output != nil, tt.input, tt.output)
		}
	}
}

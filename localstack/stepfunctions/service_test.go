package stepfunctions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/stepfunctions"
)

func TestExecution(t *testing.T) {
	t.Parallel()
	b := setup(t, stepfunctions.Config{Invoker: functions{"f": answers(`{"outcome":"done"}`)}})
	arn := b.create("m", machine(`"A":{`+call("f")+`,"ResultSelector":{"o.$":"$.Payload.outcome","status.$":"$.StatusCode"},"ResultPath":"$.r","End":true}`))
	run := b.start(arn, "run-1", `{"x":1}`)
	d := b.end(run)
	if d.Status != types.ExecutionStatusSucceeded || aws.ToString(d.Output) != `{"r":{"o":"done","status":200},"x":1}` {
		t.Errorf("ended %s with %s, %s", d.Status, aws.ToString(d.Output), aws.ToString(d.Cause))
	}
	if *run != "arn:aws:states:us-east-1:000000000000:execution:m:run-1" || d.StopDate.Before(*d.StartDate) ||
		aws.ToString(d.Input) != `{"x":1}` || d.RedriveStatus != types.ExecutionRedriveStatusNotRedrivable {
		t.Errorf("described as %+v", d)
	}
	var kinds []string
	pages := sfn.NewGetExecutionHistoryPaginator(b.client, &sfn.GetExecutionHistoryInput{ExecutionArn: run, MaxResults: 2})
	for pages.HasMorePages() {
		p, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Events) > 2 {
			t.Errorf("a page of %d", len(p.Events))
		}
		for _, e := range p.Events {
			kinds = append(kinds, fmt.Sprintf("%d<%d %s", e.Id, e.PreviousEventId, e.Type))
			if e.Type == types.HistoryEventTypeTaskScheduled {
				got := []string{*e.TaskScheduledEventDetails.ResourceType, *e.TaskScheduledEventDetails.Resource, *e.TaskScheduledEventDetails.Parameters}
				if diff := cmp.Diff([]string{"lambda", "invoke", `{"FunctionName":"f","Payload":{"x":1}}`}, got); diff != "" {
					t.Error(diff)
				}
			}
		}
	}
	want := []string{
		"1<0 ExecutionStarted", "2<0 TaskStateEntered", "3<2 TaskScheduled", "4<3 TaskStarted", "5<4 TaskSucceeded",
		"6<5 TaskStateExited", "7<6 ExecutionSucceeded",
	}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Error(diff)
	}
	back, err := b.client.GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{ExecutionArn: run, ReverseOrder: true, MaxResults: 1, IncludeExecutionData: aws.Bool(false)})
	if err != nil || back.Events[0].Type != types.HistoryEventTypeExecutionSucceeded || back.Events[0].ExecutionSucceededEventDetails.Output != nil {
		t.Errorf("reversed, without data: %+v, %v", back, err)
	}
	checkBus(t, b.bus)
}

func checkBus(t *testing.T, b *bus) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var got []string
	for _, e := range b.events {
		var detail struct {
			Status, Name string
			StopDate     *int64
			Output       *string
		}
		if err := json.Unmarshal(e.Detail, &detail); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(e.Source, "/", e.DetailType, "/", detail.Status, "/", detail.Name, "/", detail.StopDate != nil, "/", detail.Output != nil))
	}
	want := []string{
		"aws.states/Step Functions Execution Status Change/RUNNING/run-1/false/false",
		"aws.states/Step Functions Execution Status Change/SUCCEEDED/run-1/true/true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTaskErrors(t *testing.T) {
	t.Parallel()
	b := setup(t, stepfunctions.Config{Invoker: functions{
		"named":     fails(`{"errorType":"Keyturn.DrainInProgress","errorMessage":"a drain is going on"}`),
		"timedout":  fails(`{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: x Error: Task timed out after 3.00 seconds"}`),
		"crashed":   fails(`{"errorType":"Runtime.ExitError","errorMessage":"RequestId: x Error: Runtime exited with error: exit status 1"}`),
		"unnamed":   fails(`{"errorMessage":"x"}`),
		"throttled": refuses("TooManyRequestsException"),
		"broken":    refuses("ServiceException"),
		"gone":      func(context.Context, []byte) (host.Invocation, error) { return host.Invocation{}, errors.New("no way") },
	}})
	for function, want := range map[string]string{
		"named": "Keyturn.DrainInProgress", "timedout": "Sandbox.Timedout", "crashed": "Runtime.ExitError",
		"unnamed": "Lambda.Unknown", "throttled": "Lambda.TooManyRequestsException", "broken": "Lambda.ServiceException",
		"gone": "Lambda.SdkClientException", "missing": "Lambda.ResourceNotFoundException",
	} {
		d := b.end(b.start(b.create(function, machine(`"A":{`+call(function)+`,"End":true}`)), "r", `{}`))
		if d.Status != types.ExecutionStatusFailed || aws.ToString(d.Error) != want || aws.ToString(d.Cause) == "" {
			t.Errorf("%s: %s %s, %s, want %s", function, d.Status, aws.ToString(d.Error), aws.ToString(d.Cause), want)
		}
		if function == "named" && aws.ToString(d.Cause) != `{"errorType":"Keyturn.DrainInProgress","errorMessage":"a drain is going on"}` {
			t.Errorf("the cause is %s, not the function's document", aws.ToString(d.Cause))
		}
	}
}

// services answers as Secrets Manager would.
type services struct{}

func (services) CallService(_ context.Context, service, action string, input []byte) ([]byte, error) {
	switch fmt.Sprintf("%s:%s %s", service, action, input) {
	case `secretsmanager:describeSecret {"SecretId":"s"}`:
		return []byte(`{"ARN":"arn","LastRotatedDate":1893456000.123,"VersionIdsToStages":{"v":["AWSCURRENT"]}}`), nil
	case `secretsmanager:describeSecret {"SecretId":"none"}`:
		return nil, awsproto.Errorf("ResourceNotFoundException", "none")
	case `secretsmanager:describeSecret {"SecretId":"key"}`:
		return nil, awsproto.Errorf("DecryptionFailure", "kms")
	case `secretsmanager:describeSecret {"SecretId":"slow"}`:
		return nil, awsproto.Errorf("ThrottlingException", "slow down")
	}
	return nil, errors.New("unexpected call")
}

func TestSDKTasks(t *testing.T) {
	t.Parallel()
	b := setup(t, stepfunctions.Config{Services: services{}})
	arn := b.create("m", machine(`"A":{"Type":"Task","Resource":"arn:aws:states:::aws-sdk:secretsmanager:describeSecret","Parameters":{"SecretId.$":"$.id"},"End":true}`))
	want := `{"ARN":"arn","LastRotatedDate":"2030-01-01T00:00:00.123Z","VersionIdsToStages":{"v":["AWSCURRENT"]}}`
	if d := b.end(b.start(arn, "s", `{"id":"s"}`)); aws.ToString(d.Output) != want {
		t.Errorf("got %s, %s", aws.ToString(d.Output), aws.ToString(d.Cause))
	}
	for id, name := range map[string]string{
		"none": "SecretsManager.ResourceNotFoundException", "key": "SecretsManager.DecryptionFailureException",
		"slow": "SecretsManager.SecretsManagerException", "x": "SecretsManager.SdkClientException",
	} {
		if d := b.end(b.start(arn, id, `{"id":"`+id+`"}`)); aws.ToString(d.Error) != name {
			t.Errorf("%s: got %s, want %s", id, aws.ToString(d.Error), name)
		}
	}
}

func TestHandOver(t *testing.T) {
	t.Parallel()
	b := setup(t, stepfunctions.Config{})
	child := b.create("child", machine(waitADay))
	arn := b.create("m", machine(`"A":{"Type":"Task","Resource":"arn:aws:states:::aws-sdk:sfn:startExecution",
		"Parameters":{"StateMachineArn":"`+*child+`","Name.$":"States.Format('{}-g{}', $.run, $.n)","Input.$":"States.JsonToString($)"},"End":true}`))
	d := b.end(b.start(arn, "a", `{"run":"r","n":2}`))
	var out struct{ ExecutionArn, StartDate string }
	if err := json.Unmarshal([]byte(aws.ToString(d.Output)), &out); err != nil {
		t.Fatalf("%s %s: %v", aws.ToString(d.Output), aws.ToString(d.Cause), err)
	}
	if !strings.HasSuffix(out.ExecutionArn, ":execution:child:r-g2") {
		t.Errorf("started %s", out.ExecutionArn)
	}
	if _, err := time.Parse(time.RFC3339, out.StartDate); err != nil {
		t.Error(err)
	}
	if in := b.describe(&out.ExecutionArn); aws.ToString(in.Input) != `{"n":2,"run":"r"}` {
		t.Errorf("the child's input is %s", aws.ToString(in.Input))
	}
	if _, err := b.client.StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: &out.ExecutionArn}); err != nil {
		t.Fatal(err)
	}
	if d := b.end(b.start(arn, "b", `{"run":"r","n":2}`)); aws.ToString(d.Error) != "Sfn.ExecutionAlreadyExistsException" {
		t.Errorf("a taken name: %s, %s", aws.ToString(d.Error), aws.ToString(d.Cause))
	}
}

func TestNamesAreClaims(t *testing.T) {
	t.Parallel()
	b := setup(t, stepfunctions.Config{})
	arn := b.create("m", machine(waitADay))
	first := b.start(arn, "n", `{"a":1}`)
	started := b.describe(first).StartDate
	again, err := b.client.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: arn, Name: aws.String("n"), Input: aws.String(`{"a":1}`)})
	if err != nil || *again.ExecutionArn != *first || !again.StartDate.Equal(*started) {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	taken := func(input, when string) {
		t.Helper()
		_, err := b.client.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: arn, Name: aws.String("n"), Input: &input})
		var exists *types.ExecutionAlreadyExists
		if !errors.As(err, &exists) {
			t.Errorf("%s: %v", when, err)
		}
	}
	taken(`{"a":2}`, "another input while it runs")
	b.eventually("it waits", func() bool {
		b.clock.Advance(time.Hour)
		return b.describe(first).Status != types.ExecutionStatusRunning
	})
	taken(`{"a":1}`, "the same input after its end")
	b.clock.Advance(89 * 24 * time.Hour)
	taken(`{"a":1}`, "89 days later")
	b.clock.Advance(2 * 24 * time.Hour)
	if _, err := b.client.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: first}); err == nil {
		t.Error("91 days later it is still described")
	}
	b.start(arn, "n", `{"a":2}`)

	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		wg.Go(func() {
			_, err := b.service.StartExecution(t.Context(), *arn, "race", fmt.Appendf(nil, `{"a":%d}`, i))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d of 8 claims won", won)
	}
	bad := []string{"", strings.Repeat("x", 81), "a b", "a/b", "a:b", "a#b", "a\x00b", "a*b", `a"b`, "a,b"}
	for _, name := range bad {
		_, err := b.client.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: arn, Name: &name})
		var invalid *types.InvalidName
		if !errors.As(err, &invalid) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	b.start(arn, strings.Repeat("x", 80), `{}`)
}

func TestStopLeavesTheFunction(t *testing.T) {
	t.Parallel()
	working, let, worked := make(chan struct{}), make(chan struct{}), make(chan struct{})
	b := setup(t, stepfunctions.Config{Invoker: functions{"f": func(ctx context.Context, _ []byte) (host.Invocation, error) {
		close(working)
		<-let
		if ctx.Err() == nil {
			close(worked)
		}
		return host.Invocation{Payload: []byte(`{}`)}, nil
	}}})
	run := b.start(b.create("m", machine(`"A":{`+call("f")+`,"End":true}`)), "r", `{}`)
	<-working
	stop, err := b.client.StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: run, Error: aws.String("Emergency"), Cause: aws.String("leak")})
	if err != nil {
		t.Fatal(err)
	}
	d := b.describe(run)
	if d.Status != types.ExecutionStatusAborted || aws.ToString(d.Error) != "Emergency" || aws.ToString(d.Cause) != "leak" || !d.StopDate.Equal(*stop.StopDate) {
		t.Errorf("stopped: %+v", d)
	}
	close(let)
	<-worked
	if again, err := b.client.StopExecution(t.Context(), &sfn.StopExecutionInput{ExecutionArn: run}); err != nil || !again.StopDate.Equal(*stop.StopDate) {
		t.Errorf("stopped twice: %+v, %v", again, err)
	}
	h, err := b.client.GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{ExecutionArn: run, ReverseOrder: true})
	if err != nil || h.Events[0].Type != types.HistoryEventTypeExecutionAborted || aws.ToString(h.Events[0].ExecutionAbortedEventDetails.Error) != "Emergency" {
		t.Errorf("history: %+v, %v", h, err)
	}
}

func TestTimedOut(t *testing.T) {
	t.Parallel()
	b := setup(t, stepfunctions.Config{})
	run := b.start(b.create("m", `{"StartAt":"A","TimeoutSeconds":3600,"States":{`+waitADay+`}}`), "r", `{}`)
	b.eventually("it is over", func() bool {
		b.clock.Advance(10 * time.Minute)
		return b.describe(run).Status != types.ExecutionStatusRunning
	})
	if d := b.describe(run); d.Status != types.ExecutionStatusTimedOut || d.Error != nil || d.Cause != nil {
		t.Errorf("ended %+v", d)
	}
}

func TestTimeline(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	b := setup(t, stepfunctions.Config{OnState: func(arn, state string, entered bool, at time.Time) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprintf("%s %t %t", state, entered, !at.IsZero() && strings.HasSuffix(arn, ":m:r")))
	}})
	b.end(b.start(b.create("m", machine(`"A":{"Type":"Pass","Next":"B"},"B":{"Type":"Fail","Error":"RotationStuck"}`)), "r", `{}`))
	mu.Lock()
	defer mu.Unlock()
	want := []string{"A true true", "A false true", "B true true", "B false true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestListExecutions(t *testing.T) {
	t.Parallel()
	b := setup(t, stepfunctions.Config{})
	arn := b.create("m", machine(`"A":{"Type":"Choice","Choices":[{"Variable":"$.fail","IsPresent":true,"Next":"B"}],"Default":"C"},"B":{"Type":"Fail","Error":"X"},"C":{"Type":"Succeed"}`))
	for i := range 5 {
		b.end(b.start(arn, fmt.Sprintf("ok-%d", i), `{}`))
	}
	b.end(b.start(arn, "bad", `{"fail":1}`))
	var names []string
	pages := sfn.NewListExecutionsPaginator(b.client, &sfn.ListExecutionsInput{StateMachineArn: arn, MaxResults: 4})
	for pages.HasMorePages() {
		p, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Executions {
			names = append(names, *e.Name)
		}
	}
	if diff := cmp.Diff([]string{"bad", "ok-4", "ok-3", "ok-2", "ok-1", "ok-0"}, names); diff != "" {
		t.Error(diff)
	}
	failed, err := b.client.ListExecutions(t.Context(), &sfn.ListExecutionsInput{StateMachineArn: arn, StatusFilter: types.ExecutionStatusFailed})
	if err != nil || len(failed.Executions) != 1 || *failed.Executions[0].Name != "bad" {
		t.Errorf("failed: %+v, %v", failed, err)
	}
}

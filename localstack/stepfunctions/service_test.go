package stepfunctions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/stepfunctions"
)

// functions is a strict fake of Lambda: a function that isn't there doesn't run.
type functions map[string]func(ctx context.Context, payload []byte) (host.Invocation, error)

func (f functions) Invoke(ctx context.Context, name string, payload []byte) (host.Invocation, error) {
	do, ok := f[name]
	if !ok {
		return host.Invocation{}, &awsproto.Error{Code: "ResourceNotFoundException", Status: 404, Message: "Function not found: " + name}
	}
	return do(ctx, payload)
}

func answers(payload string) func(context.Context, []byte) (host.Invocation, error) {
	return func(context.Context, []byte) (host.Invocation, error) {
		return host.Invocation{Payload: []byte(payload)}, nil
	}
}

func fails(document string) func(context.Context, []byte) (host.Invocation, error) {
	return func(context.Context, []byte) (host.Invocation, error) {
		return host.Invocation{Payload: []byte(document), FunctionError: "Unhandled"}, nil
	}
}

func refuses(code string) func(context.Context, []byte) (host.Invocation, error) {
	return func(context.Context, []byte) (host.Invocation, error) {
		return host.Invocation{}, awsproto.Errorf(code, "refused")
	}
}

// bus keeps what is published.
type bus struct {
	mu     sync.Mutex
	events []host.Event
}

func (b *bus) Publish(e host.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
}

// bench is a service with a real SDK client.
type bench struct {
	t       *testing.T
	service *stepfunctions.Service
	client  *sfn.Client
	clock   *clock.Clock
	bus     *bus
}

func setup(t *testing.T, c stepfunctions.Config) *bench {
	t.Helper()
	b := &bench{t: t, clock: clock.New(), bus: &bus{}}
	c.Clock, c.Bus = b.clock, b.bus
	b.service = stepfunctions.New(c)
	t.Cleanup(b.service.Close)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { awsproto.ServeJSON(w, r, b.service) }))
	t.Cleanup(server.Close)
	b.client = sfn.New(sfn.Options{
		Region: awsproto.Region, BaseEndpoint: aws.String(server.URL), RetryMaxAttempts: 1, HTTPClient: server.Client(),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
	return b
}

const role = "arn:aws:iam::000000000000:role/r"

func (b *bench) create(name, definition string) *string {
	b.t.Helper()
	out, err := b.client.CreateStateMachine(b.t.Context(), &sfn.CreateStateMachineInput{
		Name: &name, Definition: &definition, RoleArn: aws.String(role),
	})
	if err != nil {
		b.t.Fatalf("creating %s: %v", name, err)
	}
	return out.StateMachineArn
}

func (b *bench) start(machine *string, name, input string) *string {
	b.t.Helper()
	out, err := b.client.StartExecution(b.t.Context(), &sfn.StartExecutionInput{StateMachineArn: machine, Name: &name, Input: &input})
	if err != nil {
		b.t.Fatalf("starting %s: %v", name, err)
	}
	return out.ExecutionArn
}

func (b *bench) describe(arn *string) *sfn.DescribeExecutionOutput {
	b.t.Helper()
	out, err := b.client.DescribeExecution(b.t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: arn})
	if err != nil {
		b.t.Fatalf("describing: %v", err)
	}
	return out
}

func (b *bench) end(arn *string) *sfn.DescribeExecutionOutput {
	b.t.Helper()
	select {
	case <-b.service.Done(*arn):
	case <-time.After(30 * time.Second):
		b.t.Fatalf("%s doesn't end", *arn)
	}
	return b.describe(arn)
}

func (b *bench) eventually(what string, holds func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("still not so: %s", what)
		}
	}
}

func machine(states string) string { return `{"StartAt":"A","States":{` + states + `}}` }

func call(function string) string {
	return `"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","Parameters":{"FunctionName":"` + function + `","Payload.$":"$"}`
}

const (
	waitADay  = `"A":{"Type":"Wait","Seconds":86400,"Next":"B"},"B":{"Type":"Succeed"}`
	onlyAPass = `"A":{"Type":"Pass","Result":{"done":true},"End":true}`
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

func TestRedrive(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	broken := true
	calls := map[string]int{}
	count := func(name string) func(context.Context, []byte) (host.Invocation, error) {
		return func(context.Context, []byte) (host.Invocation, error) {
			mu.Lock()
			defer mu.Unlock()
			calls[name]++
			if name == "g" && broken {
				return host.Invocation{Payload: []byte(`{"errorType":"X"}`), FunctionError: "Unhandled"}, nil
			}
			return host.Invocation{Payload: []byte(`1`)}, nil
		}
	}
	b := setup(t, stepfunctions.Config{Invoker: functions{"f": count("f"), "g": count("g")}})
	arn := b.create("m", machine(`"A":{`+call("f")+`,"ResultPath":null,"Next":"B"},"B":{`+call("g")+`,"ResultPath":null,"End":true}`))
	run := b.start(arn, "r", `{}`)
	if d := b.end(run); d.Status != types.ExecutionStatusFailed || d.RedriveStatus != types.ExecutionRedriveStatusRedrivable {
		t.Fatalf("first: %+v", d)
	}
	mu.Lock()
	broken = false
	mu.Unlock()
	in := &sfn.RedriveExecutionInput{ExecutionArn: run, ClientToken: aws.String("t")}
	first, err := b.client.RedriveExecution(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	d := b.end(run)
	if d.Status != types.ExecutionStatusSucceeded || aws.ToInt32(d.RedriveCount) != 1 || aws.ToString(d.Error) != "" {
		t.Errorf("after: %+v", d)
	}
	if calls["f"] != 1 || calls["g"] != 2 {
		t.Errorf("calls %v", calls)
	}
	if again, err := b.client.RedriveExecution(t.Context(), in); err != nil || !again.RedriveDate.Equal(*first.RedriveDate) {
		t.Errorf("the same token: %+v, %v", again, err)
	}
	var not *types.ExecutionNotRedrivable
	if _, err := b.client.RedriveExecution(t.Context(), &sfn.RedriveExecutionInput{ExecutionArn: run}); !errors.As(err, &not) {
		t.Errorf("a succeeded one: %v", err)
	}
	h, err := b.client.GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{ExecutionArn: run})
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for i, e := range h.Events {
		if e.Id != int64(i+1) {
			t.Errorf("event %d has id %d", i+1, e.Id)
		}
		text = append(text, string(e.Type))
	}
	if !strings.Contains(strings.Join(text, " "), "TaskFailed ExecutionFailed ExecutionRedriven TaskStateEntered TaskScheduled") {
		t.Errorf("history: %v", text)
	}
}

func TestRedrivePeriod(t *testing.T) {
	t.Parallel()
	b := setup(t, stepfunctions.Config{})
	run := b.start(b.create("m", machine(`"A":{"Type":"Fail","Error":"X"}`)), "r", `{}`)
	b.end(run)
	b.clock.Advance(15 * 24 * time.Hour)
	var not *types.ExecutionNotRedrivable
	if _, err := b.client.RedriveExecution(t.Context(), &sfn.RedriveExecutionInput{ExecutionArn: run}); !errors.As(err, &not) {
		t.Errorf("after 15 days: %v", err)
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

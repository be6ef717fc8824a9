package events_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/events"
	"github.com/keyturn/keyturn/localstack/host"
)

const (
	functionARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
	machineARN  = "arn:aws:states:us-east-1:000000000000:stateMachine:m"
)

type invoker func(name string, payload []byte) host.Invocation

func (f invoker) Invoke(_ context.Context, name string, payload []byte) (host.Invocation, error) {
	return f(name, payload), nil
}

func call(t *testing.T, s *events.Service, action string, in any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err == nil {
		_, err = s.Call(context.Background(), action, body)
	}
	if err != nil {
		t.Fatalf("%s: %v", action, err)
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var e *awsproto.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("error = %v, want %s", err, code)
	}
}

// targets records what a function and a state machine are given.
type targets struct {
	mu       sync.Mutex
	payloads []string
	names    []string // of executions
	fail     int      // how many invocations fail first
	refuse   error    // what every hand-over answers
}

func (r *targets) take(payload []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.payloads = append(r.payloads, string(payload))
	r.fail--
	return r.fail < 0
}

func (r *targets) Invoke(_ context.Context, _ string, payload []byte) (host.Invocation, error) {
	ok := r.take(payload)
	if r.refuse != nil {
		return host.Invocation{}, r.refuse
	}
	if !ok {
		return host.Invocation{FunctionError: "Unhandled", Payload: []byte(`{}`)}, nil
	}
	return host.Invocation{}, nil
}

func (r *targets) StartExecution(_ context.Context, _, name string, input []byte) (string, error) {
	ok := r.take(input)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = append(r.names, name)
	if !ok {
		return "", errors.New("not now")
	}
	return "arn", nil
}

func (r *targets) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.payloads)
}

func (r *targets) waitFor(t *testing.T, n int, nudge func()) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for len(r.got()) < n {
		if time.Now().After(deadline) {
			t.Fatalf("%d deliveries, want %d", len(r.got()), n)
		}
		nudge()
		time.Sleep(2 * time.Millisecond)
	}
}

type fixture struct {
	*eventbridge.Client
	clock   *clock.Clock
	service *events.Service
	targets *targets
}

func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{clock: clock.New(), targets: &targets{}}
	f.service = events.New(events.Config{Clock: f.clock, Invoker: f.targets, Executions: f.targets})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		awsproto.ServeJSON(w, r, f.service)
	}))
	t.Cleanup(func() { f.service.Close(); server.Close() })
	f.Client = eventbridge.New(eventbridge.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "unused", ""),
	})
	return f
}

func (f *fixture) rule(t *testing.T, in *eventbridge.PutRuleInput, to ...types.Target) {
	t.Helper()
	in.Name = aws.String("r")
	if _, err := f.PutRule(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if _, err := f.PutTargets(t.Context(), &eventbridge.PutTargetsInput{Rule: in.Name, Targets: to}); err != nil {
		t.Fatal(err)
	}
}

func function() types.Target { return types.Target{Id: aws.String("f"), Arn: aws.String(functionARN)} }

func machine() types.Target {
	return types.Target{Id: aws.String("m"), Arn: aws.String(machineARN), RoleArn: aws.String("arn:aws:iam::000000000000:role/r")}
}

func anything() *eventbridge.PutRuleInput {
	return &eventbridge.PutRuleInput{EventPattern: aws.String(`{"account":["000000000000"]}`)}
}

func TestTargetInputs(t *testing.T) {
	t.Parallel()
	transformed := func(template string, paths map[string]string) types.Target {
		to := function()
		to.InputTransformer = &types.InputTransformer{InputTemplate: &template, InputPathsMap: paths}
		return to
	}
	constant, path := function(), function()
	constant.Input, path.InputPath = aws.String(`{"fixed":1}`), aws.String("$.detail.list[1]")
	paths := map[string]string{"name": "$.detail.name", "n": "$.detail.n", "type": "$.detail-type", "none": "$.detail.none"}
	tests := []struct {
		name string
		to   types.Target
		want string
	}{
		{"Input", constant, `{"fixed":1}`},
		{"InputPath", path, `"b"`},
		{"text and numbers as JSON", transformed(`{"who":<name>,"n":<n>}`, paths), `{"who":"a \"b\"","n":3}`},
		{"within quotes", transformed(`{"text":"<type>: <name> (<n>)"}`, paths), `{"text":"T: a \"b\" (3)"}`},
		{"nothing found", transformed(`{"text":"<none>","value":<none>}`, paths), `{"text":"","value":""}`},
		{"predefined", transformed(`{"rule":"<aws.events.rule-arn>"}`, nil), `{"rule":"arn:aws:events:us-east-1:000000000000:rule/r"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.rule(t, anything(), tt.to)
			f.service.Publish(host.Event{Source: "s", DetailType: "T", Detail: []byte(`{"name":"a \"b\"","n":3,"list":["a","b"]}`)})
			f.service.Close()
			if diff := cmp.Diff([]string{tt.want}, f.targets.got()); diff != "" {
				t.Errorf("payload (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEnvelopeReachesBothKindsOfTargets(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.rule(t, &eventbridge.PutRuleInput{EventPattern: aws.String(`{"source":["my.app"]}`)}, function(), machine())
	out, err := f.PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{
		{Source: aws.String("my.app"), DetailType: aws.String("T"), Detail: aws.String(`{"a":1}`), Resources: []string{"x"}},
		{Source: aws.String("aws.secretsmanager"), DetailType: aws.String("T"), Detail: aws.String(`{}`)},
		{Source: aws.String("my.app"), DetailType: aws.String("T"), Detail: aws.String(`no JSON`)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if out.FailedEntryCount != 2 || aws.ToString(out.Entries[1].ErrorCode) != "NotAuthorizedForSourceException" ||
		aws.ToString(out.Entries[2].ErrorCode) != "MalformedDetail" {
		t.Errorf("entries %+v", out.Entries)
	}
	f.service.Close()
	got := f.targets.got()
	if len(got) != 2 || got[0] != got[1] {
		t.Fatalf("payloads %v", got)
	}
	var e map[string]any
	if err := json.Unmarshal([]byte(got[0]), &e); err != nil {
		t.Fatal(err)
	}
	delete(e, "time")
	want := map[string]any{
		"version": "0", "id": *out.Entries[0].EventId, "detail-type": "T", "source": "my.app", "account": "000000000000",
		"region": "us-east-1", "resources": []any{"x"}, "detail": map[string]any{"a": 1.0},
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

func TestC8_ReadOnlyCallsNeedTheirOwnRuleState(t *testing.T) {
	t.Parallel()
	tests := []struct {
		state types.RuleState
		want  int // of a read, a write and a service event
	}{
		{types.RuleStateEnabled, 2},
		{types.RuleStateEnabledWithAllCloudtrailManagementEvents, 3},
		{types.RuleStateDisabled, 0},
	}
	for _, tt := range tests {
		f := start(t)
		in := anything()
		in.State = tt.state
		f.rule(t, in, function())
		const calls = "AWS API Call via CloudTrail"
		f.service.Publish(host.Event{Source: "aws.secretsmanager", DetailType: calls, Detail: []byte(`{"readOnly":true}`)})
		f.service.Publish(host.Event{Source: "aws.secretsmanager", DetailType: calls, Detail: []byte(`{"readOnly":false}`)})
		f.service.Publish(host.Event{Source: "aws.secretsmanager", DetailType: "AWS Service Event via CloudTrail"})
		f.service.Close()
		if got := len(f.targets.got()); got != tt.want {
			t.Errorf("%s: %d deliveries, want %d", tt.state, got, tt.want)
		}
	}
}

func TestSchedulesFireOnTheMovableClock(t *testing.T) {
	t.Parallel()
	for _, expression := range []string{"rate(5 minutes)", "rate(1 day)", "cron(0 3 * * ? *)"} {
		f := start(t)
		f.rule(t, &eventbridge.PutRuleInput{ScheduleExpression: &expression}, function())
		for n := range 3 {
			f.clock.Advance(25 * time.Hour) // over many dates of a short rate: it fires once
			f.targets.waitFor(t, n+1, func() {})
		}
		if _, err := f.DisableRule(t.Context(), &eventbridge.DisableRuleInput{Name: aws.String("r")}); err != nil {
			t.Fatal(err)
		}
		before := len(f.targets.got())
		f.clock.Advance(48 * time.Hour)
		f.service.Close()
		if got := f.targets.got(); len(got) != before || before != 3 {
			t.Errorf("%s: %d deliveries, %d before the rule was disabled; want 3", expression, len(got), before)
		}
	}
}

func TestDeliveryIsRetried(t *testing.T) {
	t.Parallel()
	t.Run("a function that fails, twice", func(t *testing.T) {
		t.Parallel()
		f := start(t)
		f.targets.fail = 9
		f.rule(t, anything(), function())
		f.service.Publish(host.Event{Source: "s", DetailType: "T"})
		f.targets.waitFor(t, 3, func() { f.clock.Advance(time.Minute) })
		f.clock.Advance(time.Hour)
		f.service.Close()
		if got := len(f.targets.got()); got != 3 {
			t.Errorf("%d tries, want 3", got)
		}
	})
	t.Run("a state machine, under one name", func(t *testing.T) {
		t.Parallel()
		f := start(t)
		f.targets.fail = 4
		f.rule(t, anything(), machine())
		f.service.Publish(host.Event{Source: "s", DetailType: "T"})
		f.targets.waitFor(t, 5, func() { f.clock.Advance(10 * time.Second) })
		f.service.Close()
		if names := slices.Compact(f.targets.names); len(names) != 1 {
			t.Errorf("execution names %v", names)
		}
	})
	t.Run("as the policy says", func(t *testing.T) {
		t.Parallel()
		f := start(t)
		f.targets.fail = 9
		to := machine()
		to.RetryPolicy = &types.RetryPolicy{MaximumRetryAttempts: aws.Int32(1)}
		f.rule(t, anything(), to)
		f.service.Publish(host.Event{Source: "s", DetailType: "T"})
		f.targets.waitFor(t, 2, func() { f.clock.Advance(10 * time.Second) })
		f.clock.Advance(time.Hour)
		f.service.Close()
		if got := len(f.targets.got()); got != 2 {
			t.Errorf("%d tries, want 2", got)
		}
	})
	t.Run("not for a function that isn't there", func(t *testing.T) {
		t.Parallel()
		f := start(t)
		f.targets.refuse = awsproto.Errorf("ResourceNotFoundException", "no such function")
		f.rule(t, anything(), function())
		f.service.Publish(host.Event{Source: "s", DetailType: "T"})
		f.targets.waitFor(t, 1, func() {})
		f.clock.Advance(time.Hour)
		f.service.Close()
		if got := len(f.targets.got()); got != 1 {
			t.Errorf("%d tries, want 1", got)
		}
	})
}

func TestRulesAndTargetsAreListedAndRemoved(t *testing.T) {
	t.Parallel()
	f := start(t)
	ctx := t.Context()
	f.rule(t, anything(), function(), machine())
	if _, err := f.PutRule(ctx, &eventbridge.PutRuleInput{Name: aws.String("other"), ScheduleExpression: aws.String("rate(1 hour)")}); err != nil {
		t.Fatal(err)
	}
	rules, err := f.ListRules(ctx, &eventbridge.ListRulesInput{NamePrefix: aws.String("o")})
	if err != nil || len(rules.Rules) != 1 || *rules.Rules[0].Name != "other" {
		t.Errorf("ListRules: %+v, %v", rules, err)
	}
	listed, err := f.ListTargetsByRule(ctx, &eventbridge.ListTargetsByRuleInput{Rule: aws.String("r")})
	if err != nil || len(listed.Targets) != 2 {
		t.Errorf("ListTargetsByRule: %+v, %v", listed, err)
	}
	if _, err := f.DeleteRule(ctx, &eventbridge.DeleteRuleInput{Name: aws.String("r")}); err == nil {
		t.Error("a rule with targets was deleted")
	}
	removed, err := f.RemoveTargets(ctx, &eventbridge.RemoveTargetsInput{Rule: aws.String("r"), Ids: []string{"f", "m", "x"}})
	if err != nil || removed.FailedEntryCount != 1 {
		t.Errorf("RemoveTargets: %+v, %v", removed, err)
	}
	if _, err := f.DeleteRule(ctx, &eventbridge.DeleteRuleInput{Name: aws.String("r")}); err != nil {
		t.Error(err)
	}
	if _, err := f.DescribeRule(ctx, &eventbridge.DescribeRuleInput{Name: aws.String("r")}); err == nil {
		t.Error("the deleted rule is described")
	}
}

func TestWhatIsNotModelledIsAnError(t *testing.T) {
	t.Parallel()
	s := events.New(events.Config{Clock: clock.New()})
	t.Cleanup(s.Close)
	call(t, s, "PutRule", map[string]any{"Name": "r", "EventPattern": `{"source":["a"]}`})
	target := func(more map[string]any) map[string]any {
		to := map[string]any{"Id": "1", "Arn": functionARN}
		for k, v := range more {
			to[k] = v
		}
		return map[string]any{"Rule": "r", "Targets": []any{to}}
	}
	tests := []struct {
		action string
		in     map[string]any
		code   string
	}{
		{"PutRule", map[string]any{"Name": "r", "EventPattern": `{"source":["a"]}`, "Tags": []any{}}, "SerializationException"},
		{"PutRule", map[string]any{"Name": "r"}, "ValidationException"},
		{"PutRule", map[string]any{"Name": "r", "ScheduleExpression": "rate(1 minutes)"}, "ValidationException"},
		{"PutRule", map[string]any{"Name": "r", "ScheduleExpression": "rate(5 minute)"}, "ValidationException"},
		{"PutRule", map[string]any{"Name": "r", "EventPattern": `{"source":["a"]}`, "EventBusName": "mine"}, "ResourceNotFoundException"},
		{"PutTargets", target(map[string]any{"DeadLetterConfig": map[string]any{}}), "ValidationException"},
		{"PutTargets", target(map[string]any{"DeadLetterConfig": map[string]any{"Arn": "arn:aws:sqs:us-east-1:000000000000:q.fifo"}}), "ValidationException"},
		{"PutTargets", target(map[string]any{"SqsParameters": map[string]any{}}), "SerializationException"},
		{"PutTargets", target(map[string]any{"Arn": "arn:aws:sqs:us-east-1:000000000000:q"}), "ValidationException"},
		{"PutTargets", target(map[string]any{"Arn": machineARN}), "ValidationException"}, // no RoleArn
		{"PutTargets", target(map[string]any{"Input": "{}", "InputPath": "$"}), "ValidationException"},
		{"PutTargets", target(map[string]any{"InputPath": "$..x"}), "ValidationException"},
		{"PutTargets", target(map[string]any{"InputTransformer": map[string]any{"InputTemplate": "<x>"}}), "ValidationException"},
		{"PutPartnerEvents", map[string]any{}, "UnknownOperationException"},
	}
	for _, tt := range tests {
		body, err := json.Marshal(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Call(context.Background(), tt.action, body)
		wantCode(t, err, tt.code)
	}
}

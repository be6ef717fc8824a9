package events_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/events"
	"github.com/keyturn/keyturn/localstack/host"
)

// refusing is a target that notes when it is tried, and never takes anything.
type refusing struct {
	clock *clock.Clock
	err   error

	mu    sync.Mutex
	tries []time.Time
}

func (r *refusing) note() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries = append(r.tries, r.clock.Now())
}

func (r *refusing) Invoke(context.Context, string, []byte) (host.Invocation, error) {
	r.note()
	if r.err != nil {
		return host.Invocation{}, r.err
	}
	return host.Invocation{FunctionError: "Unhandled", Payload: []byte(`{}`)}, nil
}

func (r *refusing) StartExecution(context.Context, string, string, []byte) (string, error) {
	r.note()
	return "", r.err
}

func (r *refusing) tried() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]time.Time(nil), r.tries...)
}

// deliveredTo publishes one event to a target that refuses it, moves the clock
// minute by minute until nothing more happens for a time, and returns the tries.
func deliveredTo(t *testing.T, err error, to types.Target, minutes int) []time.Time {
	t.Helper()
	f := start(t)
	r := &refusing{clock: f.clock, err: err}
	f.service.SetInvoker(r)
	f.service.SetExecutions(r)
	f.rule(t, anything(), to)
	f.service.Publish(host.Event{Source: "s", DetailType: "T"})
	for range minutes {
		for n := -1; n != len(r.tried()); time.Sleep(2 * time.Millisecond) {
			n = len(r.tried())
		}
		f.clock.Advance(time.Minute)
	}
	f.service.Close()
	return r.tried()
}

// Without a policy EventBridge tries for 24 hours, 185 times at most (user guide,
// "How EventBridge retries delivering events"); a policy may shorten both.
func TestDeliveryEndsWithTheRetryPolicy(t *testing.T) {
	t.Parallel()
	server := &awsproto.Error{Code: "InternalServerError", Status: 500}
	aged := machine()
	aged.RetryPolicy = &types.RetryPolicy{MaximumEventAgeInSeconds: aws.Int32(600)}
	never := machine()
	never.RetryPolicy = &types.RetryPolicy{MaximumRetryAttempts: aws.Int32(0)}
	for _, tt := range []struct {
		name        string
		err         error
		to          types.Target
		least, most int
		age         time.Duration // of the last try, at most
	}{
		{"its age", server, aged, 3, 20, 10 * time.Minute},
		{"no retries", server, never, 1, 1, time.Second},
		{"a throttle is tried again", awsproto.Errorf("ThrottlingException", "slow"), aged, 3, 20, 10 * time.Minute},
		{"as Lambda names it too", awsproto.Errorf("TooManyRequestsException", "slow"), aged, 3, 20, 10 * time.Minute},
		{"what has no code is tried again", fmt.Errorf("connection reset"), aged, 3, 20, 10 * time.Minute},
		{"a refusal isn't", awsproto.Errorf("ExecutionAlreadyExists", "taken"), aged, 1, 1, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := deliveredTo(t, tt.err, tt.to, 20)
			if n := len(got); n < tt.least || n > tt.most {
				t.Fatalf("%d tries, want %d to %d", n, tt.least, tt.most)
			}
			if age := got[len(got)-1].Sub(got[0]); age > tt.age {
				t.Errorf("the last try was after %s, want %s at most", age, tt.age)
			}
		})
	}
}

func TestDeliveryEndsByItself(t *testing.T) {
	t.Parallel()
	f := start(t)
	r := &refusing{clock: f.clock, err: &awsproto.Error{Code: "InternalServerError", Status: 500}}
	f.service.SetExecutions(r)
	f.rule(t, anything(), machine())
	f.service.Publish(host.Event{Source: "s", DetailType: "T"})
	deadline := time.Now().Add(60 * time.Second)
	for begun := f.clock.Now(); f.clock.Now().Sub(begun) < 40*time.Hour; f.clock.Advance(5 * time.Minute) {
		for n := -1; n != len(r.tried()); time.Sleep(time.Millisecond) {
			n = len(r.tried())
		}
		if time.Now().After(deadline) {
			t.Fatal("it takes too long to look")
		}
	}
	f.service.Close()
	got := r.tried()
	if n := len(got); n < 100 || n > 186 || got[n-1].Sub(got[0]) > 24*time.Hour {
		t.Errorf("%d tries in %s, want at most 186 in 24h", n, got[n-1].Sub(got[0]))
	}
}

// Lambda tries a function that fails after one and after two minutes more.
func TestAFailingFunctionIsTriedAfterMinutes(t *testing.T) {
	t.Parallel()
	got := deliveredTo(t, nil, function(), 10)
	if len(got) != 3 || got[1].Sub(got[0]) < time.Minute || got[2].Sub(got[1]) < 2*time.Minute {
		t.Errorf("tried at %v", got)
	}
}

// PutRule replaces a rule, but not its targets, and a schedule that stays as it
// was keeps its date.
func TestAReplacedRuleKeepsItsTargets(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.rule(t, &eventbridge.PutRuleInput{ScheduleExpression: aws.String("rate(1 hour)")}, function())
	f.clock.Advance(40 * time.Minute)
	if _, err := f.PutRule(t.Context(), &eventbridge.PutRuleInput{
		Name: aws.String("r"), ScheduleExpression: aws.String("rate(1 hour)"), Description: aws.String("the same"),
	}); err != nil {
		t.Fatal(err)
	}
	f.clock.Advance(21 * time.Minute)
	f.targets.waitFor(t, 1, func() {})
	var e struct {
		Source     string
		DetailType string `json:"detail-type"`
		Resources  []string
		Detail     map[string]any
		Time       string
	}
	if err := json.Unmarshal([]byte(f.targets.got()[0]), &e); err != nil {
		t.Fatal(err)
	}
	if e.Source != "aws.events" || e.DetailType != "Scheduled Event" || len(e.Detail) != 0 || e.Detail == nil ||
		!cmp.Equal(e.Resources, []string{"arn:aws:events:us-east-1:000000000000:rule/r"}) {
		t.Errorf("event %+v", e)
	}
	if at, err := time.Parse(time.RFC3339, e.Time); err != nil || at.IsZero() || len(e.Time) != len("2026-01-02T03:04:05Z") {
		t.Errorf("time %q isn't one of whole seconds in UTC", e.Time)
	}
}

// A rate goes by the dates that it began with, and one that is switched on again
// begins anew: nothing that fell due meanwhile is made up for.
func TestDatesOfARate(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.rule(t, &eventbridge.PutRuleInput{ScheduleExpression: aws.String("rate(1 hour)")}, function())
	f.clock.Advance(90 * time.Minute) // an hour, and half of the next
	f.targets.waitFor(t, 1, func() {})
	f.clock.Advance(31 * time.Minute)
	f.targets.waitFor(t, 2, func() {})
	name := &eventbridge.DisableRuleInput{Name: aws.String("r")}
	if _, err := f.DisableRule(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	f.clock.Advance(5 * time.Hour)
	if _, err := f.EnableRule(t.Context(), &eventbridge.EnableRuleInput{Name: name.Name}); err != nil {
		t.Fatal(err)
	}
	f.clock.Advance(59 * time.Minute)
	time.Sleep(20 * time.Millisecond) // whoever fired wrongly has had the time to
	if n := len(f.targets.got()); n != 2 {
		t.Errorf("%d deliveries before its hour had passed", n)
	}
	f.clock.Advance(2 * time.Minute)
	f.targets.waitFor(t, 3, func() {})
}

// A service event that reads nothing isn't an API call that does.
func TestOnlyAPICallsAreReadOnly(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.rule(t, anything(), function())
	f.service.Publish(host.Event{Source: "aws.secretsmanager", DetailType: "AWS Service Event via CloudTrail", Detail: []byte(`{"readOnly":true}`)})
	f.service.Close()
	if got := f.targets.got(); len(got) != 1 || !strings.Contains(got[0], `"resources":[]`) {
		t.Errorf("deliveries %v", got)
	}
}

// An event that says nothing has empty detail and resources, and the time at
// which it was put, unless it says another.
func TestWhatAnEventLeavesOut(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.rule(t, anything(), function())
	f.service.Publish(host.Event{Source: "s", DetailType: "T"})
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.FixedZone("", 7200))
	if _, err := f.PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{
		{Source: aws.String("a"), DetailType: aws.String("T"), Detail: aws.String(`{}`), Time: &at},
	}}); err != nil {
		t.Fatal(err)
	}
	f.service.Close()
	all := strings.Join(f.targets.got(), "\n")
	if !strings.Contains(all, `"resources":[],"detail":{}`) || !strings.Contains(all, `"time":"2026-05-04T01:02:01Z"`) {
		t.Errorf("events\n%s", all)
	}
}

// Borders of requests (API reference, PutEvents, PutTargets, PutRule, ListRules).
func TestBordersOfRequests(t *testing.T) {
	t.Parallel()
	s := events.New(events.Config{Clock: clock.New()})
	t.Cleanup(s.Close)
	const entry = `{"Source":"a","DetailType":"T","Detail":"{}"}`
	targets := func(n int, more string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`{"Id":"%d","Arn":%q%s}`, i, functionARN, more))
		}
		return `{"Rule":"r","Targets":[` + strings.Join(all, ",") + `]}`
	}
	template := func(n int) string {
		return targets(1, `,"InputTransformer":{"InputTemplate":"`+strings.Repeat("1", n)+`"}`)
	}
	paths := func(n int, prefix string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`"%s%d":"$.detail"`, prefix, i))
		}
		return targets(1, `,"InputTransformer":{"InputTemplate":"1","InputPathsMap":{`+strings.Join(all, ",")+`}}`)
	}
	policy := func(member string, n int) string { return targets(1, fmt.Sprintf(`,"RetryPolicy":{%q:%d}`, member, n)) }
	rule := func(name string) string { return fmt.Sprintf(`{"Name":%q,"ScheduleExpression":"rate(1 hour)"}`, name) }
	const bad = "ValidationException"
	for _, tt := range []struct{ action, in, code string }{
		{"PutRule", rule("r"), ""},
		{"PutRule", rule(strings.Repeat("r", 64)), ""},
		{"PutRule", rule(strings.Repeat("r", 65)), bad},
		{"PutRule", rule(""), bad},
		{"PutRule", rule("a b"), bad},
		{"PutRule", `{"Name":"r","ScheduleExpression":"rate(1 hour)","State":"PAUSED"}`, bad},
		{"PutEvents", `{"Entries":[` + strings.Repeat(entry+",", 9) + entry + `]}`, ""},
		{"PutEvents", `{"Entries":[` + strings.Repeat(entry+",", 10) + entry + `]}`, bad},
		{"PutEvents", `{"Entries":[]}`, bad},
		{"PutTargets", targets(5, ""), ""},
		{"PutTargets", targets(5, ""), ""}, // the same again: they are replaced
		{"PutTargets", targets(6, ""), "LimitExceededException"},
		{"PutTargets", template(8192), ""},
		{"PutTargets", template(8193), bad},
		{"PutTargets", paths(100, "v"), ""},
		{"PutTargets", paths(101, "v"), bad},
		{"PutTargets", paths(1, "AWS"), bad},
		{"PutTargets", policy("MaximumRetryAttempts", 185), ""},
		{"PutTargets", policy("MaximumRetryAttempts", 186), bad},
		{"PutTargets", policy("MaximumRetryAttempts", -1), bad},
		{"PutTargets", policy("MaximumEventAgeInSeconds", 60), ""},
		{"PutTargets", policy("MaximumEventAgeInSeconds", 59), bad},
		{"PutTargets", policy("MaximumEventAgeInSeconds", 86400), ""},
		{"PutTargets", policy("MaximumEventAgeInSeconds", 86401), bad},
		{"ListRules", `{"Limit":100}`, ""},
		{"ListRules", `{"Limit":101}`, bad},
		{"ListRules", `{"Limit":0}`, bad},
	} {
		_, err := s.Call(context.Background(), tt.action, []byte(tt.in))
		if tt.code != "" {
			wantCode(t, err, tt.code)
		} else if err != nil {
			t.Errorf("%s %.100s: %v", tt.action, tt.in, err)
		}
	}
}

// An entry that can't be taken is told of, and the others are taken.
func TestEntriesThatAreRefused(t *testing.T) {
	t.Parallel()
	f := start(t)
	entry := func(source, kind, detail, bus string) types.PutEventsRequestEntry {
		e := types.PutEventsRequestEntry{Source: &source, DetailType: &kind, Detail: &detail}
		if bus != "" {
			e.EventBusName = &bus
		}
		return e
	}
	out, err := f.PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{
		entry("a", "T", `{}`, "default"), entry("a", "T", `{}`, "mine"), entry("", "T", `{}`, ""), entry("a", "", `{}`, ""),
		entry("a", "T", "", ""), entry("a", "T", `null`, ""), entry("a", "T", `[]`, ""), entry("aws.x", "T", `{}`, ""),
	}})
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, e := range out.Entries {
		codes = append(codes, aws.ToString(e.ErrorCode))
	}
	want := []string{
		"", "ResourceNotFoundException", "InvalidArgument", "InvalidArgument", "InvalidArgument",
		"MalformedDetail", "MalformedDetail", "NotAuthorizedForSourceException",
	}
	if diff := cmp.Diff(want, codes); diff != "" || out.FailedEntryCount != 7 {
		t.Errorf("%d failed (-want +got):\n%s", out.FailedEntryCount, diff)
	}
}

func TestRulesAreListedByPages(t *testing.T) {
	t.Parallel()
	f := start(t)
	for i := range 5 {
		if _, err := f.PutRule(t.Context(), &eventbridge.PutRuleInput{Name: aws.String(fmt.Sprint("r", i)), ScheduleExpression: aws.String("rate(1 hour)")}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	in := &eventbridge.ListRulesInput{Limit: aws.Int32(2)}
	for range 3 {
		page, err := f.ListRules(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Rules {
			got = append(got, *r.Name)
		}
		in.NextToken = page.NextToken
	}
	if diff := cmp.Diff([]string{"r0", "r1", "r2", "r3", "r4"}, got); diff != "" || in.NextToken != nil {
		t.Errorf("token %v, rules (-want +got):\n%s", in.NextToken, diff)
	}
}

// A template may hold quotes of its own, and what it gives must be JSON.
func TestTemplatesWithQuotes(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]string{
		`{"text":"he said \"<name>\" twice"}`: `{"text":"he said \"ann\" twice"}`,
		`{"text":<name>}`:                     `{"text":"ann"}`,
		`<name> is no JSON`:                   "",
	} {
		f := start(t)
		to := function()
		to.InputTransformer = &types.InputTransformer{InputTemplate: &template, InputPathsMap: map[string]string{"name": "$.detail.name"}}
		f.rule(t, anything(), to)
		f.service.Publish(host.Event{Source: "s", DetailType: "T", Detail: []byte(`{"name":"ann"}`)})
		f.service.Close()
		if got := strings.Join(f.targets.got(), "|"); got != want {
			t.Errorf("%s gives %q, want %q", template, got, want)
		}
	}
}

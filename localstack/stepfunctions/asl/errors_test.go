package asl_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
)

const second = time.Second

func TestRetryAndCatch(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, fields string
		answers      []string
		measured     bool // the environment's other reading of the wildcards
		failure      string
		path         string
		slept        []time.Duration
	}{
		{name: "no retry", answers: []string{"!X"}, failure: "X", path: "A"},
		{
			name: "defaults: three more, 1 2 4 seconds", fields: `"Retry":[{"ErrorEquals":["X"]}],`,
			answers: []string{"!X"}, failure: "X", path: "A", slept: []time.Duration{second, 2 * second, 4 * second},
		},
		{
			name: "succeeds at the second call", fields: `"Retry":[{"ErrorEquals":["X"],"IntervalSeconds":3}],`,
			answers: []string{"!X", "{}"}, path: "A Done", slept: []time.Duration{3 * second},
		},
		{
			name: "rate and cap", fields: `"Retry":[{"ErrorEquals":["States.ALL"],"IntervalSeconds":2,"BackoffRate":3,"MaxDelaySeconds":10,"MaxAttempts":4}],`,
			answers: []string{"!X"}, failure: "X", path: "A", slept: []time.Duration{2 * second, 6 * second, 10 * second, 10 * second},
		},
		{
			name: "jitter, after the cap", fields: `"Retry":[{"ErrorEquals":["X"],"IntervalSeconds":8,"MaxDelaySeconds":12,"JitterStrategy":"FULL","MaxAttempts":2}],`,
			answers: []string{"!X"}, failure: "X", path: "A", slept: []time.Duration{2 * second, 3 * second},
		},
		{
			name: "each retrier counts for itself; the fourth error finds the first used up",
			fields: `"Retry":[{"ErrorEquals":["A","B"],"MaxAttempts":2},{"ErrorEquals":["C"],"IntervalSeconds":5}],
				"Catch":[{"ErrorEquals":["States.ALL"],"Next":"Stuck"}],`,
			answers: []string{"!A", "!B", "!C", "!B"}, failure: "RotationStuck", path: "A Stuck",
			slept: []time.Duration{second, 2 * second, 5 * second},
		},
		{
			name: "zero attempts shields from a later retrier", fields: `"Retry":[{"ErrorEquals":["X"],"MaxAttempts":0},{"ErrorEquals":["States.ALL"]}],`,
			answers: []string{"!X"}, failure: "X", path: "A",
		},
		{
			name: "the first catcher that matches wins", fields: `"Catch":[{"ErrorEquals":["Y"],"Next":"Stuck"},{"ErrorEquals":["X","Z"],"Next":"Aborted"},{"ErrorEquals":["States.ALL"],"Next":"Stuck"}],`,
			answers: []string{"!X"}, failure: "RotationAborted", path: "A Aborted",
		},
		{
			name: "States.TaskFailed takes a name of the function's own", fields: `"Catch":[{"ErrorEquals":["States.TaskFailed"],"Next":"Aborted"},{"ErrorEquals":["States.ALL"],"Next":"Stuck"}],`,
			answers: []string{"!Keyturn.Internal"}, failure: "RotationAborted", path: "A Aborted",
		},
		{
			name: "States.TaskFailed doesn't take a time-out", fields: `"Catch":[{"ErrorEquals":["States.TaskFailed"],"Next":"Stuck"},{"ErrorEquals":["States.Timeout"],"Next":"Aborted"}],`,
			answers: []string{"!States.Timeout"}, failure: "RotationAborted", path: "A Aborted",
		},
		{
			name: "States.Runtime is matched by nothing", fields: `"Retry":[{"ErrorEquals":["States.Runtime"]}],"Catch":[{"ErrorEquals":["States.Runtime"],"Next":"Done"},{"ErrorEquals":["States.ALL"],"Next":"Done"}],`,
			answers: []string{"!States.Runtime"}, failure: "States.Runtime", path: "A",
		},
		{
			name: "a path of Parameters that finds nothing is States.Runtime", fields: `"InputPath":"$.nowhere","Catch":[{"ErrorEquals":["States.ParameterPathFailure"],"Next":"Done"},{"ErrorEquals":["States.ALL"],"Next":"Done"}],`,
			answers: []string{"{}"}, failure: "States.Runtime", path: "A",
		},
		{
			name: "States.ALL leaves States.DataLimitExceeded", fields: `"Catch":[{"ErrorEquals":["States.ALL"],"Next":"Done"}],`,
			answers: []string{long(asl.MaxPayload + 1)}, failure: "States.DataLimitExceeded", path: "A",
		},
		{
			name: "States.ALL takes it in the measured reading", fields: `"Catch":[{"ErrorEquals":["States.ALL"],"Next":"Done"}],`,
			answers: []string{long(asl.MaxPayload + 1)}, measured: true, path: "A Done",
		},
		{
			name: "its own name takes it", fields: `"Catch":[{"ErrorEquals":["States.DataLimitExceeded"],"Next":"Done"}],`,
			answers: []string{long(asl.MaxPayload + 1)}, path: "A Done",
		},
		{name: "just small enough", answers: []string{long(asl.MaxPayload)}, path: "A Done"},
		{
			name: "an output that ResultPath makes too long", fields: `"ResultPath":"$.r",`,
			answers: []string{long(asl.MaxPayload)}, failure: "States.DataLimitExceeded", path: "A",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newJumpClock()
			m := parse(t, states(`"A":{`+lambdaTask+`,`+tt.fields+`"Next":"Done"}`+ends(tt.fields)))
			e := m.Run(t.Context(), asl.Environment{
				Task: scripted{"A": tt.answers}.task(), Clock: c, AllMatchesDataLimit: tt.measured,
				Random: func() float64 { return 0.25 },
			}, []byte(`{}`))
			output := string(e.Output)
			check(t, e, output, tt.failure, tt.path)
			if diff := cmp.Diff(tt.slept, c.slept); diff != "" {
				t.Errorf("slept: %s", diff)
			}
		})
	}
}

// ends are the end states that the fields name; a state that nothing leads to
// would be refused.
func ends(fields string) string {
	out := `,"Done":{"Type":"Succeed"}`
	for _, name := range []string{"Aborted", "Stuck"} {
		if strings.Contains(fields, `"Next":"`+name+`"`) {
			out += fmt.Sprintf(`,%q:{"Type":"Fail","Error":"Rotation%s"}`, name, name)
		}
	}
	return out
}

// long is a JSON string of n bytes.
func long(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }

func TestCatchKeepsTheInput(t *testing.T) {
	t.Parallel()
	m := parse(t, states(`"A":{`+lambdaTask+`,"Catch":[{"ErrorEquals":["X"],"ResultPath":"$.error","Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"}`))
	e := m.Run(t.Context(), asl.Environment{Task: scripted{"A": {"!X"}}.task()}, []byte(`{"secret":"arn"}`))
	check(t, e, `{"error":{"Cause":"scripted","Error":"X"},"secret":"arn"}`, "", "A B")
}

// The service writes an empty cause too: a path to it in a later state must find
// something.
func TestCatchOfATimeoutHasAnEmptyCause(t *testing.T) {
	t.Parallel()
	m := parse(t, states(`"A":{`+lambdaTask+`,"TimeoutSeconds":60,"Catch":[{"ErrorEquals":["States.Timeout"],"ResultPath":"$.error","Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"}`))
	released := make(chan struct{})
	defer close(released)
	e := m.Run(t.Context(), asl.Environment{
		Clock: clock.New(), TaskClock: passing{},
		Task: func(context.Context, asl.TaskCall) ([]byte, *asl.Error) {
			<-released
			return []byte(`{}`), nil
		},
	}, []byte(`{"secret":"arn"}`))
	check(t, e, `{"error":{"Cause":"","Error":"States.Timeout"},"secret":"arn"}`, "", "A B")
}

// passing is a clock on which every time has passed.
type passing struct{ asl.RealTime }

func (passing) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func TestRetryCountIsInTheContext(t *testing.T) {
	t.Parallel()
	m := parse(t, states(`"A":{"Type":"Task","Resource":"arn:aws:states:::aws-sdk:secretsmanager:describeSecret",
		"Parameters":{"SecretId.$":"States.Format('try {}', $$.State.RetryCount)"},"Retry":[{"ErrorEquals":["X"],"MaxAttempts":2}],"End":true}`))
	var inputs []string
	e := m.Run(t.Context(), asl.Environment{
		Clock: newJumpClock(),
		Task: func(_ context.Context, c asl.TaskCall) ([]byte, *asl.Error) {
			inputs = append(inputs, fmt.Sprint(c.Service, c.Action, c.SDK, c.Attempt, string(c.Input)))
			return nil, &asl.Error{Name: "X"}
		},
	}, []byte(`{}`))
	check(t, e, "", "X", "A")
	want := []string{
		`secretsmanagerdescribeSecrettrue 0{"SecretId":"try 0"}`,
		`secretsmanagerdescribeSecrettrue 1{"SecretId":"try 1"}`,
		`secretsmanagerdescribeSecrettrue 2{"SecretId":"try 2"}`,
	}
	if diff := cmp.Diff(want, inputs); diff != "" {
		t.Error(diff)
	}
}

// waitingClock is a clock.Clock that says when somebody sleeps on it.
type waitingClock struct {
	*clock.Clock
	sleeping chan time.Duration
}

func (c waitingClock) Sleep(ctx context.Context, d time.Duration) error {
	c.sleeping <- d
	return c.Clock.Sleep(ctx, d)
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, fields, input, failure string }{
		{"time-out", `"TimeoutSeconds":60,"End":true`, `{}`, asl.Timeout},
		{"time-out from the input", `"TimeoutSecondsPath":"$.s","End":true`, `{"s":60}`, asl.Timeout},
		{"no heartbeat", `"HeartbeatSeconds":60,"End":true`, `{}`, asl.Timeout},
		{"caught by name", `"TimeoutSeconds":60,"Catch":[{"ErrorEquals":["States.Timeout"],"Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"`, `{}`, ""},
		{"heartbeat caught by its own name", `"HeartbeatSeconds":60,"Catch":[{"ErrorEquals":["States.HeartbeatTimeout"],"Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"`, `{}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := waitingClock{clock.New(), make(chan time.Duration, 4)}
			ended, released := make(chan struct{}), make(chan struct{})
			go func() {
				<-c.sleeping
				c.Advance(59 * time.Second)
				c.Advance(time.Minute)
			}()
			e := parse(t, states(`"A":{`+lambdaTask+`,`+tt.fields+`}`)).Run(t.Context(), asl.Environment{
				Clock: c,
				Task: func(context.Context, asl.TaskCall) ([]byte, *asl.Error) {
					<-released // runs on, as a function does
					close(ended)
					return []byte(`{}`), nil
				},
			}, []byte(tt.input))
			check(t, e, string(e.Output), tt.failure, "")
			if e.Error != nil && e.Error.Cause != "" {
				t.Errorf("a time-out has no cause, this one says %q", e.Error.Cause)
			}
			close(released)
			<-ended
		})
	}
}

func TestMachineTimeout(t *testing.T) {
	t.Parallel()
	c := waitingClock{clock.New(), make(chan time.Duration, 4)}
	go func() {
		<-c.sleeping
		<-c.sleeping
		c.Advance(10 * time.Minute)
	}()
	m := parse(t, []byte(`{"StartAt":"A","TimeoutSeconds":600,"States":{"A":{"Type":"Wait","Seconds":90000,"Next":"B"},"B":{"Type":"Succeed"}}}`))
	var events []asl.Event
	e := m.Run(t.Context(), asl.Environment{Clock: c, Recorder: func(e asl.Event) { events = append(events, e) }}, []byte(`{}`))
	if e.Status != asl.TimedOut || e.Error != nil {
		t.Errorf("ended %s with %v", e.Status, e.Error)
	}
	last := events[len(events)-1]
	if last.Type != "ExecutionTimedOut" || last.Previous != 0 || last.Details["error"] != asl.Timeout {
		t.Errorf("the last event is %+v", last)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{"with words": &asl.Stopped{Name: "Emergency", Cause: "leak"}, "without": errors.New("closed")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			c := waitingClock{clock.New(), make(chan time.Duration, 1)}
			go func() {
				<-c.sleeping
				cancel(cause)
			}()
			e := parse(t, states(`"A":{"Type":"Wait","Seconds":90000,"End":true}`)).Run(ctx, asl.Environment{Clock: c}, []byte(`{"x":1}`))
			if e.Status != asl.Aborted {
				t.Errorf("ended %s", e.Status)
			}
			if e.Resume.State != "A" || string(e.Resume.Input) != `{"x":1}` || e.Resume.LastEvent != 3 {
				t.Errorf("checkpoint %+v", e.Resume)
			}
			var by *asl.Stopped
			if errors.As(cause, &by) && (e.Error == nil || e.Error.Name != by.Name || e.Error.Cause != by.Cause) {
				t.Errorf("error %v, want %v", e.Error, by)
			}
		})
	}
}

func TestRedrive(t *testing.T) {
	t.Parallel()
	m := parse(t, states(`"A":{"Type":"Pass","Result":1,"ResultPath":"$.a","Next":"B"},"B":{`+lambdaTask+`,"ResultPath":"$.b","End":true}`))
	env := asl.Environment{Task: scripted{"B": {"!X", "2"}}.task()}
	first := m.Run(t.Context(), env, []byte(`{}`))
	check(t, first, "", "X", "A B")
	var ids []int64
	env.Recorder = func(e asl.Event) { ids = append(ids, e.ID) }
	again := m.Redrive(t.Context(), env, first.Resume)
	check(t, again, `{"a":1,"b":2}`, "", "B")
	if ids[0] != first.Resume.LastEvent+1 {
		t.Errorf("the history goes on with event %d after %d", ids[0], first.Resume.LastEvent)
	}
}

func TestHistoryLimit(t *testing.T) {
	t.Parallel()
	m := parse(t, states(`"A":{"Type":"Choice","Choices":[{"Variable":"$.x","IsPresent":true,"Next":"B"}],"Default":"A"},"B":{"Type":"Succeed"}`))
	var last, before asl.Event
	e := m.Run(t.Context(), asl.Environment{Recorder: func(e asl.Event) { before, last = last, e }}, []byte(`{}`))
	check(t, e, "", asl.Runtime, "")
	if last.ID != asl.MaxEvents || last.Type != "ExecutionFailed" || before.ID != asl.MaxEvents-1 || before.Type != "ChoiceStateExited" {
		t.Errorf("the history ends with %+v and %+v", before, last)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	m := parse(t, states(`"A":{`+lambdaTask+`,"TimeoutSeconds":9,"Retry":[{"ErrorEquals":["X"]}],"Catch":[{"ErrorEquals":["Y"],"Next":"B"}],"End":true},
		"B":{"Type":"Parallel","Branches":[{"StartAt":"C","States":{"C":{"Type":"Fail","Error":"Z"}}}],"End":true}`))
	var got []string
	clock := newJumpClock()
	m.Run(t.Context(), asl.Environment{
		Task: scripted{"A": {"!X", "!Y"}}.task(), Clock: clock, TaskClock: asl.RealTime{},
		Recorder: func(e asl.Event) { got = append(got, fmt.Sprintf("%d<%d %s %s", e.ID, e.Previous, e.Type, e.Key)) },
	}, []byte(`{}`))
	want := []string{
		"1<0 ExecutionStarted executionStartedEventDetails",
		"2<0 TaskStateEntered stateEnteredEventDetails",
		"3<2 TaskScheduled taskScheduledEventDetails",
		"4<3 TaskStarted taskStartedEventDetails",
		"5<4 TaskFailed taskFailedEventDetails",
		"6<5 TaskScheduled taskScheduledEventDetails",
		"7<6 TaskStarted taskStartedEventDetails",
		"8<7 TaskFailed taskFailedEventDetails",
		"9<8 TaskStateExited stateExitedEventDetails",
		"10<9 ParallelStateEntered stateEnteredEventDetails",
		"11<10 ParallelStateStarted ",
		"12<11 FailStateEntered stateEnteredEventDetails",
		"13<11 ParallelStateFailed ",
		"14<13 ExecutionFailed executionFailedEventDetails",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSiblingsAreCut(t *testing.T) {
	t.Parallel()
	m := parse(t, states(`"A":{"Type":"Map","ItemProcessor":{"StartAt":"B","States":{
		"B":{"Type":"Choice","Choices":[{"Variable":"$","NumericEquals":0,"Next":"C"}],"Default":"D"},
		"C":{`+lambdaTask+`,"Next":"E"},"E":{"Type":"Fail","Error":"First"},
		"D":{"Type":"Wait","Seconds":90000,"End":true}}},"End":true}`))
	c := waitingClock{clock.New(), make(chan time.Duration, 1)}
	var kinds []string
	e := m.Run(t.Context(), asl.Environment{
		Clock: c,
		Task: func(context.Context, asl.TaskCall) ([]byte, *asl.Error) {
			<-c.sleeping // the sibling waits
			return []byte(`{}`), nil
		},
		Recorder: func(e asl.Event) { kinds = append(kinds, e.Type) },
	}, []byte(`[0,1]`))
	check(t, e, "", "First", "")
	all := strings.Join(kinds, " ")
	if !strings.Contains(all, "MapIterationFailed WaitStateAborted MapIterationAborted MapStateFailed ExecutionFailed") {
		t.Errorf("history: %s", all)
	}
}

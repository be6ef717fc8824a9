package asl_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
)

// The largest and smallest numbers that a field takes (states language,
// "Retrying after error"; developer guide, "Wait state", "Task state").
func TestBordersOfFields(t *testing.T) {
	t.Parallel()
	retry := func(fields string) string {
		return `"A":{` + lambdaTask + `,"Retry":[{"ErrorEquals":["X"],` + fields + `}],"End":true}`
	}
	task := func(fields string) string { return `"A":{` + lambdaTask + `,` + fields + `,"End":true}` }
	for machine, fits := range map[string]bool{
		retry(`"MaxDelaySeconds":31622399`):                  true,
		retry(`"MaxDelaySeconds":31622400`):                  false,
		retry(`"IntervalSeconds":99999999`):                  true,
		retry(`"IntervalSeconds":100000000`):                 false,
		retry(`"MaxAttempts":99999999`):                      true,
		retry(`"MaxAttempts":100000000`):                     false,
		retry(`"MaxAttempts":-1`):                            false,
		retry(`"BackoffRate":1`):                             true,
		retry(`"BackoffRate":0.99`):                          false,
		task(`"TimeoutSeconds":1`):                           true,
		task(`"TimeoutSeconds":0`):                           false,
		task(`"TimeoutSeconds":99999999`):                    true,
		task(`"TimeoutSeconds":100000000`):                   false,
		task(`"HeartbeatSeconds":0`):                         false,
		task(`"TimeoutSeconds":6,"HeartbeatSeconds":5`):      true,
		`"A":{"Type":"Wait","Seconds":0,"End":true}`:         true,
		`"A":{"Type":"Wait","Seconds":99999999,"End":true}`:  true,
		`"A":{"Type":"Wait","Seconds":100000000,"End":true}`: false,
		`"A":{"Type":"Wait","Seconds":-1,"End":true}`:        false,
		nestedArrays(10):                                     true,
		nestedArrays(11):                                     false,
		`"A":{"Type":"Pass","Next":"` + strings.Repeat("ü", 80) + `"},"` + strings.Repeat("ü", 80) + `":{"Type":"Succeed"}`: true,
	} {
		if _, err := asl.Parse(states(machine)); (err == nil) != fits {
			t.Errorf("%.120s: accepted %v, want %v: %v", machine, err == nil, fits, err)
		}
	}
}

func nestedArrays(n int) string {
	return `"A":{"Type":"Pass","Parameters":{"r.$":"` + strings.Repeat(`States.Array(`, n) + strings.Repeat(`)`, n) + `"},"End":true}`
}

// Numbers that come from the input have the same borders as those that are
// written down; beyond them the execution fails.
func TestBordersOfNumbersInTheInput(t *testing.T) {
	t.Parallel()
	wait := `"A":{"Type":"Wait","SecondsPath":"$.n","End":true}`
	limit := `"A":{` + lambdaTask + `,"TimeoutSecondsPath":"$.n","End":true}`
	both := `"A":{` + lambdaTask + `,"TimeoutSecondsPath":"$.n","HeartbeatSecondsPath":"$.h","End":true}`
	for _, tt := range []struct {
		states, input string
		fits          bool
	}{
		{wait, `{"n":0}`, true},
		{wait, `{"n":99999999}`, true},
		{wait, `{"n":100000000}`, false},
		{wait, `{"n":-1}`, false},
		{wait, `{"n":1.5}`, false},
		{wait, `{"n":1E1000000}`, false},
		{limit, `{"n":1}`, true},
		{limit, `{"n":0}`, false},
		{limit, `{"n":100000000}`, false},
		{both, `{"n":3,"h":2}`, true},
		{both, `{"n":3,"h":3}`, false},
		{both, `{"n":3,"h":0}`, false},
	} {
		e := parse(t, states(tt.states)).Run(t.Context(), asl.Environment{
			Clock: newJumpClock(), TaskClock: asl.RealTime{}, Task: scripted{}.empty(),
		}, []byte(tt.input))
		if fits := e.Status == asl.Succeeded; fits != tt.fits || !fits && (e.Error == nil || e.Error.Name != asl.Runtime) {
			t.Errorf("%s on %s: ended %s (%v)", tt.states, tt.input, e.Status, e.Error)
		}
	}
}

func TestBordersOfIntrinsics(t *testing.T) {
	t.Parallel()
	for call, want := range map[string]string{ // an empty want: the call fails
		`States.MathAdd(2147483646, 1)`:                       `2147483647`,
		`States.MathAdd(-2147483647, -1)`:                     `-2147483648`,
		`States.MathAdd(-2147483648, -1)`:                     ``,
		`States.MathAdd(2147483648, -1)`:                      ``, // the sum is one, the argument isn't
		`States.ArrayGetItem($.l, -1)`:                        ``,
		`States.ArrayGetItem($.l, 1.5)`:                       ``,
		`States.ArrayLength(States.StringSplit($.hash, 'y'))`: `1`,
		`States.StringSplit(States.Hash($.hash, 'MD5'), 'z')`: `["0d0c9c4db6953fee9e03f528cafd7d3e"]`,
		`States.Hash($.long, 'MD5')`:                          ``,
	} {
		m := parse(t, states(fmt.Sprintf(`"A":{"Type":"Pass","Parameters":{"r.$":"%s"},"OutputPath":"$.r","End":true}`, call)))
		e := m.Run(t.Context(), asl.Environment{}, fmt.Appendf(nil, `{"l":[1,2],"hash":%q,"long":%q}`,
			strings.Repeat("a", 10_000), strings.Repeat("a", 10_001)))
		failure := ""
		if want == "" {
			failure = asl.Runtime
		}
		t.Run(call, func(t *testing.T) { check(t, e, want, failure, "A") })
	}
}

// No number of the input takes long to compare, however many digits it stands for.
func TestNumbersBeyondAllMeasure(t *testing.T) {
	t.Parallel()
	m := parse(t, states(`"A":{"Type":"Choice","Choices":[{"Variable":"$.n","NumericGreaterThan":1,"Next":"More"},{"Variable":"$.n","NumericLessThan":-1,"Next":"Less"}],"Default":"Between"},
		"More":{"Type":"Succeed"},"Less":{"Type":"Succeed"},"Between":{"Type":"Succeed"}`))
	for n, path := range map[string]string{
		`1E999999999`: "A More", `-1E999999999`: "A Less", `1E-999999999`: "A Between", `2E308`: "A More", `1000000000000000000001`: "A More",
	} {
		input := `{"n":` + n + `}`
		e := m.Run(t.Context(), asl.Environment{}, []byte(input))
		check(t, e, input, "", path)
	}
}

// A pause that is longer than can be said is the longest, not one of the past.
func TestBackoffWithoutACapDoesNotWrap(t *testing.T) {
	t.Parallel()
	c := newJumpClock()
	c.now = time.Time{}
	m := parse(t, states(`"A":{`+lambdaTask+`,"Retry":[{"ErrorEquals":["X"],"IntervalSeconds":99999999,"BackoffRate":1000,"MaxAttempts":2}],"End":true}`))
	m.Run(t.Context(), asl.Environment{Clock: c, Task: scripted{"A": {"!X"}}.task()}, []byte(`{}`))
	if diff := cmp.Diff([]time.Duration{99_999_999 * time.Second, math.MaxInt64}, c.slept); diff != "" {
		t.Error(diff)
	}
}

// What Catch and Parameters make is a payload too.
func TestPayloadsThatGrowOnTheWay(t *testing.T) {
	t.Parallel()
	half := strings.Repeat("x", asl.MaxPayload/2)
	for _, tt := range []struct{ name, states, failure string }{
		{"Parameters", `"A":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","Parameters":{"FunctionName":"f","Payload":{"a.$":"$.s","b.$":"$.s"}},"ResultPath":null,"End":true}`, asl.DataLimitExceeded},
		{"Catch", `"A":{` + lambdaTask + `,"Catch":[{"ErrorEquals":["X"],"ResultPath":"$.e","Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"}`, asl.DataLimitExceeded},
		{"Catch without a result", `"A":{` + lambdaTask + `,"Catch":[{"ErrorEquals":["X"],"ResultPath":null,"Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			input := `{"s":"` + half + `"}`
			e := parse(t, states(tt.states)).Run(t.Context(), asl.Environment{
				Task: func(context.Context, asl.TaskCall) ([]byte, *asl.Error) {
					return nil, &asl.Error{Name: "X", Cause: half + "x"}
				},
			}, []byte(input))
			path := "A" // it is this state that fails, not one that gets too much
			if tt.failure == "" {
				path = "A B"
			}
			check(t, e, input, tt.failure, path)
		})
	}
}

// A Catch has a ResultPath of its own: the state's isn't used.
func TestCatchHasItsOwnResultPath(t *testing.T) {
	t.Parallel()
	for result, want := range map[string]string{
		``:                      `{"Cause":"scripted","Error":"X"}`,
		`"ResultPath":"$",`:     `{"Cause":"scripted","Error":"X"}`,
		`"ResultPath":null,`:    `{"in":1}`,
		`"ResultPath":"$.a.b",`: `{"a":{"b":{"Cause":"scripted","Error":"X"}},"in":1}`,
	} {
		m := parse(t, states(`"A":{`+lambdaTask+`,"ResultPath":"$.own","Catch":[{"ErrorEquals":["X"],`+result+`"Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"}`))
		check(t, m.Run(t.Context(), asl.Environment{Task: scripted{"A": {"!X"}}.task()}, []byte(`{"in":1}`)), want, "", "A B")
	}
}

// Paths that are null, and paths that go by the state's input as InputPath or
// Parameters have left it (developer guide, "Input and output processing").
func TestWhatPathsReadAndLeave(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ states, input, want string }{
		"OutputPath null":                     {`"A":{"Type":"Pass","OutputPath":null,"End":true}`, `{"in":1}`, `{}`},
		"InputPath null":                      {`"A":{"Type":"Pass","InputPath":null,"End":true}`, `{"in":1}`, `{}`},
		"ResultPath null":                     {`"A":{` + lambdaTask + `,"ResultPath":null,"End":true}`, `{"in":1}`, `{"in":1}`},
		"a result goes into the whole input":  {`"A":{` + lambdaTask + `,"InputPath":"$.in","ResultPath":"$.r","End":true}`, `{"in":{"x":1}}`, `{"in":{"x":1},"r":{}}`},
		"a Pass's result too":                 {`"A":{"Type":"Pass","InputPath":"$.in","Result":1,"ResultPath":"$.r","End":true}`, `{"in":{"x":1}}`, `{"in":{"x":1},"r":1}`},
		"a time-out is read after InputPath":  {`"A":{` + lambdaTask + `,"InputPath":"$.in","TimeoutSecondsPath":"$.t","End":true}`, `{"in":{"t":5},"t":"none"}`, `{}`},
		"a list of nothing":                   {`"A":{"Type":"Pass","Parameters":{"l.$":"$.l[*].x"},"End":true}`, `{"l":[]}`, `{"l":[]}`},
		"a pattern's parts stand in order":    {choiceOf(`"StringMatches":"a*b*b"`), `{"v":"ab"}`, `"No"`},
		"and don't overlap at the end":        {choiceOf(`"StringMatches":"ab*ba"`), `{"v":"aba"}`, `"No"`},
		"a time of the zone that it is in":    {choiceOf(`"TimestampEquals":"2030-01-01T12:00:00+02:00"`), `{"v":"2030-01-01T10:00:00Z"}`, `"Yes"`},
		"and to the fraction":                 {choiceOf(`"TimestampLessThan":"2030-01-01T10:00:00.5Z"`), `{"v":"2030-01-01T10:00:00.4Z"}`, `"Yes"`},
		"equal is not less":                   {choiceOf(`"NumericLessThan":5`), `{"v":5}`, `"No"`},
		"equal is not more":                   {choiceOf(`"NumericGreaterThan":5`), `{"v":5}`, `"No"`},
		"text is compared by characters":      {choiceOf(`"StringLessThan":"a"`), `{"v":"B"}`, `"Yes"`},
		"a number that is written otherwise":  {choiceOf(`"NumericEquals":10`), `{"v":1e1}`, `"Yes"`},
		"a wait until a time that has passed": {`"A":{"Type":"Wait","Timestamp":"2001-01-01T00:00:00Z","End":true}`, `{"in":1}`, `{"in":1}`},
	} {
		e := parse(t, states(tt.states)).Run(t.Context(), asl.Environment{
			Clock: newJumpClock(), TaskClock: asl.RealTime{}, Task: scripted{}.empty(),
		}, []byte(tt.input))
		t.Run(name, func(t *testing.T) { check(t, e, tt.want, "", "") })
	}
}

// choiceOf ends in "Yes" or "No", as the comparison of $.v says.
func choiceOf(comparison string) string {
	return `"A":{"Type":"Choice","Choices":[{"Variable":"$.v",` + comparison + `,"Next":"Yes"}],"Default":"No"},
		"Yes":{"Type":"Pass","Result":"Yes","End":true},"No":{"Type":"Pass","Result":"No","End":true}`
}

func TestAFailWhosePathFindsNoText(t *testing.T) {
	t.Parallel()
	for _, input := range []string{`{"e":1}`, `{"e":null}`, `{}`} {
		e := parse(t, states(`"A":{"Type":"Fail","ErrorPath":"$.e"}`)).Run(t.Context(), asl.Environment{}, []byte(input))
		check(t, e, "", asl.Runtime, "A")
	}
}

// The context has the time at which the state was entered, and the history what
// a Task's limits are and that it was they that ended it.
func TestTimesInContextAndHistory(t *testing.T) {
	t.Parallel()
	m := parse(t, states(`"A":{"Type":"Wait","Seconds":90,"Next":"B"},"B":{"Type":"Pass","Parameters":{"at.$":"$$.State.EnteredTime","from.$":"$$.Execution.StartTime"},"End":true}`))
	check(t, m.Run(t.Context(), asl.Environment{Clock: newJumpClock()}, []byte(`{}`)),
		`{"at":"2030-01-02T03:05:35.000Z","from":"2030-01-02T03:04:05.000Z"}`, "", "A B")

	var kinds []string
	released := make(chan struct{})
	defer close(released)
	parse(t, states(`"A":{`+lambdaTask+`,"TimeoutSeconds":60,"HeartbeatSeconds":30,"End":true}`)).Run(t.Context(), asl.Environment{
		Clock: newJumpClock(), TaskClock: passing{},
		Task: func(context.Context, asl.TaskCall) ([]byte, *asl.Error) { <-released; return nil, nil },
		Recorder: func(e asl.Event) {
			if e.Type == "TaskScheduled" {
				kinds = append(kinds, fmt.Sprint(e.Details["timeoutInSeconds"], " ", e.Details["heartbeatInSeconds"]))
			}
			kinds = append(kinds, e.Type)
		},
	}, []byte(`{}`))
	if got := strings.Join(kinds[2:], " "); got != "60 30 TaskScheduled TaskStarted TaskTimedOut ExecutionFailed" {
		t.Errorf("history %q", got)
	}
}

// A redriven execution has its whole time again (API reference, RedriveExecution).
func TestARedriveIsTimedToo(t *testing.T) {
	t.Parallel()
	m := parse(t, []byte(`{"StartAt":"A","TimeoutSeconds":600,"States":{"A":{"Type":"Wait","Seconds":90000,"Next":"B"},"B":{"Type":"Succeed"}}}`))
	c := waitingClock{clock.New(), make(chan time.Duration, 4)}
	go func() {
		<-c.sleeping
		<-c.sleeping
		c.Advance(10 * time.Minute)
	}()
	e := m.Redrive(t.Context(), asl.Environment{Clock: c}, asl.Checkpoint{State: "A", Input: []byte(`{}`), Execution: []byte(`{}`)})
	if e.Status != asl.TimedOut {
		t.Errorf("ended %s (%v)", e.Status, e.Error)
	}
}

// An inline Map without MaxConcurrency runs up to 40 items at once (developer
// guide, "Map state").
func TestAMapRunsItsItemsTogether(t *testing.T) {
	t.Parallel()
	const items = 40
	var together sync.WaitGroup
	together.Add(items)
	m := parse(t, states(`"A":{"Type":"Map","ItemProcessor":{"StartAt":"B","States":{"B":{`+lambdaTask+`,"End":true}}},"End":true}`))
	e := m.Run(t.Context(), asl.Environment{Task: func(context.Context, asl.TaskCall) ([]byte, *asl.Error) {
		together.Done()
		together.Wait() // until all have begun
		return []byte(`1`), nil
	}}, []byte(`[`+strings.Repeat(`0,`, items-1)+`0]`))
	if e.Status != asl.Succeeded {
		t.Errorf("ended %s (%v)", e.Status, e.Error)
	}
}

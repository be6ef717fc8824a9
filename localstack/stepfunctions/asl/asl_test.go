package asl_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
)

// jumpClock shows a time that every Sleep moves forward at once.
type jumpClock struct {
	mu    sync.Mutex
	now   time.Time
	slept []time.Duration
}

func newJumpClock() *jumpClock {
	return &jumpClock{now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func (c *jumpClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *jumpClock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.slept = append(c.slept, d)
	return ctx.Err()
}

// states wraps states into a machine that starts at A.
func states(members string) []byte {
	return []byte(`{"StartAt":"A","States":{` + members + `}}`)
}

func parse(t *testing.T, definition []byte) *asl.Machine {
	t.Helper()
	m, err := asl.Parse(definition)
	if err != nil {
		t.Fatalf("parsing: %v", err)
	}
	return m
}

// scripted answers the n-th call of a state with its n-th line; the last one
// stands for all later calls. "!Name" is an error, anything else a payload.
type scripted map[string][]string

func (s scripted) task() func(context.Context, asl.TaskCall) ([]byte, *asl.Error) {
	var mu sync.Mutex
	calls := map[string]int{}
	return func(_ context.Context, call asl.TaskCall) ([]byte, *asl.Error) {
		mu.Lock()
		defer mu.Unlock()
		lines := s[call.State]
		line := lines[min(calls[call.State], len(lines)-1)]
		calls[call.State]++
		if name, failed := strings.CutPrefix(line, "!"); failed {
			return nil, &asl.Error{Name: name, Cause: "scripted"}
		}
		return []byte(line), nil
	}
}

const lambdaTask = `"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","Parameters":{"FunctionName":"f","Payload.$":"$"}`

func TestStates(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, states, input string
		tasks               scripted
		output              string // of a success
		failure             string // error name of a failure
		path                string
		slept               []time.Duration
	}{
		{
			name:   "pass: result, result path and output path",
			states: `"A":{"Type":"Pass","Result":{"x":1},"ResultPath":"$.r","Next":"B"},"B":{"Type":"Pass","OutputPath":"$.r","End":true}`,
			input:  `{"in":true}`, output: `{"x":1}`, path: "A B",
		},
		{
			name:   "pass: null paths",
			states: `"A":{"Type":"Pass","InputPath":null,"ResultPath":"$.r","Next":"B"},"B":{"Type":"Pass","ResultPath":null,"Result":9,"Next":"C"},"C":{"Type":"Succeed"}`,
			input:  `{"in":true}`, output: `{"in":true,"r":{}}`, path: "A B C",
		},
		{
			name: "pass: parameters, context object and intrinsics",
			states: `"A":{"Type":"Pass","Parameters":{"fixed":[1,{"deep.$":"$.a.b[-1]"}],"name.$":"$$.Execution.Name","all.$":"$.a.b[*]",
				"text.$":"States.Format('{}-{} \\{\\}', $.n, States.MathAdd($.n, 1))"},"End":true}`,
			input:  `{"a":{"b":["x","y"]},"n":4}`,
			output: `{"all":["x","y"],"fixed":[1,{"deep":"y"}],"name":"run-1","text":"4-5 {}"}`, path: "A",
		},
		{
			name:   "succeed: input path",
			states: `"A":{"Type":"Succeed","InputPath":"$.a"}`, input: `{"a":[1.50]}`, output: `[1.50]`, path: "A",
		},
		{
			name:   "fail: name and cause",
			states: `"A":{"Type":"Fail","Error":"RotationStuck","Cause":"both alive"}`, input: `{}`, failure: "RotationStuck: both alive", path: "A",
		},
		{
			name:   "fail: paths",
			states: `"A":{"Type":"Fail","ErrorPath":"$.e","CausePath":"States.Format('why: {}', $.c)"}`,
			input:  `{"e":"X","c":"y"}`, failure: "X: why: y", path: "A",
		},
		{
			name:   "wait: the four ways",
			states: `"A":{"Type":"Wait","Seconds":5,"Next":"B"},"B":{"Type":"Wait","SecondsPath":"$.s","Next":"C"},"C":{"Type":"Wait","Timestamp":"2030-01-02T03:05:05Z","Next":"D"},"D":{"Type":"Wait","TimestampPath":"$.t","End":true}`,
			input:  `{"s":10,"t":"2030-01-02T04:05:05.000Z"}`, output: `{"s":10,"t":"2030-01-02T04:05:05.000Z"}`, path: "A B C D",
			slept: []time.Duration{5 * time.Second, 10 * time.Second, 45 * time.Second, time.Hour},
		},
		{
			name:   "wait: no number",
			states: `"A":{"Type":"Wait","SecondsPath":"$.s","End":true}`, input: `{"s":"10"}`, failure: "States.Runtime", path: "A",
		},
		{
			name: "task: parameters, selector, result path",
			states: `"A":{` + lambdaTask + `,"InputPath":"$.in","ResultSelector":{"outcome.$":"$.Payload.outcome","entered.$":"$$.State.Name"},
				"ResultPath":"$.step.result","OutputPath":"$.step","End":true}`,
			input: `{"in":{"x":1}}`, tasks: scripted{"A": {string(asl.LambdaResult([]byte(`{"outcome":"done"}`)))}},
			output: `{"result":{"entered":"A","outcome":"done"}}`, path: "A",
		},
		{
			name:   "task: a result path that the input can't take",
			states: `"A":{` + lambdaTask + `,"ResultPath":"$.a.b","Catch":[{"ErrorEquals":["States.ResultPathMatchFailure"],"Next":"B"}],"End":true},"B":{"Type":"Pass","OutputPath":"$.Error","End":true}`,
			input:  `{"a":"text"}`, tasks: scripted{"A": {`1`}}, output: `"States.ResultPathMatchFailure"`, path: "A B",
		},
		{
			name:   "parallel: results in the order of the branches",
			states: `"A":{"Type":"Parallel","Branches":[{"StartAt":"B","States":{"B":{"Type":"Pass","Result":1,"End":true}}},{"StartAt":"C","States":{"C":{"Type":"Pass","InputPath":"$.x","End":true}}}],"ResultSelector":{"two.$":"$[1]"},"ResultPath":"$.r","End":true}`,
			input:  `{"x":7}`, output: `{"r":{"two":7},"x":7}`,
		},
		{
			name:   "parallel: a branch's error is the state's",
			states: `"A":{"Type":"Parallel","Branches":[{"StartAt":"B","States":{"B":{"Type":"Fail","Error":"Oops"}}},{"StartAt":"C","States":{"C":{"Type":"Pass","End":true}}}],"Catch":[{"ErrorEquals":["Oops"],"ResultPath":"$.e","Next":"D"}],"End":true},"D":{"Type":"Pass","OutputPath":"$.e.Error","End":true}`,
			input:  `{}`, output: `"Oops"`,
		},
		{
			name:   "map: item selector, index, order, one at a time",
			states: `"A":{"Type":"Map","ItemsPath":"$.list","MaxConcurrency":1,"ItemSelector":{"i.$":"$$.Map.Item.Index","v.$":"$$.Map.Item.Value","all.$":"$.n"},"ItemProcessor":{"ProcessorConfig":{"Mode":"INLINE"},"StartAt":"B","States":{"B":{"Type":"Pass","End":true}}},"ResultPath":"$.out","OutputPath":"$.out","End":true}`,
			input:  `{"list":["a","b"],"n":9}`, output: `[{"all":9,"i":0,"v":"a"},{"all":9,"i":1,"v":"b"}]`, path: "A B B",
		},
		{
			name:   "map: nothing to do",
			states: `"A":{"Type":"Map","ItemProcessor":{"StartAt":"B","States":{"B":{"Type":"Pass","End":true}}},"End":true}`,
			input:  `[]`, output: `[]`, path: "A",
		},
		{
			name:   "map: no array",
			states: `"A":{"Type":"Map","Catch":[{"ErrorEquals":["States.ALL"],"Next":"C"}],"ItemProcessor":{"StartAt":"B","States":{"B":{"Type":"Pass","End":true}}},"Next":"C"},"C":{"Type":"Succeed"}`,
			input:  `{}`, failure: "States.Runtime", path: "A",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			clock := newJumpClock()
			e := parse(t, states(tt.states)).Run(t.Context(), asl.Environment{
				Task: tt.tasks.task(), Clock: clock, Context: asl.Context{ExecutionName: "run-1"},
			}, []byte(tt.input))
			check(t, e, tt.output, tt.failure, tt.path)
			if tt.slept != nil && !cmp.Equal(tt.slept, clock.slept) {
				t.Errorf("slept: %s", cmp.Diff(tt.slept, clock.slept))
			}
		})
	}
}

// check compares an execution's end; a failure may be given as its name alone.
func check(t *testing.T, e *asl.Execution, output, failure, path string) {
	t.Helper()
	switch {
	case failure == "" && (e.Status != asl.Succeeded || string(e.Output) != output):
		t.Errorf("ended %s with %s (%v), want %s", e.Status, e.Output, e.Error, output)
	case failure != "" && (e.Status != asl.Failed || e.Error.Name != failure && e.Error.Error() != failure):
		t.Errorf("ended %s (%v), want the failure %s", e.Status, e.Error, failure)
	}
	if got := strings.Join(e.Path, " "); path != "" && got != path {
		t.Errorf("path %q, want %q", got, path)
	}
}

func TestChoice(t *testing.T) {
	t.Parallel()
	tests := []struct {
		rule string
		yes  []string // inputs for which the rule holds
		no   []string
		bad  []string // inputs that fail the execution
	}{
		{`"Variable":"$.v","StringEquals":"a"`, []string{`{"v":"a"}`}, []string{`{"v":"b"}`, `{"v":1}`}, []string{`{}`}},
		{`"Variable":"$.v","StringLessThan":"b"`, []string{`{"v":"a"}`}, []string{`{"v":"b"}`, `{"v":null}`}, nil},
		{`"Variable":"$.v","StringGreaterThanEqualsPath":"$.w"`, []string{`{"v":"b","w":"b"}`}, []string{`{"v":"a","w":"b"}`}, []string{`{"v":"a"}`}},
		{`"Variable":"$.v","StringMatches":"a*\\*c"`, []string{`{"v":"axx*c"}`, `{"v":"a*c"}`}, []string{`{"v":"axxc"}`, `{"v":"a*cd"}`}, nil},
		{`"Variable":"$.v","NumericEquals":1`, []string{`{"v":1}`, `{"v":1.0}`, `{"v":1e0}`}, []string{`{"v":"1"}`, `{"v":2}`}, nil},
		{`"Variable":"$.v","NumericGreaterThan":2000`, []string{`{"v":2000.5}`}, []string{`{"v":2000}`}, nil},
		{`"Variable":"$.v","NumericLessThanEqualsPath":"$.w"`, []string{`{"v":1,"w":1}`}, []string{`{"v":2,"w":1}`}, nil},
		{`"Variable":"$.v","BooleanEquals":true`, []string{`{"v":true}`}, []string{`{"v":false}`, `{"v":"true"}`}, nil},
		{`"Variable":"$.v","BooleanEqualsPath":"$.w"`, []string{`{"v":false,"w":false}`}, []string{`{"v":false,"w":true}`}, nil},
		{`"Variable":"$.v","TimestampLessThan":"2030-01-01T00:00:00Z"`, []string{`{"v":"2030-01-01T00:30:00+01:00"}`}, []string{`{"v":"2030-01-01T00:00:00Z"}`, `{"v":"soon"}`}, nil},
		{`"Variable":"$.v","TimestampGreaterThanEqualsPath":"$$.State.EnteredTime"`, []string{`{"v":"2031-01-01T00:00:00Z"}`}, []string{`{"v":"2029-01-01T00:00:00Z"}`}, nil},
		{`"Variable":"$.v","IsPresent":true`, []string{`{"v":null}`}, []string{`{}`}, nil},
		{`"Variable":"$.v.w","IsPresent":false`, []string{`{}`, `{"v":1}`}, []string{`{"v":{"w":0}}`}, nil},
		{`"Variable":"$.v","IsNull":true`, []string{`{"v":null}`}, []string{`{"v":0}`}, []string{`{}`}},
		{`"Variable":"$.v","IsString":true`, []string{`{"v":""}`}, []string{`{"v":0}`}, nil},
		{`"Variable":"$.v","IsNumeric":false`, []string{`{"v":""}`}, []string{`{"v":0}`}, nil},
		{`"Variable":"$.v","IsBoolean":true`, []string{`{"v":false}`}, []string{`{"v":0}`}, nil},
		{`"Variable":"$.v","IsTimestamp":true`, []string{`{"v":"2030-01-01T00:00:00Z"}`}, []string{`{"v":"2030-01-01"}`}, nil},
		{`"Not":{"Variable":"$.v","StringEquals":"a"}`, []string{`{"v":"b"}`}, []string{`{"v":"a"}`}, nil},
		{`"And":[{"Variable":"$.v","IsPresent":true},{"Variable":"$.v","NumericEquals":1}]`, []string{`{"v":1}`}, []string{`{}`, `{"v":2}`}, nil},
		{`"Or":[{"Variable":"$.v","IsPresent":false},{"Not":{"Variable":"$.v","NumericEquals":1}}]`, []string{`{}`, `{"v":2}`}, []string{`{"v":1}`}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			m := parse(t, states(`"A":{"Type":"Choice","Choices":[{`+tt.rule+`,"Next":"Yes"}],"Default":"No"},"Yes":{"Type":"Succeed"},"No":{"Type":"Succeed"}`))
			run := func(input string) *asl.Execution {
				return m.Run(t.Context(), asl.Environment{Clock: newJumpClock()}, []byte(input))
			}
			for _, in := range tt.yes {
				check(t, run(in), in, "", "A Yes")
			}
			for _, in := range tt.no {
				check(t, run(in), in, "", "A No")
			}
			for _, in := range tt.bad {
				check(t, run(in), "", asl.Runtime, "A")
			}
		})
	}
	t.Run("no default", func(t *testing.T) {
		t.Parallel()
		m := parse(t, states(`"A":{"Type":"Choice","Choices":[{"Variable":"$.v","IsNull":true,"Next":"B"}]},"B":{"Type":"Succeed"}`))
		e := m.Run(t.Context(), asl.Environment{}, []byte(`{"v":1}`))
		check(t, e, "", asl.Runtime, "A")
		if !strings.Contains(e.Error.Cause, asl.NoChoiceMatched) {
			t.Errorf("the cause %q doesn't say %s", e.Error.Cause, asl.NoChoiceMatched)
		}
	})
}

func TestIntrinsics(t *testing.T) {
	t.Parallel()
	const input = `{"s":"a,b;;c","n":2,"o":{"k":1},"p":{"k":2,"z":3},"l":[1,2.0,"x",{"k":1}],"j":"{\"a\":[true]}","i":1}`
	tests := []struct{ call, want string }{ // an empty want: the call fails
		{`States.Format('Hello, {}', $.n)`, `"Hello, 2"`},
		{`States.Format('{}{}', 'it\'s', null)`, `"it'snull"`},
		{`States.Format('{}', $.o)`, ``},
		{`States.Format($.s, 1)`, ``},
		{`States.MathAdd($.n, -3)`, `-1`},
		{`States.MathAdd(1.5, 1)`, `3`},
		{`States.MathAdd($.s, 1)`, ``},
		{`States.MathAdd(2147483647, 1)`, ``},
		{`States.JsonToString($.o)`, `"{\"k\":1}"`},
		{`States.StringToJson($.j)`, `{"a":[true]}`},
		{`States.StringToJson($.s)`, ``},
		{`States.Array(1, 'x', $.o, States.Array())`, `[1,"x",{"k":1},[]]`},
		{`States.ArrayLength($.l)`, `4`},
		{`States.ArrayLength($.n)`, ``},
		{`States.ArrayContains($.l, 2)`, `true`},
		{`States.ArrayContains($.l, $.o)`, `true`},
		{`States.ArrayContains($.l, 'y')`, `false`},
		{`States.ArrayGetItem($.l, $.i)`, `2.0`},
		{`States.ArrayGetItem($.l, 4)`, ``},
		{`States.JsonMerge($.o, $.p, false)`, `{"k":2,"z":3}`},
		{`States.JsonMerge($.o, $.l, false)`, ``},
		{`States.StringSplit($.s, ',;')`, `["a","b","c"]`},
		{`States.Hash('abc', 'SHA-256')`, `"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"`},
		{`States.Hash('abc', $.s)`, ``},
		{`States.ArrayLength(States.Array(States.UUID()))`, `1`},
		{`States.ArrayGetItem($['l'], 0)`, `1`},
		{`States.MathAdd($.missing, 1)`, ``},
	}
	for _, tt := range tests {
		t.Run(tt.call, func(t *testing.T) {
			t.Parallel()
			quoted, err := json.Marshal(tt.call)
			if err != nil {
				t.Fatal(err)
			}
			m := parse(t, states(fmt.Sprintf(`"A":{"Type":"Pass","Parameters":{"r.$":%s},"OutputPath":"$.r","End":true}`, quoted)))
			e := m.Run(t.Context(), asl.Environment{}, []byte(input))
			failure := ""
			if tt.want == "" {
				failure = asl.Runtime
			}
			check(t, e, tt.want, failure, "A")
		})
	}
}

// empty answers every task with {}.
func (scripted) empty() func(context.Context, asl.TaskCall) ([]byte, *asl.Error) {
	return func(context.Context, asl.TaskCall) ([]byte, *asl.Error) { return []byte(`{}`), nil }
}

package stepfunctions_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
)

// sample is a small machine for a part of the language that the rotation's file
// doesn't use, or uses in one way only.
type sample struct {
	name    string
	states  string // the first is the start
	input   string
	answers map[string][]answer
	// unordered: branches or items run at once, so that only what was done is
	// compared, not in which order.
	unordered bool
}

const task = `"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","Parameters":{"FunctionName":"f","Payload.$":"$"}`

func fails(name string) answer { return answer{Error: name, Cause: "told"} }

var done = answer{Result: json.RawMessage(`{"Payload":{"n":1}}`)}

// agreed are samples that both interpreters run the same way.
var agreed = []sample{
	{name: "pass: result and paths", states: `"A":{"Type":"Pass","InputPath":"$.a","Result":{"b":[1,{"c":2}]},"ResultPath":"$.x.y","OutputPath":"$.x","End":true}`, input: `{"a":{"k":1},"x":{"z":3}}`},
	{name: "pass: parameters", states: `"A":{"Type":"Pass","Parameters":{"a.$":"$.l[1].v","b":{"c.$":"$.l[0]"},"d":[1,"$.l"],"e.$":"$$.Execution.Id"},"ResultPath":"$.made","End":true}`, input: `{"l":[{"v":1},{"v":"two"}]}`},
	{name: "pass: the result is discarded", states: `"A":{"Type":"Pass","Result":{"a":1},"ResultPath":null,"Next":"B"},"B":{"Type":"Pass","OutputPath":null,"End":true}`, input: `{"k":1}`},
	{name: "pass: the input is discarded", states: `"A":{"Type":"Pass","InputPath":null,"End":true}`, input: `{"k":1}`},
	{name: "a path that finds nothing", states: `"A":{"Type":"Pass","Parameters":{"a.$":"$.b.c"},"End":true}`, input: `{"b":{}}`},
	{name: "a path that finds null", states: `"A":{"Type":"Pass","Parameters":{"a.$":"$.b"},"End":true}`, input: `{"b":null}`},
	{name: "an array of an array", states: `"A":{"Type":"Pass","Parameters":{"a.$":"$.b[0]","c.$":"$.b"},"End":true}`, input: `{"b":[["x"]]}`},

	{name: "format", states: intrinsic(`States.Format('{} has {} of {}: {}', $.s, $.n, true, null)`), input: `{"s":"it","n":7}`},
	{name: "add", states: intrinsic(`States.MathAdd($.n, -3)`), input: `{"n":7}`},
	{name: "json to string", states: intrinsic(`States.JsonToString($.l)`), input: `{"l":[1,true,null,{"k":2}]}`},
	{name: "string to json", states: intrinsic(`States.StringToJson($.s)`), input: `{"s":"{\"k\":[1,2]}"}`},
	{name: "arrays", states: intrinsic(`States.Array($.n, 'x', States.ArrayLength($.l), States.ArrayContains($.l, 2), States.ArrayGetItem($.l, 1))`), input: `{"n":1,"l":[3,2]}`},
	{name: "split", states: intrinsic(`States.StringSplit($.s, ',')`), input: `{"s":"a,b,c"}`},
	{name: "hashes", states: intrinsic(`States.Array(States.Hash($.s, 'MD5'), States.Hash($.s, 'SHA-1'), States.Hash($.s, 'SHA-256'), States.Hash($.s, 'SHA-384'), States.Hash($.s, 'SHA-512'))`), input: `{"s":"some text"}`},
	{name: "format of an object", states: intrinsic(`States.Format('{}', $)`), input: `{}`},
	{name: "add of text", states: intrinsic(`States.MathAdd($.s, 1)`), input: `{"s":"1"}`},

	{name: "choice: text", states: choices(`"StringEquals":"b"`, `"StringLessThan":"b"`, `"StringGreaterThanEquals":"c"`), input: `{"v":"bb"}`},
	{name: "choice: wildcards", states: choices(`"StringMatches":"a*"`, `"StringMatches":"*.log"`, `"StringMatches":"x*y*z"`), input: `{"v":"x-y--z"}`},
	{name: "choice: numbers", states: choices(`"NumericEquals":2`, `"NumericLessThan":1.5`, `"NumericGreaterThan":2.5`), input: `{"v":3}`},
	{name: "choice: truth", states: choices(`"BooleanEquals":true`, `"BooleanEquals":false`), input: `{"v":false}`},
	{name: "choice: times", states: choices(`"TimestampEquals":"2026-01-01T00:00:00Z"`, `"TimestampLessThan":"2025-01-01T00:00:00Z"`, `"TimestampGreaterThan":"2026-01-01T00:30:00+01:00"`), input: `{"v":"2026-01-01T00:00:01Z"}`},
	{name: "choice: kinds", states: choices(`"IsNull":true`, `"IsNumeric":true`, `"IsBoolean":true`, `"IsTimestamp":true`, `"IsString":true`), input: `{"v":"text"}`},
	{name: "choice: a time is text too", states: choices(`"IsNull":true`, `"IsTimestamp":true`, `"IsString":true`), input: `{"v":"2026-01-01T00:00:00Z"}`},
	{name: "choice: what is there", states: choices(`"IsPresent":true`), input: `{"v":null}`},
	{name: "choice: what isn't there", states: choices(`"IsPresent":true`), input: `{}`},
	{name: "choice: a variable that isn't there", states: choices(`"StringEquals":"a"`), input: `{}`},
	{name: "choice: compared with a path", states: choices(`"NumericEqualsPath":"$.w"`, `"NumericGreaterThanPath":"$.w"`), input: `{"v":3,"w":2}`},
	{name: "choice: another kind of value", states: choices(`"StringEquals":"3"`, `"NumericEquals":4`, `"BooleanEquals":true`), input: `{"v":3}`},
	{name: "choice: joined", states: `"A":{"Type":"Choice","Choices":[
		{"And":[{"Variable":"$.v","IsNumeric":true},{"Not":{"Variable":"$.v","NumericLessThan":5}}],"Next":"B"},
		{"Or":[{"Variable":"$.v","NumericEquals":1},{"And":[{"Variable":"$.v","NumericGreaterThan":2},{"Variable":"$.w","StringEquals":"x"}]}],"Next":"C"}],"Default":"D"},
		"B":{"Type":"Succeed"},"C":{"Type":"Succeed"},"D":{"Type":"Succeed"}`, input: `{"v":3,"w":"x"}`},

	{name: "wait", states: `"A":{"Type":"Wait","Seconds":90,"Next":"B"},"B":{"Type":"Wait","SecondsPath":"$.s","End":true}`, input: `{"s":30}`},
	{name: "fail: from paths", states: `"A":{"Type":"Fail","ErrorPath":"$.e","CausePath":"$.c"}`, input: `{"e":"X","c":"told"}`},

	{name: "retry: defaults", states: `"A":{` + task + `,"Retry":[{"ErrorEquals":["X"]}],"End":true}`, answers: always("A", fails("X"))},
	{name: "retry: rate and cap", states: `"A":{` + task + `,"Retry":[{"ErrorEquals":["States.ALL"],"IntervalSeconds":2,"BackoffRate":3,"MaxDelaySeconds":10,"MaxAttempts":4}],"End":true}`, answers: always("A", fails("X"))},
	{name: "retry: none shields from a later one", states: `"A":{` + task + `,"Retry":[{"ErrorEquals":["X"],"MaxAttempts":0},{"ErrorEquals":["States.ALL"]}],"End":true}`, answers: always("A", fails("X"))},
	{name: "retry: each counts for itself", states: `"A":{` + task + `,"Retry":[{"ErrorEquals":["X","Y"],"MaxAttempts":2},{"ErrorEquals":["Z"],"IntervalSeconds":5}],"End":true}`, answers: map[string][]answer{"A": {fails("X"), fails("Z"), fails("Y"), fails("Z"), fails("X"), done}}},
	{name: "retry: States.TaskFailed", states: `"A":{` + task + `,"Retry":[{"ErrorEquals":["States.TaskFailed"],"MaxAttempts":1}],"End":true}`, answers: always("A", fails("X"))},
	{name: "retry: States.TaskFailed is no time-out", states: `"A":{` + task + `,"TimeoutSeconds":5,"Retry":[{"ErrorEquals":["States.TaskFailed"]}],"Catch":[{"ErrorEquals":["States.Timeout"],"ResultPath":null,"Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"}`, answers: always("A", answer{Hang: true})},
	{name: "catch: the first that matches", states: `"A":{` + task + `,"Catch":[{"ErrorEquals":["Y"],"Next":"B"},{"ErrorEquals":["X"],"ResultPath":"$.e.f","Next":"C"},{"ErrorEquals":["States.ALL"],"Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"},"C":{"Type":"Succeed"}`, input: `{"k":1,"e":{"g":2}}`, answers: always("A", fails("X"))},
	{name: "catch: the error replaces the input", states: `"A":{` + task + `,"Catch":[{"ErrorEquals":["States.ALL"],"Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"}`, input: `{"k":1}`, answers: always("A", fails("X"))},
	{name: "result selector", states: `"A":{` + task + `,"ResultSelector":{"n.$":"$.Payload.n","id.$":"$$.StateMachine.Id"},"ResultPath":"$.r","End":true}`, input: `{"k":1}`, answers: always("A", done)},

	{name: "map", states: `"A":{"Type":"Map","ItemsPath":"$.l","MaxConcurrency":1,"ItemSelector":{"v.$":"$$.Map.Item.Value","i.$":"$$.Map.Item.Index","k.$":"$.k"},"ResultPath":"$.out",
		"ItemProcessor":{"StartAt":"B","States":{"B":{` + task + `,"ResultSelector":{"n.$":"$.Payload.n"},"End":true}}},"End":true}`, input: `{"l":["x","y"],"k":1}`, answers: always("B", done)},
	{name: "map: of nothing", states: `"A":{"Type":"Map","ItemProcessor":{"StartAt":"B","States":{"B":{"Type":"Succeed"}}},"End":true}`, input: `[]`},
	{name: "map: of no array", states: `"A":{"Type":"Map","ItemsPath":"$.l","ItemProcessor":{"StartAt":"B","States":{"B":{"Type":"Succeed"}}},"Catch":[{"ErrorEquals":["States.ALL"],"Next":"C"}],"Next":"C"},"C":{"Type":"Succeed"}`, input: `{"l":1}`},
	{name: "map: an item fails twice", states: `"A":{"Type":"Map","MaxConcurrency":1,"Retry":[{"ErrorEquals":["X"],"MaxAttempts":1}],"Catch":[{"ErrorEquals":["X"],"Next":"C"}],
		"ItemProcessor":{"StartAt":"B","States":{"B":{` + task + `,"End":true}}},"Next":"C"},"C":{"Type":"Succeed"}`, input: `[{"i":1}]`, answers: map[string][]answer{"B": {fails("X"), fails("X")}}},
	{name: "parallel", states: `"A":{"Type":"Parallel","ResultSelector":{"first.$":"$[0].n","second.$":"$[1]"},"Branches":[
		{"StartAt":"B","States":{"B":{"Type":"Pass","Parameters":{"n.$":"$.k"},"End":true}}},
		{"StartAt":"C","States":{"C":{"Type":"Pass","Result":"c","Next":"D"},"D":{"Type":"Succeed"}}}],"End":true}`, input: `{"k":1}`, unordered: true},
	{name: "parallel: a branch fails", states: `"A":{"Type":"Parallel","Branches":[{"StartAt":"B","States":{"B":{"Type":"Fail","Error":"X","Cause":"told"}}}],"Retry":[{"ErrorEquals":["X"],"MaxAttempts":1}],
		"Catch":[{"ErrorEquals":["States.ALL"],"ResultPath":"$.e","Next":"C"}],"Next":"C"},"C":{"Type":"Succeed"}`, input: `{}`},
}

func intrinsic(call string) string {
	return fmt.Sprintf(`"A":{"Type":"Pass","Parameters":{"out.$":%s},"End":true}`, encoded(call))
}

// choices tries one comparison of $.v after the other.
func choices(comparisons ...string) string {
	var rules, ends []string
	for i, c := range comparisons {
		rules = append(rules, fmt.Sprintf(`{"Variable":"$.v",%s,"Next":"Rule%d"}`, c, i))
		ends = append(ends, fmt.Sprintf(`"Rule%d":{"Type":"Succeed"}`, i))
	}
	return `"A":{"Type":"Choice","Choices":[` + strings.Join(rules, ",") + `],"Default":"None"},"None":{"Type":"Succeed"},` + strings.Join(ends, ",")
}

// comparisons tries every ordering with what is less, equal and more, given as
// it stands and by a path.
func comparisons() []sample {
	values := map[string][]string{
		"Numeric":   {`1.5`, `2`, `2.0`, `10`},
		"String":    {`"10"`, `"2"`, `"a"`, `"B"`},
		"Timestamp": {`"2025-12-31T23:59:59Z"`, `"2026-01-01T00:00:00Z"`, `"2026-01-01T01:00:00+01:00"`, `"2026-01-01T00:00:00.5Z"`},
	}
	var all []sample
	for family, them := range values {
		for _, operator := range []string{"Equals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"} {
			for _, v := range them {
				all = append(all, sample{
					name:   fmt.Sprintf("choice: %s %s%s %s", v, family, operator, them[1]),
					states: choices(fmt.Sprintf(`"%s%s":%s`, family, operator, them[1])),
					input:  fmt.Sprintf(`{"v":%s}`, v),
				}, sample{
					name:   fmt.Sprintf("choice: %s %s%sPath %s", v, family, operator, them[1]),
					states: choices(fmt.Sprintf(`"%s%sPath":"$.w"`, family, operator)),
					input:  fmt.Sprintf(`{"v":%s,"w":%s}`, v, them[1]),
				})
			}
		}
	}
	return all
}

// always answers far more calls than any retrier makes.
func always(state string, a answer) map[string][]answer {
	return map[string][]answer{state: slices.Repeat([]answer{a}, 20)}
}

// both runs a sample in both interpreters.
func (s sample) both(t *testing.T, r *reference) (ours, theirs trace) {
	t.Helper()
	name, _, _ := strings.Cut(strings.TrimPrefix(s.states, `"`), `"`)
	definition := fmt.Sprintf(`{"StartAt":%q,"States":{%s}}`, name, s.states)
	m, err := asl.Parse([]byte(definition))
	if err != nil {
		t.Fatalf("our interpreter refuses %s: %v", definition, err)
	}
	var input any = map[string]any{}
	if s.input != "" {
		input = value(t, []byte(s.input))
	}
	var mu sync.Mutex
	used := map[string]int{}
	_, ours = interpret(t, m, input, func(call asl.TaskCall) answer {
		mu.Lock()
		defer mu.Unlock()
		used[call.State]++
		if n := used[call.State]; n <= len(s.answers[call.State]) {
			return s.answers[call.State][n-1]
		}
		return answer{Error: "NoAnswerLeft"}
	})
	theirs = r.run(t, request{Definition: json.RawMessage(definition), Input: input, Answers: s.answers})
	if s.unordered {
		for _, seen := range []trace{ours, theirs} {
			byState := func(a, b visited) int { return strings.Compare(encoded(a), encoded(b)) }
			slices.SortFunc(seen.Entered, byState)
			slices.SortFunc(seen.Calls, byState)
		}
	}
	return ours, theirs
}

func TestBothInterpretersAgreeOnTheLanguage(t *testing.T) {
	t.Parallel()
	r := startReference(t)
	for _, s := range slices.Concat(agreed, comparisons()) {
		t.Run(s.name, func(t *testing.T) {
			ours, theirs := s.both(t, r)
			if diff := disagreement(ours, theirs); diff != "" {
				t.Errorf("(-ours +theirs):\n%s", diff)
			}
		})
	}
}

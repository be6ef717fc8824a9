package stepfunctions_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
)

// difference is where the interpreters differ and AWS says who is right.
type difference struct {
	sample
	ours, theirs string // how the execution ends (see ending)
	says         string // where: the developer guide's page and section
}

// known are the differences that are known, all of them the reference's. Each
// runs in both, so that one that is gone, or has changed, is found. The first
// two meet the rotation's file and are evened out by disagreement; the others
// say what a definition that uses them couldn't be compared in.
var known = []difference{
	{
		sample: sample{name: "an intrinsic's text loses its backslashes", states: intrinsic(`States.JsonToString($)`), input: `{"s":"a \"b\""}`},
		ours:   `A {"out":"{\"s\":\"a \\\"b\\\"\"}"}`, theirs: `A {"out":"{\"s\":\"a \"b\"\"}"}`,
		says: "intrinsic-functions, States.JsonToString: the string is the JSON; only what stands escaped in the definition is unescaped",
	},
	{
		sample: sample{name: "a time-out's cause", states: `"A":{` + task + `,"TimeoutSeconds":5,"Catch":[{"ErrorEquals":["States.Timeout"],"Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"}`, answers: always("A", answer{Hang: true})},
		ours:   `B {"Cause":"","Error":"States.Timeout"}`, theirs: `B {"Cause":"States.Timeout","Error":"States.Timeout"}`,
		says: "concepts-error-handling, States.Timeout: only the name; recorded executions have an empty cause",
	},
	{
		sample: sample{name: "a name that nothing catches: States.Runtime", states: `"A":{` + task + `,"Catch":[{"ErrorEquals":["States.ALL"],"ResultPath":null,"Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"}`, answers: always("A", fails("States.Runtime"))},
		ours:   `A States.Runtime`, theirs: `B {}`,
		says: "concepts-error-handling, States.Runtime: not retriable, not caught by States.ALL",
	},
	{
		sample: sample{name: "a name that States.ALL leaves: States.DataLimitExceeded", states: `"A":{` + task + `,"Catch":[{"ErrorEquals":["States.ALL"],"ResultPath":null,"Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"}`, answers: always("A", fails("States.DataLimitExceeded"))},
		ours:   `A States.DataLimitExceeded: told`, theirs: `B {}`,
		says: "concepts-error-handling, States.DataLimitExceeded: terminal, not caught by States.ALL",
	},
	{
		sample: sample{name: "no choice matches", states: `"A":{"Type":"Choice","Choices":[{"Variable":"$.v","NumericEquals":1,"Next":"B"}]},"B":{"Type":"Succeed"}`, input: `{"v":2}`},
		ours:   `A States.Runtime`, theirs: `A States.NoChoiceMatched: States.NoChoiceMatched`,
		says: "concepts-error-handling, States.NoChoiceMatched: reported as States.Runtime",
	},
	{
		sample: sample{name: "a heartbeat", states: `"A":{` + task + `,"HeartbeatSeconds":5,"Catch":[{"ErrorEquals":["States.HeartbeatTimeout"],"ResultPath":null,"Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"}`, answers: always("A", answer{Hang: true})},
		ours:   `B {}`, theirs: `A States.Timeout: States.Timeout`,
		says: "state-task, HeartbeatSeconds",
	},
	{
		sample: sample{name: "a time-out from the input", states: `"A":{` + task + `,"TimeoutSecondsPath":"$.t","Catch":[{"ErrorEquals":["States.ALL"],"ResultPath":null,"Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"}`, input: `{"t":7}`, answers: always("A", answer{Hang: true})},
		ours:   `B {"t":7}`, theirs: `A States.Runtime`,
		says: "state-task, TimeoutSecondsPath: read from the state's input, not from what Parameters made",
	},
	{
		sample: sample{name: "a payload over the quota", states: `"A":{"Type":"Pass","Parameters":{"a.$":"$","b.$":"$"},"ResultPath":"$.made","Next":"B"},"B":{"Type":"Pass","Result":1,"End":true}`, input: `{"s":"` + strings.Repeat("x", asl.MaxPayload/2) + `"}`},
		ours:   `A States.DataLimitExceeded: state 'A', entered at event 2: the output is longer than 262144 bytes`, theirs: `B 1`,
		says: "service-quotas, input or output size",
	},
	{
		sample: sample{name: "the history's end", states: `"A":{"Type":"Pass","Parameters":{"n.$":"States.MathAdd($.n, 1)"},"Next":"B"},"B":{"Type":"Choice","Choices":[{"Variable":"$.n","NumericEquals":6300,"Next":"C"}],"Default":"A"},"C":{"Type":"Succeed"}`, input: `{"n":0}`},
		ours:   `A States.Runtime`, theirs: `C {"n":6300}`,
		says: "service-quotas, execution event history size",
	},
	{
		sample: sample{name: "a wait of over 99,999,999 seconds", states: `"A":{"Type":"Wait","SecondsPath":"$.s","End":true}`, input: `{"s":100000000}`},
		ours:   `A States.Runtime`, theirs: `A {"s":100000000}`,
		says: "state-wait, Seconds",
	},
	{
		sample: sample{name: "what isn't present", states: choices(`"IsPresent":false`), input: `{}`},
		ours:   `Rule0 {}`, theirs: `None {}`,
		says: "state-choice, IsPresent",
	},
	{
		sample: sample{name: "what isn't null", states: choices(`"IsNull":false`), input: `{"v":1}`},
		ours:   `Rule0 {"v":1}`, theirs: `None {"v":1}`,
		says: "state-choice, IsNull",
	},
	{
		sample: sample{name: "text in a comparison of numbers", states: choices(`"NumericLessThan":5`), input: `{"v":"3"}`},
		ours:   `None {"v":"3"}`, theirs: `Rule0 {"v":"3"}`,
		says: "state-choice, Choice Rules: values of another type don't match",
	},
	{
		sample: sample{name: "text that is no time in a comparison of times", states: choices(`"TimestampLessThan":"2026-01-01T00:00:00Z"`), input: `{"v":"2025"}`},
		ours:   `None {"v":"2025"}`, theirs: `Rule0 {"v":"2025"}`,
		says: "state-choice, Choice Rules: times are RFC 3339",
	},
	{
		sample: sample{name: "a question mark in a pattern", states: choices(`"StringMatches":"a?"`), input: `{"v":"ab"}`},
		ours:   `None {"v":"ab"}`, theirs: `Rule0 {"v":"ab"}`,
		says: "state-choice, StringMatches: only * is special",
	},
	{
		sample: sample{name: "ResultPath $", states: `"A":{` + task + `,"ResultSelector":{"n.$":"$.Payload.n"},"ResultPath":"$","End":true}`, answers: always("A", done)},
		ours:   `A {"n":1}`, theirs: `A {"$":{"n":1}}`,
		says: "input-output-resultpath: $ replaces the input",
	},
	{
		sample: sample{name: "ResultPath into a text", states: `"A":{` + task + `,"ResultPath":"$.a.b","Catch":[{"ErrorEquals":["States.ResultPathMatchFailure"],"ResultPath":null,"Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"}`, input: `{"a":"text"}`, answers: always("A", done)},
		ours:   `B {"a":"text"}`, theirs: `B {"a":{"b":{"Payload":{"n":1}}}}`,
		says: "concepts-error-handling, States.ResultPathMatchFailure",
	},
	{
		sample: sample{name: "a result that is false", states: `"A":{"Type":"Pass","Result":false,"End":true}`, input: `{"k":1}`},
		ours:   `A false`, theirs: `A {"k":1}`,
		says: "state-pass, Result",
	},
	{
		sample: sample{name: "a Fail without names", states: `"A":{"Type":"Fail"}`},
		ours:   `A failed`, theirs: `A FailStateError: Execution failed because of a Fail state`,
		says: "state-fail: Error and Cause are optional",
	},
	{
		sample: sample{name: "the state in the context", states: `"A":{"Type":"Pass","Parameters":{"n.$":"$$.State.Name"},"End":true}`},
		ours:   `A {"n":"A"}`, theirs: `A States.Runtime`,
		says: "input-output-contextobject, Context object fields",
	},
	{
		sample: sample{name: "the item in the context of its states", states: `"A":{"Type":"Map","ItemProcessor":{"StartAt":"B","States":{"B":{"Type":"Pass","Parameters":{"i.$":"$$.Map.Item.Index"},"End":true}}},"End":true}`, input: `["x"]`},
		ours:   `B [{"i":0}]`, theirs: `B States.Runtime`,
		says: "input-output-contextobject, Context object data for Map states",
	},
	{
		sample: sample{name: "the execution's input in an item's state", states: `"A":{"Type":"Map","ItemProcessor":{"StartAt":"B","States":{"B":{"Type":"Pass","Parameters":{"i.$":"$$.Execution.Input"},"End":true}}},"End":true}`, input: `["x"]`},
		ours:   `B [{"i":["x"]}]`, theirs: `B [{"i":"x"}]`,
		says: "input-output-contextobject, Context object fields",
	},
	{
		sample: sample{name: "a sum of what isn't whole", states: intrinsic(`States.MathAdd($.n, 1)`), input: `{"n":1.6}`},
		ours:   `A {"out":3}`, theirs: `A {"out":2.6}`,
		says: "intrinsic-functions, States.MathAdd: rounds to the nearest integer",
	},
	{
		sample: sample{name: "several separators", states: intrinsic(`States.StringSplit($.s, '.+,')`), input: `{"s":"This.is+a,test"}`},
		ours:   `A {"out":["This","is","a","test"]}`, theirs: `A {"out":["This.is+a,test"]}`,
		says: "intrinsic-functions, States.StringSplit: each character separates",
	},
	{
		sample: sample{name: "a merge changes what it merges", states: `"A":{"Type":"Pass","Parameters":{"a.$":"States.JsonMerge($.x, $.y, false)","b.$":"$.x"},"End":true}`, input: `{"x":{"k":1},"y":{"l":2}}`},
		ours:   `A {"a":{"k":1,"l":2},"b":{"k":1}}`, theirs: `A {"a":{"k":1,"l":2},"b":{"k":1,"l":2}}`,
		says: "intrinsic-functions, States.JsonMerge: makes one object of two",
	},
}

// ending is the last state, and the output of a success or the error's name and
// cause; the cause of States.Runtime is in the interpreter's own words.
func ending(seen trace) string {
	last := seen.Entered[len(seen.Entered)-1].State
	switch {
	case seen.Status == "SUCCEEDED":
		return last + " " + encoded(seen.Output)
	case seen.Error == "":
		return last + " failed"
	case seen.Cause == "" || seen.Error == "States.Runtime":
		return last + " " + seen.Error
	}
	return fmt.Sprintf("%s %s: %s", last, seen.Error, seen.Cause)
}

func TestKnownDifferencesAreStillThere(t *testing.T) {
	t.Parallel()
	r := startReference(t)
	for _, d := range known {
		t.Run(d.name, func(t *testing.T) {
			if d.says == "" || d.ours == d.theirs {
				t.Error("this is no difference with a source")
			}
			ours, theirs := d.both(t, r)
			want := map[string]string{"ours": d.ours, "theirs": d.theirs}
			if diff := cmp.Diff(want, map[string]string{"ours": ending(ours), "theirs": ending(theirs)}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

package asl_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
)

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	task := func(fields string) string { return `"A":{` + lambdaTask + `,` + fields + `,"End":true}` }
	pass := func(expression string) string {
		return `"A":{"Type":"Pass","Parameters":{"r.$":"` + expression + `"},"End":true}`
	}
	choice := func(rule string) string {
		return `"A":{"Type":"Choice","Choices":[{` + rule + `,"Next":"B"}],"Default":"B"},"B":{"Type":"Succeed"}`
	}
	tests := []struct{ name, states, want string }{
		{"misspelled field", task(`"TimeoutSecond":1`), "/States/A/TimeoutSecond"},
		{"field of another type", `"A":{"Type":"Succeed","ResultPath":"$"}`, "/States/A/ResultPath"},
		{"unknown type", `"A":{"Type":"Tusk","End":true}`, `no state type "Tusk"`},
		{"missing target", `"A":{"Type":"Pass","Next":"B"}`, `MISSING_TRANSITION_TARGET: there is no state "B" at /States/A/Next`},
		{"missing catch target", task(`"Catch":[{"ErrorEquals":["X"],"Next":"Z"}]`), "/States/A/Catch[0]/Next"},
		{"unreachable state", `"A":{"Type":"Succeed"},"B":{"Type":"Succeed"}`, `state "B" is not reachable`},
		{"no end", `"A":{"Type":"Pass","Next":"B"},"B":{"Type":"Pass","Next":"A"}`, "MISSING_END_STATE"},
		{"neither Next nor End", `"A":{"Type":"Pass"}`, "a Next or"},
		{"both Next and End", `"A":{"Type":"Pass","Next":"A","End":true}`, "exclude each other"},
		{"End false", `"A":{"Type":"Pass","End":false}`, "a Next or"},
		{"name too long", `"A":{"Type":"Pass","Next":"` + strings.Repeat("x", 81) + `"},"` + strings.Repeat("x", 81) + `":{"Type":"Succeed"}`, "1 to 80 characters"},
		{"twice in one object", `"A":{"Type":"Succeed"},"A":{"Type":"Succeed"}`, `"A" stands twice`},
		{"nested without end", `"A":{"Type":"Pass","Result":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `,"End":true}`, "deeper than 200 levels"},
		{"twice in the machine", `"A":{"Type":"Parallel","Branches":[{"StartAt":"A","States":{"A":{"Type":"Succeed"}}}],"End":true}`, "DUPLICATE_STATE_NAME"},
		{"branch's missing target", `"A":{"Type":"Parallel","Branches":[{"StartAt":"B","States":{"B":{"Type":"Pass","Next":"C"}}}],"Next":"C"},"C":{"Type":"Succeed"}`, "/States/A/Branches[0]/States/B/Next"},
		{"field beside a branch's states", `"A":{"Type":"Parallel","Branches":[{"StartAt":"B","TimeoutSeconds":1,"States":{"B":{"Type":"Succeed"}}}],"End":true}`, "Branches[0]/TimeoutSeconds"},
		{"Iterator", `"A":{"Type":"Map","Iterator":{"StartAt":"B","States":{"B":{"Type":"Succeed"}}},"End":true}`, "ItemProcessor"},
		{"distributed Map", `"A":{"Type":"Map","ItemProcessor":{"ProcessorConfig":{"Mode":"DISTRIBUTED"},"StartAt":"B","States":{"B":{"Type":"Succeed"}}},"End":true}`, "INLINE"},
		{"JSONata", `"A":{"Type":"Pass","QueryLanguage":"JSONata","End":true}`, "JSONPath"},
		{"Assign", `"A":{"Type":"Pass","Assign":{"x":1},"End":true}`, "/States/A/Assign"},

		{"lambda ARN", `"A":{"Type":"Task","Resource":"arn:aws:lambda:us-east-1:0:function:f","End":true}`, "isn't supported"},
		{"task token", `"A":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke.waitForTaskToken","End":true}`, "isn't supported"},
		{"lambda without a function", `"A":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","Parameters":{"Payload":1},"End":true}`, "FunctionName is required"},
		{"lambda parameter", `"A":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","Parameters":{"FunctionName":"f","payload":1},"End":true}`, `"payload" is not supported`},
		{"sdk parameter in camel case", `"A":{"Type":"Task","Resource":"arn:aws:states:::aws-sdk:sfn:startExecution","Parameters":{"stateMachineArn":"x"},"End":true}`, `"stateMachineArn" is not supported`},
		{"sdk action in pascal case", `"A":{"Type":"Task","Resource":"arn:aws:states:::aws-sdk:sfn:StartExecution","Parameters":{},"End":true}`, "lower case"},
		{"heartbeat", task(`"TimeoutSeconds":5,"HeartbeatSeconds":5`), "less than TimeoutSeconds"},
		{"two time-outs", task(`"TimeoutSeconds":5,"TimeoutSecondsPath":"$.s"`), "exclude each other"},

		{"wait for nothing", `"A":{"Type":"Wait","End":true}`, "exactly one of Seconds"},
		{"wait two ways", `"A":{"Type":"Wait","Seconds":1,"SecondsPath":"$.s","End":true}`, "exactly one of Seconds"},
		{"wait for a fraction", `"A":{"Type":"Wait","Seconds":1.5,"End":true}`, "whole number"},
		{"wait until when", `"A":{"Type":"Wait","Timestamp":"tomorrow","End":true}`, "RFC 3339"},
		{"fail with both", `"A":{"Type":"Fail","Error":"X","ErrorPath":"$.e"}`, "exclude each other"},

		{"no error names", task(`"Retry":[{"ErrorEquals":[]}]`), "at least one error name"},
		{"unknown reserved name", task(`"Retry":[{"ErrorEquals":["States.Al"]}]`), `no error name "States.Al"`},
		{"States.ALL with others", task(`"Retry":[{"ErrorEquals":["States.ALL","X"]}]`), "alone and last"},
		{"States.ALL not last", task(`"Retry":[{"ErrorEquals":["States.ALL"]},{"ErrorEquals":["X"]}]`), "alone and last"},
		{"rate below one", task(`"Retry":[{"ErrorEquals":["X"],"BackoffRate":0.5}]`), "at least 1"},
		{"interval of zero", task(`"Retry":[{"ErrorEquals":["X"],"IntervalSeconds":0}]`), "from 1 to"},
		{"cap below the interval", task(`"Retry":[{"ErrorEquals":["X"],"IntervalSeconds":9,"MaxDelaySeconds":9}]`), "more than IntervalSeconds"},
		{"jitter", task(`"Retry":[{"ErrorEquals":["X"],"JitterStrategy":"full"}]`), "FULL"},
		{"retry on Pass", `"A":{"Type":"Pass","Retry":[],"End":true}`, "/States/A/Retry"},

		{"filter", pass(`$.a[?(@.b)]`), "isn't supported"},
		{"recursive descent", pass(`$..a`), "recursive descent"},
		{"variable", pass(`$name`), "no step"},
		{"unclosed", pass(`$.a[0`), "isn't closed"},
		{"reference path", `"A":{"Type":"Pass","ResultPath":"$.a[*]","End":true}`, "reference path"},
		{"result into the context", `"A":{"Type":"Pass","ResultPath":"$$.a","End":true}`, "context object"},
		{"template path without text", `"A":{"Type":"Pass","Parameters":{"a.$":1},"End":true}`, "must be a string"},
		{"field with and without path", `"A":{"Type":"Pass","Parameters":{"a.$":"$.x","a":1},"End":true}`, "stands twice"},

		{"unknown intrinsic", pass(`States.Upper($.a)`), `"States.Upper" isn't supported`},
		{"too few arguments", pass(`States.MathAdd(1)`), "doesn't take 1"},
		{"format without value", pass(`States.Format('{}')`), "1 {} for 0 values"},
		{"format brace", pass(`States.Format('{a}', 1)`), "must be followed by }"},
		{"text that isn't closed", pass(`States.Format('a)`), "isn't closed"},
		{"no argument", pass(`States.Format(foo)`), "is no argument"},
		{"what follows", pass(`States.UUID() x`), "follows the function"},
		{"algorithm", pass(`States.Hash($.a, 'SHA1')`), "SHA-256"},
		{"deep merge", pass(`States.JsonMerge($.a, $.b, true)`), "one level"},
		{"nested too deep", pass(strings.Repeat(`States.Array(`, 11) + strings.Repeat(`)`, 11)), "nested deeper"},

		{"no operator", choice(`"Variable":"$.x"`), "not 0"},
		{"two operators", choice(`"Variable":"$.x","IsNull":true,"IsPresent":true`), "not 2"},
		{"misspelled operator", choice(`"Variable":"$.x","StringEqual":"a"`), "/Choices[0]/StringEqual"},
		{"operand's type", choice(`"Variable":"$.x","NumericEquals":"1"`), "no value for this operator"},
		{"operand's time", choice(`"Variable":"$.x","TimestampEquals":"2030-01-01"`), "no value for this operator"},
		{"no variable", choice(`"IsNull":true`), "/Choices[0]/Variable"},
		{"Next within And", choice(`"And":[{"Variable":"$.x","IsNull":true,"Next":"B"}]`), "And[0]/Next"},
		{"Next of a Choice", `"A":{"Type":"Choice","Choices":[{"Variable":"$.x","IsNull":true,"Next":"B"}],"Next":"B"},"B":{"Type":"Succeed"}`, "/States/A/Next"},
		{"no rules", `"A":{"Type":"Choice","Choices":[],"Default":"B"},"B":{"Type":"Succeed"}`, "at least one rule"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := asl.Parse(states(tt.states))
			var bad *asl.DefinitionError
			if !errors.As(err, &bad) {
				t.Fatalf("got %v, want a DefinitionError", err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want it to say %q", err, tt.want)
			}
		})
	}
}

func TestParseRefusesMachines(t *testing.T) {
	t.Parallel()
	for definition, want := range map[string]string{
		``:                asl.InvalidJSON,
		`{"StartAt":"A"`:  asl.InvalidJSON,
		`{} {}`:           "something follows",
		`[]`:              "an object is wanted",
		`{}`:              "/StartAt",
		`{"StartAt":"A"}`: "/States",
		`{"StartAt":"B","States":{"A":{"Type":"Succeed"}}}`:                           `there is no state "B" at /StartAt`,
		`{"StartAt":"A","Version":"2.0","States":{"A":{"Type":"Succeed"}}}`:           "1.0",
		`{"StartAt":"A","Timeout":1,"States":{"A":{"Type":"Succeed"}}}`:               "Field 'Timeout' is not supported at /Timeout",
		`{"StartAt":"A","QueryLanguage":"JSONata","States":{"A":{"Type":"Succeed"}}}`: "JSONPath",
		`{"Comment":"` + strings.Repeat("x", asl.MaxDefinition) + `"}`:                "longer than",
	} {
		if _, err := asl.Parse([]byte(definition)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got %v, want it to say %q", definition, err, want)
		}
	}
}

func TestParseTellsEverything(t *testing.T) {
	t.Parallel()
	_, err := asl.Parse(states(`"A":{"Type":"Pass","Foo":1,"Next":"B"},"B":{"Type":"Wait","Seconds":-1,"End":true}`))
	var bad *asl.DefinitionError
	if !errors.As(err, &bad) || len(bad.Diagnostics) != 2 {
		t.Errorf("want two diagnostics, got %v", err)
	}
}

func TestStateList(t *testing.T) {
	t.Parallel()
	m := parse(t, states(`"A":{"Type":"Parallel","Comment":"both","Branches":[{"StartAt":"B","States":{"B":{`+lambdaTask+`,"End":true}}}],"End":true}`))
	want := []asl.State{{Name: "A", Type: "Parallel"}, {Name: "B", Type: "Task", Resource: "arn:aws:states:::lambda:invoke"}}
	if diff := cmp.Diff(want, m.States()); diff != "" {
		t.Error(diff)
	}
}

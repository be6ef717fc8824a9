package asl_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
)

// FuzzParse runs whatever parses: a definition is refused with places and codes,
// or runs to one of the ends that there are.
func FuzzParse(f *testing.F) {
	f.Add(states(`"A":{"Type":"Pass","Parameters":{"r.$":"States.Format('{}\\\\', $.a[0:2])"},"Next":"B"},"B":{"Type":"Choice","Choices":[{"Variable":"$.r","StringMatches":"*\\\\*","Next":"C"}]},"C":{"Type":"Succeed"}`), []byte(`{"a":[1]}`))
	f.Add(states(`"A":{"Type":"Map","ItemsPath":"$.a['b']","ItemProcessor":{"StartAt":"B","States":{"B":{"Type":"Wait","SecondsPath":"$","End":true}}},"End":true}`), []byte(`{"a":{"b":[1]}}`))
	f.Add(states(`"A":{`+lambdaTask+`,"TimeoutSecondsPath":"$.t","Retry":[{"ErrorEquals":["States.ALL"],"MaxAttempts":2,"JitterStrategy":"FULL"}],"Catch":[{"ErrorEquals":["States.ALL"],"ResultPath":"$.e","Next":"B"}],"End":true},"B":{"Type":"Fail","CausePath":"States.JsonToString($.e)"}`), []byte(`{"t":1e400}`))
	f.Add(states(`"A":{"Type":"Parallel","Branches":[{"StartAt":"B","States":{"B":{"Type":"Pass","Result":1e999999,"End":true}}}],"ResultSelector":{"x.$":"$[0]"},"End":true}`), []byte(`null`))
	f.Add(states(`"A":{"Type":"Choice","Choices":[{"Not":{"And":[{"Variable":"$.n","NumericEqualsPath":"$.m"},{"Variable":"$.t","TimestampLessThan":"2030-01-02T03:04:05Z"}]},"Next":"A2"}],"Default":"A2"},"A2":{"Type":"Succeed"}`), []byte(`{"n":1,"m":1.0,"t":"x"}`))
	if text, err := os.ReadFile("../../../stepfunctions/rotation.asl.json"); err == nil {
		f.Add(text, []byte(`{"direction":"back","secret":"s","token":"t","generation":1,"cursor":"","driver":"machine","run":"r"}`))
	}
	f.Fuzz(func(t *testing.T, definition, input []byte) {
		m, err := asl.Parse(definition)
		if err != nil {
			var wrong *asl.DefinitionError
			if !errors.As(err, &wrong) || len(wrong.Diagnostics) == 0 || wrong.Diagnostics[0].Code == "" || wrong.Diagnostics[0].Message == "" {
				t.Errorf("%q: %v", definition, err)
			}
			return
		}
		if len(m.States()) == 0 {
			t.Errorf("%q has no state", definition)
		}
		ended(t, m, definition, input)
	})
}

// ended runs a machine and checks how that ends.
func ended(t *testing.T, m *asl.Machine, definition, input []byte) *asl.Execution {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	events := 0
	e := m.Run(ctx, asl.Environment{Clock: newJumpClock(), Task: scripted{}.empty(), Recorder: func(asl.Event) { events++ }}, input)
	switch {
	case events < 2 || events > asl.MaxEvents+1:
		t.Errorf("%q on %q: %d events", definition, input, events)
	case e.Status == asl.Succeeded && (!json.Valid(e.Output) || !json.Valid(input) || len(e.Output) > asl.MaxPayload+len(input)):
		t.Errorf("%q on %q: the output is %q", definition, input, e.Output)
	case e.Status == asl.Failed && e.Error == nil:
		t.Errorf("%q on %q fails without an error", definition, input)
	}
	return e
}

// FuzzExpressions evaluates paths, intrinsic functions and input paths.
func FuzzExpressions(f *testing.F) {
	for _, e := range []string{
		"$.a[0:2]", "$['a'][-1]", "$.*.b", "$$.Execution.Input.a", "States.Format('{}-{}', $.n, 'x\\'')", "States.MathAdd($.n, -1)",
		"States.StringToJson($.s)", "States.ArrayGetItem($.a, 1)", "States.JsonMerge($, $.o, false)", "States.StringSplit($.s, ',')",
		"States.Hash($.a, 'SHA-256')", "States.ArrayContains($.a, 1.0)", "States.Array(1, States.Array($..a))", "$[", "$.", "States.", "States.Format('",
		"$.a[99999999999999999999]", "$.a[-9223372036854775808:9223372036854775807]", "$.ä.日本",
	} {
		f.Add(e, []byte(`{"a":[1,2.5,{"b":null}],"n":41,"s":"{\"x\":[1,2]}","o":{"n":1e5},"ä":{"日本":true}}`))
	}
	f.Add("$.n", []byte(`{"n":1E1000000}`))
	f.Fuzz(func(t *testing.T, expression string, input []byte) {
		text, _ := json.Marshal(expression)
		for _, definition := range [][]byte{
			states(`"A":{"Type":"Pass","Parameters":{"r.$":` + string(text) + `},"End":true}`),
			states(`"A":{"Type":"Pass","InputPath":` + string(text) + `,"ResultPath":"$.r","End":true}`),
			states(`"A":{"Type":"Pass","ResultPath":` + string(text) + `,"Result":1,"End":true}`),
			states(`"A":{"Type":"Choice","Choices":[{"Variable":` + string(text) + `,"NumericGreaterThan":1,"Next":"B"}],"Default":"B"},"B":{"Type":"Succeed"}`),
		} {
			m, err := asl.Parse(definition)
			if err != nil {
				continue
			}
			e := ended(t, m, definition, input)
			if e.Status == asl.Failed && e.Error.Name != asl.Runtime && e.Error.Name != asl.DataLimitExceeded && e.Error.Name != asl.ResultPathMatchFailure {
				t.Errorf("%q on %q: %v", definition, input, e.Error)
			}
			if again := ended(t, m, definition, input); string(again.Output) != string(e.Output) && !strings.Contains(expression, "UUID") {
				t.Errorf("%q on %q: %q and then %q", definition, input, e.Output, again.Output)
			}
		}
	})
}

package stepfunctions_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
	"github.com/keyturn/keyturn/rotation"
)

// disagreement is what the two interpreters did differently, but for the known
// differences; empty if nothing.
func disagreement(ours, theirs trace) string {
	expected := asReferenceWould(ours)
	if ours.Error == "States.Runtime" {
		expected.Cause, theirs.Cause = "", "" // each in its own words
	}
	return cmp.Diff(expected, theirs, cmpopts.EquateEmpty(), cmp.Comparer(sameText))
}

func compare(t fataler, r *reference, s scenario) {
	t.Helper()
	p := play(t, s)
	definition, _ := rotationFile()
	theirs := r.run(t, request{Definition: json.RawMessage(definition), Input: inputOf(s.direction, s.driver), Answers: p.answers})
	if diff := disagreement(p.trace, theirs); diff != "" {
		t.Fatalf("%s: path %s\n(-ours +theirs):\n%s", s.name, strings.Join(p.Path, " "), diff)
	}
}

func TestBothInterpretersAgreeOnTheScenarios(t *testing.T) {
	t.Parallel()
	r := startReference(t)
	for _, s := range slices.Concat(scenarios, everyError()) {
		t.Run(s.name, func(t *testing.T) { compare(t, r, s) })
	}
}

// Answers are drawn without regard to what a function may answer: what matters
// here is only that both interpreters take them the same way.
func TestBothInterpretersAgreeOnRandomAnswers(t *testing.T) {
	t.Parallel()
	r := startReference(t)
	rapid.Check(t, func(rt *rapid.T) { compare(rt, r, drawScenario(rt)) })
}

// notCompared are scenarios that only our interpreter can run as the service
// would; why says what the other lacks. What it lacks beside these: StopExecution
// with an error and a cause, redrive, the calls of aws-sdk tasks (both get
// scripted answers), JSONata and Distributed Map (ours has neither).
var notCompared = []struct {
	scenario
	why, end string
}{
	{
		scenario{name: "a poll that isn't counted", direction: rotation.Forward, script: script{"disableSecret": {answered(`"reopened"`, "60", "1")}}},
		"it keeps no history, so that 25,000 events don't end the run", "States.Runtime",
	},
	{
		scenario{name: "an answer over the quota", direction: rotation.Forward, script: script{"drainCheck": {answered(`"`+strings.Repeat("x", asl.MaxPayload)+`"`, "60", "1")}}},
		"it knows no quota of payloads", "States.DataLimitExceeded",
	},
}

func TestWhatOnlyOursCanRun(t *testing.T) {
	t.Parallel()
	for _, s := range notCompared {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			t.Logf("not compared with the reference: %s", s.why)
			if p := play(t, s.scenario); p.trace.Error != s.end {
				t.Errorf("ended %s %s: %s, want %s", p.trace.Status, p.trace.Error, p.trace.Cause, s.end)
			}
		})
	}
}

func drawScenario(rt *rapid.T) scenario {
	outcome := rapid.SampledFrom(slices.Concat([]string{"perhaps"}, outcomes()))
	number := rapid.SampledFrom([]string{"0", "1", "59.0", "6e1", "1499", "15e2", "1500.5", "-1", "1.5", "null", `"x"`, "true", "[]"})
	payload := rapid.Custom(func(rt *rapid.T) string {
		text := answered(fmt.Sprintf("%q", outcome.Draw(rt, "outcome")), number.Draw(rt, "after"), number.Draw(rt, "polls"))
		if lost := rapid.SampledFrom([]string{"", "", "", `"missing":["db-2"],`, `"cursor":"c",`}).Draw(rt, "lost"); lost != "" {
			text = strings.Replace(text, lost, "", 1)
		}
		return text
	})
	failed := rapid.SampledFrom(errorNames())
	one := rapid.Custom(func(rt *rapid.T) []string {
		answer := rapid.OneOf(outcome, outcome, failed, payload).Draw(rt, "answer")
		if !strings.HasPrefix(answer, ":") && answer != "hang" {
			return []string{answer}
		}
		// Up to one more than the most that any retrier takes.
		return slices.Repeat([]string{answer}, rapid.SampledFrom([]int{1, 2, 6, 7, 9}).Draw(rt, "times"))
	})
	// Done at the end, or two steps could send each other back for ever.
	answers := rapid.Map(rapid.SliceOfN(one, 0, 6), func(l [][]string) []string { return append(slices.Concat(l...), "done") })
	s := scenario{
		name:      "random",
		direction: rapid.SampledFrom([]rotation.Direction{rotation.Head, rotation.Forward, rotation.Back}).Draw(rt, "direction"),
		driver:    rapid.SampledFrom([]rotation.Driver{byMachine, bySecretsManager}).Draw(rt, "driver"),
		script:    script{},
	}
	for _, function := range []string{
		"createSecret", "setSecret", "testSecret", "finishSecret", "adoptSecret", "drainCheck", "disableSecret", "revokeSecret", "rollback", "abortSecret", "startExecution",
	} {
		s.script[function] = answers.Draw(rt, function)
	}
	return s
}

func outcomes() []string {
	var all []string
	for _, o := range rotation.Outcomes() {
		all = append(all, string(o))
	}
	return all
}

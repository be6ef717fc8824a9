package stepfunctions_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/stepfunctions"
)

type rule struct {
	ErrorEquals []string
	Next        string
}

type choice struct {
	Variable     string
	StringEquals string
	Or           []choice
	Next         string
}

type state struct {
	Type           string
	Resource       string
	Next           string
	Default        string
	Parameters     map[string]json.RawMessage
	Choices        []choice
	Retry          []rule
	Catch          []rule
	ResultSelector map[string]string
}

type machine struct {
	StartAt string
	States  map[string]state
}

// machines are all that are deployed.
func machines(t *testing.T) map[string]machine {
	t.Helper()
	all := map[string]machine{}
	for name, definition := range map[string]string{"rotation": stepfunctions.Rotation, "emergency": stepfunctions.Emergency} {
		var m machine
		if err := json.Unmarshal([]byte(definition), &m); err != nil {
			t.Fatal(err)
		}
		all[name] = m
	}
	return all
}

// states are those of every machine.
func states(t *testing.T) map[string]state {
	t.Helper()
	all := map[string]state{}
	for machine, m := range machines(t) {
		for name, s := range m.States {
			all[machine+" "+name] = s
		}
	}
	return all
}

func (s state) targets() []string {
	targets := []string{s.Next, s.Default}
	for _, c := range s.Choices {
		targets = append(targets, c.Next)
	}
	for _, c := range s.Catch {
		targets = append(targets, c.Next)
	}
	return slices.DeleteFunc(targets, func(n string) bool { return n == "" })
}

func (s state) callsLambda() bool { return strings.HasSuffix(s.Resource, "lambda:invoke") }

func TestEveryTargetExistsAndEveryStateIsReached(t *testing.T) {
	t.Parallel()
	for title, m := range machines(t) {
		reached := map[string]bool{}
		var walk func(string)
		walk = func(name string) {
			if reached[name] {
				return
			}
			s, ok := m.States[name]
			if !ok {
				t.Errorf("%s: state %s doesn't exist", title, name)
				return
			}
			reached[name] = true
			for _, next := range s.targets() {
				walk(next)
			}
		}
		walk(m.StartAt)
		for name := range m.States {
			if !reached[name] {
				t.Errorf("%s: state %s is never reached", title, name)
			}
		}
	}
}

func TestEveryCalledFunctionHasItsFolder(t *testing.T) {
	t.Parallel()
	called := slices.Concat(stepfunctions.Functions(stepfunctions.Rotation), stepfunctions.Functions(stepfunctions.Emergency))
	for _, name := range called {
		if _, err := os.Stat("../functions/" + name + "/main.go"); err != nil {
			t.Errorf("a machine calls %s: %v", name, err)
		}
	}
	folders, err := os.ReadDir("../functions")
	if err != nil {
		t.Fatal(err)
	}
	// Called by others: Secrets Manager, events and the schedule.
	outside := []string{"rotateSecret", "watchdog", "audit", "lateLogin"}
	for _, f := range folders {
		if !slices.Contains(called, f.Name()) && !slices.Contains(outside, f.Name()) {
			t.Errorf("nobody calls functions/%s", f.Name())
		}
	}
}

// retried lists what every call of a function retries: our retry class and
// Lambda's own errors, of which each step may be repeated.
func retried() []string {
	names := []string{
		"Lambda.ServiceException", "Lambda.AWSLambdaException", "Lambda.SdkClientException",
		"Lambda.ClientExecutionTimeoutException", "Lambda.TooManyRequestsException",
		"Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError", "States.Timeout",
	}
	for _, name := range fault.Names() {
		if name.Class() == fault.Retry {
			names = append(names, string(name))
		}
	}
	slices.Sort(names)
	return names
}

func TestRetriesAreTheRetryClass(t *testing.T) {
	t.Parallel()
	for name, s := range states(t) {
		if !s.callsLambda() {
			continue
		}
		var got []string
		for _, r := range s.Retry {
			got = append(got, r.ErrorEquals...)
		}
		slices.Sort(got)
		if diff := cmp.Diff(retried(), got); diff != "" {
			t.Errorf("%s retries other errors (-want +got):\n%s", name, diff)
		}
	}
}

func TestCatchesNameKnownFaultsAndEndWithAll(t *testing.T) {
	t.Parallel()
	for name, s := range states(t) {
		if s.Type != "Task" {
			continue
		}
		if len(s.Catch) == 0 || !slices.Equal(s.Catch[len(s.Catch)-1].ErrorEquals, []string{"States.ALL"}) {
			t.Errorf("%s doesn't end its catches with States.ALL", name)
		}
		for _, c := range s.Catch {
			for _, e := range c.ErrorEquals {
				if strings.HasPrefix(e, "Keyturn.") && !slices.Contains(fault.Names(), fault.Name(e)) {
					t.Errorf("%s catches %s, which no fault is named", name, e)
				}
				if slices.Contains(retried(), e) && e != "States.ALL" {
					t.Errorf("%s catches %s by name, which is retried", name, e)
				}
			}
		}
	}
}

func TestAnswersAreOutcomes(t *testing.T) {
	t.Parallel()
	var outcomes []string
	for _, o := range rotation.Outcomes() {
		outcomes = append(outcomes, string(o))
	}
	used := map[string]bool{}
	var check func(string, []choice)
	check = func(name string, choices []choice) {
		for _, c := range choices {
			check(name, c.Or)
			if c.Variable != "$.last.outcome" {
				continue
			}
			used[c.StringEquals] = true
			if !slices.Contains(outcomes, c.StringEquals) {
				t.Errorf("%s expects outcome %q", name, c.StringEquals)
			}
		}
	}
	for name, s := range states(t) {
		check(name, s.Choices)
	}
	for _, o := range outcomes {
		if !used[o] {
			t.Errorf("no state reads outcome %q", o)
		}
	}
}

func TestPollsStayFarFromTheHistoryLimit(t *testing.T) {
	t.Parallel()
	const eventsAPoll, limit = 9 + 2*3, 25_000 // each may be tried three times
	type counted struct {
		Variable                 string
		NumericGreaterThanEquals int
	}
	var m struct {
		States map[string]struct{ Choices []counted }
	}
	if err := json.Unmarshal([]byte(stepfunctions.Rotation), &m); err != nil {
		t.Fatal(err)
	}
	found := 0
	for name, s := range m.States {
		for _, c := range s.Choices {
			if c.Variable != "$.last.polls" {
				continue
			}
			found++
			if c.NumericGreaterThanEquals*eventsAPoll > limit*9/10 {
				t.Errorf("%s polls %d times", name, c.NumericGreaterThanEquals)
			}
		}
	}
	if found == 0 {
		t.Error("no state hands over")
	}
}

func TestDefinitionRefusesAMissingFunction(t *testing.T) {
	t.Parallel()
	if _, err := stepfunctions.Definition(stepfunctions.Rotation, map[string]string{"createSecret": "x"}); err == nil {
		t.Error("a definition with placeholders was filled")
	}
}

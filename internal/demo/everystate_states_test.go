package demo

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/stepfunctions"
)

// state is a Task or Wait state of a definition, by what runs in it.
type state struct {
	function string // of a Task that calls one
	act      string // that the emergency's Task names
}

// stateSet is what one direction can be in.
type stateSet map[string]state

// machineStates reads from the embedded definitions in which states a direction
// may be: "h", "f", "b" of the rotation, "e" for the emergency.
var machineStates = func() func(string) stateSet {
	sets := map[string]func() stateSet{}
	for letter, start := range map[string][2]string{"h": {stepfunctions.Rotation, "Create"}, "f": {stepfunctions.Rotation, "Adopt"}, "b": {stepfunctions.Rotation, "Rollback"}, "e": {stepfunctions.Emergency, "Mark"}} {
		sets[letter] = sync.OnceValue(func() stateSet { return reachable(start[0], start[1]) })
	}
	return func(letter string) stateSet {
		if set, ok := sets[letter]; ok {
			return set()
		}
		return nil
	}
}()

type transition struct{ Next string }

func reachable(definition, start string) stateSet {
	var machine struct {
		States map[string]struct {
			Type, Resource, Next, Default string
			Choices                       []transition
			Catch                         []transition
			Parameters                    struct {
				FunctionName string
				Payload      struct {
					Act string `json:"act"`
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(definition), &machine); err != nil {
		panic(err)
	}
	found, todo, seen := stateSet{}, []string{start}, map[string]bool{"": true}
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if seen[name] {
			continue
		}
		seen[name] = true
		s := machine.States[name]
		todo = append(todo, s.Next, s.Default)
		for _, t := range slices.Concat(s.Choices, s.Catch) {
			todo = append(todo, t.Next)
		}
		if s.Type == "Task" || s.Type == "Wait" {
			found[name] = state{strings.Trim(s.Parameters.FunctionName, "${}"), s.Parameters.Payload.Act}
		}
	}
	return found
}

// lead is what a function is made to say so that its run gets to a state: a Wait
// state by being told to wait, HandOver by a history that is full, and Abort by
// a fault for a person after something was made.
func (all stateSet) lead(next target, letter, function, act string, polls int, cursor string) (host.Invocation, bool) {
	if next.letter != letter {
		return host.Invocation{}, false
	}
	answer := func(polls int) (host.Invocation, bool) {
		text, _ := json.Marshal(map[string]any{"outcome": "wait", "missing": []string{"made to wait"}, "after_seconds": 1, "cursor": cursor, "polls": polls})
		return host.Invocation{Payload: text}, true
	}
	of := all[strings.TrimSuffix(next.state, "Wait")]
	switch {
	case next.state == "HandOver":
		return answer(1_000_000)
	case strings.HasPrefix(next.state, "Abort") && (function == "testSecret" || function == "createSecret" && polls > 0):
		return host.Invocation{FunctionError: "Unhandled", Payload: []byte(`{"errorType":"Keyturn.PermissionDenied","errorMessage":"made to fail"}`)}, true
	case strings.HasSuffix(next.state, "Wait") && of.function == function && of.act == act:
		return answer(polls + 1)
	}
	return host.Invocation{}, false
}

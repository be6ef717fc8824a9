// Package asl answers: which states does a definition go through, given what
// its tasks answer?
//
// It parses, validates and interprets the Amazon States Language in its
// JSONPath form, as far as Keyturn's definitions use it. What it does not know
// is an error of [Parse], never ignored: a definition that this package accepts
// means on AWS what it means here.
//
// The package is pure. Tasks, time and chance come from [Environment], so that
// a test can script every answer and a Wait of a week costs nothing.
//
// # Where documentation and service differ
//
// The developer guide reserves States.NoChoiceMatched, States.IntrinsicFailure
// and States.ParameterPathFailure and reports all three as States.Runtime,
// which no Retry and no Catch matches (concepts-error-handling). So does this
// package; the reserved name stands in the cause.
//
// The guide says that States.ALL does not match States.DataLimitExceeded;
// executions recorded on the real service show that it did. The guide's
// reading is the default, [Environment.AllMatchesDataLimit] the other one.
package asl

import (
	"sort"
	"time"
)

// The error names that the states language reserves, as far as they can occur
// here (developer guide, "Error names").
const (
	All                    = "States.ALL"
	TaskFailed             = "States.TaskFailed"
	Timeout                = "States.Timeout"
	HeartbeatTimeout       = "States.HeartbeatTimeout"
	Runtime                = "States.Runtime"
	DataLimitExceeded      = "States.DataLimitExceeded"
	ResultPathMatchFailure = "States.ResultPathMatchFailure"
	NoChoiceMatched        = "States.NoChoiceMatched"
	IntrinsicFailure       = "States.IntrinsicFailure"
	ParameterPathFailure   = "States.ParameterPathFailure"
	BranchFailed           = "States.BranchFailed"
	Permissions            = "States.Permissions"
)

// Quotas of the service (developer guide, "Service quotas").
const (
	MaxPayload    = 262_144   // bytes of any input or output
	MaxDefinition = 1_048_576 // bytes of a definition
	MaxEvents     = 25_000    // entries of an execution's history; the last is its end
	maxStateName  = 80        // characters
	maxSeconds    = 99_999_999
)

// Error is a failed state's error name and cause.
type Error struct {
	Name  string
	Cause string

	alias string // a second name that Retry and Catch match
	inner bool   // raised by the interpreter: the cause gets the state's name
}

func (e *Error) Error() string {
	if e.Cause == "" {
		return e.Name
	}
	return e.Name + ": " + e.Cause
}

// Machine is a valid definition. It is immutable and safe for concurrent use.
type Machine struct {
	graph
	timeout time.Duration // of a whole execution; zero means none
}

// graph is a StartAt with its States: a machine, a branch or an item processor.
type graph struct {
	startAt string
	states  map[string]*state
}

// State is what a definition says of one state, for tests that compare it with
// something else.
type State struct {
	Name, Type, Resource string
}

// States lists every state, those in branches and item processors included, by
// name.
func (m *Machine) States() []State {
	var out []State
	m.walk(func(s *state) {
		info := State{Name: s.name, Type: s.kind}
		if s.task != nil {
			info.Resource = s.task.resource
		}
		out = append(out, info)
	})
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

func (g *graph) walk(visit func(*state)) {
	for _, s := range g.states {
		visit(s)
		for i := range s.branches {
			s.branches[i].walk(visit)
		}
	}
}

package asl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Clock is the time that Wait, Retry and the machine's own TimeoutSeconds go
// by. Sleep returns the context's error when it is cut short.
type Clock interface {
	Now() time.Time
	Sleep(ctx context.Context, d time.Duration) error
}

// TaskCall is one attempt of a Task.
type TaskCall struct {
	State    string
	Resource string
	Service  string          // "lambda", or an aws-sdk service like "secretsmanager"
	Action   string          // "invoke", or an action in camel case like "rotateSecret"
	SDK      bool            // an aws-sdk integration
	Input    json.RawMessage // what Parameters made, or the state's input
	Attempt  int             // 0, and one more for every retry
}

// Environment is everything that a machine needs and doesn't say.
type Environment struct {
	// Task answers a Task with a JSON document, or with an error. It must be
	// set if the machine has Tasks. It runs on when the interpreter no longer
	// waits for it (a time-out, a stop), as a function does on AWS.
	Task func(ctx context.Context, call TaskCall) ([]byte, *Error)
	// Clock is real time if nil.
	Clock Clock
	// TaskClock measures TimeoutSeconds and HeartbeatSeconds of Tasks; Clock if
	// nil. Give it real time where Clock is moved and the tasks really work.
	TaskClock Clock
	// Random returns a number from 0 to below 1 for JitterStrategy FULL;
	// math/rand if nil.
	Random func() float64
	// Recorder gets every history event, in the order of its id, one at a time;
	// nil for none.
	Recorder func(Event)
	// Context is the part of the context object that the caller knows.
	Context Context
	// AllMatchesDataLimit lets States.ALL and States.TaskFailed match
	// States.DataLimitExceeded.
	AllMatchesDataLimit bool
}

// Context names the execution and its machine ($$.Execution, $$.StateMachine).
type Context struct {
	ExecutionID, ExecutionName       string
	StateMachineID, StateMachineName string
	RoleARN, Region                  string
	StartTime                        time.Time // the clock's time if zero
	RedriveCount                     int
}

// Status is where an execution ended.
type Status string

// The ends of an execution.
const (
	Succeeded Status = "SUCCEEDED"
	Failed    Status = "FAILED"
	TimedOut  Status = "TIMED_OUT"
	Aborted   Status = "ABORTED"
)

// Stopped is the cause to cancel a run's context with, so that the execution
// ends ABORTED with an error and a cause of one's own.
type Stopped struct{ Name, Cause string }

func (s *Stopped) Error() string { return "stopped: " + s.Name + ": " + s.Cause }

var errTimedOut = errors.New("the machine's TimeoutSeconds have passed")

// Execution is how a run ended.
type Execution struct {
	Status Status
	Output json.RawMessage // of a success
	Error  *Error          // of a failure; of an abort, what [Stopped] said
	Path   []string        // the states entered, in order, those in branches included
	Resume Checkpoint      // where an execution that didn't succeed would go on
}

// Checkpoint is a state of the outermost graph and the input it got.
type Checkpoint struct {
	State     string
	Input     json.RawMessage // the state's
	Execution json.RawMessage // the execution's, for $$.Execution.Input
	LastEvent int64           // the history so far
}

// Run interprets the machine. The input must be JSON of at most [MaxPayload]
// bytes. Run returns when the execution has ended or ctx is done.
func (m *Machine) Run(ctx context.Context, env Environment, input []byte) *Execution {
	return m.start(ctx, env, Checkpoint{State: m.startAt, Input: input, Execution: input}, false)
}

// Redrive goes on where an execution failed, with a new time-out and new retry
// counts. The whole state runs again, a Parallel or Map with all its branches
// (the service spares those that succeeded).
func (m *Machine) Redrive(ctx context.Context, env Environment, from Checkpoint) *Execution {
	return m.start(ctx, env, from, true)
}

// run is one interpretation.
type run struct {
	machine *Machine
	env     Environment
	root    context.Context
	history history
	input   any // the execution's

	mu   sync.Mutex
	path []string
	at   Checkpoint
}

func (m *Machine) start(ctx context.Context, env Environment, from Checkpoint, again bool) *Execution {
	fillDefaults(&env)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &run{machine: m, env: env, root: ctx, at: from}
	r.history = history{last: from.LastEvent, clock: env.Clock, sink: env.Recorder}
	r.announce(again, string(from.Execution))
	if m.timeout > 0 {
		go func() {
			if env.Clock.Sleep(ctx, m.timeout) == nil {
				cancel(errTimedOut)
			}
		}()
	}
	var out any
	last := int64(0) // the first state's entry refers to event 0, as on the service
	input, err := decode(from.Input)
	if err == nil {
		r.input, err = decode(from.Execution)
	}
	if err != nil {
		err = &Error{Name: Runtime, Cause: err.Error()}
	} else {
		out, last, err = r.graph(ctx, &m.graph, from.State, input, frame{last: last, outermost: true})
	}
	return r.finish(out, last, err)
}

func fillDefaults(env *Environment) {
	if env.Clock == nil {
		env.Clock = RealTime{}
	}
	if env.TaskClock == nil {
		env.TaskClock = env.Clock
	}
	if env.Random == nil {
		env.Random = rand.Float64
	}
	if env.Context.StartTime.IsZero() {
		env.Context.StartTime = env.Clock.Now()
	}
}

// RealTime is the machine's own clock.
type RealTime struct{}

// Now returns the time in UTC.
func (RealTime) Now() time.Time { return time.Now().UTC() }

// Sleep waits for d or for the context.
func (RealTime) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return ctx.Err()
	}
}

// announce records the event that opens a run.
func (r *run) announce(again bool, input string) {
	if again {
		r.history.must("ExecutionRedriven", "executionRedrivenEventDetails",
			Details{"redriveCount": r.env.Context.RedriveCount}, 0)
		return
	}
	r.history.must("ExecutionStarted", "executionStartedEventDetails",
		Details{"input": input, "inputDetails": whole, "roleArn": r.env.Context.RoleARN}, 0)
}

// finish records the last event and says how it ended.
func (r *run) finish(out any, last int64, err error) *Execution {
	e := &Execution{Path: r.path, Resume: r.at}
	var failed *Error
	switch {
	case err == nil:
		text := encode(out)
		e.Status, e.Output = Succeeded, json.RawMessage(text)
		last, err = r.history.add("ExecutionSucceeded", "executionSucceededEventDetails",
			Details{"output": text, "outputDetails": whole}, last)
		if err == nil {
			e.Resume.LastEvent = last
			return e
		}
		e.Status, e.Output, e.Error = Failed, nil, errHistoryFull
		r.history.must("ExecutionFailed", "executionFailedEventDetails", e.Error.details(), last)
	case errors.As(err, &failed):
		e.Status, e.Error = Failed, failed
		r.history.must("ExecutionFailed", "executionFailedEventDetails", failed.details(), last)
	case errors.Is(context.Cause(r.root), errTimedOut):
		e.Status = TimedOut
		r.history.must("ExecutionTimedOut", "executionTimedOutEventDetails", Details{"error": Timeout}, 0)
	default:
		e.Status = Aborted
		details := Details{}
		var by *Stopped
		if errors.As(context.Cause(r.root), &by) {
			e.Error = &Error{Name: by.Name, Cause: by.Cause}
			details = e.Error.details()
		}
		r.history.must("ExecutionAborted", "executionAbortedEventDetails", details, 0)
	}
	e.Resume.LastEvent = r.history.last
	return e
}

// details is how an error stands in an event; what is empty is left out.
func (e *Error) details() Details {
	d := Details{}
	if e.Name != "" {
		d["error"] = e.Name
	}
	if e.Cause != "" {
		d["cause"] = e.Cause
	}
	return d
}

func (r *run) enter(s *state, input string, f frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.path = append(r.path, s.name)
	if f.outermost {
		r.at.State, r.at.Input = s.name, json.RawMessage(input)
	}
}

// described puts the state's name before a cause that the interpreter wrote.
func (e *Error) described(name string, entered int64) *Error {
	if !e.inner {
		return e
	}
	c := *e
	c.inner = false
	c.Cause = fmt.Sprintf("state '%s', entered at event %d: %s", name, entered, e.Cause)
	return &c
}

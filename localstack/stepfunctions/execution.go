package stepfunctions

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
)

// statusRunning is the status of an execution that hasn't ended; the others are
// package asl's.
const statusRunning asl.Status = "RUNNING"

// execution is one execution, running or closed. Its history, and what a closed
// one ended with, lie in the archive.
type execution struct {
	id        int // in the archive
	arn, name string
	machine   machine // as it was at the start

	mu       sync.Mutex
	started  time.Time
	status   asl.Status
	stopped  time.Time
	document *document // nil while it lies in the archive
	events   int       // entries of the history
	unkept   error     // why the history isn't whole
	redrives int
	redriven time.Time
	token    string // clientToken of the latest redrive
	inside   []string
	cancel   context.CancelCauseFunc // nil when it has ended
	done     chan struct{}           // closed when it has ended; new for every redrive
}

func (e *execution) running() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status == statusRunning
}

// retention is how long a closed execution is kept and its name taken.
const retention = 90 * 24 * time.Hour

// execution finds one; the caller holds the lock.
func (s *Service) execution(arn string) (*execution, error) {
	if err := checkARN(arn); err != nil {
		return nil, err
	}
	e, ok := s.executions[arn]
	if ok && !s.expired(e) {
		return e, nil
	}
	return nil, awsproto.Errorf("ExecutionDoesNotExist", "Execution Does Not Exist: '%s'", arn)
}

func (s *Service) expired(e *execution) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.stopped.IsZero() && e.status != statusRunning && s.config.Clock.Now().Sub(e.stopped) > retention
}

// purge forgets the executions that ended too long ago; the caller holds the
// lock.
func (s *Service) purge() {
	s.order = slices.DeleteFunc(s.order, func(e *execution) bool {
		if !s.expired(e) {
			return false
		}
		delete(s.executions, e.arn)
		s.archive.drop(e.id)
		return true
	})
}

type startInput struct {
	StateMachineARN string  `json:"stateMachineArn"`
	Name            *string `json:"name"`
	Input           *string `json:"input"`
	TraceHeader     string  `json:"traceHeader"`
}

type startOutput struct {
	ExecutionARN string        `json:"executionArn"`
	StartDate    awsproto.Time `json:"startDate"`
}

// startExecution is atomic: of two calls with one name, one starts something.
// The same name and input again, while it runs, is the same execution; anything
// else under a name is ExecutionAlreadyExists until 90 days after its end.
func (s *Service) startExecution(in startInput) (startOutput, error) {
	name, input := uuid.NewString(), "{}"
	if in.Name != nil {
		name = *in.Name
	}
	if in.Input != nil {
		input = *in.Input
	}
	if err := checkName(name); err != nil {
		return startOutput{}, err
	}
	if len(input) > asl.MaxPayload {
		return startOutput{}, awsproto.Errorf("ValidationException", "the input is longer than %d bytes", asl.MaxPayload)
	}
	if !json.Valid([]byte(input)) {
		return startOutput{}, awsproto.Errorf("InvalidExecutionInput", "Invalid State Machine Execution Input: 'it is not JSON'")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return startOutput{}, &awsproto.Error{Code: "ServiceUnavailable", Message: errClosed.Error(), Status: 503}
	}
	m, err := s.machine(in.StateMachineARN)
	if err != nil {
		return startOutput{}, err
	}
	s.purge()
	arn := executionPrefix + m.name + ":" + name
	if old, taken := s.executions[arn]; taken {
		if old.runs(input) {
			return startOutput{arn, awsproto.Time(old.started)}, nil
		}
		return startOutput{}, awsproto.Errorf("ExecutionAlreadyExists", "Execution Already Exists: '%s'", arn)
	}
	if err := s.archive.open(); err != nil {
		return startOutput{}, err
	}
	s.started++
	e := &execution{
		id: s.started, arn: arn, name: name, machine: *m, started: s.config.Clock.Now(), document: &document{Input: input},
	}
	s.executions[arn] = e
	s.order = append(s.order, e)
	s.launch(e, asl.Checkpoint{}, false)
	return startOutput{arn, awsproto.Time(e.started)}, nil
}

// runs reports that an execution hasn't ended and has this input.
func (e *execution) runs(input string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status == statusRunning && e.document.Input == input
}

// launch interprets the machine in the background. The caller holds the lock
// and has put the input into the execution's document.
func (s *Service) launch(e *execution, from asl.Checkpoint, again bool) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	e.mu.Lock()
	e.status, e.cancel, e.done = statusRunning, cancel, make(chan struct{})
	e.stopped = time.Time{}
	input := []byte(e.document.Input)
	env := asl.Environment{
		Clock: s.config.Clock, TaskClock: asl.RealTime{}, Random: s.config.Random, Task: s.taskOf(e.machine.role),
		Recorder: func(event asl.Event) { s.record(e, event) },
		Context: asl.Context{
			ExecutionID: e.arn, ExecutionName: e.name, StateMachineID: e.machine.arn, StateMachineName: e.machine.name,
			RoleARN: e.machine.role, Region: awsproto.Region, StartTime: e.started, RedriveCount: e.redrives,
		},
		AllMatchesDataLimit: s.config.AllMatchesDataLimit,
	}
	e.mu.Unlock()
	s.announce(e)
	s.work.Go(func() {
		defer cancel(nil)
		var result *asl.Execution
		if again {
			result = e.machine.parsed.Redrive(ctx, env, from)
		} else {
			result = e.machine.parsed.Run(ctx, env, input)
		}
		s.finish(e, result)
	})
}

// record keeps an event and tells the timeline. A history that can't be written
// doesn't end the execution, but is refused to whoever asks for it.
func (s *Service) record(e *execution, event asl.Event) {
	e.mu.Lock()
	e.events++
	if err := s.archive.add(e.id, event); err != nil && e.unkept == nil {
		e.unkept = err
		s.config.Logger.Error("an execution's history isn't kept", "execution", e.arn, "error", err)
	}
	name, _ := event.Details["name"].(string)
	entered := event.Key == "stateEnteredEventDetails"
	left := event.Key == "stateExitedEventDetails"
	if entered {
		e.inside = append(e.inside, name)
	}
	if left {
		e.inside = without(e.inside, name)
	}
	e.mu.Unlock()
	if s.config.OnState != nil && (entered || left) {
		s.config.OnState(e.arn, name, entered, event.Time)
	}
}

func without(names []string, name string) []string {
	for i := len(names) - 1; i >= 0; i-- {
		if names[i] == name {
			return append(names[:i:i], names[i+1:]...)
		}
	}
	return names
}

// finish closes an execution, and the states that it ended in.
func (s *Service) finish(e *execution, r *asl.Execution) {
	now := s.config.Clock.Now()
	e.mu.Lock()
	end := &document{Input: e.document.Input, Failure: r.Error, Resume: r.Resume}
	if r.Output != nil {
		end.Output = optional(string(r.Output))
	}
	e.status, e.stopped, e.document, e.cancel = r.Status, now, end, nil
	inside := e.inside
	e.inside = nil
	done := e.done
	e.mu.Unlock()
	for i := len(inside) - 1; i >= 0 && s.config.OnState != nil; i-- {
		s.config.OnState(e.arn, inside[i], false, now)
	}
	s.announce(e)
	s.putAway(e, end)
	close(done)
	s.mu.Lock()
	if m, ok := s.machines[e.machine.arn]; ok {
		s.sweep(m)
	}
	s.mu.Unlock()
}

// putAway moves what an execution ended with into the archive. It stays where
// it is if that fails, or if the execution has been redriven in between.
func (s *Service) putAway(e *execution, end *document) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.document != end {
		return
	}
	if err := s.archive.store(e.id, end); err != nil {
		s.config.Logger.Error("an ended execution is kept in memory", "execution", e.arn, "error", err)
		return
	}
	e.document = nil
}

// end is what an execution ended with, or so far its input. The caller holds
// the execution's lock.
func (s *Service) end(e *execution) (*document, error) {
	if e.document != nil {
		return e.document, nil
	}
	return s.archive.load(e.id)
}

// Done returns a channel that is closed when the execution has ended; nil if
// there is no such execution.
func (s *Service) Done(executionARN string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.executions[executionARN]
	if !ok {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.done
}

type stopInput struct {
	ExecutionARN string `json:"executionArn"`
	Error        string `json:"error"`
	Cause        string `json:"cause"`
}

type stopOutput struct {
	StopDate awsproto.Time `json:"stopDate"`
}

// stopExecution ends the interpreter; a function that is working works on.
func (s *Service) stopExecution(in stopInput) (stopOutput, error) {
	const longestError, longestCause = 256, 32_768
	if len(in.Error) > longestError || len(in.Cause) > longestCause {
		return stopOutput{}, awsproto.Errorf("ValidationException", "error has at most %d characters, cause %d", longestError, longestCause)
	}
	s.mu.Lock()
	e, err := s.execution(in.ExecutionARN)
	s.mu.Unlock()
	if err != nil {
		return stopOutput{}, err
	}
	e.mu.Lock()
	cancel, done := e.cancel, e.done
	e.mu.Unlock()
	if cancel != nil {
		cancel(&asl.Stopped{Name: in.Error, Cause: in.Cause})
	}
	<-done
	e.mu.Lock()
	defer e.mu.Unlock()
	return stopOutput{awsproto.Time(e.stopped)}, nil
}

type redriveInput struct {
	ExecutionARN string `json:"executionArn"`
	ClientToken  string `json:"clientToken"`
}

type redriveOutput struct {
	RedriveDate awsproto.Time `json:"redriveDate"`
}

// redriveExecution goes on at the state that an execution ended in.
func (s *Service) redriveExecution(in redriveInput) (redriveOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.execution(in.ExecutionARN)
	if err != nil {
		return redriveOutput{}, err
	}
	e.mu.Lock()
	if in.ClientToken != "" && in.ClientToken == e.token {
		defer e.mu.Unlock()
		return redriveOutput{awsproto.Time(e.redriven)}, nil
	}
	if reason := e.notRedrivable(s.config.Clock.Now(), s.machineGone(e)); reason != "" {
		e.mu.Unlock()
		return redriveOutput{}, awsproto.Errorf("ExecutionNotRedrivable", "%s", reason)
	}
	end, err := s.end(e)
	if err != nil {
		e.mu.Unlock()
		return redriveOutput{}, err
	}
	e.redrives++
	e.redriven, e.token = s.config.Clock.Now(), in.ClientToken
	e.document = &document{Input: end.Input}
	e.mu.Unlock()
	s.launch(e, end.Resume, true)
	return redriveOutput{awsproto.Time(e.redriven)}, nil
}

func (s *Service) machineGone(e *execution) bool {
	m, ok := s.machines[e.machine.arn]
	return !ok || m.deleting
}

// notRedrivable says why an execution can't go on, or nothing (API reference,
// RedriveExecution). The caller holds the execution's lock.
func (e *execution) notRedrivable(now time.Time, gone bool) string {
	const period = 14 * 24 * time.Hour
	switch {
	case e.status == statusRunning, e.status == asl.Succeeded:
		return "Execution is " + string(e.status) + " and cannot be redriven"
	case gone:
		return "State machine is in DELETING status"
	case now.Sub(e.stopped) > period:
		return "Execution redrivable period exceeded"
	case e.events >= asl.MaxEvents-1:
		return "Execution history event limit exceeded"
	}
	return ""
}

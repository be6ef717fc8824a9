// Package stepfunctions answers: what would Step Functions do with this
// execution?
//
// It is a strict local service of Standard workflows: names are claims, the
// history is the service's, and what it doesn't model it refuses. Definitions
// are interpreted by package asl on a clock that can be moved; Tasks call the
// local Lambda and the other local services and run in real time. Versions,
// aliases, Express workflows, activities, task tokens and distributed maps
// aren't modelled.
//
// Sources: Step Functions API reference and developer guide.
package stepfunctions

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
)

// Config sets up the service. Only what a definition uses must be set.
type Config struct {
	// Clock is what Wait, Retry and a machine's TimeoutSeconds go by. Tasks'
	// own time-outs go by real time, since functions do.
	Clock *clock.Clock
	// Invoker runs the functions of lambda:invoke.
	Invoker host.Invoker
	// Services answers aws-sdk integrations but for sfn, which is this service.
	Services host.Services
	// Bus gets 'Step Functions Execution Status Change' events.
	Bus host.Bus
	// Logger takes what no client is told; discarded if nil.
	Logger *slog.Logger
	// OnState is told of every state that is entered and left, in order, for
	// live timelines. It must return soon and must not stop an execution.
	OnState func(executionARN, state string, entered bool, at time.Time)
	// TaskFault is called before and after every API call that a state makes by
	// itself, with the API's name for it; its error is the call's answer.
	TaskFault func(ctx context.Context, action string, before bool) error
	// OnTask is told of every call that a state makes, with its machine's role; see
	// OnState.
	OnTask func(role string, call asl.TaskCall)
	// Random spreads retries with JitterStrategy FULL; math/rand if nil.
	Random func() float64
	// Dir is where the service makes a folder for what executions leave behind,
	// which Close removes; the system's temporary folder if empty.
	Dir string
	// AllMatchesDataLimit lets States.ALL catch States.DataLimitExceeded, which
	// the service was seen to do and its documentation denies.
	AllMatchesDataLimit bool
}

// Service implements awsproto.JSONService and host.Executions. Close it.
type Service struct {
	config Config
	ctx    context.Context
	cancel context.CancelCauseFunc
	work   sync.WaitGroup

	archive archive

	mu         sync.Mutex
	machines   map[string]*machine   // by ARN
	executions map[string]*execution // by ARN
	order      []*execution          // as they were started
	started    int                   // executions so far
}

var (
	_ awsproto.JSONService = (*Service)(nil)
	_ host.Executions      = (*Service)(nil)
)

// New makes a service without state machines.
func New(c Config) *Service {
	if c.Clock == nil {
		c.Clock = clock.New()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		config: c, archive: archive{parent: c.Dir}, machines: map[string]*machine{}, executions: map[string]*execution{},
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// Close aborts every execution, waits for the interpreters and removes what the
// executions left behind. Functions that still work are left to the Lambda
// service.
func (s *Service) Close() {
	s.mu.Lock()
	s.cancel(errClosed)
	s.mu.Unlock()
	s.work.Wait()
	if err := s.archive.close(); err != nil {
		s.config.Logger.Warn("files of executions are left over", "error", err)
	}
}

// TargetPrefix implements awsproto.JSONService.
func (*Service) TargetPrefix() string { return "AWSStepFunctions" }

// Call implements awsproto.JSONService.
func (s *Service) Call(_ context.Context, action string, body []byte) (any, error) {
	const longestRequest = 1 << 20
	if len(body) > longestRequest+64<<10 { // a definition may be 1 MB by itself
		return nil, awsproto.Errorf("ValidationException", "the request is longer than %d bytes", longestRequest)
	}
	switch action {
	case "CreateStateMachine":
		return answer(body, s.createStateMachine)
	case "UpdateStateMachine":
		return answer(body, s.updateStateMachine)
	case "DescribeStateMachine":
		return answer(body, s.describeStateMachine)
	case "DescribeStateMachineForExecution":
		return answer(body, s.describeForExecution)
	case "ListStateMachines":
		return answer(body, s.listStateMachines)
	case "DeleteStateMachine":
		return answer(body, s.deleteStateMachine)
	case "ValidateStateMachineDefinition":
		return answer(body, s.validateDefinition)
	case "ListTagsForResource":
		return answer(body, s.listTags)
	case "StartExecution":
		return answer(body, s.startExecution)
	case "DescribeExecution":
		return answer(body, s.describeExecution)
	case "ListExecutions":
		return answer(body, s.listExecutions)
	case "GetExecutionHistory":
		return answer(body, s.getExecutionHistory)
	case "StopExecution":
		return answer(body, s.stopExecution)
	case "RedriveExecution":
		return answer(body, s.redriveExecution)
	}
	return nil, awsproto.Errorf("UnknownOperationException", "the local Step Functions has no action %q", action)
}

// answer decodes an action's input strictly and runs it.
func answer[In, Out any](body []byte, act func(In) (Out, error)) (any, error) {
	var in In
	if err := awsproto.Decode(body, &in); err != nil {
		return nil, err
	}
	out, err := act(in)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// StartExecution implements host.Executions.
func (s *Service) StartExecution(_ context.Context, stateMachineARN, name string, input []byte) (string, error) {
	in := startInput{StateMachineARN: stateMachineARN, Name: optional(name), Input: optional(string(input))}
	out, err := s.startExecution(in) //nolint:contextcheck // an execution outlives the call that starts it
	if err != nil {
		return "", err
	}
	return out.ExecutionARN, nil
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// timestamp is a time that is left out when it is zero.
func timestamp(t time.Time) *awsproto.Time {
	if t.IsZero() {
		return nil
	}
	out := awsproto.Time(t)
	return &out
}

// page cuts a list for an action that takes maxResults and nextToken.
func page[T any](all []T, token string, most *int) ([]T, string, error) {
	from, to, next, err := bounds(len(all), token, most)
	if err != nil {
		return nil, "", err
	}
	return all[from:to], next, nil
}

// bounds are where a page of so many items begins and ends, and the token of
// the next one.
func bounds(items int, token string, most *int) (from, to int, next string, err error) {
	const longest, usual = 1000, 100
	n := usual
	if most != nil && *most != 0 {
		n = *most
	}
	if n < 0 || n > longest {
		return 0, 0, "", awsproto.Errorf("ValidationException", "maxResults is between 0 and %d", longest)
	}
	if token != "" {
		if from, err = strconv.Atoi(token); err != nil || from <= 0 || from > items {
			return 0, 0, "", awsproto.Errorf("InvalidToken", "Invalid Token: '%s'", token)
		}
	}
	if to = min(from+n, items); to < items {
		next = strconv.Itoa(to)
	}
	return from, to, next, nil
}

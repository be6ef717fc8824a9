package events

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

// A function that fails is tried again by Lambda's asynchronous invocation:
// twice, after one and two minutes (Lambda developer guide).
var functionPauses = []time.Duration{time.Minute, 2 * time.Minute}

// deliverAll starts one delivery per target; the caller holds the lock.
func (s *Service) deliverAll(r *rule, body []byte, event map[string]any) {
	now := s.clock.Now()
	for _, t := range r.targets {
		payload, err := t.payload(r, body, event, now)
		if err != nil {
			s.log.Warn("event not delivered", "rule", r.name, "target", t.Arn, "error", err.Error())
			continue
		}
		name := r.name
		s.wg.Go(func() { s.deliver(name, t, payload, now) })
	}
}

var errFunction = errors.New("the function failed")

// deliver tries until the target has the event, refuses it for good, or the
// target's retry policy ends. Pauses are on the movable clock.
func (s *Service) deliver(rule string, t target, payload []byte, at time.Time) {
	// One name for all tries, so that a state machine is started once.
	execution := uuid.NewString()
	retries, age := t.RetryPolicy.limits()
	failures := 0
	for try := 0; ; try++ {
		err := s.hand(t, execution, payload)
		if err == nil || s.ctx.Err() != nil {
			return
		}
		pause := min(time.Second<<min(try, 10), 5*time.Minute)
		again := retryable(err) && try < retries
		if errors.Is(err, errFunction) {
			if again = failures < len(functionPauses); again {
				pause = functionPauses[failures]
			}
			failures++
		}
		again = again && s.clock.Now().Add(pause).Sub(at) <= age
		s.log.Warn("event delivery failed", "rule", rule, "target", t.Arn, "try", try+1, "retry", again, "error", err.Error())
		if !again || s.clock.Sleep(s.ctx, pause) != nil {
			return
		}
	}
}

// retryable is false for an answer that another try won't change, such as a
// function that isn't there.
func retryable(err error) bool {
	var e *awsproto.Error
	if !errors.As(err, &e) {
		return true
	}
	return e.Status >= 500 || e.Code == "TooManyRequestsException" || e.Code == "ThrottlingException"
}

func (s *Service) hand(t target, execution string, payload []byte) error {
	s.mu.Lock()
	invoker, executions := s.invoker, s.executions
	s.mu.Unlock()
	if stateMachineARN.MatchString(t.Arn) {
		if executions == nil {
			return awsproto.Errorf("ResourceNotFoundException", "the local AWS has no Step Functions service")
		}
		if _, err := executions.StartExecution(s.ctx, t.Arn, execution, payload); err != nil {
			return fmt.Errorf("starting an execution: %w", err)
		}
		return nil
	}
	if invoker == nil {
		return awsproto.Errorf("ResourceNotFoundException", "the local AWS has no Lambda service")
	}
	answer, err := invoker.Invoke(s.ctx, t.Arn, payload)
	if err != nil {
		return fmt.Errorf("invoking the function: %w", err)
	}
	if answer.FunctionError != "" {
		// The error document may hold what the event held; the function's own log has it.
		return fmt.Errorf("%w: %s", errFunction, answer.FunctionError)
	}
	return nil
}

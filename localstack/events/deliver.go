package events

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
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
		d := delivery{rule: r.name, ruleARN: r.arn(), target: t, payload: payload, event: body, at: now}
		s.wg.Go(func() { s.deliver(d) })
	}
}

var errFunction = errors.New("the function failed")

// delivery is one event on its way to one target.
type delivery struct {
	rule, ruleARN  string
	target         target
	payload, event []byte
	at             time.Time
}

// deliver tries until the target has the event, refuses it for good, or the
// target's retry policy ends. Pauses are on the movable clock.
func (s *Service) deliver(d delivery) {
	// One name for all tries, so that a state machine is started once.
	execution := uuid.NewString()
	retries, age := d.target.RetryPolicy.limits()
	failures := 0
	for try := 0; ; try++ {
		err := s.hand(d.target, execution, d.payload)
		if err == nil || s.ctx.Err() != nil {
			return
		}
		pause, ended := min(time.Second<<min(try, 10), 5*time.Minute), ""
		switch {
		case errors.Is(err, errFunction) && failures < len(functionPauses):
			pause = functionPauses[failures]
			failures++
		case errors.Is(err, errFunction), !retryable(err):
			ended = forGood
		case try >= retries:
			ended = byAttempts
		}
		if ended == "" && s.clock.Now().Add(pause).Sub(d.at) > age {
			ended = byAge
		}
		again := ended == ""
		s.log.Warn("event delivery failed", "rule", d.rule, "target", d.target.Arn, "try", try+1, "retry", again, "error", err.Error())
		if !again {
			s.bury(d, err, try, ended)
			return
		}
		if s.clock.Sleep(s.ctx, pause) != nil {
			return
		}
	}
}

// Why there is no further try. Two of them are EventBridge's words.
const (
	byAttempts = "MaximumRetryAttempts"
	byAge      = "MaximumEventAgeInSeconds"
	forGood    = "no other try would change it"
)

// bury puts the event into the target's dead-letter queue, with the attributes
// that EventBridge documents. A function that failed isn't EventBridge's failure:
// it had the event, and its own asynchronous invocation gave up.
func (s *Service) bury(d delivery, err error, retries int, why string) {
	dead := d.target.DeadLetterConfig
	if dead == nil || errors.Is(err, errFunction) {
		return
	}
	attributes := map[string]string{
		"RULE_ARN": d.ruleARN, "TARGET_ARN": d.target.Arn, "ERROR_CODE": errorCode(err), "ERROR_MESSAGE": err.Error(),
		"RETRY_ATTEMPTS": strconv.Itoa(retries),
	}
	if why == byAttempts || why == byAge {
		attributes["EXHAUSTED_RETRY_CONDITION"] = why
	}
	s.mu.Lock()
	queues := s.queues
	s.mu.Unlock()
	lost := errors.New("the local AWS has no SQS service")
	if queues != nil {
		lost = queues.SendTo(s.ctx, dead.Arn, string(d.event), attributes)
	}
	if lost != nil {
		s.log.Error("an event is lost: its dead-letter queue doesn't take it", "rule", d.rule, "queue", dead.Arn, "error", lost.Error())
	}
}

// errorCode is what EventBridge writes into a dead letter.
func errorCode(err error) string {
	var e *awsproto.Error
	switch {
	case !errors.As(err, &e):
		return "SDK_CLIENT_ERROR"
	case e.Code == "TooManyRequestsException", e.Code == "ThrottlingException":
		return "THROTTLING"
	case strings.Contains(e.Code, "NotFound"), strings.HasSuffix(e.Code, "DoesNotExist"):
		return "NO_RESOURCE"
	}
	return "ERROR_FROM_TARGET"
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
	invoker, async, executions, topics := s.invoker, s.async, s.executions, s.topics
	s.mu.Unlock()
	if topicARN.MatchString(t.Arn) {
		if topics == nil {
			return awsproto.Errorf("NotFound", "the local AWS has no SNS service")
		}
		if err := topics.PublishTo(s.ctx, t.Arn, payload); err != nil {
			return fmt.Errorf("publishing to the topic: %w", err)
		}
		return nil
	}
	if stateMachineARN.MatchString(t.Arn) {
		if executions == nil {
			return awsproto.Errorf("ResourceNotFoundException", "the local AWS has no Step Functions service")
		}
		if _, err := executions.StartExecution(s.ctx, t.Arn, execution, payload); err != nil {
			return fmt.Errorf("starting an execution: %w", err)
		}
		return nil
	}
	if async != nil {
		if err := async.InvokeEvent(s.ctx, t.Arn, payload); err != nil {
			return fmt.Errorf("invoking the function: %w", err)
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

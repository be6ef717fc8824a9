package lambda

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
)

// Events says what becomes of a function's asynchronous invocations that fail
// (API reference, PutFunctionEventInvokeConfig).
type Events struct {
	Retries   int           // 0 to 2
	MaxAge    time.Duration // 1 minute to 6 hours
	OnFailure string        // the ARN of the queue that is told; "" for none
}

const (
	maxRetries  = 2
	youngestAge = time.Minute
	oldestEvent = 6 * time.Hour
)

// defaultEvents is what a function has that is told nothing.
var defaultEvents = Events{Retries: maxRetries, MaxAge: oldestEvent}

func (e *Events) check() error {
	if e != nil && (e.Retries < 0 || e.Retries > maxRetries || e.MaxAge < youngestAge || e.MaxAge > oldestEvent) {
		return fmt.Errorf("events are retried 0 to %d times, for %s to %s", maxRetries, youngestAge, oldestEvent)
	}
	return nil
}

// eventPauses are the pauses before the two retries of an asynchronous
// invocation that the function failed (developer guide, "Asynchronous
// invocation": one minute, then two).
var eventPauses = [maxRetries]time.Duration{time.Minute, 2 * time.Minute}

// throttledPause is the first pause when an asynchronous invocation is
// throttled; it doubles up to five minutes.
const (
	throttledPause   = time.Second
	longestPause     = 5 * time.Minute
	asynchronousMode = "Event"
)

var _ host.EventInvoker = (*Service)(nil)

// InvokeEvent implements host.EventInvoker.
func (s *Service) InvokeEvent(_ context.Context, reference string, payload []byte) error {
	_, err := s.enqueue(reference, payload)
	return err
}

// enqueue starts an asynchronous invocation and returns its request id.
func (s *Service) enqueue(reference string, payload []byte) (string, error) {
	f, err := s.find(reference)
	if err != nil {
		return "", err
	}
	if payload, err = checkPayload(payload, maxEvent); err != nil {
		return "", err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return "", &awsproto.Error{Code: "ServiceException", Status: 500, Message: "the local Lambda is closed"}
	}
	s.work.Add(1)
	s.mu.Unlock()
	e := &event{f: f, id: newID(), arn: f.invoked(reference), payload: payload, accepted: s.config.Clock.Now(), Events: defaultEvents}
	if f.Events != nil {
		e.Events = *f.Events
	}
	go func() {
		defer s.work.Done()
		s.deliver(e)
	}()
	return e.id, nil
}

// event is one asynchronous invocation.
type event struct {
	Events
	f        *function
	id, arn  string
	payload  []byte
	accepted time.Time
	invoked  int
	answer   result // of the latest
}

// Why an event was given up, in Lambda's words.
const (
	retriesExhausted = "RetriesExhausted"
	ageExceeded      = "EventAgeExceeded"
)

// deliver calls the function until it succeeds, or until the retries are used
// up or the event is too old.
func (s *Service) deliver(e *event) {
	clock, pause := s.config.Clock, throttledPause
	for {
		next := pause
		if err := e.f.admit(); err != nil {
			pause = min(2*pause, longestPause)
		} else {
			e.f.run(e.id, e.arn, e.payload, func(answer result) { e.answer = answer })
			if e.invoked++; !e.answer.failed {
				return
			}
			if e.invoked > e.Retries {
				s.dropped(e, retriesExhausted)
				return
			}
			next = eventPauses[e.invoked-1]
		}
		if clock.Now().Sub(e.accepted) > e.MaxAge {
			s.dropped(e, ageExceeded)
			return
		}
		if clock.Sleep(s.ctx, next) != nil {
			return
		}
	}
}

// failureRecord is what a destination is told (developer guide, "Capturing
// records of Lambda asynchronous invocations").
type failureRecord struct {
	Version         string           `json:"version"`
	Timestamp       string           `json:"timestamp"`
	Request         requestContext   `json:"requestContext"`
	RequestPayload  json.RawMessage  `json:"requestPayload"`
	Response        *responseContext `json:"responseContext,omitempty"` // none if it was never invoked
	ResponsePayload json.RawMessage  `json:"responsePayload,omitempty"`
}

type requestContext struct {
	RequestID   string `json:"requestId"`
	FunctionARN string `json:"functionArn"`
	Condition   string `json:"condition"`
	Invoked     int    `json:"approximateInvokeCount"`
}

type responseContext struct {
	StatusCode      int    `json:"statusCode"`
	ExecutedVersion string `json:"executedVersion"`
	FunctionError   string `json:"functionError"`
}

// dropped tells the destination of a function whose event is given up.
func (s *Service) dropped(e *event, condition string) {
	s.config.Logger.Warn("an asynchronous invocation was given up", "function", e.f.Name, "request_id", e.id, "condition", condition)
	if e.OnFailure == "" {
		return
	}
	record := failureRecord{
		Version: "1.0", Timestamp: s.config.Clock.Now().Format("2006-01-02T15:04:05.000Z"), RequestPayload: e.payload,
		Request: requestContext{e.id, e.arn, condition, e.invoked},
	}
	if e.arn == e.f.arn() {
		record.Request.FunctionARN += ":" + latest
	}
	if e.invoked > 0 {
		record.Response, record.ResponsePayload = &responseContext{200, latest, unhandled}, e.answer.payload
	}
	body, err := json.Marshal(record)
	switch {
	case err != nil:
	case s.config.Queues == nil:
		err = awsproto.Errorf("QueueDoesNotExist", "the local AWS has no SQS service")
	default:
		err = s.config.Queues.SendTo(s.ctx, e.OnFailure, string(body), nil)
	}
	if err != nil {
		s.config.Logger.Error("a failed event is lost: its destination doesn't take it", "function", e.f.Name, "queue", e.OnFailure, "error", err.Error())
	}
}

package lambda

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
)

const (
	unhandled = "Unhandled" // the only FunctionError there is today

	maxRequest = 6 << 20 // bytes of a synchronous payload
	maxEvent   = 1 << 20 // bytes of an asynchronous payload
)

// Invoke implements host.Invoker: it calls a function by name or ARN, with or
// without a qualifier, and waits for its answer, not for the end of the log:
// the lines END and REPORT follow. When ctx ends the caller goes; the function
// runs on, as on AWS.
func (s *Service) Invoke(ctx context.Context, reference string, payload []byte) (host.Invocation, error) {
	r, err := s.invoke(ctx, reference, payload, false)
	if err != nil {
		return host.Invocation{}, err
	}
	return host.Invocation{Payload: r.payload, FunctionError: r.functionError()}, nil
}

func (r result) functionError() string {
	if r.failed {
		return unhandled
	}
	return ""
}

// invoke returns with the answer, or, if the whole log is wanted, when the
// runtime is through with the invocation.
func (s *Service) invoke(ctx context.Context, reference string, payload []byte, whole bool) (result, error) {
	f, err := s.find(reference)
	if err != nil {
		return result{}, err
	}
	if payload, err = checkPayload(payload, maxRequest); err != nil {
		return result{}, err
	}
	if err := f.admit(); err != nil {
		return result{}, err
	}
	answers, ended := make(chan result, 1), make(chan struct{})
	go func() {
		defer close(ended)
		f.run(newID(), f.invoked(reference), payload, func(r result) { answers <- r })
	}()
	var r result
	select {
	case r = <-answers:
	case <-ctx.Done():
		return result{}, ctx.Err()
	}
	if whole {
		select {
		case <-ended:
		case <-ctx.Done():
		}
	}
	return r, nil
}

// checkPayload refuses what isn't JSON or is too long; nothing means {}.
func checkPayload(payload []byte, limit int) ([]byte, error) {
	if len(payload) == 0 {
		return []byte(`{}`), nil
	}
	if len(payload) > limit {
		return nil, &awsproto.Error{Code: "RequestTooLargeException", Status: 413, Message: "the payload is too long"}
	}
	if !json.Valid(payload) {
		return nil, awsproto.Errorf("InvalidRequestContentException", "Could not parse request body into json")
	}
	return payload, nil
}

// eventPauses are the pauses before the two retries of an asynchronous
// invocation that the function failed (developer guide, "Asynchronous
// invocation": one minute, then two).
var eventPauses = []time.Duration{time.Minute, 2 * time.Minute}

// throttledPause is the first pause when an asynchronous invocation is
// throttled; it doubles up to five minutes, for six hours in all.
const (
	throttledPause   = time.Second
	longestPause     = 5 * time.Minute
	oldestEvent      = 6 * time.Hour
	asynchronousMode = "Event"
)

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
	id := newID()
	go func() {
		defer s.work.Done()
		s.deliver(f, id, f.invoked(reference), payload)
	}()
	return id, nil
}

// deliver calls the function until it succeeds or the retries are used up.
func (s *Service) deliver(f *function, id, arn string, payload []byte) {
	clock, pause := s.config.Clock, throttledPause
	accepted := clock.Now()
	for attempt := 0; ; {
		err := f.admit()
		if err != nil {
			if clock.Now().Sub(accepted) > oldestEvent || clock.Sleep(s.ctx, pause) != nil {
				s.dropped(f, id, err.Error())
				return
			}
			pause = min(2*pause, longestPause)
			continue
		}
		var r result
		f.run(id, arn, payload, func(answer result) { r = answer })
		if !r.failed {
			return
		}
		if attempt == len(eventPauses) || clock.Sleep(s.ctx, eventPauses[attempt]) != nil {
			s.dropped(f, id, string(r.payload))
			return
		}
		attempt++
	}
}

func (s *Service) dropped(f *function, id, why string) {
	s.config.Logger.Warn("an asynchronous invocation was given up", "function", f.Name, "request_id", id, "error", why)
}

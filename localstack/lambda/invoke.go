package lambda

import (
	"context"
	"encoding/json"

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

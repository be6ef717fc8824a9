// Package host answers: what do the services of the local AWS need of each
// other? It holds the interfaces between them and nothing else.
package host

import (
	"context"
	"encoding/json"
)

// Invoker runs a Lambda function and waits for it.
type Invoker interface {
	// Invoke returns what the function answered. FunctionError is "" or
	// "Unhandled", and then payload is the error document
	// {"errorType":…,"errorMessage":…} that AWS would return. err means that the
	// invocation itself failed (no such function, throttled): an *awsproto.Error.
	Invoke(ctx context.Context, function string, payload []byte) (Invocation, error)
}

// EventInvoker takes events for functions, as Lambda's asynchronous invocation.
type EventInvoker interface {
	// InvokeEvent returns when the event is accepted; Lambda retries it and tells
	// the function's destination. err means that it wasn't: an *awsproto.Error.
	InvokeEvent(ctx context.Context, function string, payload []byte) error
}

// Registry is an Invoker that knows its functions.
type Registry interface {
	Invoker
	// Has reports whether there is such a function, by name or ARN.
	Has(function string) bool
}

// Invocation is one answered call of a function.
type Invocation struct {
	Payload       []byte
	FunctionError string
}

// Event is what goes over EventBridge's default bus, without the envelope's
// account, region and id.
type Event struct {
	Source     string
	DetailType string
	Detail     json.RawMessage
	Resources  []string
}

// Bus takes events; delivery is asynchronous and best effort.
type Bus interface {
	Publish(Event)
}

// Executions starts executions of state machines.
type Executions interface {
	StartExecution(ctx context.Context, stateMachineARN, name string, input []byte) (executionARN string, err error)
}

// Topics takes messages for SNS topics.
type Topics interface {
	// PublishTo fails with an *awsproto.Error if there is no such topic.
	PublishTo(ctx context.Context, topicARN string, message []byte) error
}

// Queues takes messages for SQS queues.
type Queues interface {
	// SendTo fails with an *awsproto.Error if there is no such queue. The
	// attributes are message attributes of the type String.
	SendTo(ctx context.Context, queueARN, body string, attributes map[string]string) error
}

// Services calls an action of another service by the names that Step
// Functions' aws-sdk integrations use ("secretsmanager", "rotateSecret").
type Services interface {
	CallService(ctx context.Context, service, action string, input []byte) ([]byte, error)
}

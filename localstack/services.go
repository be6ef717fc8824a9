package localstack

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
)

// sdkNames maps the names of Step Functions' aws-sdk integrations to the
// prefixes of X-Amz-Target.
var sdkNames = map[string]string{
	"secretsmanager": "secretsmanager",
	"eventbridge":    "AWSEvents",
	"sfn":            "AWSStepFunctions",
}

// CallService implements host.Services.
func (a *AWS) CallService(ctx context.Context, service, action string, input []byte) ([]byte, error) {
	s := a.service(sdkNames[service])
	if s == nil || action == "" {
		return nil, awsproto.Errorf("UnknownOperationException", "the local AWS has no aws-sdk integration %s:%s", service, action)
	}
	out, err := s.Call(ctx, strings.ToUpper(action[:1])+action[1:], input)
	if err != nil {
		return nil, err
	}
	if out == nil {
		out = struct{}{}
	}
	body, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encoding the answer of %s:%s: %w", service, action, err)
	}
	return body, nil
}

// UseLambda makes i run rotation functions and EventBridge's Lambda targets,
// and h answer Lambda's paths. stop, if set, is called by Close.
func (a *AWS) UseLambda(i host.Invoker, h http.Handler, stop func()) {
	a.SecretsManager.SetInvoker(i)
	a.Events.SetInvoker(i)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lambda = h
	a.closeWith(stop)
}

// UseStepFunctions adds the service of state machines, and makes it run
// EventBridge's targets. stop, if set, is called by Close.
func (a *AWS) UseStepFunctions(s awsproto.JSONService, e host.Executions, stop func()) {
	a.Events.SetExecutions(e)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.services[s.TargetPrefix()] = s
	a.closeWith(stop)
}

func (a *AWS) closeWith(stop func()) {
	if stop != nil {
		a.closers = append(a.closers, stop)
	}
}

func (a *AWS) service(prefix string) awsproto.JSONService {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.services[prefix]
}

func (a *AWS) lambdaHandler() http.Handler {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.lambda
}

// names lists the services by their prefix of X-Amz-Target.
func (a *AWS) names() []string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.Sorted(maps.Keys(a.services))
}

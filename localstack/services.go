package localstack

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

// sdkNames maps the names of Step Functions' aws-sdk integrations to the
// prefixes of X-Amz-Target.
var sdkNames = map[string]string{
	"secretsmanager": "secretsmanager",
	"eventbridge":    "AWSEvents",
	"sfn":            "AWSStepFunctions",
	"kms":            "TrentService",
	"sqs":            "AmazonSQS",
}

// CallService implements host.Services.
func (a *AWS) CallService(ctx context.Context, service, action string, input []byte) ([]byte, error) {
	s := a.services[sdkNames[service]]
	if s == nil || action == "" {
		return nil, awsproto.Errorf("UnknownOperationException", "the local AWS has no aws-sdk integration %s:%s", service, action)
	}
	out, err := s.Call(ctx, upper(action), input)
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

// upper writes an integration's action as the API does.
func upper(action string) string { return strings.ToUpper(action[:1]) + action[1:] }

// names lists the services by their prefix of X-Amz-Target.
func (a *AWS) names() []string { return slices.Sorted(maps.Keys(a.services)) }

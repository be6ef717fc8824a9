package stepfunctions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
)

// taskOf runs the Tasks of a machine, and tells of each.
func (s *Service) taskOf(role string) func(context.Context, asl.TaskCall) ([]byte, *asl.Error) {
	return func(ctx context.Context, call asl.TaskCall) ([]byte, *asl.Error) {
		if s.config.OnTask != nil {
			s.config.OnTask(role, call)
		}
		return s.task(ctx, call)
	}
}

// task runs one Task.
func (s *Service) task(ctx context.Context, call asl.TaskCall) ([]byte, *asl.Error) {
	if call.SDK {
		return s.callSDK(ctx, call)
	}
	return s.invokeLambda(ctx, call.Input)
}

// longestCause is what DescribeExecution and history events hold of a cause.
const longestCause = 32_768

func failure(name, cause string) *asl.Error {
	if len(cause) > longestCause {
		cause = strings.ToValidUTF8(cause[:longestCause], "")
	}
	return &asl.Error{Name: name, Cause: cause}
}

// invokeLambda is the optimized integration lambda:invoke. The function's error
// type becomes the error's name, its document the cause; what goes wrong before
// the function runs is Lambda.<exception>.
func (s *Service) invokeLambda(ctx context.Context, input json.RawMessage) ([]byte, *asl.Error) {
	var in struct {
		FunctionName   string
		Qualifier      string
		InvocationType string
		Payload        json.RawMessage
	}
	if err := json.Unmarshal(input, &in); err != nil || in.FunctionName == "" {
		return nil, failure(asl.Runtime, "lambda:invoke wants a FunctionName and texts: "+fmt.Sprint(err))
	}
	if s.config.Invoker == nil {
		return nil, failure("Lambda.SdkClientException", "the local AWS runs no Lambda")
	}
	function := in.FunctionName
	if in.Qualifier != "" {
		function += ":" + in.Qualifier
	}
	out, err := s.config.Invoker.Invoke(ctx, function, in.Payload)
	var e *awsproto.Error
	switch {
	case errors.As(err, &e):
		return nil, failure("Lambda."+e.Code, describe("AWSLambda", e))
	case err != nil:
		return nil, failure("Lambda.SdkClientException", err.Error())
	case out.FunctionError != "":
		return nil, functionError(out.Payload)
	case !json.Valid(out.Payload):
		return nil, failure(asl.Runtime, "the function's answer isn't JSON")
	}
	id := uuid.NewString()
	result, err := json.Marshal(map[string]any{
		"ExecutedVersion": "$LATEST", "Payload": json.RawMessage(out.Payload), "StatusCode": 200,
		"SdkHttpMetadata": map[string]any{
			"HttpStatusCode": 200,
			"HttpHeaders":    map[string]string{"X-Amz-Executed-Version": "$LATEST", "x-amzn-RequestId": id, "Content-Type": "application/json"},
		},
		"SdkResponseMetadata": map[string]string{"RequestId": id},
	})
	if err != nil {
		return nil, failure(asl.Runtime, err.Error())
	}
	return result, nil
}

// functionError names a function's failure. Without an error type in the
// document it is Lambda.Unknown.
func functionError(payload []byte) *asl.Error {
	var document struct {
		Type string `json:"errorType"`
	}
	if err := json.Unmarshal(payload, &document); err != nil || document.Type == "" {
		return failure("Lambda.Unknown", "Lambda did not return an error type; it returned: "+string(payload))
	}
	return failure(document.Type, string(payload))
}

func describe(service string, e *awsproto.Error) string {
	status := e.Status
	if status == 0 {
		status = 400
	}
	return fmt.Sprintf("%s (Service: %s, Status Code: %d, Request ID: %s)", e.Message, service, status, uuid.NewString())
}

// callSDK is an AWS SDK integration: parameters in Pascal case, and an answer
// in the SDK's shape, with its field names and with times as text.
func (s *Service) callSDK(ctx context.Context, call asl.TaskCall) ([]byte, *asl.Error) {
	out, err := s.callFaulty(ctx, call)
	if err != nil {
		return nil, sdkError(call.Service, err)
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(out))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, failure(asl.Runtime, "the service's answer isn't JSON: "+err.Error())
	}
	shaped, err := json.Marshal(sdkShape(v, call.Service == "sfn"))
	if err != nil {
		return nil, failure(asl.Runtime, err.Error())
	}
	return shaped, nil
}

// callFaulty calls the service, unless Config.TaskFault lets the call fail.
func (s *Service) callFaulty(ctx context.Context, call asl.TaskCall) ([]byte, error) {
	if s.config.TaskFault == nil {
		return s.callService(ctx, call)
	}
	action := first(call.Action, unicode.ToUpper)
	if err := s.config.TaskFault(ctx, action, true); err != nil {
		return nil, err
	}
	out, err := s.callService(ctx, call)
	if err != nil {
		return nil, err
	}
	return out, s.config.TaskFault(ctx, action, false)
}

func (s *Service) callService(ctx context.Context, call asl.TaskCall) ([]byte, error) {
	switch {
	case call.Service == "sfn":
		return s.callSelf(ctx, call)
	case s.config.Services != nil:
		return s.config.Services.CallService(ctx, call.Service, call.Action, call.Input)
	default:
		return nil, awsproto.Errorf("UnknownOperationException", "the local AWS has no other services")
	}
}

// callSelf is aws-sdk:sfn: the API's own members begin in lower case.
func (s *Service) callSelf(ctx context.Context, call asl.TaskCall) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(call.Input, &members); err != nil {
		return nil, awsproto.Errorf("ValidationException", "the parameters are no object: %v", err)
	}
	lower := map[string]any{}
	for name, value := range members {
		text := value
		// Input is text in the API; a state may give it as an object.
		if name == "Input" && len(value) > 0 && value[0] != '"' {
			quoted, err := json.Marshal(string(value))
			if err != nil {
				return nil, fmt.Errorf("writing the input: %w", err)
			}
			text = quoted
		}
		lower[first(name, unicode.ToLower)] = text
	}
	body, err := json.Marshal(lower)
	if err != nil {
		return nil, fmt.Errorf("writing the parameters: %w", err)
	}
	out, err := s.Call(ctx, first(call.Action, unicode.ToUpper), body)
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

func first(name string, change func(rune) rune) string {
	if name == "" {
		return name
	}
	return string(change(rune(name[0]))) + name[1:]
}

// sdkShape renames members to Pascal case if asked, and writes the seconds of
// members that end in Date as ISO 8601 text.
func sdkShape(v any, pascal bool) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, value := range v {
			if n, ok := value.(json.Number); ok && strings.HasSuffix(name, "Date") {
				value = isoTime(n)
			}
			if pascal {
				name = first(name, unicode.ToUpper)
			}
			out[name] = sdkShape(value, pascal)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = sdkShape(v[i], pascal)
		}
		return out
	}
	return v
}

func isoTime(n json.Number) any {
	seconds, err := n.Float64()
	if err != nil {
		return n
	}
	return time.UnixMilli(int64(seconds * 1000)).UTC().Format("2006-01-02T15:04:05.000Z")
}

// sdkServices are the names that error names begin with, where they aren't the
// service's with a capital.
var sdkServices = map[string]string{
	"secretsmanager": "SecretsManager", "eventbridge": "EventBridge", "cloudwatch": "CloudWatch",
	"dynamodb": "DynamoDb", "cloudtrail": "CloudTrail", "apigateway": "ApiGateway",
}

// modelled are the exceptions that a service's API model names. An SDK has no
// class for any other; the integration then reports the service's base class.
var modelled = map[string][]string{
	"secretsmanager": {
		"DecryptionFailure", "EncryptionFailure", "InternalServiceError", "InvalidNextTokenException",
		"InvalidParameterException", "InvalidRequestException", "LimitExceededException",
		"MalformedPolicyDocumentException", "PreconditionNotMetException", "PublicPolicyException",
		"ResourceExistsException", "ResourceNotFoundException",
	},
	"sfn": {
		"ConflictException", "ExecutionAlreadyExists", "ExecutionDoesNotExist", "ExecutionLimitExceeded",
		"ExecutionNotRedrivable", "InvalidArn", "InvalidDefinition", "InvalidExecutionInput", "InvalidName",
		"InvalidToken", "MissingRequiredParameter", "ResourceNotFound", "StateMachineAlreadyExists",
		"StateMachineDeleting", "StateMachineDoesNotExist", "StateMachineTypeNotSupported", "ValidationException",
	},
}

// sdkError names an error as the developer guide says: Service.ErrorException,
// the suffix included even where the API's own name has none.
func sdkError(service string, err error) *asl.Error {
	prefix, ok := sdkServices[service]
	if !ok {
		prefix = first(service, unicode.ToUpper)
	}
	var e *awsproto.Error
	if !errors.As(err, &e) {
		return failure(prefix+".SdkClientException", err.Error())
	}
	name := e.Code
	if known, ok := modelled[service]; ok && !slices.Contains(known, name) {
		name = prefix + "Exception"
	}
	if !strings.HasSuffix(name, "Exception") {
		name += "Exception"
	}
	return failure(prefix+"."+name, describe(prefix, e))
}

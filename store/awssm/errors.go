package awssm

import (
	"context"
	"errors"

	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/fault"
)

// codes are Secrets Manager's documented error codes that are not retried
// unseen (rule C7.9); the SDK has already retried those that may be.
var codes = map[string]fault.Name{
	"ThrottlingException":              fault.Throttled,
	"Throttling":                       fault.Throttled,
	"TooManyRequestsException":         fault.Throttled,
	"LimitExceededException":           fault.Throttled,
	"RequestLimitExceeded":             fault.Throttled,
	"PriorRequestNotComplete":          fault.Throttled,
	"InternalServiceError":             fault.Unavailable,
	"InternalServiceErrorException":    fault.Unavailable,
	"RequestTimeout":                   fault.Unavailable,
	"RequestTimeoutException":          fault.Unavailable,
	"ServiceUnavailable":               fault.Unavailable,
	"InvalidParameterException":        fault.InvalidInput,
	"InvalidRequestException":          fault.RotationDisabled,
	"ResourceNotFoundException":        fault.InvalidInput,
	"MalformedPolicyDocumentException": fault.Internal,
	"PreconditionNotMetException":      fault.Internal,
	"DecryptionFailure":                fault.PermissionDenied,
	"EncryptionFailure":                fault.PermissionDenied,
	"AccessDeniedException":            fault.PermissionDenied,
	"UnrecognizedClientException":      fault.PermissionDenied,
	"ExpiredTokenException":            fault.PermissionDenied,
}

var hints = map[fault.Name]string{
	fault.PermissionDenied: "check the function's role, the secret's resource policy and its KMS key",
	fault.RotationDisabled: "check with aws secretsmanager describe-secret that the secret exists, isn't deleted and has a rotation function",
}

// code is the service's error code, or "".
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// named gives an SDK error its fault. An error without a code never reached
// the service or lost its answer.
func named(err error, action string) error {
	if err == nil {
		return nil
	}
	name, ok := codes[code(err)]
	if !ok {
		name = fault.Unavailable
		var api smithy.APIError
		if errors.As(err, &api) && api.ErrorFault() == smithy.FaultClient {
			name = fault.Internal
		}
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			name = fault.Ambiguous
		}
	}
	return &fault.Error{Name: name, Doing: "calling " + action, Hint: hints[name], Err: err}
}

// Package awsruns answers: which execution drives a rotation, and how is one
// claimed?
package awsruns

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// API is what is called of Step Functions.
type API interface {
	StartExecution(context.Context, *sfn.StartExecutionInput, ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error)
	StopExecution(context.Context, *sfn.StopExecutionInput, ...func(*sfn.Options)) (*sfn.StopExecutionOutput, error)
	DescribeExecution(context.Context, *sfn.DescribeExecutionInput, ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error)
}

// Runs implements rotation.Runs.
type Runs struct {
	API API
	// StateMachine is the ARN of the state machine that drives a secret.
	StateMachine func(secret string) (string, error)
}

// ZoneMachine is the ARN of a zone's state machine, from the one without a zone.
func ZoneMachine(arn, zone string) string {
	if zone == "" {
		return arn
	}
	return arn + "-" + zone
}

var _ rotation.Runs = (*Runs)(nil)

// Start claims a name. StartExecution of a Standard state machine is
// idempotent by name, and refuses a name of the last 90 days: both mean that
// somebody has the claim.
func (r *Runs) Start(ctx context.Context, name string, in rotation.Input) error {
	input, err := json.Marshal(in)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "writing the input of run %s", name)
	}
	machine, err := r.StateMachine(in.Secret)
	if err != nil {
		return err
	}
	_, err = r.API.StartExecution(ctx, &sfn.StartExecutionInput{
		StateMachineArn: &machine, Name: &name, Input: aws.String(string(input)),
	})
	var taken *types.ExecutionAlreadyExists
	if errors.As(err, &taken) {
		return nil
	}
	return named(err, "StartExecution")
}

// execution is a run's ARN.
func (r *Runs) execution(secret, name string) (string, error) {
	machine, err := r.StateMachine(secret)
	return strings.Replace(machine, ":stateMachine:", ":execution:", 1) + ":" + name, err
}

// Stop ends a run; StopExecution of one that has ended is idempotent.
func (r *Runs) Stop(ctx context.Context, secret, name, why string) error {
	arn, err := r.execution(secret, name)
	if err != nil {
		return err
	}
	_, err = r.API.StopExecution(ctx, &sfn.StopExecutionInput{ExecutionArn: &arn, Error: aws.String("Keyturn.Superseded"), Cause: &why})
	var absent *types.ExecutionDoesNotExist
	if errors.As(err, &absent) {
		return nil
	}
	return named(err, "StopExecution")
}

// Describe looks a run up by its name.
func (r *Runs) Describe(ctx context.Context, secret, name string) (rotation.Run, error) {
	arn, err := r.execution(secret, name)
	if err != nil {
		return rotation.Run{}, err
	}
	out, err := r.API.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: &arn})
	var absent *types.ExecutionDoesNotExist
	if errors.As(err, &absent) {
		return rotation.Run{Name: name, Status: rotation.RunAbsent}, nil
	}
	if err != nil {
		return rotation.Run{}, named(err, "DescribeExecution")
	}
	run := rotation.Run{
		Name: name, Status: rotation.RunStatus(out.Status), Started: aws.ToTime(out.StartDate), Stopped: aws.ToTime(out.StopDate),
		Error: aws.ToString(out.Error), Cause: aws.ToString(out.Cause),
	}
	if out.Status == types.ExecutionStatusPendingRedrive {
		run.Status = rotation.RunFailed
	}
	return run, nil
}

func named(err error, action string) error {
	if err == nil {
		return nil
	}
	name, hint := fault.Unavailable, ""
	var api smithy.APIError
	if errors.As(err, &api) {
		switch code := api.ErrorCode(); {
		case strings.Contains(code, "Throttling"), code == "ExecutionLimitExceeded":
			name = fault.Throttled
		case code == "AccessDeniedException":
			name = fault.PermissionDenied
		case code == "InvalidArn", code == "StateMachineDoesNotExist":
			name, hint = fault.Internal, "check the state machine's ARN, which functions and commands take from KEYTURN_STATE_MACHINE, commands also by --state-machine"
		case api.ErrorFault() == smithy.FaultClient:
			name = fault.Internal
		}
	}
	return &fault.Error{Name: name, Doing: "calling Step Functions " + action, Hint: hint, Err: err}
}

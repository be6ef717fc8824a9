package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/internal/strictjson"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/rotation"
)

// functionName is what a deployment calls a function; a zone's has the zone's
// name inside.
func (t *target) functionName(zone, folder string) string {
	if zone == "" {
		return t.name + "-" + folder
	}
	return t.name + "-" + zone + "-" + folder
}

// askDeployment fills in what wasn't given: the watchdog's environment has the
// settings, and the watchdog itself the policy that it works by.
func (t *target) askDeployment(ctx context.Context) error {
	name := t.functionName("", "watchdog")
	env, err := t.environment(ctx, name)
	if err != nil {
		return err
	}
	if t.settings.AuditDir == "" && t.settings.AuditBucket == "" {
		t.settings.AuditBucket, t.settings.AuditDir = env[deployment.EnvAuditBucket], env[deployment.EnvAuditDir]
	}
	fill := func(value *string, name string) {
		if *value == "" {
			*value = env[name]
		}
	}
	fill(&t.settings.StateMachine, deployment.EnvStateMachine)
	fill(&t.emergency, deployment.EnvEmergencyMachine)
	if t.settings.StateMachine == "" || !t.needsTrail().given {
		return fault.New(fault.InvalidInput, "function %s has no %s or no %s", name, deployment.EnvStateMachine, deployment.EnvAuditBucket).
			WithHint("is it a watchdog of Keyturn's? deploy it again, or name another deployment by --deployment")
	}
	t.deployed = true
	if t.settings.Policy != "" {
		return nil // the file wins
	}
	var answer lambdaentry.Deployed
	if err := t.call(ctx, name, json.RawMessage(lambdaentry.AboutEvent), &answer); err != nil {
		return err
	}
	if t.policies, err = policy.Parse(answer.Policy); err != nil {
		return fault.Wrap(fault.InvalidInput, fault.New(fault.InvalidInput, "%s", err).
			WithHint("use the keyturn of the release that is deployed, or give --policy"), "reading the policy that %s works by", name)
	}
	return nil
}

// environment is what a function is told by its deployment.
func (t *target) environment(ctx context.Context, name string) (map[string]string, error) {
	api := lambda.NewFromConfig(t.cfg)
	out, err := published(func(qualifier *string) (*lambda.GetFunctionConfigurationOutput, error) {
		return api.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name, Qualifier: qualifier})
	})
	if err != nil {
		return nil, t.notFound(err, name, "GetFunctionConfiguration")
	}
	if out.Environment == nil || out.Environment.Error != nil {
		return nil, fault.New(fault.PermissionDenied, "the environment of function %s can't be read", name).
			WithHint("you need kms:Decrypt on the key that it is encrypted with; or give --policy, --state-machine and --audit-bucket")
	}
	return out.Environment.Variables, nil
}

// published asks for what the deployment's alias names, as its rules do: while a
// deployment is going on $LATEST may be another release. A function without that
// alias is asked for by its name alone.
func published[T any](ask func(qualifier *string) (T, error)) (T, error) {
	out, err := ask(aws.String(deployment.Alias))
	var absent *types.ResourceNotFoundException
	if errors.As(err, &absent) {
		return ask(nil)
	}
	return out, err
}

// call invokes a function and reads its answer strictly.
func (t *target) call(ctx context.Context, name string, event, answer any) error {
	payload, err := json.Marshal(event)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "writing the event for %s", name)
	}
	api := lambda.NewFromConfig(t.cfg)
	out, err := published(func(qualifier *string) (*lambda.InvokeOutput, error) {
		return api.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Qualifier: qualifier, Payload: payload})
	})
	if err != nil {
		return t.notFound(err, name, "InvokeFunction")
	}
	if out.FunctionError != nil {
		return failed(name, out.Payload)
	}
	if err := strictjson.Decode(out.Payload, answer); err != nil {
		return fault.New(fault.Internal, "the answer of function %s can't be read: %s", name, err).
			WithHint("use the keyturn of the release that is deployed, or deploy this one")
	}
	return nil
}

// failed is what a function answered, under its own fault and with its own hint.
func failed(name string, answer []byte) error {
	var document struct{ ErrorType, ErrorMessage string }
	_ = json.Unmarshal(answer, &document) // what can't be read has no name
	text, hint, found := strings.Cut(document.ErrorMessage, " (hint: ")
	hint = strings.TrimSuffix(hint, ")")
	if !found {
		hint = "its log has more; deploy it and this tool from one release"
	}
	called := fault.Name(document.ErrorType)
	if !slices.Contains(fault.Names(), called) {
		called = fault.Internal
	}
	return fault.New(called, "function %s failed: %s %s", name, document.ErrorType, text).WithHint("%s", hint)
}

// notFound names the fault of a refused call to Lambda.
func (t *target) notFound(err error, name, action string) error {
	f := &fault.Error{Name: fault.Unavailable, Doing: "asking function " + name + " for the deployment's settings", Err: err}
	var absent *types.ResourceNotFoundException
	var api smithy.APIError
	switch {
	case errors.As(err, &absent):
		f.Name = fault.InvalidInput
		f.Hint = "there is no deployment of that name in " + t.cfg.Region + ": name it by --deployment ($" + envDeployment +
			"), check AWS_REGION and AWS_PROFILE, or give --policy, --state-machine and --audit-bucket"
	case errors.As(err, &api) && strings.HasPrefix(api.ErrorCode(), "AccessDenied"):
		f.Name = fault.PermissionDenied
		f.Hint = "you need lambda:" + action + " on it and on its alias " + deployment.Alias + "; or give --policy, --state-machine and --audit-bucket"
	}
	return f
}

// forecast asks the functions that can reach the target.
func (t *target) forecast(ctx context.Context, arn string) (f rotation.Forecast, err error) {
	zone, err := t.policies.Zone(arn)
	if err != nil {
		return f, err
	}
	return f, t.call(ctx, t.functionName(zone, "cutSecret"), lambdaentry.PlanEvent{Act: lambdaentry.ActPlan, Secret: arn}, &f)
}

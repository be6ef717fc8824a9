package cloudformation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
)

// ruleTarget is one of a rule's Targets.
type ruleTarget struct {
	Id, Arn, Input, RoleArn string //nolint:revive // the template's name
	DeadLetterConfig        *struct{ Arn string }
	RetryPolicy             *struct{ MaximumEventAgeInSeconds, MaximumRetryAttempts int32 }
	InputTransformer        *struct {
		InputPathsMap map[string]string
		InputTemplate string
	}
}

func (t ruleTarget) target() ebtypes.Target {
	out := ebtypes.Target{Id: &t.Id, Arn: &t.Arn}
	if t.Input != "" {
		out.Input = &t.Input
	}
	if t.RoleArn != "" {
		out.RoleArn = &t.RoleArn
	}
	if t.DeadLetterConfig != nil {
		out.DeadLetterConfig = &ebtypes.DeadLetterConfig{Arn: &t.DeadLetterConfig.Arn}
	}
	if p := t.RetryPolicy; p != nil {
		out.RetryPolicy = &ebtypes.RetryPolicy{MaximumEventAgeInSeconds: &p.MaximumEventAgeInSeconds, MaximumRetryAttempts: &p.MaximumRetryAttempts}
	}
	if i := t.InputTransformer; i != nil {
		out.InputTransformer = &ebtypes.InputTransformer{InputPathsMap: i.InputPathsMap, InputTemplate: &i.InputTemplate}
	}
	return out
}

func makeRule(ctx context.Context, d *deployment, _ string, r *Resource) error {
	var targets []ruleTarget
	if err := r.read("Targets", &targets); err != nil {
		return err
	}
	name := r.text("Name")
	in := &eventbridge.PutRuleInput{Name: &name, State: ebtypes.RuleState(r.text("State"))}
	if r.Properties["EventPattern"] != nil {
		in.EventPattern = aws.String(r.document("EventPattern"))
	}
	if s := r.text("ScheduleExpression"); s != "" {
		in.ScheduleExpression = &s
	}
	rule, err := d.clients.events.PutRule(ctx, in)
	if err != nil {
		return err
	}
	put := &eventbridge.PutTargetsInput{Rule: &name}
	for _, t := range targets {
		put.Targets = append(put.Targets, t.target())
	}
	out, err := d.clients.events.PutTargets(ctx, put)
	if err != nil {
		return err
	}
	if out.FailedEntryCount > 0 {
		return fmt.Errorf("%d targets were refused", out.FailedEntryCount)
	}
	r.Ref, r.Attributes["Arn"] = name, aws.ToString(rule.RuleArn)
	return nil
}

// makeRotationSchedule does what CloudFormation does: it calls RotateSecret, and
// waits until the test of the function that comes with it is over.
func makeRotationSchedule(ctx context.Context, d *deployment, id string, r *Resource) error {
	var rules struct{ ScheduleExpression, Duration string }
	if err := r.read("RotationRules", &rules); err != nil {
		return err
	}
	secret := r.text("SecretId")
	at := &smtypes.RotationRulesType{ScheduleExpression: &rules.ScheduleExpression}
	if rules.Duration != "" {
		at.Duration = &rules.Duration
	}
	now, _ := r.Properties["RotateImmediatelyOnUpdate"].(bool)
	if _, err := d.clients.secrets.RotateSecret(ctx, &secretsmanager.RotateSecretInput{
		SecretId: &secret, RotationLambdaARN: aws.String(r.text("RotationLambdaARN")), RotationRules: at, RotateImmediately: &now,
	}); err != nil {
		return err
	}
	if err := d.tested(ctx, secret); err != nil {
		return err
	}
	return kept(ctx, d, id, r)
}

func (d *deployment) tested(ctx context.Context, secret string) error {
	for deadline := time.Now().Add(time.Minute); ; {
		out, err := d.clients.secrets.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &secret})
		if err != nil {
			return err
		}
		pending := false
		for _, stages := range out.VersionIdsToStages {
			pending = pending || slices.Contains(stages, "AWSPENDING")
		}
		if !pending {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("the test of the rotation function doesn't end")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// checkPermissions finds a function that is called by a service which no permission
// lets call it. The local AWS would let it; AWS would lose every event.
func (d *deployment) checkPermissions() error {
	var errs []error
	for id, r := range d.stack.Resources {
		switch r.Type {
		case "AWS::Events::Rule":
			var targets []ruleTarget
			if err := r.read("Targets", &targets); err != nil {
				return err
			}
			for _, t := range targets {
				if strings.Contains(t.Arn, ":lambda:") && !d.permitted(t.Arn, "events.amazonaws.com", r.Attributes["Arn"]) {
					errs = append(errs, fmt.Errorf("rule %s may not invoke %s", id, t.Arn))
				}
			}
		case "AWS::Logs::SubscriptionFilter":
			from := arn("logs", "log-group:"+r.text("LogGroupName")+":*")
			if f := r.text("DestinationArn"); !d.permitted(f, "logs.amazonaws.com", from) {
				errs = append(errs, fmt.Errorf("subscription %s: CloudWatch Logs may not invoke %s", id, f))
			}
		case "AWS::SecretsManager::RotationSchedule":
			if f := r.text("RotationLambdaARN"); !d.permitted(f, "secretsmanager.amazonaws.com", "") {
				errs = append(errs, fmt.Errorf("rotation %s: Secrets Manager may not invoke %s", id, f))
			}
		}
	}
	return errors.Join(errs...)
}

func (d *deployment) permitted(function, principal, source string) bool {
	for _, p := range d.stack.Of("AWS::Lambda::Permission") {
		from := p.text("SourceArn")
		if p.text("FunctionName") == function && p.text("Principal") == principal && p.text("Action") == "lambda:InvokeFunction" && (from == "" || from == source) {
			return true
		}
	}
	return false
}

package keyturn

import (
	"fmt"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// mostTargets is EventBridge's bound for one rule (quotas).
const mostTargets = 5

// Bounds of delivery, in seconds and tries.
const (
	freshAge   = 60   // EventBridge's least; the next look comes in a minute
	eventAge   = 3600 // a look at the labels is as good as an event by then
	auditAge   = 21600
	eventTries = 20
)

// calls on a managed secret that only Keyturn should make.
var watchedCalls = []string{
	"PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage", "TagResource", "UntagResource", "DeleteSecret", "RestoreSecret",
	"CancelRotateSecret", "RotateSecret", "PutResourcePolicy", "DeleteResourcePolicy",
}

// rules are all on the default bus, where AWS's own events are.
func (b *builder) rules() {
	b.watchdogRules()
	b.auditRules()
	b.findingsRule()
	for _, z := range b.zones {
		if b.subscriptions(z); z.VPC != "" {
			b.pings(z)
		}
	}
	for _, folder := range slices.DeleteFunc(ControlFunctions(), func(f string) bool { return !retries(f) }) {
		b.invoking(b.control, b.control.functions[folder])
	}
}

// watchdogRules: correctness rests on the look once a minute; events only make it
// sooner.
func (b *builder) watchdogRules() {
	watchdog := b.control.functions["watchdog"]
	b.rule("Watch", "watch", when{schedule: "rate(1 minute)"}, b.to(watchdog, freshAge, 0))
	b.rule("Rotations", "rotations", when{pattern: map[string]any{
		"source": []any{"aws.secretsmanager"}, "detail-type": []any{"AWS Service Event via CloudTrail"},
		"detail": map[string]any{"eventName": []any{"RotationSucceeded", "RotationFailed", "RotationAbandoned"}},
	}}, b.to(watchdog, eventAge, eventTries))
	var machines []any
	for _, z := range b.zones {
		machines = append(machines, b.machineARN("rotation", z.Name))
	}
	b.rule("Runs", "runs", when{pattern: map[string]any{
		"source": []any{"aws.states"}, "detail-type": []any{"Step Functions Execution Status Change"},
		"detail": map[string]any{"status": []any{"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"}, "stateMachineArn": machines},
	}}, b.to(watchdog, eventAge, eventTries))
}

// auditRules feed the detections.
func (b *builder) auditRules() {
	audit := b.control.functions["audit"]
	to := func() target { return b.to(audit, auditAge, eventTries) }
	b.rule("KeyRotations", "key-rotations", when{pattern: map[string]any{
		"source": []any{"aws.kms"}, "detail-type": []any{"KMS CMK Rotation"}, "resources": b.watchedKeys(),
	}}, to())
	// Not ours: another role's session, or no role's at all (a user, root).
	others := func(of map[string]any) map[string]any {
		return map[string]any{"userIdentity": map[string]any{"sessionContext": map[string]any{"sessionIssuer": map[string]any{"arn": []any{of}}}}}
	}
	ours := "arn:" + b.partition + ":iam::" + b.accountID + ":role" + b.rolePath()
	var calls []any
	for _, c := range watchedCalls {
		calls = append(calls, c)
	}
	b.rule("Calls", "calls", when{pattern: map[string]any{
		"source": []any{"aws.secretsmanager"}, "detail-type": []any{"AWS API Call via CloudTrail"},
		"detail": map[string]any{
			"eventName": calls,
			"$or":       []any{others(map[string]any{"exists": false}), others(map[string]any{"anything-but": map[string]any{"prefix": ours}})},
		},
	}}, to())
	b.rule("Records", "records", when{pattern: map[string]any{
		"source": []any{"aws.s3"}, "detail-type": []any{"Object Created"},
		"detail": map[string]any{
			"bucket": map[string]any{"name": []any{*b.BucketName}},
			"object": map[string]any{"key": []any{map[string]any{"prefix": recordsPrefix}}},
		},
	}}, to())
	b.rule("Daily", "daily", when{schedule: "cron(17 3 * * ? *)"}, to())
}

// mostKeys keeps the rule's pattern within EventBridge's 2,048 characters.
const mostKeys = 20

// watchedKeys are those under which secrets lie that Keyturn reads or writes, and
// its own; with too many of them, any key of the account.
func (b *builder) watchedKeys() []any {
	keys := slices.Clone(b.account.Deploy.Keys)
	for _, s := range b.account.Secrets {
		if s.Key != "" {
			keys = append(keys, s.Key)
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(append(keys, b.key))
	if len(keys) > mostKeys {
		return []any{map[string]any{"prefix": b.arn("kms", "key/")}}
	}
	all := make([]any, 0, len(keys))
	for _, k := range keys {
		all = append(all, k)
	}
	return all
}

// findingsRule turns a finding into a message that a person can read.
func (b *builder) findingsRule() {
	b.rule("Findings", "findings", when{pattern: map[string]any{
		"source": []any{EventSource}, "detail-type": []any{FindingDetail},
	}}, target{arn: *b.TopicARN, age: auditAge, tries: eventTries, transformer: &awsevents.CfnRule_InputTransformerProperty{
		InputPathsMap: &map[string]*string{
			"finding": jsii.String("$.detail.finding"), "secret": jsii.String("$.detail.secret"), "version": jsii.String("$.detail.version"),
			"saw": jsii.String("$.detail.saw"), "do": jsii.String("$.detail.do"), "account": jsii.String("$.account"),
			"region": jsii.String("$.region"), "time": jsii.String("$.time"),
		},
		InputTemplate: jsii.String(`"Keyturn: <finding>"
"Secret: <secret>"
"Version: <version>"
"Seen: <saw>"
"What to do: <do>"
"Account <account>, region <region>, <time>"`),
	}})
}

// pings call every function of a VPC once a day. Lambda takes back the network
// interfaces of functions that are idle for weeks, and the next call fails until
// there are new ones (developer guide, "Lambda function states").
func (b *builder) pings(z *zone) {
	n := 0
	for some := range slices.Chunk(z.folders(), mostTargets) {
		n++
		var to []target
		for _, folder := range some {
			t := b.to(z.functions[folder], eventAge, eventTries)
			t.input = `{"ping":true}`
			to = append(to, t)
		}
		b.rule(fmt.Sprintf("Ping%s%d", z.Name, n), fmt.Sprintf("ping-%s-%d", z.Name, n), when{schedule: "rate(1 day)"}, to...)
	}
}

// when is what a rule waits for: one of the two.
type when struct {
	schedule string
	pattern  map[string]any
}

// target is where a rule sends what it saw.
type target struct {
	arn         string
	function    *function // nil: a topic
	input       string
	transformer *awsevents.CfnRule_InputTransformerProperty
	age, tries  int
}

func (b *builder) to(f *function, age, tries int) target {
	return target{arn: *f.alias.FunctionArn(), function: f, age: age, tries: tries}
}

// rule adds a rule, and lets it call its functions.
func (b *builder) rule(id, name string, w when, to ...target) {
	scope := constructs.NewConstruct(b.root, jsii.String("Rule"+id))
	targets := []any{}
	for i, t := range to {
		p := &awsevents.CfnRule_TargetProperty{
			Id: jsii.String(fmt.Sprintf("Target%d", i)), Arn: jsii.String(t.arn), InputTransformer: t.transformer,
			DeadLetterConfig: &awsevents.CfnRule_DeadLetterConfigProperty{Arn: &b.queues.undelivered},
			RetryPolicy:      &awsevents.CfnRule_RetryPolicyProperty{MaximumEventAgeInSeconds: jsii.Number(t.age), MaximumRetryAttempts: jsii.Number(t.tries)},
		}
		if t.input != "" {
			p.Input = jsii.String(t.input)
		}
		targets = append(targets, p)
	}
	props := &awsevents.CfnRuleProps{Name: jsii.String(b.name + "-" + name), State: jsii.String("ENABLED"), Targets: targets}
	if w.schedule != "" {
		props.ScheduleExpression = jsii.String(w.schedule)
	} else {
		props.EventPattern = w.pattern
	}
	rule := awsevents.NewCfnRule(scope, jsii.String("Rule"), props)
	for i, t := range to {
		if t.function == nil {
			continue
		}
		awslambda.NewCfnPermission(scope, jsii.String(fmt.Sprintf("Permission%d", i)), &awslambda.CfnPermissionProps{
			Action: jsii.String(invoke), FunctionName: jsii.String(t.arn), Principal: jsii.String("events.amazonaws.com"), SourceArn: rule.AttrArn(),
		})
	}
}

// retries tells the functions that are called with something that counts.
func retries(folder string) bool {
	return folder == "watchdog" || folder == "audit" || folder == LogFunction
}

// invoking says what becomes of an event on which a function fails. The watchdog
// looks again in a minute; the others must miss none.
func (b *builder) invoking(z *zone, f *function) {
	tries, age := 2, auditAge
	if f.folder == "watchdog" {
		tries, age = 0, freshAge
	}
	awslambda.NewCfnEventInvokeConfig(z.scope, jsii.String(f.folder+"Invoking"), &awslambda.CfnEventInvokeConfigProps{
		FunctionName: &f.name, Qualifier: f.alias.AliasName(),
		MaximumRetryAttempts: jsii.Number(tries), MaximumEventAgeInSeconds: jsii.Number(age),
		DestinationConfig: &awslambda.CfnEventInvokeConfig_DestinationConfigProperty{
			OnFailure: &awslambda.CfnEventInvokeConfig_OnFailureProperty{Destination: &b.queues.failed},
		},
	}).AddResourceDependency(f.alias.Node().DefaultChild().(awslambda.CfnAlias), nil)
}

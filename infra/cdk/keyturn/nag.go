package keyturn

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
)

// accepted is a finding of cdk-nag's AwsSolutions checks that stays as it is, and
// why. It is written into the template as cdk-nag reads it (its README, "Rule
// suppressions"), so that whoever runs the checks on a stack with this construct
// sees the reasons.
type accepted struct {
	rule, reason string
	where        string // a pattern of what was found; empty: the whole rule
}

// acceptedBy are the reasons by type of resource.
var acceptedBy = map[string][]accepted{
	"AWS::IAM::Role": {
		{
			"AwsSolutions-IAM5", "Objects of the audit trail are named for rotations that are still to come. The prefix bounds them, and the bucket's policy lets nothing be changed or deleted.",
			`/^Resource::<.*AuditBucket.*\.Arn>\/(records|heads|refusals|evidence|evidence\/\*\/late-login|manifests)\/\*$/g`,
		},
		{"AwsSolutions-IAM5", "Executions are named when they start. The state machine bounds them.", `/^Resource::.*:execution:.*:\*$/g`},
		{
			"AwsSolutions-IAM5", "Versions of one function: an execution that began before an upgrade calls the version of then, with the rights of now.",
			`/^Resource::.*:function:[A-Za-z0-9-]+:\*$/g`,
		},
		{
			"AwsSolutions-IAM5", "ListSecrets, Lambda's network interfaces, log delivery and X-Ray know no resources. The interfaces are denied to the function's own code.",
			`/^Resource::\*$/g`,
		},
	},
	"AWS::S3::Bucket": {{
		"AwsSolutions-S1", "Every object is one record that says who wrote it and is chained to the next; changes and deletions are refused. Reads are CloudTrail's data events, for who wants them; a second bucket of logs would need the same protection again.", "",
	}},
	"AWS::SQS::Queue": {{"AwsSolutions-SQS3", "It is itself where undelivered events and failed invocations go; an alarm looks at its depth.", ""}},
	"AWS::StepFunctions::StateMachine": {
		{"AwsSolutions-SF1", "A rotation polls for hours or days: 25,000 events of waiting. Failures are logged; each step's act is in the audit trail.", ""},
		{"AwsSolutions-SF2", "Steps are seconds in a rotation of hours, and a trace's segments end after minutes. Props.Tracing switches it on.", ""},
	},
	"AWS::SecretsManager::Secret": {{"AwsSolutions-SMG4", "Its driver is the state machine, or its schedule isn't decided: keyturn.yaml says which.", ""}},
}

// suppress writes the reasons down.
func (b *builder) suppress() {
	for _, child := range *b.root.Node().FindAll("") {
		r, ok := child.(awscdk.CfnResource)
		if !ok {
			continue
		}
		var list []any
		for _, a := range acceptedBy[*r.CfnResourceType()] {
			rule := map[string]any{"id": a.rule, "reason": a.reason}
			if a.where != "" {
				rule["applies_to"] = []any{map[string]any{"regex": a.where}}
			}
			list = append(list, rule)
		}
		if len(list) > 0 {
			r.AddMetadata(jsii.String("cdk_nag"), map[string]any{"rules_to_suppress": list})
		}
	}
}

package keyturn

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsstepfunctions"
	"github.com/aws/jsii-runtime-go"

	"github.com/keyturn/keyturn/stepfunctions"
)

// machineName is fixed, because the watchdog makes ARNs of it.
func (b *builder) machineName(kind, zone string) string {
	if zone == "" {
		return b.name + "-" + kind
	}
	return b.name + "-" + kind + "-" + zone
}

func (b *builder) machineARN(kind, zone string) string {
	return b.arn("states", "stateMachine:"+b.machineName(kind, zone))
}

// machines adds a zone's pair of state machines.
func (b *builder) machines(z *zone) error {
	for _, m := range []struct {
		kind, definition string
		arns             map[string]*string
	}{{"rotation", stepfunctions.Rotation, b.RotationMachines}, {"emergency", stepfunctions.Emergency, b.EmergencyMachines}} {
		arn, err := b.machine(z, m.kind, m.definition)
		if err != nil {
			return err
		}
		m.arns[z.Name] = arn
	}
	return nil
}

// machine adds one. It calls the versions that this deployment publishes; an
// execution goes on with the definition, and so with the versions, that it began
// with (Step Functions API reference, UpdateStateMachine).
func (b *builder) machine(z *zone, kind, definition string) (*string, error) {
	versions, rights := map[string]*string{}, []string{}
	for _, folder := range stepfunctions.Functions(definition) {
		f := z.functions[folder]
		if f == nil {
			f = b.control.functions[folder]
		}
		if f == nil {
			return nil, fmt.Errorf("%s.asl.json calls %s, which isn't among the functions: deploy functions and state machines from one release", kind, folder)
		}
		versions[folder] = f.version
		// Versions and not one version: an execution that began before this
		// deployment calls the one of then, with the rights of now.
		rights = append(rights, f.arn+":*")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(definition)); err != nil {
		return nil, fmt.Errorf("reading %s.asl.json: %w", kind, err)
	}
	name, arn := b.machineName(kind, z.Name), b.machineARN(kind, z.Name)
	logs := b.logGroup(z.scope, kind+"Log", "/aws/vendedlogs/states/"+name)
	policy := []statement{{sid: "Functions", actions: []string{invoke}, resources: rights}}
	policy = append(policy, b.machineRights(kind, arn)...)
	role := b.role(z.scope, kind+"Role", assumed("states.amazonaws.com", map[string]any{
		"StringEquals": map[string]any{"aws:SourceAccount": b.accountID},
		"ArnLike":      map[string]any{"aws:SourceArn": arn},
	}), policy)
	awsstepfunctions.NewCfnStateMachine(z.scope, jsii.String(kind), &awsstepfunctions.CfnStateMachineProps{
		StateMachineName: &name, StateMachineType: jsii.String("STANDARD"), RoleArn: role.AttrArn(),
		DefinitionString: jsii.String(compact.String()), DefinitionSubstitutions: versions,
		LoggingConfiguration: &awsstepfunctions.CfnStateMachine_LoggingConfigurationProperty{
			Level: jsii.String("ERROR"), IncludeExecutionData: jsii.Bool(false),
			Destinations: []any{&awsstepfunctions.CfnStateMachine_LogDestinationProperty{
				CloudWatchLogsLogGroup: &awsstepfunctions.CfnStateMachine_CloudWatchLogsLogGroupProperty{LogGroupArn: logs.AttrArn()},
			}},
		},
		TracingConfiguration: &awsstepfunctions.CfnStateMachine_TracingConfigurationProperty{Enabled: &b.props.Tracing},
	})
	return &arn, nil
}

// machineRights are those beside the functions. Log delivery and X-Ray know no
// resources (Step Functions developer guide, "Logging", "Tracing").
func (b *builder) machineRights(kind, self string) []statement {
	rights := []statement{{sid: "LogDelivery", resources: []string{"*"}, actions: []string{
		"logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery", "logs:ListLogDeliveries",
		"logs:PutResourcePolicy", "logs:DescribeResourcePolicies", "logs:DescribeLogGroups",
	}}}
	if kind == "rotation" { // it hands over to its next generation
		rights = append(rights, statement{sid: "HandOver", actions: []string{start}, resources: []string{self}})
	}
	if b.props.Tracing {
		rights = append(rights, statement{sid: "Tracing", resources: []string{"*"}, actions: []string{
			"xray:PutTraceSegments", "xray:PutTelemetryRecords", "xray:GetSamplingRules", "xray:GetSamplingTargets",
		}})
	}
	return rights
}

package keyturn

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/jsii-runtime-go"

	"github.com/keyturn/keyturn/policy/account"
	"github.com/keyturn/keyturn/rotation"
)

// createSecrets makes those that keyturn.yaml wants made, without a value: a
// credential that works is stored by whoever has it.
func (b *builder) createSecrets() {
	for _, s := range b.account.Secrets {
		if !s.Create {
			continue
		}
		props := &awssecretsmanager.CfnSecretProps{
			Name: jsii.String(s.Secret), Description: jsii.String("Rotated by Keyturn (" + b.name + "), kind " + s.Kind),
		}
		if s.Key != "" {
			props.KmsKeyId = jsii.String(s.Key)
		}
		made := awssecretsmanager.NewCfnSecret(b.root, jsii.String("Secret"+constructID(s.Secret)), props)
		retain(made)
		b.made[s.Secret] = *made.Ref()
	}
}

// secrets adds what each managed secret gets: a policy, and its schedule.
func (b *builder) secrets() {
	permissions := map[string]awslambda.CfnPermission{}
	for _, z := range b.zones {
		permissions[z.Name] = awslambda.NewCfnPermission(z.scope, jsii.String("RotationPermission"), &awslambda.CfnPermissionProps{
			Action: jsii.String(invoke), FunctionName: z.functions["rotateSecret"].alias.FunctionArn(),
			Principal: jsii.String("secretsmanager.amazonaws.com"), SourceAccount: &b.accountID,
		})
	}
	for _, z := range b.zones {
		for _, s := range z.secrets {
			b.secretPolicy(z, s)
			b.schedule(z, s, permissions[z.Name])
		}
	}
	if len(b.account.Deploy.BreakGlass) == 0 && len(b.account.Secrets) > 0 {
		awscdk.Annotations_Of(b.root).AddWarningV2(jsii.String("keyturn:break-glass"), jsii.String(
			"deploy.break_glass is empty: nobody but Keyturn and the root user can store a value in a managed secret, roll a rotation back or pause it. "+
				"List the operators' role"))
	}
}

// schedule makes Secrets Manager call the zone's rotation function. A secret that
// the machine drives has none: two drivers would meet. One without a schedule has
// none either; aws secretsmanager rotate-secret --rotation-lambda-arn switches it
// on.
func (b *builder) schedule(z *zone, s account.Secret, permission awslambda.CfnPermission) {
	if s.Driver != rotation.DriverSecretsManager || s.Schedule == "" {
		return
	}
	rules := &awssecretsmanager.CfnRotationSchedule_RotationRulesProperty{ScheduleExpression: jsii.String(s.Schedule)}
	if s.ScheduleWindow > 0 {
		hours := int(time.Duration(s.ScheduleWindow).Hours())
		rules.Duration = jsii.String(strconv.Itoa(hours) + "h")
	}
	made := awssecretsmanager.NewCfnRotationSchedule(b.root, jsii.String("Schedule"+constructID(s.Secret)), &awssecretsmanager.CfnRotationScheduleProps{
		SecretId: jsii.String(b.secretID(s)), RotationLambdaArn: z.functions["rotateSecret"].alias.FunctionArn(),
		RotateImmediatelyOnUpdate: jsii.Bool(false), RotationRules: rules,
	})
	made.AddResourceDependency(permission, nil)
}

// secretPolicy keeps other hands off a managed secret. It denies and allows
// nothing, so it widens nobody's rights.
//
// Spared are Keyturn's functions, each by its role's ARN, and only those that
// write this secret; who may break the glass; and the account's root user, who
// must be able to mend a policy that locks everybody out.
//
// Rotation's configuration and this policy itself are CloudFormation's too. It
// calls with a forward access session, of the deployer's rights or of a service
// role's, and so aws:CalledVia names it (CloudFormation user guide, "Forward
// access sessions requests and permission evaluation"). The role under which
// cdk bootstrap lets it run is spared besides, should the key be missing. What the
// stack has made (Create) it may also describe and tag. It may never write a value
// by PutSecretValue, or a label.
//
// RotateSecret stays free for people, but not with another function than ours:
// that one would be given the rotation of the secret.
func (b *builder) secretPolicy(z *zone, s account.Secret) {
	doc := document(b.secretStatements(z, s)...)
	if slices.Contains(b.props.KeepPolicy, s.Secret) {
		b.SecretStatements[s.Secret] = doc["Statement"].([]any)
		return
	}
	awssecretsmanager.NewCfnResourcePolicy(b.root, jsii.String("Policy"+constructID(s.Secret)), &awssecretsmanager.CfnResourcePolicyProps{
		SecretId: jsii.String(b.secretID(s)), BlockPublicPolicy: jsii.Bool(true), ResourcePolicy: doc,
	})
}

func (b *builder) secretStatements(z *zone, s account.Secret) []statement {
	spared := append(slices.Clone(b.account.Deploy.BreakGlass), "arn:"+b.partition+":iam::"+b.accountID+":root")
	unless := func(more ...string) map[string]any {
		return map[string]any{"ArnNotLike": map[string]any{"aws:PrincipalArn": texts(append(more, spared...))}}
	}
	unlessDeployed := unless(b.executionRole())
	unlessDeployed["ForAllValues:StringNotEquals"] = map[string]any{"aws:CalledVia": "cloudformation.amazonaws.com"}
	otherFunction := unless()
	otherFunction["Null"] = map[string]any{"secretsmanager:RotationLambdaARN": "false"}
	otherFunction["ArnNotEquals"] = map[string]any{"secretsmanager:RotationLambdaARN": *z.functions["rotateSecret"].alias.FunctionArn()}
	deny := func(sid string, condition map[string]any, actions ...string) statement {
		return statement{sid: sid, deny: true, principal: everyone(), actions: actions, condition: condition, resources: []string{"*"}}
	}
	description := unless()
	if s.Create {
		description = unlessDeployed
	}
	return []statement{
		deny("ValuesAndLabels", unless(b.writers(z, s)...), putValue, label, "secretsmanager:DeleteSecret"),
		deny("Description", description, "secretsmanager:UpdateSecret", "secretsmanager:TagResource", "secretsmanager:UntagResource"),
		deny("Configuration", unlessDeployed, "secretsmanager:CancelRotateSecret", "secretsmanager:PutResourcePolicy", "secretsmanager:DeleteResourcePolicy"),
		deny("OtherRotationFunction", otherFunction, rotate),
	}
}

// writers are the roles whose functions write this secret's values or labels.
func (b *builder) writers(z *zone, s account.Secret) []string {
	var arns []string
	add := func(functions map[string]*function, folders []string) {
		for _, folder := range folders {
			if f := functions[folder]; f != nil && writes(folder, s) && (folder != LogFunction || len(s.LogGroups) > 0) {
				arns = append(arns, *f.role.AttrArn())
			}
		}
	}
	add(z.functions, z.folders())
	add(b.control.functions, controlFunctions)
	return arns
}

// writes reads from the table whether a function writes a secret.
func writes(function string, s account.Secret) bool {
	for _, p := range permissions[function] {
		if p.means(s) && (slices.Contains(p.Actions, putValue) || slices.Contains(p.Actions, label)) {
			return true
		}
	}
	return false
}

// executionRole is CloudFormation's in an account that cdk bootstrap has made
// ready (its template names it so).
func (b *builder) executionRole() string {
	qualifier := "hnb659fds"
	if q := b.stack.Synthesizer().BootstrapQualifier(); q != nil && *q != "" {
		qualifier = *q
	}
	return fmt.Sprintf("arn:%s:iam::%s:role/cdk-%s-cfn-exec-role-%s-%s", b.partition, b.accountID, qualifier, b.accountID, b.region)
}

package keyturn

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/policy/account"
)

// zone is a set of functions that lie in one network, or in none.
type zone struct {
	account.Zone
	secrets   []account.Secret
	scope     constructs.Construct
	logGroup  awslogs.CfnLogGroup
	functions map[string]*function // by folder
}

// function is one that is deployed.
type function struct {
	folder, name string
	arn          string // without a version
	role         awsiam.CfnRole
	version      *string // ARN of what this deployment publishes
	alias        awslambda.Alias
}

// Alias is what Secrets Manager, rules and schedules call. State machines call
// versions, so that a run goes on with the code that it began with.
const Alias = deployment.Alias

// memory is for a process of 11 MiB that waits for answers (docs/benchmarks.md).
const memory = 128

// functions adds a zone's functions and what they have in common. The control
// functions are the zone without a network.
func (b *builder) functions(z *zone) error {
	id, folders := "Zone"+z.Name, z.folders()
	if z == b.control {
		id, folders = "Control", controlFunctions
	}
	z.scope = constructs.NewConstruct(b.root, &id)
	z.functions = map[string]*function{}
	z.logGroup = b.logGroup(z.scope, "Logs", "")
	groups := b.securityGroups(z)
	for _, folder := range folders {
		f, err := b.function(z, folder)
		if err != nil {
			return err
		}
		if z.VPC != "" {
			f.lambda().SetVpcConfig(&awslambda.CfnFunction_VpcConfigProperty{SubnetIds: jsii.Strings(z.Subnets...), SecurityGroupIds: &groups})
		}
		z.functions[folder] = f.function
	}
	return nil
}

// securityGroups are the zone's, or one that is made: nothing may connect to the
// functions, and they may connect to targets, endpoints and consumers, whose own
// groups decide.
func (b *builder) securityGroups(z *zone) []*string {
	if z.VPC == "" {
		return nil
	}
	if len(z.SecurityGroups) > 0 {
		return *jsii.Strings(z.SecurityGroups...)
	}
	out := func(protocol, v4, v6 *string) []any {
		return []any{
			&awsec2.CfnSecurityGroup_EgressProperty{IpProtocol: protocol, CidrIp: v4, FromPort: jsii.Number(0), ToPort: jsii.Number(65535), Description: jsii.String("Targets, endpoints, consumers")},
			&awsec2.CfnSecurityGroup_EgressProperty{IpProtocol: protocol, CidrIpv6: v6, FromPort: jsii.Number(0), ToPort: jsii.Number(65535), Description: jsii.String("Targets, endpoints, consumers")},
		}
	}
	group := awsec2.NewCfnSecurityGroup(z.scope, jsii.String("SecurityGroup"), &awsec2.CfnSecurityGroupProps{
		GroupDescription: jsii.String("Keyturn functions of zone " + z.Name), VpcId: &z.VPC,
		SecurityGroupEgress: out(jsii.String("tcp"), jsii.String("0.0.0.0/0"), jsii.String("::/0")),
	})
	b.SecurityGroups[z.Name] = group.AttrGroupId()
	return []*string{group.AttrGroupId()}
}

// made is a function and the construct behind it.
type made struct {
	*function
	construct awslambda.Function
}

func (m made) lambda() awslambda.CfnFunction {
	return m.construct.Node().DefaultChild().(awslambda.CfnFunction)
}

// function adds one function with its role, the version that this deployment
// publishes, and the alias.
func (b *builder) function(z *zone, folder string) (made, error) {
	f := &function{folder: folder, name: functionName(b.name, z.Name, folder)}
	f.arn = b.arn("lambda", "function:"+f.name)
	path, err := b.packaged(folder)
	if err != nil {
		return made{}, err
	}
	scope := constructs.NewConstruct(z.scope, &folder)
	f.role = b.role(scope, "Role", assumed("lambda.amazonaws.com", nil), b.statements(folder, b.scopeOf(z, f)))
	fn := awslambda.NewFunction(scope, jsii.String("Function"), &awslambda.FunctionProps{
		FunctionName: &f.name, Description: jsii.String(descriptions[folder]),
		Runtime: awslambda.Runtime_PROVIDED_AL2023(), Architecture: awslambda.Architecture_ARM_64(), Handler: jsii.String("bootstrap"),
		Code:       awslambda.Code_FromAsset(&path, nil),
		Timeout:    awscdk.Duration_Seconds(jsii.Number(b.limit().Seconds())),
		MemorySize: jsii.Number(memory), Environment: b.environment(z, folder),
		Role:     awsiam.Role_FromRoleArn(scope, jsii.String("Assumed"), f.role.AttrArn(), &awsiam.FromRoleArnOptions{Mutable: jsii.Bool(false)}),
		LogGroup: awslogs.LogGroup_FromLogGroupName(scope, jsii.String("LogGroup"), z.logGroup.Ref()),
		// An execution that began before an upgrade calls the version of then.
		CurrentVersionOptions: &awslambda.VersionOptions{RemovalPolicy: awscdk.RemovalPolicy_RETAIN},
	})
	f.version = fn.CurrentVersion().FunctionArn()
	f.alias = awslambda.NewAlias(scope, jsii.String("Alias"), &awslambda.AliasProps{AliasName: jsii.String(Alias), Version: fn.CurrentVersion()})
	return made{f, fn}, nil
}

// environment is what a function is told. Those in a zone can't reach Step
// Functions, and start no runs.
func (b *builder) environment(z *zone, folder string) *map[string]*string {
	env := map[string]*string{deployment.EnvAuditBucket: b.BucketName, deployment.EnvDeployment: &b.name}
	if z == b.control {
		env[deployment.EnvStateMachine], env[deployment.EnvEmergencyMachine] = b.StateMachine, b.EmergencyStateMachine
	}
	if folder == "audit" {
		env[deployment.EnvSigningKey] = &b.signingKey
	}
	return &env
}

// packaged puts a function's package together, once for all zones.
func (b *builder) packaged(folder string) (string, error) {
	path := filepath.Join(b.built, folder)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", fmt.Errorf("making the package of %s: %w", folder, err)
	}
	var files []string
	for _, s := range b.account.Secrets {
		files = append(files, s.Files...)
	}
	slices.Sort(files)
	err := bundle(path, filepath.Join(b.props.Functions, folder), b.account.Policy.JSON(), b.props.Folder, slices.Compact(files))
	if err != nil {
		return "", fmt.Errorf("packaging %s: %w", folder, err)
	}
	return path, nil
}

// scopeOf is what the permissions of a function are about.
func (b *builder) scopeOf(z *zone, f *function) scope {
	s := scope{secrets: z.secrets, log: *z.logGroup.AttrArn(), self: f.arn, network: z.VPC != ""}
	for _, other := range b.zones {
		if z == b.control || z == other {
			s.rotators = append(s.rotators, b.arn("lambda", "function:"+functionName(b.name, other.Name, "rotateSecret")+":"+Alias))
			s.machines = append(s.machines, b.machineARN("rotation", other.Name))
			s.runs = append(s.runs, b.arn("states", "execution:"+b.machineName("rotation", other.Name)+":*"))
		}
	}
	if f.folder == LogFunction {
		s.secrets = logged(z.secrets)
	}
	if retries(f.folder) {
		s.deadLetters = b.queues.failed
	}
	return s
}

// rolePath begins the names of all roles, so that a rule can tell Keyturn's own
// calls from others'.
func (b *builder) rolePath() string { return "/keyturn/" + b.name + "/" }

// role is a role with all of its rights in it: nothing that uses it can come
// before them.
func (b *builder) role(scope constructs.Construct, id string, trust map[string]any, rights []statement) awsiam.CfnRole {
	props := &awsiam.CfnRoleProps{AssumeRolePolicyDocument: trust, Path: jsii.String(b.rolePath())}
	if doc := document(rights...); doc != nil {
		props.Policies = []any{&awsiam.CfnRole_PolicyProperty{PolicyName: jsii.String("Keyturn"), PolicyDocument: doc}}
	}
	if boundary := b.account.Deploy.PermissionsBoundary; boundary != "" {
		props.PermissionsBoundary = &boundary
	}
	return awsiam.NewCfnRole(scope, &id, props)
}

// logGroup is encrypted under our key and stays when the stack goes. Its name is
// CloudFormation's, so that a second deployment doesn't find it taken.
func (b *builder) logGroup(scope constructs.Construct, id, name string) awslogs.CfnLogGroup {
	days := b.props.LogDays
	if days == 0 {
		days = 400
	}
	props := &awslogs.CfnLogGroupProps{RetentionInDays: jsii.Number(days), KmsKeyId: &b.key}
	if name != "" {
		props.LogGroupName = &name
	}
	group := awslogs.NewCfnLogGroup(scope, &id, props)
	if name == "" {
		retain(group)
	}
	return group
}

// retain keeps a resource when it leaves the stack or the stack goes, but not one
// of a first deployment that failed: it would be in the way of the second.
func retain(r awscdk.CfnResource) {
	r.ApplyRemovalPolicy(awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE, nil)
}

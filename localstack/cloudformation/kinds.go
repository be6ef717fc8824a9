package cloudformation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/lambda"
)

// kind is a resource type: what it may say, and what is made of it.
type kind struct {
	properties []string
	create     func(ctx context.Context, d *deployment, id string, r *Resource) error
}

// clients are of the services that make resources.
type clients struct {
	kms     *kms.Client
	s3      *s3.Client
	sns     *sns.Client
	sqs     *sqs.Client
	secrets *secretsmanager.Client
	states  *sfn.Client
	events  *eventbridge.Client
}

func newClients(cfg aws.Config) clients {
	return clients{
		kms: kms.NewFromConfig(cfg), s3: s3.NewFromConfig(cfg), sns: sns.NewFromConfig(cfg), sqs: sqs.NewFromConfig(cfg),
		secrets: secretsmanager.NewFromConfig(cfg), states: sfn.NewFromConfig(cfg), events: eventbridge.NewFromConfig(cfg),
	}
}

var kinds map[string]kind

func init() { //nolint:gochecknoinits // the table refers to functions that refer to it
	kinds = map[string]kind{
		"AWS::KMS::Key":                         {words("Description EnableKeyRotation KeyPolicy KeySpec KeyUsage"), makeKey},
		"AWS::S3::Bucket":                       {words("BucketEncryption NotificationConfiguration ObjectLockConfiguration ObjectLockEnabled OwnershipControls PublicAccessBlockConfiguration VersioningConfiguration"), makeBucket},
		"AWS::S3::BucketPolicy":                 {words("Bucket PolicyDocument"), makeBucketPolicy},
		"AWS::SNS::Topic":                       {words("DisplayName KmsMasterKeyId"), makeTopic},
		"AWS::SNS::TopicPolicy":                 {words("PolicyDocument Topics"), makeTopicPolicy},
		"AWS::SQS::Queue":                       {words("KmsMasterKeyId MessageRetentionPeriod"), makeQueue},
		"AWS::SQS::QueuePolicy":                 {words("PolicyDocument Queues"), makeQueuePolicy},
		"AWS::Logs::LogGroup":                   {words("KmsKeyId RetentionInDays LogGroupName"), makeLogGroup},
		"AWS::Logs::SubscriptionFilter":         {words("DestinationArn FilterName FilterPattern LogGroupName"), makeSubscription},
		"AWS::IAM::Role":                        {words("AssumeRolePolicyDocument Path PermissionsBoundary Policies"), makeRole},
		"AWS::EC2::SecurityGroup":               {words("GroupDescription SecurityGroupEgress VpcId"), makeSecurityGroup},
		"AWS::Lambda::Function":                 {words("Architectures Code Description Environment FunctionName Handler LoggingConfig MemorySize Role Runtime Timeout VpcConfig"), makeFunction},
		"AWS::Lambda::Version":                  {words("FunctionName"), makeVersion},
		"AWS::Lambda::Alias":                    {words("FunctionName FunctionVersion Name"), makeAlias},
		"AWS::Lambda::Permission":               {words("Action FunctionName Principal SourceAccount SourceArn"), kept},
		"AWS::Lambda::EventInvokeConfig":        {words("DestinationConfig FunctionName MaximumEventAgeInSeconds MaximumRetryAttempts Qualifier"), kept},
		"AWS::StepFunctions::StateMachine":      {words("DefinitionString DefinitionSubstitutions LoggingConfiguration RoleArn StateMachineName StateMachineType TracingConfiguration"), makeStateMachine},
		"AWS::Events::Rule":                     {words("EventPattern Name ScheduleExpression State Targets"), makeRule},
		"AWS::SecretsManager::Secret":           {words("Description KmsKeyId Name"), makeSecret},
		"AWS::SecretsManager::ResourcePolicy":   {words("BlockPublicPolicy ResourcePolicy SecretId"), kept},
		"AWS::SecretsManager::RotationSchedule": {words("RotateImmediatelyOnUpdate RotationLambdaARN RotationRules SecretId"), makeRotationSchedule},
		"AWS::CloudWatch::Alarm":                {words("AlarmActions AlarmDescription AlarmName ComparisonOperator EvaluationPeriods Metrics Threshold TreatMissingData"), kept},
		"AWS::CloudWatch::Dashboard":            {words("DashboardBody DashboardName"), makeDashboard},
	}
}

func words(text string) []string { return strings.Fields(text) }

// text is a property that is a string; "" if it isn't there.
func (r Resource) text(name string) string {
	s, _ := r.Properties[name].(string)
	return s
}

// read decodes a property strictly into a struct.
func (r Resource) read(name string, into any) error {
	raw, err := json.Marshal(r.Properties[name])
	if err == nil {
		decoder := json.NewDecoder(strings.NewReader(string(raw)))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(into)
	}
	if err != nil {
		return fmt.Errorf("property %s: %w", name, err)
	}
	return nil
}

// document is a property that a service takes as JSON text.
func (r Resource) document(name string) string {
	text, err := json.Marshal(r.Properties[name])
	if err != nil { // it was JSON
		return ""
	}
	return string(text)
}

// number is a property that is an integer; 0 if it isn't there.
func (r Resource) number(name string) int {
	f, _ := r.Properties[name].(float64)
	return int(f)
}

func arn(service, resource string) string {
	return "arn:aws:" + service + ":" + awsproto.Region + ":" + awsproto.Account + ":" + resource
}

// kept is for what the local AWS doesn't act on.
func kept(_ context.Context, d *deployment, id string, r *Resource) error {
	r.Ref = d.physical(id)
	return nil
}

func makeLogGroup(_ context.Context, d *deployment, id string, r *Resource) error {
	if r.Ref = r.text("LogGroupName"); r.Ref == "" {
		r.Ref = d.physical(id)
	}
	r.Attributes["Arn"] = arn("logs", "log-group:"+r.Ref+":*")
	return nil
}

func makeRole(_ context.Context, d *deployment, id string, r *Resource) error {
	r.Ref = d.physical(id)
	path := r.text("Path")
	if path == "" {
		path = "/"
	}
	r.Attributes["Arn"] = "arn:aws:iam::" + awsproto.Account + ":role" + path + r.Ref
	return nil
}

func makeSecurityGroup(_ context.Context, _ *deployment, id string, r *Resource) error {
	r.Ref = "sg-" + strings.ToLower(id)
	r.Attributes["GroupId"], r.Attributes["Id"] = r.Ref, r.Ref
	return nil
}

func makeDashboard(ctx context.Context, d *deployment, id string, r *Resource) error {
	if !json.Valid([]byte(r.text("DashboardBody"))) {
		return errors.New("DashboardBody isn't JSON")
	}
	return kept(ctx, d, id, r)
}

// function is a function's package: the asset's files, and the executable of this
// machine.
func makeFunction(ctx context.Context, d *deployment, id string, r *Resource) error {
	var code struct{ S3Bucket, S3Key string }
	var environment struct{ Variables map[string]string }
	if err := r.read("Code", &code); err != nil {
		return err
	}
	if r.Properties["Environment"] != nil {
		if err := r.read("Environment", &environment); err != nil {
			return err
		}
	}
	if r.text("Runtime") != "provided.al2023" || r.text("Handler") != "bootstrap" {
		return fmt.Errorf("runtime %q with handler %q", r.text("Runtime"), r.text("Handler"))
	}
	name := r.text("FunctionName")
	asset := filepath.Join(filepath.Dir(d.Template), "asset."+strings.TrimSuffix(code.S3Key, ".zip"))
	folder := filepath.Join(d.Dir, name)
	if err := os.CopyFS(folder, os.DirFS(asset)); err != nil {
		return fmt.Errorf("unpacking the asset: %w", err)
	}
	bootstrap := filepath.Join(folder, "bootstrap")
	f := lambda.Function{
		Name: name, Binary: bootstrap, Timeout: time.Duration(r.number("Timeout")) * time.Second, MemoryMB: r.number("MemorySize"),
		Aliases: d.qualifiers(id), Role: r.text("Role"),
	}
	for key, value := range environment.Variables {
		f.Env = append(f.Env, key+"="+value)
	}
	events, err := d.invoking(ctx, name)
	if err != nil {
		return err
	}
	f.Events = events
	r.Ref, r.Attributes["Arn"] = name, arn("lambda", "function:"+name)
	return d.Register(f)
}

// qualifiers are the versions and aliases that the template gives a function.
func (d *deployment) qualifiers(function string) []string {
	all := []string{firstVersion}
	for _, declared := range d.template.Resources {
		ref, _ := declared.Properties["FunctionName"].(map[string]any)
		if name, ok := declared.Properties["Name"].(string); ok && declared.Type == "AWS::Lambda::Alias" && ref["Ref"] == function {
			all = append(all, name)
		}
	}
	return all
}

// invoking is what the template says of a function's asynchronous invocations, or
// nil.
func (d *deployment) invoking(ctx context.Context, function string) (*lambda.Events, error) {
	for _, declared := range d.template.Resources {
		if declared.Type != "AWS::Lambda::EventInvokeConfig" || declared.Properties["FunctionName"] != function {
			continue
		}
		resolved, err := d.resolve(ctx, declared.Properties)
		if err != nil {
			return nil, err
		}
		r := Resource{Properties: resolved.(map[string]any)}
		var to struct{ OnFailure struct{ Destination string } }
		if err := r.read("DestinationConfig", &to); err != nil {
			return nil, err
		}
		return &lambda.Events{
			Retries: r.number("MaximumRetryAttempts"), MaxAge: time.Duration(r.number("MaximumEventAgeInSeconds")) * time.Second,
			OnFailure: to.OnFailure.Destination,
		}, nil
	}
	return nil, nil //nolint:nilnil // most functions have none
}

const firstVersion = "1" // of a function that is new

func makeVersion(_ context.Context, _ *deployment, _ string, r *Resource) error {
	r.Attributes["Version"] = firstVersion
	r.Ref = arn("lambda", "function:"+r.text("FunctionName")+":"+firstVersion)
	r.Attributes["FunctionArn"] = r.Ref
	return nil
}

func makeAlias(_ context.Context, _ *deployment, _ string, r *Resource) error {
	if r.text("FunctionVersion") != firstVersion {
		return fmt.Errorf("the alias means version %q", r.text("FunctionVersion"))
	}
	r.Ref = arn("lambda", "function:"+r.text("FunctionName")+":"+r.text("Name"))
	r.Attributes["AliasArn"] = r.Ref
	return nil
}

func makeStateMachine(ctx context.Context, d *deployment, _ string, r *Resource) error {
	definition := r.text("DefinitionString")
	substitutions := map[string]string{}
	if r.Properties["DefinitionSubstitutions"] != nil {
		if err := r.read("DefinitionSubstitutions", &substitutions); err != nil {
			return err
		}
	}
	for name, value := range substitutions {
		definition = strings.ReplaceAll(definition, "${"+name+"}", value)
	}
	out, err := d.clients.states.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{
		Name: aws.String(r.text("StateMachineName")), Definition: &definition, RoleArn: aws.String(r.text("RoleArn")),
	})
	if err != nil {
		return err
	}
	r.Ref = aws.ToString(out.StateMachineArn)
	r.Attributes["Arn"], r.Attributes["Name"] = r.Ref, r.text("StateMachineName")
	return nil
}

func makeSecret(ctx context.Context, d *deployment, _ string, r *Resource) error {
	out, err := d.clients.secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{
		Name: aws.String(r.text("Name")), Description: aws.String(r.text("Description")),
	})
	if err != nil {
		return err
	}
	r.Ref = aws.ToString(out.ARN)
	r.Attributes["Id"] = r.Ref
	return nil
}

// seconds writes a number as services' attributes want it.
func seconds(n int) string { return strconv.Itoa(n) }

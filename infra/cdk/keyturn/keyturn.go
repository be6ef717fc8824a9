// Package keyturn answers: of what does Keyturn consist in an AWS account?
//
// [New] adds it to a stack: the functions of each network zone and those outside,
// a pair of state machines per zone, the audit bucket, keys, rules, alarms, and
// for each secret its rotation schedule and a policy that keeps other hands off.
// It is all plain CloudFormation: no custom resource runs at deployment, and
// nothing is looked up at synthesis.
//
// Whoever has a CDK app adds it to a stack of that; the program in the folder
// above is the smallest one.
package keyturn

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/policy/account"
	"github.com/keyturn/keyturn/policy/compile"
)

// Load compiles a keyturn.yaml for this release's kinds of credentials. Everything
// that is wrong with it is told at once.
func Load(path string) (account.Account, error) { return compile.Account(path, deployment.Kinds()) }

// Props say what is deployed.
type Props struct {
	// Account is a compiled keyturn.yaml; Load makes it. Required.
	Account account.Account
	// Folder is where keyturn.yaml lies; the files that its secrets name are taken
	// from there. Default: the working directory.
	Folder string
	// Functions is a folder with one folder a function, in which its built
	// bootstrap lies: bin/lambda after make functions. Required.
	Functions string
	// KeepPolicy lists secrets, as keyturn.yaml names them, which keep the
	// resource policy that they have; they get none from here. SecretStatements
	// is what theirs should say. CloudFormation can't add to a policy that is there.
	KeepPolicy []string
	// LogDays is how long the functions' logs are kept, in one of the numbers of
	// days that CloudWatch Logs takes (API reference, PutRetentionPolicy).
	// Default 400.
	LogDays int
	// Tracing switches X-Ray on for the state machines.
	Tracing bool
}

// Deployment is what New has made, for who wants to build on it.
type Deployment struct {
	// Construct holds everything.
	Construct constructs.Construct
	// BucketName is the audit bucket's name, a token.
	BucketName *string
	// TopicARN is where findings and alarms go.
	TopicARN *string
	// SecurityGroups are the ids of those that were made, by zone: the targets'
	// groups have to let them in.
	SecurityGroups map[string]*string
	// RotationMachines and EmergencyMachines are ARNs by zone, "" where there is none.
	RotationMachines  map[string]*string
	EmergencyMachines map[string]*string
	// StateMachine and EmergencyStateMachine are what the functions outside the
	// zones and the keyturn command are told: ARNs to which a zone's name is added.
	StateMachine, EmergencyStateMachine *string
	// SecretStatements are what the policies of Props.KeepPolicy's secrets should
	// say, as the JSON of statements.
	SecretStatements map[string][]any
}

// builder holds what the parts need of each other.
type builder struct {
	Deployment
	props   Props
	account account.Account
	stack   awscdk.Stack
	root    constructs.Construct
	name    string

	partition, region, accountID, suffix string // tokens where the stack doesn't say

	built      string // folder in which packages are put together
	key        string // ARNs and names from here on
	signingKey string
	bucketARN  string
	queues     queues
	made       map[string]string // created secrets' ARNs by name
	zones      []*zone           // one without a name if there are none
	control    *zone             // the functions outside
}

// New adds Keyturn to a stack. It returns an error for what its caller can mend:
// functions that aren't built, files that are missing, secrets of another account.
// Two deployments in one account need two names (deploy.name).
func New(scope constructs.Construct, id string, props *Props) (*Deployment, error) {
	b, err := newBuilder(scope, id, props)
	if err != nil {
		return nil, fmt.Errorf("adding Keyturn to the stack: %w", err)
	}
	if b.built, err = os.MkdirTemp("", "keyturn-functions-*"); err != nil {
		return nil, fmt.Errorf("making a folder for the functions' packages: %w", err)
	}
	defer func() { _ = os.RemoveAll(b.built) }() // CDK has copied them
	b.keys()
	b.bucket()
	b.findings()
	b.createSecrets()
	for _, z := range append(b.zones, b.control) {
		if err := b.functions(z); err != nil {
			return nil, fmt.Errorf("adding the functions: %w", err)
		}
	}
	for _, z := range b.zones {
		if err := b.machines(z); err != nil {
			return nil, fmt.Errorf("adding the state machines: %w", err)
		}
	}
	b.secrets()
	b.rules()
	b.alarms()
	b.dashboard()
	b.suppress()
	return &b.Deployment, b.fits()
}

func newBuilder(scope constructs.Construct, id string, props *Props) (*builder, error) {
	if props == nil || props.Functions == "" {
		return nil, errors.New("the folder of the functions is missing: set Functions to what make functions fills, bin/lambda")
	}
	b := &builder{props: *props, account: props.Account, name: props.Account.Deploy.Name, stack: awscdk.Stack_Of(scope), made: map[string]string{}}
	if b.name == "" {
		return nil, errors.New("there is no account: compile keyturn.yaml by Load")
	}
	b.partition, b.region, b.accountID, b.suffix = *b.stack.Partition(), *b.stack.Region(), *b.stack.Account(), *b.stack.UrlSuffix()
	if err := samePlace(b.account.Secrets, known(b.region), known(b.accountID)); err != nil {
		return nil, err
	}
	b.root = constructs.NewConstruct(scope, &id)
	b.Deployment = Deployment{
		Construct: b.root, SecurityGroups: map[string]*string{}, SecretStatements: map[string][]any{},
		RotationMachines: map[string]*string{}, EmergencyMachines: map[string]*string{},
	}
	b.StateMachine, b.EmergencyStateMachine = jsii.String(b.machineARN("rotation", "")), jsii.String(b.machineARN("emergency", ""))
	b.planZones()
	return b, nil
}

// known is a value, or empty for one that is known at deployment only.
func known(value string) string {
	if *awscdk.Token_IsUnresolved(value) {
		return ""
	}
	return value
}

// planZones sorts the secrets into their zones.
func (b *builder) planZones() {
	b.control = &zone{secrets: b.account.Secrets}
	for _, z := range b.account.Deploy.Zones {
		b.zones = append(b.zones, &zone{Zone: z})
	}
	if len(b.zones) == 0 {
		b.zones = []*zone{{}}
	}
	for _, z := range b.zones {
		for _, s := range b.account.Secrets {
			if s.Zone == z.Name {
				z.secrets = append(z.secrets, s)
			}
		}
	}
}

// Outputs adds to a stack what people and scripts ask for after a deployment.
func (d *Deployment) Outputs(scope constructs.Construct) {
	out := func(id, what string, value *string) {
		awscdk.NewCfnOutput(scope, &id, &awscdk.CfnOutputProps{Value: value, Description: &what})
	}
	out("AuditBucket", "The audit trail: KEYTURN_AUDIT_BUCKET of the keyturn command", d.BucketName)
	out("Topic", "Findings and alarms: subscribe to it", d.TopicARN)
	out("StateMachine", "KEYTURN_STATE_MACHINE of the keyturn command", d.StateMachine)
	out("EmergencyStateMachine", "KEYTURN_EMERGENCY_STATE_MACHINE of the keyturn command", d.EmergencyStateMachine)
	for _, zone := range slices.Sorted(maps.Keys(d.SecurityGroups)) {
		out("SecurityGroup"+zone, "Let this group into the targets of zone "+zone, d.SecurityGroups[zone])
	}
}

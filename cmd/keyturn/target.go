package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/user"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/rotation"
)

// envDeployment names the deployment that commands work on.
const envDeployment = "KEYTURN_DEPLOYMENT"

// target is what a command works on: settings that were given, or those of a
// deployment, which its watchdog tells.
type target struct {
	settings  deployment.Settings
	emergency string
	name      string // of the deployment

	named bool // by a flag or the environment
	cfg   aws.Config
	// policies is the deployed document, or the file's.
	policies policy.Document
	// deployed says that the settings come from the functions.
	deployed bool
}

func (t *target) flags(cmd *cobra.Command) *cobra.Command {
	t.trailFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&t.settings.Policy, "policy", os.Getenv(deployment.EnvPolicy), "the compiled policy document ($"+deployment.EnvPolicy+")")
	f.StringVar(&t.settings.StateMachine, "state-machine", os.Getenv(deployment.EnvStateMachine), "ARN of the rotation state machine ($"+deployment.EnvStateMachine+")")
	cmd.ValidArgsFunction = t.completeSecret
	return cmd
}

// trailFlags are those of a command that reads the audit trail alone.
func (t *target) trailFlags(cmd *cobra.Command) *cobra.Command {
	f := cmd.Flags()
	name := os.Getenv(envDeployment)
	t.named = name != ""
	if name == "" {
		name = "keyturn"
	}
	f.StringVar(&t.name, "deployment", name, "the deployment whose functions tell the other settings ($"+envDeployment+")")
	f.StringVar(&t.settings.AuditDir, "audit-dir", os.Getenv(deployment.EnvAuditDir), "folder of the audit trail ($"+deployment.EnvAuditDir+")")
	f.StringVar(&t.settings.AuditBucket, "audit-bucket", os.Getenv(deployment.EnvAuditBucket), "S3 bucket of the audit trail ($"+deployment.EnvAuditBucket+")")
	return cmd
}

// setting is one of what a command needs; two of one need exclude each other.
type setting struct {
	flags []string
	env   string
	given bool
}

func (t *target) needs() []setting {
	s := t.settings
	return []setting{
		{[]string{"policy"}, deployment.EnvPolicy, s.Policy != ""},
		{[]string{"state-machine"}, deployment.EnvStateMachine, s.StateMachine != ""},
		t.needsTrail(),
	}
}

func (t *target) needsTrail() setting {
	return setting{[]string{"audit-bucket", "audit-dir"}, deployment.EnvAuditBucket + " or " + deployment.EnvAuditDir, t.settings.AuditBucket != "" || t.settings.AuditDir != ""}
}

// resolve completes what was given from the deployment. All that is needed was
// given: nobody is asked. Nothing was: everything comes from the deployment. Some
// of it: only a deployment that was named fills in the rest, because a policy of
// one deployment with the state machine of another is worse than an error.
func (t *target) resolve(cmd *cobra.Command, needed ...setting) error {
	if t.settings.AuditDir != "" && t.settings.AuditBucket != "" {
		return fault.New(fault.InvalidInput, "both --audit-bucket and --audit-dir are set").
			WithHint("keep the one where the trail is (%s, %s)", deployment.EnvAuditBucket, deployment.EnvAuditDir)
	}
	if t.settings.StateMachine != "" {
		if err := checkMachine("state-machine", t.settings.StateMachine); err != nil {
			return err
		}
	}
	t.named = t.named || cmd.Flags().Changed("deployment")
	var missing []setting
	for _, s := range needed {
		if !s.given {
			missing = append(missing, s)
		}
	}
	if len(missing) > 0 && len(missing) < len(needed) && !t.named {
		return fault.New(fault.InvalidInput, "--%s is missing", strings.Join(missing[0].flags, " or --")).
			WithHint("give the flag, or set %s; or set none of these, and they come from the deployment (--deployment; keyturn %s --help)", missing[0].env, cmd.Name())
	}
	if len(missing) == 0 && t.onlyTrailInFolder(needed) {
		return nil // no AWS is asked
	}
	var err error
	if t.cfg, err = awsConfig(cmd.Context()); err != nil || len(missing) == 0 {
		return err
	}
	return t.askDeployment(cmd.Context())
}

func (t *target) onlyTrailInFolder(needed []setting) bool {
	return len(needed) == 1 && t.settings.AuditDir != ""
}

// rotator puts together what the command works with.
func (t *target) rotator(cmd *cobra.Command) (*rotation.Rotator, error) {
	if err := t.resolve(cmd, t.needs()...); err != nil {
		return nil, err
	}
	if !t.deployed || t.settings.Policy != "" {
		var err error
		if t.policies, err = policy.Load(t.settings.Policy); err != nil {
			return nil, err
		}
	}
	if err := t.checkTrail(); err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	return deployment.AssembleWith(t.cfg, t.settings, t.policies, operator(), log), nil
}

// trail opens the audit trail, and nothing else of a deployment.
func (t *target) trail(cmd *cobra.Command) (audit.Ledger, error) {
	if err := t.resolve(cmd, t.needsTrail()); err != nil {
		return nil, err
	}
	return t.ledger(), t.checkTrail()
}

func (t *target) ledger() audit.Ledger {
	ledger, _ := deployment.Trail(t.cfg, t.settings)
	return ledger
}

func (t *target) checkTrail() error {
	if t.settings.AuditDir == "" {
		return nil // a bucket that isn't there says so itself
	}
	return checkFolder(t.settings.AuditDir)
}

// place is where the trail lies, as a person names it.
func (t *target) place() string {
	if t.settings.AuditBucket != "" {
		return "s3://" + t.settings.AuditBucket
	}
	return t.settings.AuditDir
}

// operator is who acts, as the audit trail names it.
func operator() deployment.Actor {
	actor := deployment.Actor{Name: "operator", Type: audit.Human, Lines: io.Discard}
	if u, err := user.Current(); err == nil {
		actor.Name = u.Username
	}
	return actor
}

// managed is a secret that the policy lists, under whatever name it was called.
type managed struct {
	*rotation.Rotator
	desc      rotation.Description
	policy    rotation.Policy
	situation rotation.Situation
}

// secret finds a secret by its name or ARN.
func (t *target) secret(cmd *cobra.Command, name string) (managed, error) {
	r, err := t.rotator(cmd)
	if err != nil {
		return managed{}, err
	}
	desc, err := r.Store.Describe(cmd.Context(), name)
	if err != nil {
		return managed{}, err
	}
	policy, err := r.Policies.Policy(desc.ARN)
	if err != nil {
		return managed{}, err
	}
	return managed{r, desc, policy, rotation.Read(desc.Versions, policy.Driver)}, nil
}

// checkMachine refuses what can't be a state machine's ARN: it is part of the
// names of executions, and status would begin to work without a right one.
func checkMachine(flag, value string) error {
	parts := strings.Split(value, ":")
	if len(parts) == 7 && parts[0] == "arn" && parts[2] == "states" && parts[5] == "stateMachine" && parts[6] != "" {
		return nil
	}
	return fault.New(fault.InvalidInput, "--%s is %q, which is no state machine's ARN", flag, value).
		WithHint("it looks like arn:aws:states:REGION:ACCOUNT:stateMachine:NAME")
}

// awsConfig reads the environment's AWS settings, and tells at once what is
// missing: the first call would tell it in the SDK's words.
func awsConfig(ctx context.Context) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{}))
	if err != nil {
		return cfg, fault.Wrap(fault.InvalidInput, fault.New(fault.InvalidInput, "%s", err).
			WithHint("check AWS_PROFILE and the AWS configuration file"), "reading the AWS settings")
	}
	if cfg.Region == "" {
		return cfg, fault.New(fault.InvalidInput, "no AWS region is set").WithHint("set AWS_REGION, or a profile that has one by AWS_PROFILE")
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return cfg, fault.Wrap(fault.PermissionDenied, fault.New(fault.PermissionDenied, "%s", err).
			WithHint("log in to AWS (aws sso login), or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "looking for AWS credentials")
	}
	return cfg, nil
}

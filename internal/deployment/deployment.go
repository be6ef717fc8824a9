// Package deployment answers: of which parts does a deployed function consist?
//
// It reads a function's environment, reports everything that is missing at
// once, and puts the domain, an engine, the stores and the audit trail together.
package deployment

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/internal/metrics"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/rotation"
)

// The environment of a function.
const (
	// EnvPolicy is the compiled policy document's path; without it, policy.json
	// in the function's package.
	EnvPolicy = "KEYTURN_POLICY"
	// EnvStateMachine is the ARN of the rotation state machine.
	EnvStateMachine = "KEYTURN_STATE_MACHINE"
	// EnvEmergencyMachine is the ARN of the emergency state machine; keyturn
	// emergency alone reads it.
	EnvEmergencyMachine = "KEYTURN_EMERGENCY_STATE_MACHINE"
	// EnvAuditBucket is the S3 bucket of the append-only audit trail and of the
	// parties' evidence.
	EnvAuditBucket = "KEYTURN_AUDIT_BUCKET"
	// EnvSigningKey is the ARN of the KMS key that signs manifests; functions/audit
	// alone reads it.
	EnvSigningKey = "KEYTURN_SIGNING_KEY"
	// EnvDeployment is the deployment's name, which metrics have as a dimension.
	EnvDeployment = "KEYTURN_DEPLOYMENT"
	// EnvAuditDir is their folder, where there is no bucket.
	EnvAuditDir = "KEYTURN_AUDIT_DIR"
)

// Alias is the qualifier under which a deployment publishes its functions.
const Alias = "live"

// Settings are a function's environment, read and complete.
type Settings struct {
	Policy string
	// StateMachine drives the secrets that are in no zone; a zone's has a hyphen
	// and its name behind it. Empty: runs are started by others.
	StateMachine string
	AuditDir     string // one of these two is set
	AuditBucket  string
}

// ReadSettings names every setting that is missing, not only the first. startsRuns
// says that the function has to start runs.
func ReadSettings(getenv func(string) string, startsRuns bool) (Settings, error) {
	s := Settings{
		Policy: getenv(EnvPolicy), StateMachine: getenv(EnvStateMachine),
		AuditDir: getenv(EnvAuditDir), AuditBucket: getenv(EnvAuditBucket),
	}
	if s.Policy == "" {
		s.Policy = filepath.Join(getenv("LAMBDA_TASK_ROOT"), "policy.json")
	}
	if s.AuditDir != "" && s.AuditBucket != "" {
		return Settings{}, fault.New(fault.InvalidInput, "the environment has both %s and %s", EnvAuditBucket, EnvAuditDir).
			WithHint("keep the one where the trail is")
	}
	var missing []string
	if s.StateMachine == "" && startsRuns {
		missing = append(missing, EnvStateMachine)
	}
	if s.AuditDir == "" && s.AuditBucket == "" {
		missing = append(missing, EnvAuditBucket)
	}
	if len(missing) > 0 {
		return Settings{}, fault.New(fault.InvalidInput, "the environment lacks %s", strings.Join(missing, " and ")).
			WithHint("the deployment sets them for every function")
	}
	return s, nil
}

// Rotator builds the parts of the function with this name, from the process's
// environment. It may be unable to start runs: in a zone nothing but Secrets
// Manager and S3 need be in reach. Callers that aren't functions use Assemble.
func Rotator(function string, log *slog.Logger) (*rotation.Rotator, error) {
	return build(function, log, false)
}

// Controller is Rotator for a function that starts runs.
func Controller(function string, log *slog.Logger) (*rotation.Rotator, error) {
	return build(function, log, true)
}

func build(function string, log *slog.Logger, startsRuns bool) (*rotation.Rotator, error) {
	settings, err := ReadSettings(os.Getenv, startsRuns)
	if err != nil {
		return nil, err
	}
	cfg, err := AWSConfig(os.Getenv)
	if err != nil {
		return nil, err
	}
	return Assemble(cfg, settings, Actor{Name: function, Type: audit.Controller, Lines: os.Stdout}, log)
}

// Lateness builds the parts of the function that hears of logins which are tried
// while they are refused.
func Lateness(function string, log *slog.Logger) (lambdaentry.Lateness, error) {
	settings, err := ReadSettings(os.Getenv, false)
	if err != nil {
		return lambdaentry.Lateness{}, err
	}
	cfg, err := AWSConfig(os.Getenv)
	if err != nil {
		return lambdaentry.Lateness{}, err
	}
	return AssembleLateness(cfg, settings, Actor{Name: function, Type: audit.Controller, Lines: os.Stdout}, log)
}

// AssembleLateness puts the parts of that function together.
func AssembleLateness(cfg aws.Config, s Settings, actor Actor, log *slog.Logger) (lambdaentry.Lateness, error) {
	policies, err := policy.Load(s.Policy)
	if err != nil {
		return lambdaentry.Lateness{}, err
	}
	r := AssembleWith(cfg, s, policies, actor, log)
	ledger, evidence := Trail(cfg, s)
	return lambdaentry.Lateness{
		Rotator: r, Ledger: ledger, Evidence: evidence, Secrets: logged(policies), Refused: refusedLogin, Login: postgres.LoginOf, Now: r.Now, Log: log,
	}, nil
}

// logged finds the secrets that name a log group. Those that are listed by name
// have no policy before their ARN is known, but their entry.
func logged(policies policy.Document) func(logGroup string) (secrets []string) {
	groups := map[string][]string{}
	for _, e := range policies.Entries() {
		if e.Kind != postgres.Kind {
			continue
		}
		s, err := postgres.ParseSettings(e.Settings)
		if err != nil {
			continue // no step of that secret begins either
		}
		for _, g := range s.LogGroups {
			groups[g] = append(groups[g], e.Secret)
		}
	}
	return func(logGroup string) []string { return groups[logGroup] }
}

func refusedLogin(line string) (login, address string, at time.Time, ok bool) {
	r, ok := postgres.ParseRefusedLogin(line)
	return r.Login, r.Address, r.At, ok
}

// Metrics writes a function's to its log. Without a deployment's name nothing is written.
func Metrics() metrics.Writer {
	return metrics.Writer{To: os.Stdout, Deployment: os.Getenv(EnvDeployment)}
}

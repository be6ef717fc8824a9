// Package auditing answers: what is the audit function of a deployment made of?
//
// Only that function links KMS, which signs the daily manifest.
package auditing

import (
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/audit/bucket"
	"github.com/keyturn/keyturn/audit/eventbus"
	"github.com/keyturn/keyturn/audit/kmssign"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/internal/metrics"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/store/awssm"
)

// Auditor puts the audit function together.
func Auditor(log *slog.Logger) (lambdaentry.Auditor, error) {
	var missing []string
	for _, name := range []string{deployment.EnvAuditBucket, deployment.EnvSigningKey, deployment.EnvDeployment} {
		if os.Getenv(name) == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return lambdaentry.Auditor{}, fault.New(fault.InvalidInput, "the environment lacks %s", strings.Join(missing, " and ")).
			WithHint("the deployment sets them for this function")
	}
	settings, err := deployment.ReadSettings(os.Getenv, false)
	if err != nil {
		return lambdaentry.Auditor{}, err
	}
	cfg, err := deployment.AWSConfig(os.Getenv)
	if err != nil {
		return lambdaentry.Auditor{}, err
	}
	policies, err := policy.Load(settings.Policy)
	if err != nil {
		return lambdaentry.Auditor{}, err
	}
	return lambdaentry.Auditor{
		Ledger:   &bucket.Ledger{API: s3.NewFromConfig(cfg), Bucket: settings.AuditBucket},
		Signer:   &kmssign.Signer{API: kms.NewFromConfig(cfg), Key: os.Getenv(deployment.EnvSigningKey)},
		Bus:      &eventbus.Bus{API: eventbridge.NewFromConfig(cfg)},
		Policies: policies,
		Secrets:  &awssm.Store{API: secretsmanager.NewFromConfig(cfg), Region: cfg.Region},
		Metrics:  metrics.Writer{To: os.Stdout, Deployment: os.Getenv(deployment.EnvDeployment)},
		Now:      time.Now, Log: log,
	}, nil
}

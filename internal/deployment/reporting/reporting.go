// Package reporting answers: who hears what the watchdog of a deployment finds?
//
// Only the functions that tell link EventBridge.
package reporting

import (
	"os"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"

	"github.com/keyturn/keyturn/audit/eventbus"
	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/internal/metrics"
)

// Told is who hears what the watchdog finds. Without a deployment's name nobody does.
func Told() (lambdaentry.Told, error) {
	name := os.Getenv(deployment.EnvDeployment)
	if name == "" {
		return lambdaentry.Told{}, nil
	}
	cfg, err := deployment.AWSConfig(os.Getenv)
	if err != nil {
		return lambdaentry.Told{}, err
	}
	return lambdaentry.Told{
		Bus: &eventbus.Bus{API: eventbridge.NewFromConfig(cfg)}, Metrics: metrics.Writer{To: os.Stdout, Deployment: name},
	}, nil
}

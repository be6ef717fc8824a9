// Command drainCheck reports who still presents the version that goes.
package main

import (
	"context"
	"log/slog"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/lambdaentry"
)

func main() { lambdaentry.Run(build) }

func build(_ context.Context, log *slog.Logger) (lambdaentry.Handler, error) {
	r, err := deployment.Rotator("drainCheck", log)
	if err != nil {
		return nil, err
	}
	return lambdaentry.Drain(r, deployment.Metrics()), nil
}

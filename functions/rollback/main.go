// Command rollback exchanges old and new, so that the tail retires the new version.
package main

import (
	"context"
	"log/slog"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/lambdaentry"
)

func main() { lambdaentry.Run(build) }

func build(_ context.Context, log *slog.Logger) (lambdaentry.Handler, error) {
	r, err := deployment.Rotator("rollback", log)
	if err != nil {
		return nil, err
	}
	return lambdaentry.Step(r.Rollback), nil
}

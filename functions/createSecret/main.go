// Command createSecret makes the new version of a secret, or starts the rotation that Secrets Manager drives.
package main

import (
	"context"
	"log/slog"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/lambdaentry"
)

func main() { lambdaentry.Run(build) }

func build(_ context.Context, log *slog.Logger) (lambdaentry.Handler, error) {
	r, err := deployment.Rotator("createSecret", log)
	if err != nil {
		return nil, err
	}
	return lambdaentry.Step(r.Create), nil
}

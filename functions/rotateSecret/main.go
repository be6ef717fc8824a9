// Command rotateSecret is the rotation function that Secrets Manager calls: its four steps, in process.
package main

import (
	"context"
	"log/slog"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/lambdaentry"
)

func main() { lambdaentry.Run(build) }

func build(_ context.Context, log *slog.Logger) (lambdaentry.Handler, error) {
	r, err := deployment.Rotator("rotateSecret", log)
	if err != nil {
		return nil, err
	}
	return lambdaentry.FourSteps(r), nil
}

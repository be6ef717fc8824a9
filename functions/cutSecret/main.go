// Command cutSecret carries out what an emergency does at the target: foretell what breaks, and cut the stolen credential off.
package main

import (
	"context"
	"log/slog"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/lambdaentry"
)

func main() { lambdaentry.Run(build) }

func build(_ context.Context, log *slog.Logger) (lambdaentry.Handler, error) {
	r, err := deployment.Rotator("cutSecret", log)
	if err != nil {
		return nil, err
	}
	return lambdaentry.Cut(r), nil
}

// Command abortSecret ends a head that failed: it asks for the back run and waits until the old credential is alone.
// It is rollback's step, deployed by itself because it reaches no target and starts runs.
package main

import (
	"context"
	"log/slog"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/lambdaentry"
)

func main() { lambdaentry.Run(build) }

func build(_ context.Context, log *slog.Logger) (lambdaentry.Handler, error) {
	r, err := deployment.Controller("abortSecret", log)
	if err != nil {
		return nil, err
	}
	return lambdaentry.Step(r.Rollback), nil
}

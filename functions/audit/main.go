// Command audit judges what is recorded and what others do, and publishes the signed manifest of each day.
package main

import (
	"context"
	"log/slog"

	"github.com/keyturn/keyturn/internal/deployment/auditing"
	"github.com/keyturn/keyturn/internal/lambdaentry"
)

func main() { lambdaentry.Run(build) }

func build(_ context.Context, log *slog.Logger) (lambdaentry.Handler, error) {
	a, err := auditing.Auditor(log)
	if err != nil {
		return nil, err
	}
	return lambdaentry.Audit(a), nil
}

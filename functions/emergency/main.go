// Command emergency retires a stolen credential in haste.
package main

import (
	"context"
	"log/slog"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/lambdaentry"
)

func main() { lambdaentry.Run(build) }

func build(_ context.Context, log *slog.Logger) (lambdaentry.Handler, error) {
	r, err := deployment.Controller("emergency", log)
	if err != nil {
		return nil, err
	}
	return lambdaentry.Emergency(r), nil
}

// Command watchdog makes sure that every managed secret has the run that its labels ask for,
// and raises what it can't repair as findings.
package main

import (
	"context"
	"log/slog"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/deployment/reporting"
	"github.com/keyturn/keyturn/internal/lambdaentry"
)

func main() { lambdaentry.Run(build) }

func build(_ context.Context, log *slog.Logger) (lambdaentry.Handler, error) {
	r, err := deployment.Controller("watchdog", log)
	if err != nil {
		return nil, err
	}
	told, err := reporting.Told()
	if err != nil {
		return nil, err
	}
	return lambdaentry.WatchAndTell(r, told), nil
}

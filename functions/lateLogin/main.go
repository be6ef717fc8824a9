// Command lateLogin lets a login in again that is held and that somebody has tried, as the target's log tells.
package main

import (
	"context"
	"log/slog"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/lambdaentry"
)

func main() { lambdaentry.Run(build) }

func build(_ context.Context, log *slog.Logger) (lambdaentry.Handler, error) {
	l, err := deployment.Lateness("lateLogin", log)
	if err != nil {
		return nil, err
	}
	return lambdaentry.LateLogin(l), nil
}

package lambdaentry

import (
	"context"

	"github.com/keyturn/keyturn/internal/metrics"
	"github.com/keyturn/keyturn/rotation"
)

// Drain is the handler of that step, which also measures how many sessions the
// login that goes has. A look that couldn't see everything measures nothing.
func Drain(r *rotation.Rotator, to metrics.Writer) Handler {
	return Step(func(ctx context.Context, req rotation.Request) (rotation.Result, error) {
		res, err := r.Drain(ctx, req)
		if err == nil && res.Sessions != nil {
			value := metrics.Value{Metric: metrics.OldConnections, Value: float64(*res.Sessions)}
			if err := to.Write(r.Now(), value); err != nil {
				r.Log.WarnContext(ctx, "metrics not written", "error", err)
			}
		}
		return res, err
	})
}

package lambdaentry

import (
	"context"
	"log/slog"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/metrics"
	"github.com/keyturn/keyturn/rotation"
)

// Told is who hears what the watchdog found, beside its log and its answer. The
// zero Told is nobody.
type Told struct {
	Bus     Bus
	Metrics metrics.Writer
}

// fresh is how old a finding may be to be news: a look may be missed.
const fresh = 2 * time.Minute

// news passes findings on when they are new, and again once an hour: the watchdog
// looks every minute and remembers nothing, and nobody reads a message a minute.
func (t Told) news(ctx context.Context, round rotation.Round, now time.Time, scheduled bool) error {
	if t.Bus == nil {
		return nil
	}
	var all []rotation.Finding
	for _, looked := range round.Looked {
		for _, f := range looked.Findings {
			isNew := !f.Since.IsZero() && now.Sub(f.Since) < fresh
			if isNew || scheduled && hourly(f.Secret, now) {
				all = append(all, f)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return fault.Wrap(fault.Unavailable, t.Bus.Findings(ctx, all), "telling what was found")
}

// The states of a secret, as the metric Rotating has them.
const (
	stateStable  = "stable"
	stateHead    = "head"    // a new credential is being made
	stateForward = "forward" // the old one is being retired
	stateBack    = "back"    // the new one is being retired
	stateStolen  = "stolen"  // a stolen one is current
	stateUnseen  = "unseen"  // it couldn't be looked at
)

func stateOf(l rotation.Looked) string {
	switch s := l.Situation; {
	case s.Need == rotation.NeedReplace:
		return stateStolen
	case s.Need == rotation.NeedStore, s.Direction == rotation.Head:
		return stateHead
	case s.Direction == rotation.Forward:
		return stateForward
	case s.Direction == rotation.Back:
		return stateBack
	case l.Err != nil:
		return stateUnseen
	}
	return stateStable
}

// measure writes what alarms and the dashboard show. A look at one secret isn't
// measured: the next look at all of them is a minute away.
func (t Told) measure(ctx context.Context, log *slog.Logger, round rotation.Round, now time.Time) {
	states := map[string]int{stateStable: round.Stable, stateUnseen: len(round.Unreached)}
	findings, stuck := 0, 0
	for _, l := range round.Looked {
		states[stateOf(l)]++
		findings += len(l.Findings)
		for _, f := range l.Findings {
			if f.Name == rotation.RunStuck {
				stuck++
			}
		}
	}
	values := []metrics.Value{{Metric: metrics.Findings, Value: float64(findings)}, {Metric: metrics.Stuck, Value: float64(stuck)}}
	for _, state := range []string{stateStable, stateHead, stateForward, stateBack, stateStolen, stateUnseen} {
		values = append(values, metrics.Value{Metric: metrics.Rotating, Of: state, Value: float64(states[state])})
	}
	if !round.LastRotated.IsZero() {
		values = append(values, metrics.Value{Metric: metrics.DaysSinceSuccess, Value: now.Sub(round.LastRotated).Hours() / 24})
	}
	if err := t.Metrics.Write(now, values...); err != nil {
		log.WarnContext(ctx, "metrics not written", "error", err)
	}
}

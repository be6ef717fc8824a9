package lambdaentry

import (
	"cmp"
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/strictjson"
	"github.com/keyturn/keyturn/rotation"
)

// watchEvent is any EventBridge event. Secrets Manager's rotation events name a
// secret, and so does the end of an execution, in its input. Whatever the event
// says, the labels decide.
type watchEvent struct {
	Detail struct {
		Additional struct {
			SecretID string `json:"SecretId"`
		} `json:"additionalEventData"`
		Input string `json:"input"`
	} `json:"detail"`
}

// secret is the one that the event names, or "". Input that isn't ours names none.
func (e watchEvent) secret() string {
	var run struct {
		Secret string `json:"secret"`
	}
	if e.Detail.Input != "" && strictjson.DecodeKnown([]byte(e.Detail.Input), &run) != nil {
		return ""
	}
	return cmp.Or(e.Detail.Additional.SecretID, run.Secret)
}

// watched is what the watchdog found of one secret.
type watched struct {
	Secret  string `json:"secret"`
	Need    string `json:"need"`
	Run     string `json:"run,omitempty"`
	Status  string `json:"status,omitempty"`
	Started bool   `json:"started,omitempty"`
	Fault   string `json:"fault,omitempty"`
	// Findings are for a person; each is a line of the log too.
	Findings []rotation.Finding `json:"findings,omitempty"`
}

// watchAnswer is what a look came to.
type watchAnswer struct {
	// Stable counts the secrets that the list shows as such.
	Stable int `json:"stable"`
	// Secrets are those that were looked at by themselves.
	Secrets []watched `json:"secrets"`
	// Unreached are left to the next look, for want of time.
	Unreached []string `json:"unreached,omitempty"`
}

// Watch makes sure that the secret which an event names, or every managed
// secret when a schedule calls, has the run that its labels ask for, and tells
// what it can't repair. A secret that fails doesn't keep the others from being
// looked at.
func Watch(r *rotation.Rotator) Handler { return WatchAndTell(r, Told{}) }

// WatchAndTell is Watch, and tells others too.
func WatchAndTell(r *rotation.Rotator, told Told) Handler {
	return func(ctx context.Context, event []byte) (any, error) {
		if isAbout(event) {
			return about(r.Policies)
		}
		var e watchEvent
		if err := strictjson.DecodeKnown(event, &e); err != nil {
			return nil, fault.New(fault.InvalidInput, "the event can't be read: %s", err).
				WithHint("EventBridge's rules and schedules call this function")
		}
		round := rotation.Round{}
		if named := e.secret(); named != "" {
			if _, err := r.Policies.Policy(named); fault.Is(err, fault.NotManaged) {
				return watchAnswer{Secrets: []watched{}}, nil // the rule sees every secret of the account
			}
			seen, err := r.Watch(ctx, named, rotation.EnsureOptions{})
			round.Looked = []rotation.Looked{{Secret: named, Watched: seen, Err: err}}
			answer, failed := report(ctx, r.Log, round)
			return answer, errors.Join(failed, told.news(ctx, round, r.Now(), false))
		}
		now := r.Now() // one for all: whose turn it is may not change meanwhile
		round = r.WatchAll(ctx, func(secret string) rotation.EnsureOptions {
			return rotation.EnsureOptions{Retry: hourly(secret, now), RetryStolen: true}
		})
		answer, failed := report(ctx, r.Log, round)
		told.measure(ctx, r.Log, round, now)
		return answer, errors.Join(failed, told.news(ctx, round, now, true))
	}
}

// report is the answer, and the last of the errors.
func report(ctx context.Context, log *slog.Logger, round rotation.Round) (watchAnswer, error) {
	out := watchAnswer{Stable: round.Stable, Secrets: make([]watched, 0, len(round.Looked)), Unreached: round.Unreached}
	var failed error
	for _, looked := range round.Looked {
		w := watched{
			Secret: looked.Secret, Need: string(looked.Situation.Need), Run: looked.Run.Name,
			Status: string(looked.Run.Status), Started: looked.Started, Findings: raise(ctx, log, looked.Findings),
		}
		if looked.Err != nil {
			w.Fault, failed = string(NameOf(looked.Err)), looked.Err
			log.WarnContext(ctx, "watching", "secret", looked.Secret, "fault", w.Fault, "error", brief(looked.Err.Error()))
		}
		out.Secrets = append(out.Secrets, w)
	}
	if len(round.Unreached) > 0 {
		log.WarnContext(ctx, "not every secret was reached; the next look begins with others", "unreached", len(round.Unreached))
	}
	return out, failed
}

// raise writes each finding as a line of the log, which alarms look for.
func raise(ctx context.Context, log *slog.Logger, findings []rotation.Finding) []rotation.Finding {
	for i := range findings {
		f := &findings[i]
		f.Saw = brief(f.Saw)
		attrs := []any{"finding", f.Name, "secret", f.Secret, "version", f.Version, "saw", f.Saw, "do", f.Do}
		if !f.Since.IsZero() {
			attrs = append(attrs, "since", f.Since)
		}
		log.WarnContext(ctx, "finding", attrs...)
	}
	return findings
}

// hourly is true in one minute of each hour, another one for each secret. A
// rotation that fails is tried again no oftener: an event for each failure would
// else be an endless row of failed logins, which locks accounts (rule C4.15).
func hourly(secret string, now time.Time) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(secret)) // never fails
	return int(h.Sum32()%60) == now.Minute()
}

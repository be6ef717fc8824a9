package lambdaentry

import (
	"context"
	"hash/fnv"
	"log/slog"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/strictjson"
	"github.com/keyturn/keyturn/rotation"
)

// watchEvent is any EventBridge event; only Secrets Manager's rotation events
// name a secret. Whatever the event says, the labels decide.
type watchEvent struct {
	Detail struct {
		Additional struct {
			SecretID string `json:"SecretId"`
		} `json:"additionalEventData"`
	} `json:"detail"`
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

// Watch makes sure that the secret which an event names, or every managed
// secret when a schedule calls, has the run that its labels ask for, and tells
// what it can't repair. A secret that fails doesn't keep the others from being
// looked at.
func Watch(r *rotation.Rotator) Handler {
	return func(ctx context.Context, event []byte) (any, error) {
		var e watchEvent
		if err := strictjson.DecodeKnown(event, &e); err != nil {
			return nil, fault.New(fault.InvalidInput, "the event can't be read: %s", err).
				WithHint("EventBridge's rules and schedules call this function")
		}
		secrets, scheduled := r.Policies.Secrets(), e.Detail.Additional.SecretID == ""
		if named := e.Detail.Additional.SecretID; named != "" {
			if _, err := r.Policies.Policy(named); fault.Is(err, fault.NotManaged) {
				return []watched{}, nil // the rule sees every secret of the account
			}
			secrets = []string{named}
		}
		found := make([]watched, 0, len(secrets))
		var failed error
		for _, secret := range secrets {
			seen, err := r.Watch(ctx, secret, rotation.EnsureOptions{Retry: scheduled && hourly(secret, r.Now())})
			w := watched{
				Secret: secret, Need: string(seen.Situation.Need), Run: seen.Run.Name,
				Status: string(seen.Run.Status), Started: seen.Started, Findings: raise(ctx, r.Log, seen.Findings),
			}
			if err != nil {
				w.Fault, failed = string(NameOf(err)), err
				r.Log.WarnContext(ctx, "watching", "secret", secret, "fault", w.Fault, "error", brief(err.Error()))
			}
			found = append(found, w)
		}
		return found, failed
	}
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
// else be an endless row of failed logins, which locks accounts (FACTS C4.15).
func hourly(secret string, now time.Time) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(secret)) // never fails
	return int(h.Sum32()%60) == now.Minute()
}

package lambdaentry

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/detect"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/logsubscription"
	"github.com/keyturn/keyturn/rotation"
)

// Lateness is what the function is made of that hears of logins which are tried
// while they are refused.
type Lateness struct {
	Rotator  *rotation.Rotator
	Ledger   audit.Ledger
	Evidence audit.Evidence
	// Secrets are those whose policies name a log group, as the policy lists them.
	Secrets func(logGroup string) []string
	// Refused reads a line of a target's log; false: it tells of no such login. at
	// is zero where the line doesn't say it.
	Refused func(line string) (login, address string, at time.Time, ok bool)
	// Login is the login's name in what an engine's Identity returns.
	Login func(identity string) string
	Now   func() time.Time
	Log   *slog.Logger
}

// lateAnswer is what an event came to.
type lateAnswer struct {
	Lines int        `json:"lines"` // that tell of a refused login
	Tries []triedOne `json:"tries"` // of logins that a secret holds
}

// triedOne is one secret whose held login was tried.
type triedOne struct {
	Secret  string `json:"secret"`
	Version string `json:"version"`
	Whose   string `json:"whose"`
	Outcome string `json:"outcome,omitempty"` // of letting it in again
}

// LateLogin lets a login in again that is held and that somebody has tried, as a
// target's log says by a subscription of CloudWatch Logs. Each secret whose policy
// names the log group is looked at; a line about other logins is none of ours. An
// error lets Lambda call again with the same event: what is done stays done.
func LateLogin(l Lateness) Handler {
	return func(ctx context.Context, event []byte) (any, error) {
		batch, err := logsubscription.Decode(event)
		if err != nil {
			return nil, fault.New(fault.InvalidInput, "the event isn't one of a log subscription: %s", err).
				WithHint("CloudWatch Logs calls this function, by the subscription filter of its deployment")
		}
		answer := lateAnswer{Tries: []triedOne{}}
		if batch.Control {
			return answer, nil
		}
		tries := l.tries(batch)
		answer.Lines = len(tries)
		var failed error
		for _, secret := range l.Secrets(batch.LogGroup) {
			if len(tries) == 0 {
				break
			}
			one, err := l.secret(ctx, secret, tries)
			if one != nil {
				answer.Tries = append(answer.Tries, *one)
			}
			if err != nil {
				l.Log.WarnContext(ctx, "a held login was tried", "secret", secret, "fault", NameOf(err), "error", brief(err.Error()))
			}
			failed = cmp.Or(failed, err)
		}
		if failed != nil {
			return nil, failed
		}
		return answer, nil
	}
}

// tries are the last of each login: a consumer that is refused often tries again
// at once.
func (l Lateness) tries(batch logsubscription.Batch) map[string]rotation.LateTry {
	tries := map[string]rotation.LateTry{}
	for _, line := range batch.Lines {
		login, address, at, ok := l.Refused(line.Message)
		if !ok {
			continue
		}
		if at.IsZero() {
			at = line.At
		}
		if last, seen := tries[login]; !seen || at.After(last.At) {
			tries[login] = rotation.LateTry{Login: login, At: at.UTC(), Address: address, ID: line.ID}
		}
	}
	return tries
}

// secret does what there is to do for one; nil: it holds none of those logins.
func (l Lateness) secret(ctx context.Context, secret string, tries map[string]rotation.LateTry) (*triedOne, error) {
	arn, policy, try, err := l.held(ctx, secret, tries)
	if err != nil || arn == "" {
		return nil, err
	}
	records, err := audit.Records(ctx, l.Ledger, arn)
	if err != nil {
		return nil, fault.Wrap(fault.AuditUnavailable, err, "reading what is recorded of %s", arn)
	}
	tried := detect.Late(policy, records, try, l.Now())
	one := &triedOne{Secret: arn, Version: try.Version, Whose: string(tried.Whose)}
	l.Log.WarnContext(ctx, "a held login was tried", "secret", arn, "version", try.Version, "login", try.Login,
		"address", brief(try.Address), "at", try.At, "whose", tried.Whose, "why", tried.Why)
	switch tried.Whose {
	case detect.Ours, detect.Settled:
		return one, nil
	case detect.Untold:
		return one, fault.New(fault.Unavailable, "whose try of login %s it was can't be told yet: %s", try.Login, tried.Why).
			WithHint("if it stays so: keyturn audit show tells how far the refusal is; the login isn't let in again by itself")
	case detect.TooLate:
		if tried.Reported {
			return one, nil
		}
		one.Outcome = string(fault.TooLate)
		return one, l.Rotator.Refuse(ctx, arn, try, fault.New(fault.TooLate, "%s", tried.Why))
	}
	return l.reopen(ctx, arn, try, tried, one)
}

// held finds out whether a secret's disabled version has one of the logins.
func (l Lateness) held(ctx context.Context, secret string, tries map[string]rotation.LateTry) (arn string, p rotation.Policy, try rotation.LateTry, err error) {
	desc, err := l.Rotator.Store.Describe(ctx, secret)
	if err != nil {
		return "", p, try, fault.Wrap(fault.Unavailable, err, "describing %s", secret)
	}
	if p, err = l.Rotator.Policies.Policy(desc.ARN); err != nil {
		return "", p, try, err
	}
	version := desc.Versions.Holder(rotation.Disabled)
	if version == "" || !desc.Versions.Has(version, rotation.Retiring) {
		return "", p, try, nil
	}
	engine, err := l.Rotator.Engines.Engine(p.Kind)
	if err != nil {
		return "", p, try, err
	}
	identity, err := engine.Identity(ctx, desc.ARN, version)
	if fault.Is(err, fault.InvalidStage) {
		return "", p, try, nil // it never got a value
	}
	if err != nil {
		return "", p, try, fault.Wrap(fault.Unavailable, err, "reading whose credential %s is", version)
	}
	try, ok := tries[l.Login(identity)]
	if !ok {
		return "", p, try, nil
	}
	try.Version = version
	return desc.ARN, p, try, nil
}

// reopen keeps the evidence first: a drain that begins anew must not miss it.
func (l Lateness) reopen(ctx context.Context, arn string, try rotation.LateTry, tried detect.Tried, one *triedOne) (*triedOne, error) {
	away := try.Away(tried.Since)
	kept := l.Evidence.Append(ctx, arn, try.Version, audit.Sighting{
		Party: away.Party, Digest: away.Digest, By: away.By, Proof: int(away.Proof), At: away.At, Expires: away.Expires,
	})
	try.Told = tried.Reported
	res, err := l.Rotator.Reopen(ctx, arn, try)
	one.Outcome = string(res.Outcome)
	switch {
	case fault.Is(err, fault.Superseded), fault.Is(err, fault.TooLate), fault.Is(err, fault.PolicyViolation):
		one.Outcome, err = string(fault.NameOf(err)), nil // and recorded where there was anything to record
	case err == nil && res.Outcome != rotation.Done:
		err = fault.New(fault.Unavailable, "not every node lets login %s in again yet", try.Login)
	}
	// The login is let in whether or not this is kept; then the event comes again.
	return one, errors.Join(err, fault.Wrap(fault.AuditUnavailable, kept, "keeping the try as evidence"))
}

package chaos

import (
	"bytes"
	"context"
	"time"

	"github.com/keyturn/keyturn/audit"
)

// ledger is the audit trail of one invocation, which can be lost as well.
type ledger struct {
	audit.Dir
	w   *walk
	inv *invocation
}

// Put implements audit.Ledger.
func (l ledger) Put(ctx context.Context, key string, body []byte) error {
	if l.inv.dead.Load() {
		return errCrashed
	}
	if l.over(ctx) {
		return context.DeadlineExceeded
	}
	kind := l.w.plan.at(l.inv.next(layerAudit, "Put"))
	if kind != "" {
		l.inv.mu.Lock()
		l.inv.mute = true
		l.inv.mu.Unlock()
	}
	switch kind {
	case CrashBefore:
		return l.w.crash(l.inv)
	case ResetBefore:
		return errReset
	case HangBefore:
		return l.silence(ctx)
	}
	if err := l.Dir.Put(ctx, key, body); err != nil {
		return err
	}
	if bytes.Contains(body, []byte(`"phase":"intent"`)) {
		l.inv.mu.Lock()
		l.inv.intent = true
		l.inv.mu.Unlock()
	}
	switch kind {
	case CrashAfter:
		return l.w.crash(l.inv)
	case AnswerLost:
		return errReset
	case HangAfter:
		return l.silence(ctx)
	}
	return nil
}

// silence is a call that is never answered: the caller's patience ends by the
// walk's clock, and with it everything else that it would do in that time.
func (l ledger) silence(ctx context.Context) error {
	end, bounded := ctx.Deadline()
	if !bounded {
		return l.w.hang(l.inv)
	}
	l.inv.mu.Lock()
	l.inv.given = ctx
	l.inv.mu.Unlock()
	l.w.pass(l.inv, l.w.aws.Clock.Now().Add(time.Until(end)))
	return context.DeadlineExceeded
}

// over reports that a call is within a time that is over.
func (l ledger) over(ctx context.Context) bool {
	l.inv.mu.Lock()
	defer l.inv.mu.Unlock()
	return l.inv.given == ctx
}

// Get implements audit.Ledger.
func (l ledger) Get(ctx context.Context, key string) ([]byte, error) {
	if l.over(ctx) {
		return nil, context.DeadlineExceeded
	}
	return l.Dir.Get(ctx, key)
}

// List implements audit.Ledger.
func (l ledger) List(ctx context.Context, prefix string) ([]string, error) {
	if l.over(ctx) {
		return nil, context.DeadlineExceeded
	}
	return l.Dir.List(ctx, prefix)
}

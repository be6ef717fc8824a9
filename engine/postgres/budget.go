package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// Refusals remembers, over all processes, rotations and secrets, when a server
// (host:port, as the secret names it) refused a login.
type Refusals interface {
	Note(ctx context.Context, server, login string, at time.Time) error
	Within(ctx context.Context, server string, since, until time.Time) (of func(login string) []time.Time, err error)
}

// budgetWindow is the hour of the policy's failed_logins_per_hour.
const budgetWindow = time.Hour

// budget keeps one step within the failed logins that the policy allows a login
// in an hour, so that no retry ever locks an account (rule C4.15). What the
// ledger knows is read once, before the first attempt. Processes that try at the
// same moment may each take the last attempt that is left, and one that is killed
// before it has noted a refusal leaves it uncounted.
type budget struct {
	e      *Engine
	server string
	limit  int // 0: not bounded
	// reopens: the step lets a login in again that was working before. Its refused
	// attempts count, but none is held up; nor are an emergency's.
	reopens bool
	// unaudited: the step must not depend on the ledger being there.
	unaudited bool

	of  func(login string) []time.Time // nil: not read yet
	own map[string][]time.Time         // refused in this step
}

func (t *target) bound() *budget {
	return &budget{
		e: t.e, server: t.any().address(), limit: t.c.Policy.FailedLogins,
		reopens: t.c.Emergency, own: map[string][]time.Time{},
	}
}

// allows fails with fault.Blocked if a login was refused too often to be tried
// again yet. Nobody is asked.
func (b *budget) allows(ctx context.Context, login string) error {
	if b == nil || b.limit == 0 || b.reopens {
		return nil
	}
	if err := b.read(ctx); err != nil {
		if !b.unaudited {
			return err
		}
		b.e.log.WarnContext(ctx, "refused logins can't be counted", "login", login, "error", err)
		b.of = func(string) []time.Time { return nil }
	}
	times := slices.Concat(b.of(login), b.own[login])
	if len(times) < b.limit {
		return nil
	}
	again := times[len(times)-b.limit].Add(budgetWindow)
	b.e.log.ErrorContext(ctx, "too many refused logins; parked", "login", login, "server", b.server, "refused", len(times), "until", again)
	return fault.New(fault.Blocked, "login %s was refused %d times on %s within an hour, at %s last: it isn't tried again before %s",
		login, len(times), b.server, stamp(times[len(times)-1]), stamp(again)).
		WithHint("nothing was tried or changed, so that the account isn't locked; mend the password in its secret, or the role; " +
			"failed_logins_per_hour in keyturn.yaml is the bound")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (b *budget) read(ctx context.Context) error {
	if b.of != nil {
		return nil
	}
	if b.e.refusals == nil {
		b.of = func(string) []time.Time { return nil }
		return nil
	}
	now := b.e.now()
	of, err := b.e.refusals.Within(ctx, b.server, now.Add(-budgetWindow), now)
	if err != nil {
		f := fault.New(fault.AuditUnavailable, "counting the logins that %s has refused", b.server).
			WithHint("nothing was tried; see that the audit ledger can be read, then run the step again")
		f.Err = err
		return f
	}
	b.of = of
	return nil
}

// spend notes a refused password: what accounts are locked for. A login without
// LOGIN, or without a line in pg_hba.conf, isn't one.
func (b *budget) spend(ctx context.Context, login string, err error) {
	if b == nil || code(err) != "28P01" {
		return
	}
	now := b.e.now()
	b.own[login] = append(b.own[login], now)
	if b.e.refusals == nil {
		return
	}
	// Kept at once: whatever becomes of this step, the next one has to know.
	if err := b.e.refusals.Note(ctx, b.server, login, now); err != nil {
		b.e.log.ErrorContext(ctx, "a refused login isn't counted", "login", login, "error", err)
	}
}

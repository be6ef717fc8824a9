package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/rotation"
)

// again replaces the engine, as a new process of a function would: nothing but
// the ledger is remembered.
func (w *world) again(r postgres.Refusals) {
	w.engine = postgres.New(postgres.Config{Values: w.store, Now: w.clock.Now, Evidence: w.seen, Refusals: r})
}

// failures counts what accounts are locked for, in the servers' own logs.
func (w *world) failures(login string) int {
	w.t.Helper()
	n := 0
	for _, node := range []*pgtest.Server{w.s.Primary, w.s.Replica} {
		text, err := node.Log()
		if err != nil {
			w.t.Fatal(err)
		}
		n += strings.Count(text, fmt.Sprintf("password authentication failed for user %q", login))
	}
	return n
}

func (w *world) wantFailures(login string, want int) {
	w.t.Helper()
	if got := w.failures(login); got != want {
		w.t.Errorf("%d failed logins of %s, want %d", got, login, want)
	}
}

// wrong stores a password that isn't the database's.
func (w *world) wrong(password string) {
	w.t.Helper()
	w.fields["password"] = password
	w.store.Add(w.arn, version1, encodeJSON(w.t, w.fields))
}

func TestRetriesStayWithinTheFailedLogins(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.policy.FailedLogins = 3
		ledger := audit.Refusals{Ledger: audit.Dir{Root: t.TempDir()}}
		right := w.app.Password
		w.wrong("not the database's")
		for hour := 1; hour <= 2; hour++ {
			for try := range 12 {
				w.again(ledger)
				want := fault.CredentialRejected
				if try >= 3 {
					want = fault.Blocked
				}
				token := strings.Replace(version2, "2", fmt.Sprint(try%10), 1) // somebody starts anew, too
				err := w.fails(rotation.Engine.Create, w.change(version1, token, 1), want)
				if try >= 3 && !strings.Contains(err.Error(), "refused 3 times") {
					t.Errorf("the text doesn't say why: %v", err)
				}
				w.clock.Advance(time.Minute)
			}
			w.wantFailures(w.app.User, 3*hour)
			if hour == 1 {
				w.clock.Advance(51 * time.Minute) // the last of the three is 61 minutes old
			}
		}
		// Mended, it goes on by itself when the hour is over and not before.
		w.wrong(right)
		w.clock.Advance(48*time.Minute - time.Second)
		w.begin(version2)
		err := w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.Blocked)
		if again := w.clock.Now().Add(time.Second).UTC().Format(time.RFC3339); !strings.Contains(err.Error(), again) {
			t.Errorf("the text doesn't say that it is tried again at %s: %v", again, err)
		}
		if !strings.Contains(fault.HintOf(err), "failed_logins_per_hour") {
			t.Errorf("hint %q", fault.HintOf(err))
		}
		w.clock.Advance(time.Second + time.Millisecond)
		w.until(rotation.Engine.Create, w.change(version1, version2, 1), rotation.Done)
		w.wantFailures(w.app.User, 6)
	})
}

// A password that is changed after create fails in set; the login that isn't
// made yet is not tried for ever either.
func TestSetStaysWithinTheFailedLogins(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.policy.FailedLogins = 2
		ledger := audit.Refusals{Ledger: audit.Dir{Root: t.TempDir()}}
		w.begin(version2)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		execute(t, w.root("postgres"), "ALTER ROLE "+w.app.User+" PASSWORD 'changed by hand'")
		for try := range 6 {
			w.again(ledger)
			want := fault.CredentialRejected
			if try >= 2 {
				want = fault.Blocked
			}
			w.fails(rotation.Engine.Set, c, want)
		}
		w.wantFailures(w.app.User, 2)
		w.wantFailures(w.login(version2).User, 2)
	})
}

// A login that is locked by NOLOGIN isn't locked further: nothing is counted.
func TestALockedLoginSpendsNoBudget(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.policy.FailedLogins = 2
		ledger := audit.Refusals{Ledger: audit.Dir{Root: t.TempDir()}}
		execute(t, w.root("postgres"), "ALTER ROLE "+w.app.User+" NOLOGIN")
		w.begin(version2)
		for range 4 {
			w.again(ledger)
			w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.CredentialRejected)
		}
	})
}

// Once the new login is there, an attempt that it refuses counts: somebody goes on
// breaking what Set restores.
func TestARestoredLoginSpendsItsBudget(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.policy.FailedLogins = 2
		w.again(audit.Refusals{Ledger: audit.Dir{Root: t.TempDir()}})
		w.head(version1, version2)
		root, made := w.root("postgres"), w.login(version2).User
		c := w.change(version1, version2, 1)
		execute(t, root, "ALTER ROLE "+made+" PASSWORD 'broken'")
		w.until(rotation.Engine.Set, c, rotation.Done)
		execute(t, root, "ALTER ROLE "+made+" PASSWORD 'broken'")
		w.fails(rotation.Engine.Set, c, fault.Blocked)
	})
}

// An admin's login is many secrets': they share its budget.
func TestSecretsShareTheBudgetOfTheirAdmin(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		ledger := audit.Refusals{Ledger: audit.Dir{Root: t.TempDir()}}
		admin := fmt.Sprintf("no_admin_%d", numbers.Add(1))
		rejected, blocked := 0, 0
		for range 5 {
			w := newLogin(t, s)
			w.policy.FailedLogins = 3
			w.store.Add(adminARN, "admin-version", encodeJSON(t, map[string]any{"username": admin, "password": "wrong"}))
			w.again(ledger)
			_, err := w.engine.Create(w.ctx, w.change(version1, version2, 1))
			switch fault.NameOf(err) {
			case fault.CredentialRejected:
				rejected++
			case fault.Blocked:
				blocked++
			default:
				t.Errorf("got %v", err)
			}
			if got := w.failures(admin); got != rejected {
				t.Errorf("%d failed logins, %d were reported", got, rejected)
			}
		}
		if rejected != 3 || blocked != 2 {
			t.Errorf("%d rejected, %d blocked; want 3 and 2", rejected, blocked)
		}
	})
}

// A drain looks every minute, for days: an admin whose password was changed in
// the meantime isn't locked out by it.
func TestADrainStaysWithinTheFailedLoginsOfTheAdmin(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.policy.FailedLogins = 3
		w.head(version1, version2)
		admin := fmt.Sprintf("no_admin_%d", numbers.Add(1))
		w.store.Add(adminARN, "admin-version-2", encodeJSON(t, map[string]any{"username": admin, "password": "wrong"}))
		ledger := audit.Refusals{Ledger: audit.Dir{Root: t.TempDir()}}
		c := w.change(version1, version2, 2)
		for range 8 {
			w.again(ledger)
			res, err := w.engine.Drain(w.ctx, c)
			if err != nil || res.Outcome != rotation.Unknown {
				t.Fatalf("outcome %s, %v", res.Outcome, err)
			}
			c.Cursor = res.Cursor
			w.clock.Advance(time.Minute)
		}
		w.wantFailures(admin, 3)
	})
}

// The standby of a pair is an account that somebody may be using: a drain that
// asks for hours never tries it with a password that it hasn't.
func TestADrainOfTheStandbyFailsNoLogin(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		w.policy.FailedLogins = 1
		clone := cloned(t, w)
		user := w.connect(clone, "forgotten")
		w.seen.add("web", w.clock.Now)
		w.begin(version2)
		ledger := audit.Refusals{Ledger: audit.Dir{Root: t.TempDir()}}
		w.again(ledger)
		c := w.change(version1, version2, 1)
		w.until(rotation.Engine.Create, c, rotation.Done)
		for range 5 {
			w.again(ledger)
			w.until(rotation.Engine.Set, c, rotation.Wait)
		}
		_ = user.Close(w.ctx)
		w.until(rotation.Engine.Set, c, rotation.Done)
		w.until(rotation.Engine.Set, c, rotation.Done)
		w.wantFailures(clone.User, 0)
		w.until(rotation.Engine.Test, c, rotation.Done)
	})
}

// counting is a ledger of refusals that can be down.
type counting struct {
	down  atomic.Bool
	notes atomic.Int32
	spent int // refusals that every login has
	now   func() time.Time
}

func (c *counting) Note(context.Context, string, string, time.Time) error {
	c.notes.Add(1)
	return c.err()
}

func (c *counting) Within(context.Context, string, time.Time, time.Time) (func(string) []time.Time, error) {
	return func(string) []time.Time {
		times := make([]time.Time, c.spent)
		for i := range times {
			times[i] = c.now()
		}
		return times
	}, c.err()
}

func (c *counting) err() error {
	if c.down.Load() {
		return errors.New("the ledger is down")
	}
	return nil
}

// Without the count nothing that makes a credential begins; what takes one away,
// or gives it back, doesn't depend on it.
func TestALedgerThatIsDown(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.policy.FailedLogins = 1
		ledger := &counting{now: w.clock.Now}
		w.again(ledger)
		w.head(version1, version2)
		w.seen.add("web", w.clock.Now)
		w.until(rotation.Engine.Drain, w.change(version1, version2, 2), rotation.Done)
		ledger.down.Store(true)
		w.again(ledger)
		w.fails(rotation.Engine.Test, w.change(version1, version2, 1), fault.AuditUnavailable)
		w.until(rotation.Engine.Disable, w.change(version1, version2, 2), rotation.Done)
		w.until(rotation.Engine.Enable, w.change(version1, version2, 3), rotation.Done)
		if ledger.notes.Load() != 0 {
			t.Errorf("%d refusals were noted; a refusal that proves a disable locks nobody out", ledger.notes.Load())
		}
	})
}

func TestASpentBudgetDoesNotHoldUpARescue(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.policy.FailedLogins = 3
		w.head(version1, version2)
		w.seen.add("web", w.clock.Now)
		w.until(rotation.Engine.Drain, w.change(version1, version2, 2), rotation.Done)
		w.until(rotation.Engine.Disable, w.change(version1, version2, 2), rotation.Done)
		w.again(&counting{now: w.clock.Now, spent: 3})
		w.fails(rotation.Engine.Test, w.change(version1, version2, 1), fault.Blocked)
		w.until(rotation.Engine.Enable, w.change(version1, version2, 3), rotation.Done)
		c := w.change(version1, version2, 1)
		c.Emergency = true
		w.until(rotation.Engine.Test, c, rotation.Done)
	})
}

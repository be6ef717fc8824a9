package rotation_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

const arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:app-AbCdEf"

// Version ids as Secrets Manager makes them.
const (
	v1 = "11111111-1111-4111-8111-111111111111"
	v2 = "22222222-2222-4222-8222-222222222222"
	v3 = "33333333-3333-4333-8333-333333333333"
)

// target is what an engine acts on: logins that are accepted or refused. It
// fails the test when a credential that consumers may use is refused.
type target struct {
	mu      sync.Mutex
	logins  map[string]string // login → "accepted", "refused"; absent: destroyed
	holders int               // who still presents the version that goes
	steps   []string
	fail    map[string]error // by step, once
	waits   map[string]int   // by step: how often it answers wait first
	mistake string           // a value that isn't a credential
	admin   error            // what refuses the engine's own login, without which Test sees nothing
	store   *rotationtest.Store
}

func (e *target) look(ctx context.Context, step string, c rotation.Change, act func() error) (rotation.Result, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.fail[step]; err != nil {
		delete(e.fail, step)
		return rotation.Result{}, err
	}
	if err := c.Fence(ctx); err != nil {
		return rotation.Result{}, err
	}
	e.steps = append(e.steps, step)
	if e.waits[step] > 0 {
		e.waits[step]--
		return rotation.Result{Outcome: rotation.Wait, After: time.Second, Missing: []string{step}, Cursor: "cursor of " + step}, nil
	}
	if err := act(); err != nil {
		return rotation.Result{}, err
	}
	return rotation.Result{Outcome: rotation.Done}, nil
}

// login looks again while the store is interrupted: what a target accepts
// doesn't depend on it.
func (e *target) login(ctx context.Context, version string) string {
	v, err := e.store.Value(ctx, arn, version)
	for fault.Is(err, fault.Unavailable) {
		v, err = e.store.Value(ctx, arn, version)
	}
	if err != nil {
		return ""
	}
	return v.Reveal()
}

func (e *target) Defaults() rotation.Policy { return rotation.Policy{} }

func (e *target) Identity(ctx context.Context, secret, version string) (string, error) {
	v, err := e.store.Value(ctx, secret, version)
	if err == nil && v.Reveal() == e.mistake {
		return "", fault.New(fault.InvalidInput, "version %s isn't a credential", version)
	}
	return v.Reveal(), err
}

func (e *target) Plan(context.Context, rotation.Change) (rotation.Plan, error) {
	return rotation.Plan{}, nil
}

func (e *target) Create(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	if err := e.fail["create"]; err != nil {
		delete(e.fail, "create")
		return rotation.Result{}, err
	}
	e.steps = append(e.steps, "create")
	if _, err := e.store.Value(ctx, c.Secret, c.To); err == nil {
		return rotation.Result{Outcome: rotation.Done}, nil
	}
	return rotation.Result{Outcome: rotation.Done}, e.store.Put(ctx, c, rotation.NewValue("login-"+c.To[:1]))
}

func (e *target) Set(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	return e.look(ctx, "set", c, func() error { e.logins[e.login(ctx, c.To)] = "accepted"; return nil })
}

func (e *target) Test(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	return e.look(ctx, "test", c, func() error {
		if _, err := e.store.Value(ctx, c.Secret, c.To); err == nil && e.admin != nil {
			return e.admin
		}
		if e.logins[e.login(ctx, c.To)] != "accepted" {
			return fault.New(fault.CredentialRejected, "the new login is refused")
		}
		return nil
	})
}

func (e *target) Adopt(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	return e.look(ctx, "adopt", c, func() error { return nil })
}

func (e *target) Drain(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	return e.look(ctx, "drain", c, func() error { return nil })
}

func (e *target) Disable(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	res, err := e.look(ctx, "disable", c, func() error {
		cut := c.Emergency && (c.To == "" || e.logins[e.login(ctx, c.To)] == "refused")
		if !cut && e.logins[e.login(ctx, c.To)] != "accepted" {
			return fault.New(fault.CredentialRejected, "the login that stays is refused")
		}
		if e.holders == 0 && e.logins[e.login(ctx, c.From)] != "" {
			e.logins[e.login(ctx, c.From)] = "refused"
		}
		return nil
	})
	if err == nil && res.Outcome == rotation.Done && e.holders > 0 {
		e.holders--
		res.Outcome = rotation.Reopened
	}
	return res, err
}

func (e *target) Enable(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	return e.look(ctx, "enable", c, func() error {
		if e.logins[e.login(ctx, c.From)] == "" {
			return fault.New(fault.TooLate, "the old login is destroyed")
		}
		e.logins[e.login(ctx, c.From)] = "accepted"
		return nil
	})
}

func (e *target) Revoke(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	return e.look(ctx, "revoke", c, func() error { delete(e.logins, e.login(ctx, c.From)); return nil })
}

func (e *target) Engine(string) (rotation.Engine, error) { return e, nil }

// world is one secret under rotation.
type world struct {
	*rotation.Rotator
	t       *testing.T
	store   *rotationtest.Store
	target  *target
	runs    *runs
	journal *journal
	now     time.Time
	slept   time.Duration // for labels and values that may be late
}

func newWorld(t *testing.T, driver rotation.Driver) *world {
	t.Helper()
	store := rotationtest.NewStore()
	store.Driver = driver
	store.Add(arn, v1, "login-1")
	w := &world{
		t: t, store: store, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		target:  &target{logins: map[string]string{"login-1": "accepted"}, fail: map[string]error{}, waits: map[string]int{}, store: store},
		runs:    &runs{runs: map[string]rotation.Run{}, in: map[string]rotation.Input{}},
		journal: &journal{},
	}
	w.runs.now = func() time.Time { return w.now }
	w.Rotator = &rotation.Rotator{
		Store: store, Engines: w.target, Runs: w.runs, Journal: w.journal,
		Policies: policies{rotation.Policy{
			Secret: arn, Kind: "target", Driver: driver, Hold: 30 * time.Second,
			HeadLimit: time.Minute, FunctionLimit: functionLimit, Hash: "h",
		}},
		Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
		Sleep: func(ctx context.Context, d time.Duration) error { w.slept += d; return ctx.Err() },
	}
	return w
}

// check is rule 1: what any consumer reads works.
func (w *world) check() {
	w.t.Helper()
	current := w.store.Labels(arn).Holder(rotation.Current)
	if login := w.target.login(w.t.Context(), current); w.target.logins[login] != "accepted" {
		w.t.Fatalf("AWSCURRENT is %s, whose login %s is %q; labels %v", current, login, w.target.logins[login], w.store.Labels(arn))
	}
}

// rotate runs the head as Secrets Manager or the machine would.
func (w *world) rotate(token string) error {
	w.t.Helper()
	byStore := w.store.Driver == rotation.DriverSecretsManager
	if byStore {
		if err := w.store.Rotate(w.t.Context(), arn, token); err != nil {
			return err
		}
	}
	req := rotation.Request{Secret: arn, Token: token, Direction: rotation.Head, ByStore: byStore, Generation: 1}
	for _, step := range []func(context.Context, rotation.Request) (rotation.Result, error){w.Create, w.Set, w.Test, w.Finish} {
		res, err := step(w.t.Context(), req)
		if err != nil {
			return err
		}
		if res.Outcome != rotation.Done {
			return fmt.Errorf("outcome %s", res.Outcome)
		}
		w.check()
	}
	return nil
}

// tail runs adopt to revoke, following reopened answers, as the machine would.
func (w *world) tail(token string, d rotation.Direction) error {
	w.t.Helper()
	req := rotation.Request{Secret: arn, Token: token, Direction: d, Generation: 1}
	steps := []func(context.Context, rotation.Request) (rotation.Result, error){w.Adopt, w.Drain, w.Disable, w.Revoke}
	back := map[int]int{2: 1, 3: 0}
	if d == rotation.Back {
		if res, err := w.Rollback(w.t.Context(), req); err != nil || res.Outcome != rotation.Done {
			return fmt.Errorf("rollback %s: %w", res.Outcome, err)
		}
		w.check()
	}
	for i, calls := 0, 0; i < len(steps); calls++ {
		if calls > 50 {
			return fmt.Errorf("step %d never ends", i)
		}
		res, err := steps[i](w.t.Context(), req)
		if err != nil {
			return err
		}
		req.Cursor = res.Cursor
		w.check()
		switch res.Outcome {
		case rotation.Done:
			i++
		case rotation.Reopened:
			i = back[i]
		default:
		}
	}
	return nil
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// labels prints the labels of the three versions in a fixed order.
func (w *world) labels() string {
	var lines []string
	for _, id := range []string{v1, v2, v3} {
		var short []string
		for _, l := range w.store.Labels(arn)[id] {
			short = append(short, strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(string(l), "AWS"), "KEYTURN_"), "_"+id))
		}
		slices.Sort(short)
		if len(short) > 0 {
			lines = append(lines, id[:1]+":"+strings.Join(short, "+"))
		}
	}
	return strings.Join(lines, " ")
}

func (w *world) wantLabels(want string) {
	w.t.Helper()
	if got := w.labels(); got != want {
		w.t.Fatalf("labels %q, want %q", got, want)
	}
}

func (w *world) wantLogins(want ...string) {
	w.t.Helper()
	var got []string
	for login, state := range w.target.logins {
		got = append(got, login+" "+state)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		w.t.Fatalf("logins %v, want %v", got, want)
	}
}

func wantFault(t *testing.T, err error, want fault.Name) {
	t.Helper()
	if !fault.Is(err, want) {
		t.Fatalf("error %v (%s), want %s", err, fault.NameOf(err), want)
	}
}

// unpend does what Secrets Manager may do after a rotation: it takes AWSPENDING
// off the version that is current.
func (w *world) unpend() {
	v := w.store.Labels(arn)
	if p := v.Holder(rotation.Pending); p != "" && v.Has(p, rotation.Current) {
		w.must(w.store.Detach(w.t.Context(), arn, rotation.Pending, p))
	}
}

// promote runs a head after which Secrets Manager has cleaned up.
func (w *world) promote(token string) {
	w.t.Helper()
	w.must(w.rotate(token))
	w.unpend()
}

// pend makes a pending version with a login that its target accepts.
func (w *world) pend(token, login string) {
	w.t.Helper()
	w.must(w.store.Rotate(w.t.Context(), arn, token))
	w.must(w.store.Put(w.t.Context(), rotation.Change{Secret: arn, To: token}, rotation.NewValue(login)))
	w.target.logins[login] = "accepted"
}

// putByHand stores a login that its target accepts.
func (w *world) putByHand(token, login string) {
	w.t.Helper()
	w.target.logins[login] = "accepted"
	w.store.PutByHand(arn, token, login)
}

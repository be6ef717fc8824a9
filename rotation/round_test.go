package rotation_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

// many are secrets of one policy; their list shows what show says.
type many struct {
	*rotationtest.Store
	secrets []string
	show    func(rotation.Description) rotation.Description
	pages   int
}

func (m *many) Policy(secret string) (rotation.Policy, error) {
	return rotation.Policy{Secret: secret, Driver: rotation.DriverMachine, HeadLimit: time.Minute, FunctionLimit: time.Minute}, nil
}

func (m *many) Secrets() []string { return m.secrets }

func (m *many) List(_ context.Context, more func([]rotation.Description) bool) error {
	for page := range slices.Chunk(m.secrets, 100) {
		m.pages++
		var all []rotation.Description
		for _, secret := range page {
			d := rotation.Description{ARN: secret, Name: "name of " + secret, Versions: m.Labels(secret)}
			all = append(all, m.show(d))
		}
		if !more(all) {
			return nil
		}
	}
	return nil
}

func newMany(n int) (*many, *rotation.Rotator, *runs) {
	store := rotationtest.NewStore()
	store.Driver = rotation.DriverMachine
	m := &many{Store: store, show: func(d rotation.Description) rotation.Description { return d }}
	for i := range n {
		m.secrets = append(m.secrets, fmt.Sprintf("%s-%04d", arn, i))
		store.Add(m.secrets[i], v1, "one")
	}
	runs := &runs{runs: map[string]rotation.Run{}, in: map[string]rotation.Input{}, now: time.Now}
	return m, &rotation.Rotator{Store: m, Policies: m, Runs: runs, Journal: &journal{}, Now: time.Now, Log: slog.New(slog.DiscardHandler)}, runs
}

func plain(string) rotation.EnsureOptions { return rotation.EnsureOptions{} }

// drain puts a secret into the middle of a rotation.
func (m *many) drain(t *testing.T, secret string) {
	t.Helper()
	m.PutByHand(secret, v2, "two")
	if err := m.Attach(t.Context(), secret, rotation.Retiring, v1); err != nil {
		t.Fatal(err)
	}
}

func (m *many) described() (n int) {
	for _, c := range m.Calls() {
		if c.Op == "Describe" {
			n++
		}
	}
	return n
}

func TestARoundDescribesOnlyWhatThePagesDontShowAsStable(t *testing.T) {
	t.Parallel()
	m, r, runs := newMany(1000)
	m.drain(t, m.secrets[500])
	round := r.WatchAll(t.Context(), plain)
	if round.Stable != 999 || len(round.Looked) != 1 || round.Looked[0].Secret != m.secrets[500] || len(round.Unreached) > 0 {
		t.Errorf("%+v", round)
	}
	if m.pages != 10 || m.described() != 2 || len(runs.runs) != 1 { // the look and its EnsureRun
		t.Errorf("%d pages, %d described, runs %v", m.pages, m.described(), runs.runs)
	}
}

// An old page shows a drain that is over, or none where one goes on.
func TestAnOldPageStartsNothing(t *testing.T) {
	t.Parallel()
	m, r, runs := newMany(2)
	m.drain(t, m.secrets[1])
	old := map[string]rotation.Versions{
		m.secrets[0]: {v1: {rotation.Previous, rotation.Retiring}, v2: {rotation.Current}},
		m.secrets[1]: {v1: {rotation.Current}},
	}
	m.show = func(d rotation.Description) rotation.Description { d.Versions = old[d.ARN]; return d }
	round := r.WatchAll(t.Context(), plain)
	if len(runs.runs) > 0 || len(round.Looked) != 1 || round.Looked[0].Situation.Need != rotation.NeedNothing {
		t.Errorf("%+v, runs %v", round, runs.runs)
	}
	m.show = func(d rotation.Description) rotation.Description { return d }
	if round = r.WatchAll(t.Context(), plain); len(runs.runs) != 1 || len(round.Looked) != 1 {
		t.Errorf("when the list has caught up: %+v, runs %v", round, runs.runs)
	}
}

func TestASecretThatNoPageShowsIsDescribed(t *testing.T) {
	t.Parallel()
	m, r, _ := newMany(3)
	m.show = func(d rotation.Description) rotation.Description {
		if d.ARN == m.secrets[1] {
			d.ARN, d.Name = "another", "another"
		}
		return d
	}
	if round := r.WatchAll(t.Context(), plain); round.Stable != 2 || len(round.Looked) != 1 || round.Looked[0].Secret != m.secrets[1] {
		t.Errorf("%+v", round)
	}
}

// A page that shows something to tell doesn't tell it: the fresh look does.
func TestFindingsComeFromAFreshLook(t *testing.T) {
	t.Parallel()
	m, r, _ := newMany(1)
	m.show = func(d rotation.Description) rotation.Description { d.Deleted = true; return d }
	round := r.WatchAll(t.Context(), plain)
	if len(round.Looked) != 1 || len(round.Looked[0].Findings) > 0 {
		t.Errorf("%+v", round)
	}
	m.show = func(d rotation.Description) rotation.Description { return d }
	m.Edit(m.secrets[0], func(d *rotation.Description) { d.Deleted = true })
	if round = r.WatchAll(t.Context(), plain); round.Stable != 1 {
		t.Errorf("an old page hides it for its five minutes: %+v", round)
	}
}

// When a service refuses, or time is short, the rest is said to be left; each
// round begins elsewhere, and within some rounds everybody has been reached.
func TestWhatIsntReachedIsSaidAndHasItsTurn(t *testing.T) {
	t.Parallel()
	m, r, _ := newMany(200)
	for _, secret := range m.secrets {
		m.drain(t, secret)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r.Now = func() time.Time { return now }
	left := map[string]int{} // rounds since a secret was reached
	for minute := range 120 {
		asked := 0
		m.Fail = func(c rotationtest.Call) error {
			if asked++; c.Op == "Describe" && asked > 40 { // of the round
				return fault.New(fault.Throttled, "too many")
			}
			return nil
		}
		round := r.WatchAll(t.Context(), plain)
		if len(round.Unreached) == 0 || len(round.Looked)+len(round.Unreached) != len(m.secrets) {
			t.Fatalf("minute %d: %d looked at, %d unreached", minute, len(round.Looked), len(round.Unreached))
		}
		for _, looked := range round.Looked {
			if looked.Err == nil {
				delete(left, looked.Secret)
			} else {
				left[looked.Secret]++
			}
		}
		for _, secret := range round.Unreached {
			if left[secret]++; left[secret] > 40 {
				t.Fatalf("%s had no turn for %d rounds", secret, left[secret])
			}
		}
		now = now.Add(time.Minute)
	}
}

// A round ends before its context does, and begins with what matters most.
func TestStolenCredentialsAndHourlyTurnsGoFirst(t *testing.T) {
	t.Parallel()
	m, r, _ := newMany(100)
	for _, secret := range m.secrets {
		m.drain(t, secret)
	}
	if err := m.Attach(t.Context(), m.secrets[60], rotation.Stolen(v1), v1); err != nil {
		t.Fatal(err)
	}
	began := len(m.Calls())
	turn := func(secret string) rotation.EnsureOptions {
		return rotation.EnsureOptions{Retry: secret == m.secrets[30]}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	r.WatchAll(ctx, turn)
	var order []string
	for _, c := range m.Calls()[began:] {
		if c.Op == "Describe" && !slices.Contains(order, c.Secret) {
			order = append(order, c.Secret)
		}
	}
	for _, secret := range []string{m.secrets[60], m.secrets[30]} {
		if at := slices.Index(order, secret); at < 0 || at > 15 { // some are looked at side by side
			t.Errorf("%s was looked at as number %d", secret, at)
		}
	}
	late, cancelLate := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancelLate()
	if round := r.WatchAll(late, turn); len(round.Unreached) != 100 || len(round.Looked) > 0 {
		t.Errorf("without any time: %d looked at, %d unreached", len(round.Looked), len(round.Unreached))
	}
}

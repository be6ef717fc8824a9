package rotation_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// noteHeld remembers every version that was disabled: a late try to use one may be
// told of long after.
func (m *model) noteHeld(v rotation.Versions) {
	if id := v.Holder(rotation.Disabled); id != "" && !slices.Contains(m.held, id) {
		m.held = append(m.held, id)
	}
}

// triesLate is what a target's log tells: somebody whom nobody has registered has
// tried a login that is, or was, refused. It may come late, twice, and at any
// moment of everybody else's work.
func (m *model) triesLate(rt *rapid.T) {
	must(len(m.held) > 0)
	m.tries(rt, m.held[rapid.IntRange(0, len(m.held)-1).Draw(rt, "held")])
}

// triesWhileHeld waits until a login is refused and not yet destroyed.
func (m *model) triesWhileHeld(rt *rapid.T) {
	const most = 12 // half minutes
	for range most {
		v := m.store.Labels(arn)
		goes := v.Holder(rotation.Retiring)
		must(goes != "" && goes != v.Holder(rotation.Current))
		if v.Has(goes, rotation.Disabled) && !m.db.accepts(m.credential(goes)) {
			m.tries(rt, goes)
			return
		}
		m.tick()
	}
}

func (m *model) tries(rt *rapid.T, version string) {
	m.letGo(m.lateTry(version), calls(rt))
}

// lateTry keeps the try as evidence, as functions/lateLogin does, and calls Reopen.
func (m *model) lateTry(version string) *process {
	const away = 2 * time.Minute
	try := rotation.LateTry{Version: version, Login: m.credential(version).login, At: m.now, Address: "192.0.2.7", ID: m.now.String()}
	m.reports = append(m.reports, report{version, try.Away(m.now.Add(-away))})
	p := m.start("late login of "+m.short(version), func(ctx context.Context, r *rotation.Rotator) (rotation.Result, error) {
		atTarget(r)
		return r.Reopen(ctx, arn, try)
	})
	p.answered = func(res rotation.Result, err error) {
		v := m.store.Labels(arn)
		alone := len(m.processes) == 0 && v.Has(version, rotation.Retiring) && !v.Has(version, rotation.Disabled)
		if err == nil && res.Outcome == rotation.Done && alone && !m.db.accepts(m.credential(version)) {
			m.rt.Fatalf("version %s was let in again, and is refused: %s", m.short(version), m.describe())
		}
	}
	return p
}

// A consumer that nobody has registered comes while the old login is held: it gets
// in again, the run drains anew when it wakes, no sooner than that consumer has
// stayed away before, and then ends.
func TestALateLoginIsLetInAgain(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		for _, pair := range []bool{false, true} {
			for _, direction := range []rotation.Direction{rotation.Forward, rotation.Back} {
				t.Run(strings.Join([]string{string(driver), string(direction)}, " "), func(t *testing.T) {
					t.Parallel()
					m, goes := heldModel(t, driver, pair, direction)
					defer m.end()
					m.letGo(m.lateTry(goes), 0)
					m.letGo(m.lateTry(goes), 0) // the same once more
					at := m.now
					if v := m.store.Labels(arn); v.Has(goes, rotation.Disabled) || !m.db.accepts(m.credential(goes)) {
						t.Fatalf("after the try: %s", m.describe())
					}
					for m.db.accepts(m.credential(goes)) {
						m.tick()
					}
					if again := m.now.Sub(at); again < 2*time.Minute {
						t.Errorf("it is refused again after %s", again)
					}
					m.settle()
					m.settled()
				})
			}
		}
	}
}

// heldModel is a world in which a login is refused and held.
func heldModel(t *testing.T, driver rotation.Driver, pair bool, d rotation.Direction) (m *model, goes string) {
	t.Helper()
	m = newModel(t, driver, pair, false, slowest()[2])
	goes = m.store.Labels(arn).Holder(rotation.Current)
	version, _ := m.begin()
	for !m.store.Labels(arn).Has(version, rotation.Current) {
		m.tick()
	}
	if d == rotation.Back {
		m.turnBack()
		goes = version
	}
	for !m.store.Labels(arn).Has(goes, rotation.Disabled) || m.db.accepts(m.credential(goes)) {
		m.tick()
	}
	return m, goes
}

// What was declared stolen stays refused, and the try is recorded.
func TestALateLoginWithAStolenCredentialStaysRefused(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		m, goes := heldModel(t, driver, false, rotation.Forward)
		defer m.end()
		e := m.emergency(false)
		m.hurry(e, 0)
		p := m.lateTry(goes)
		m.letGo(p, 0)
		if !fault.Is(p.err, fault.TooLate) || m.db.accepts(m.credential(goes)) {
			t.Errorf("%s: %v: %s", driver, p.err, m.describe())
		}
		m.settle()
		m.settled()
	}
}

// The function dies after it has let the login in and before KEYTURN_DISABLED is
// off. Revoke used to call that a login that isn't disabled, for a person to mend.
func TestAReopeningThatDiesHalfway(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		m, goes := heldModel(t, driver, false, rotation.Forward)
		defer m.end()
		p := m.lateTry(goes)
		m.until(p, "Detach DISABLED")
		m.resume(p, die)
		if !m.store.Labels(arn).Has(goes, rotation.Disabled) || !m.db.accepts(m.credential(goes)) {
			t.Errorf("%s: halfway: %s", driver, m.describe())
		}
		m.settle()
		m.settled()
	}
}

package rotation_test

import (
	"context"
	"testing"

	"github.com/keyturn/keyturn/rotation"
)

// A disable that hung goes on when others have revoked its version, and leaves
// KEYTURN_DISABLED on it. In pair mode that dead version's login is the one that
// a later rollback takes away: it used to end as IdentityInUse for ever.
func TestModelFoundADeadVersionsLabelBesideARollback(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		m := newModel(t, driver, true, false, slowest()[1])
		defer m.end()
		dead := m.store.Labels(arn).Holder(rotation.Current)
		m.rotateToTheEnd(driver)
		if err := m.store.Attach(context.Background(), arn, rotation.Disabled, dead); err != nil {
			t.Fatal(err)
		}
		stays := m.store.Labels(arn).Holder(rotation.Current)
		m.promote(driver)
		if goes := m.store.Labels(arn).Holder(rotation.Current); m.credential(goes).login != m.credential(dead).login {
			t.Fatalf("the dead login isn't the new one: %s", m.describe())
		}
		m.turnBack()
		m.settle()
		m.settled()
		if !m.store.Labels(arn).Has(stays, rotation.Current) {
			t.Errorf("at the end: %s", m.describe())
		}
	}
}

// promote makes a new version current, and leaves its drain to others.
func (m *model) promote(driver rotation.Driver) {
	before := m.store.Labels(arn).Holder(rotation.Current)
	if driver == rotation.DriverMachine {
		m.begin()
	} else if err := m.rotateSecret(context.Background(), arn, m.newVersion()); err != nil {
		m.rt.Fatal(err)
	}
	const most = 20 // half minutes
	for range most {
		if m.store.Labels(arn).Holder(rotation.Current) != before {
			return
		}
		m.tick()
	}
	m.rt.Fatalf("nothing is promoted: %s", m.describe())
}

// rotateToTheEnd waits for the end of the drain, too.
func (m *model) rotateToTheEnd(driver rotation.Driver) {
	m.promote(driver)
	m.settle()
	m.settled()
}

// While a login is turned back a person stores another one, and then goes back to
// the version which holds the very login that goes: everybody presents it again. It
// used to be drained for ever; a person hears of it now.
func TestModelFoundADrainOfALoginThatCameBack(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		m := newModel(t, driver, false, false, slowest()[1])
		defer m.end()
		old := m.store.Labels(arn).Holder(rotation.Current)
		m.promote(driver)
		again := m.storeAgain(old)
		m.turnBack()
		m.drive(rotation.RunName(arn, again, rotation.Back)+"-g1", 0)
		if m.store.Labels(arn).Holder(rotation.Retiring) != again {
			t.Fatalf("the login that was stored again doesn't go: %s", m.describe())
		}
		m.storeAnother()
		m.tick()
		m.tick()
		m.move(rotation.Current, old)
		m.settle()
		m.settled()
	}
}

// A create that hangs before it claims AWSPENDING is tried again during another
// one's drain, and given up; then it goes on and claims. In pair mode that version
// has the login of the current one, and was never set. It used to count as one that
// may be presented: when the current one was displaced, its drain ended as
// IdentityInUse for ever.
func TestModelFoundAClaimAfterItsRunWasGivenUp(t *testing.T) {
	t.Parallel()
	m := newModel(t, rotation.DriverMachine, true, false, slowest()[1])
	defer m.end()
	slow, given := m.begin()
	m.drive(given, 1)
	hung := m.inFlight[given]
	m.until(hung, "Attach PENDING")
	m.retry(hung)
	_, run := m.begin()
	m.toItsEnd(run)
	for m.runs.runs[given].Status == rotation.RunRunning && m.drive(given, 0) {
	}
	m.letGo(hung, 0)
	if !m.store.Labels(arn).Has(slow, rotation.Pending) {
		t.Fatalf("labels before another login is stored: %s", m.describe())
	}
	m.storeAnother()
	m.settle()
	m.settled()
}

// toItsEnd drives one run alone.
func (m *model) toItsEnd(run string) {
	const most = 20 // steps
	for n := 0; m.runs.runs[run].Status == rotation.RunRunning; n++ {
		if !m.drive(run, 0) || n > most {
			m.rt.Fatalf("%s doesn't end: %s", m.short(run), m.describe())
		}
	}
}

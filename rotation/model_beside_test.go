package rotation_test

import (
	"context"
	"testing"

	"github.com/keyturn/keyturn/rotation"
)

// The same two versions of a pair, but somebody stops the run that has made the
// one which was never set. Its labels ask for a drain first, and that drain used
// to wait for it, as IdentityInUse, for ever.
func TestModelFoundADrainThatWaitedForWhatNobodySets(t *testing.T) {
	t.Parallel()
	m := newModel(t, rotation.DriverMachine, true, false, slowest()[1])
	defer m.end()
	slow, run := m.begin()
	m.drive(run, 1)
	create := m.inFlight[run]
	m.until(create, "Put")
	first, _ := m.begin()
	for !m.store.Labels(arn).Has(first, rotation.Current) {
		m.tick()
	}
	m.letGo(create, 0)
	m.stop(run)
	m.storeAnother()
	m.settle()
	m.settled()
	if v := m.store.Labels(arn); len(v[slow]) > 1 || v.Has(first, rotation.Live(first)) {
		t.Errorf("at the end: %s", m.describe())
	}
}

// A function dies between its claim of AWSPENDING and the mark that the version is
// live, and whoever turns it back dies before the run of that begins. Then a person
// takes AWSPENDING off. Nothing asked for the end of that rollback; the next one
// would have taken its label, and a machine would have made the version current.
func TestModelFoundARollbackBesideAnUnfinishedClaim(t *testing.T) {
	t.Parallel()
	m := newModel(t, rotation.DriverMachine, false, false, slowest()[1])
	defer m.end()
	version, run := m.begin()
	m.drive(run, 1)
	create := m.inFlight[run]
	m.until(create, "Attach LIVE_"+m.short(version))
	m.resume(create, die)
	m.stop(run)
	operator := m.start("operator", func(ctx context.Context, r *rotation.Rotator) (rotation.Result, error) {
		_, err := r.RequestRollback(ctx, arn)
		return noResult, err
	})
	m.until(operator, "StartExecution")
	m.resume(operator, die)
	if err := m.store.Detach(t.Context(), arn, rotation.Pending, version); err != nil {
		t.Fatal(err)
	}
	m.settle()
	m.settled()
}

// A rollback has raised the rank at the target, is taken back, and the forward run
// outranks it. Turned back once more, the version's next rollback used to be
// fenced for ever.
func TestModelFoundASecondRollbackOfOneVersion(t *testing.T) {
	t.Parallel()
	for _, zoned := range []bool{false, true} {
		secondRollback(t, zoned)
	}
}

func secondRollback(t *testing.T, zoned bool) {
	for _, driver := range drivers {
		m := newModel(t, driver, false, false, slowest()[2])
		defer m.end()
		m.zoned = zoned
		first := m.store.Labels(arn).Holder(rotation.Current)
		version, _ := m.begin()
		for !m.store.Labels(arn).Has(version, rotation.Current) {
			m.tick()
		}
		m.turnBack()
		back := rotation.RunName(arn, version, rotation.Back) + "-g1"
		m.drive(back, 1)
		rollback := m.inFlight[back]
		m.until(rollback, "Move CURRENT")
		m.stop(back)
		m.resume(rollback, die)
		if err := m.store.Detach(t.Context(), arn, rotation.Rejected, version); err != nil {
			t.Fatal(err)
		}
		for !m.store.Labels(arn).Has(first, rotation.Disabled) || m.db.accepts(m.credential(first)) {
			m.tick()
		}
		m.turnBack()
		m.settle()
		m.settled()
		if !m.store.Labels(arn).Has(first, rotation.Current) {
			t.Errorf("%s: at the end %s", driver, m.describe())
		}
	}
}

// A person stores the current login again, a promotion breaks off after it has
// taken the drain's lock for that, and a person moves AWSCURRENT back to the
// version before, which has the same login: a drain of it would never end.
func TestModelFoundALoginStoredAgainThatGoesBack(t *testing.T) {
	t.Parallel()
	m := newModel(t, rotation.DriverMachine, false, false, slowest()[2])
	defer m.end()
	version, _ := m.begin()
	m.settle()
	_, run := m.begin()
	for m.execution(run, m.runs.in[run]).at != rotation.StepFinish {
		m.drive(run, 0)
	}
	m.put(m.credential(version))
	m.drive(run, 1)
	finish := m.inFlight[run]
	m.until(finish, "Move CURRENT")
	m.stop(run)
	m.resume(finish, die)
	m.move(rotation.Current, version)
	m.settle()
	m.settled()
}

// A version that lost AWSPENDING before it got a value is alive by its label, and
// an emergency marks it with the others. It used to stop every run: nobody could
// say whose credential it is.
func TestModelFoundAStolenVersionWithoutAValue(t *testing.T) {
	t.Parallel()
	for _, driver := range drivers {
		m := newModel(t, driver, false, false, slowest()[0])
		defer m.end()
		current, empty := m.store.Labels(arn).Holder(rotation.Current), m.newVersion()
		m.store.Edit(arn, func(d *rotation.Description) { d.Versions[empty] = []rotation.Label{rotation.Live(empty)} })
		e := m.emergency(false)
		m.settle()
		m.settled()
		if v := m.store.Labels(arn); len(v[empty]) > 0 || v.Has(current, rotation.Current) || !e.over {
			t.Errorf("%s: at the end %s", driver, m.describe())
		}
	}
}

// An emergency makes a version, a person takes its AWSPENDING off, and another
// emergency finds it: it was never read, so it isn't stolen, and the first may go
// on with it.
func TestModelFoundAVersionThatWasNeverCurrentIsNotStolen(t *testing.T) {
	t.Parallel()
	m := newModel(t, rotation.DriverMachine, true, false, slowest()[0])
	defer m.end()
	m.hurry(m.emergency(false), 0)
	second := m.emergency(false)
	m.hurry(second, 0)
	for len(m.running()) == 0 {
		m.tick()
	}
	run := m.running()[0]
	for m.execution(run, m.runs.in[run]).at != rotation.StepFinish {
		m.pass(halfMinute)
		m.drive(run, 0)
	}
	made := m.runs.in[run].Token
	if err := m.store.Detach(t.Context(), arn, rotation.Pending, made); err != nil {
		t.Fatal(err)
	}
	m.stop(run)
	m.settle()
	m.settled()
	if m.stolen[m.credential(made)] {
		t.Errorf("the credential of %s was called stolen: %s", m.short(made), m.describe())
	}
}

// A finish hangs between the end of its version as a candidate and AWSCURRENT; the
// version is turned back, in haste because an emergency waits for that. A version
// that is no candidate counts as presented, and its drain used to end before the
// finish could no longer come: it promoted a login that was gone.
func TestModelFoundAFinishThatAnEmergencyDoesntWaitFor(t *testing.T) {
	t.Parallel()
	for _, pair := range []bool{false, true} {
		m := newModel(t, rotation.DriverMachine, pair, false, slowest()[0])
		defer m.end()
		_, run := m.begin()
		for m.executions[run] == nil || m.executions[run].at != rotation.StepFinish {
			m.drive(run, 0)
		}
		m.drive(run, 1)
		finish := m.inFlight[run]
		m.until(finish, "Move CURRENT")
		m.turnBack()
		m.hurry(m.emergency(false), 0)
		m.tick()
		m.work()
		m.letGo(finish, 0) // within its time
		m.settle()
		m.settled()
	}
}

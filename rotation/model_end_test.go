package rotation_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// check is what has to hold at every instant, after every single call.
func (m *model) check() {
	if m.broken != "" {
		m.rt.Fatal(m.broken)
	}
	v := m.store.Labels(arn)
	m.noteStolen(v)
	m.noteHeld(v)
	current := v.Holder(rotation.Current)
	switch works := m.db.accepts(m.credential(current)); {
	case works:
		m.excused = m.excused && m.now.Before(m.late)
	case !m.excused && !m.cut[m.credential(current)]:
		m.rt.Fatalf("AWSCURRENT is on %s, which is refused: %s", m.short(current), m.describe())
	}
	for _, c := range m.consumers {
		if m.holds(c) && !m.forgiven(c) && !m.db.accepts(c.value) {
			m.rt.Fatalf("%s holds version %s since %s, which is refused now: %s", c.party.Name, m.short(c.version), c.read.Format("15:04:05"), m.describe())
		}
	}
	for login, r := range m.db.roles {
		if r.open && r.token != "" && !m.tracked(v, credential{login, r.password}) {
			m.rt.Fatalf("login %s works and no label says so: %s", login, m.describe())
		}
	}
}

// tracked reports a credential that a label leads to.
func (m *model) tracked(v rotation.Versions, c credential) bool {
	for id := range v {
		if m.credential(id) == c && (v.Has(id, rotation.Live(id)) || v.Has(id, rotation.Current)) {
			return true
		}
	}
	return false
}

const halfMinute = 30 * time.Second

// tick is half a minute in which everybody does what there is to do.
func (m *model) tick() (busy bool) {
	busy = m.work()
	m.pass(halfMinute)
	return m.tidy() || len(m.processes) > 0 || busy
}

// work lets everybody get as far as can be without waiting.
func (m *model) work() (busy bool) {
	const most = 60 // of steps without a wait
	for n := 0; m.secretsManager(0) && m.sm.token != "" && n < most; n++ {
		busy = true
	}
	for _, name := range m.running() {
		for n := 0; m.runs.runs[name].Status == rotation.RunRunning && m.drive(name, 0) && n < most; n++ {
		}
		busy = true
	}
	for _, e := range m.underWay() {
		for n := 0; m.hurry(e, 0) && n < most; n++ {
		}
		busy = true
	}
	p := m.start("watchdog", func(ctx context.Context, r *rotation.Rotator) (rotation.Result, error) {
		_, err := r.Watch(ctx, arn, rotation.EnsureOptions{Retry: true})
		return noResult, err
	})
	m.letGo(p, 0)
	for _, c := range m.consumers {
		m.live(c)
	}
	return busy || p.err != nil
}

// settle lets everybody work until there is nothing left to do. Where a run has
// ended for a person to look at, a person does what its hint says.
func (m *model) settle() {
	const (
		patience = 400 // ticks without an end: then somebody asks why
		most     = 8   // such questions
	)
	for range most {
		for range patience {
			busy := m.tick()
			nothing := rotation.Read(m.store.Labels(arn), m.store.Driver).Need == rotation.NeedNothing
			if !busy && nothing && !m.stolenLeft() {
				return
			}
			if !busy && (m.stuck() != "" || (nothing && m.stolenLeft())) {
				break
			}
		}
		m.mend(m.stuck())
	}
	m.rt.Fatalf("never settles: %s; runs %v", m.describe(), m.ends())
}

// stuck names the fault of a run that the labels ask for and that is left to a
// person, or "".
func (m *model) stuck() fault.Name {
	v := m.store.Labels(arn)
	s := rotation.Read(v, m.store.Driver)
	if s.Need == rotation.NeedStore {
		return fault.InvalidStage
	}
	prefix := rotation.RunName(arn, s.Token, s.Direction) + "-g"
	last := rotation.Run{}
	for _, name := range slices.Sorted(maps.Keys(m.runs.runs)) {
		if strings.HasPrefix(name, prefix) && (len(name) > len(last.Name) || name > last.Name) {
			last = m.runs.runs[name]
		}
	}
	if last.Status != rotation.RunFailed {
		return ""
	}
	for _, name := range fault.Names() {
		if name.Class() == fault.Terminal && strings.Contains(last.Cause, `"`+string(name)+`"`) {
			return name
		}
	}
	return ""
}

// mend is a person who reads the cause of a run that is stuck.
func (m *model) mend(why fault.Name) {
	m.rt.Logf("%s  a person looks: %q, %s", m.now.Format("15:04:05"), why, m.describe())
	m.hit("a person mends: " + string(why))
	v := m.store.Labels(arn)
	current, previous := v.Holder(rotation.Current), v.Holder(rotation.Previous)
	turnBack := false
	switch {
	case m.cancelled():
		m.enable(true)
	case why == fault.IdentityInUse:
		m.storeAnother()
	case why == fault.Fenced && m.disown(v.Holder(rotation.Retiring)):
	case m.stolenLeft():
		m.callAgain()
	case !m.db.accepts(m.credential(current)) && m.db.accepts(m.credential(previous)):
		m.move(rotation.Current, previous)
	case rotation.Read(v, m.store.Driver).Need == rotation.NeedStore:
		turnBack = true
	case why == "":
		m.rt.Fatalf("nothing says why it doesn't end: %s; runs %v", m.describe(), m.ends())
	}
	m.letGo(m.start("person", func(ctx context.Context, r *rotation.Rotator) (rotation.Result, error) {
		if turnBack {
			_, err := r.RequestRollback(ctx, arn)
			return noResult, err
		}
		_, err := r.EnsureRun(ctx, arn, rotation.EnsureOptions{Resume: true})
		return noResult, err
	}), 0)
}

// disown takes our labels off a version whose login is refused and, at the target,
// belongs to another version under which it was stored before.
func (m *model) disown(version string) bool {
	c := m.credential(version)
	r := m.db.roles[c.login]
	if r == nil || m.db.accepts(c) || r.token == "" || r.token == version {
		return false
	}
	for _, l := range m.store.Labels(arn)[version] {
		if strings.HasPrefix(string(l), "KEYTURN_") {
			_ = m.store.Detach(context.Background(), arn, l, version) // always succeeds
		}
	}
	return true
}

func (m *model) enable(on bool) {
	m.store.Edit(arn, func(d *rotation.Description) { d.RotationEnabled = &on })
}

// ends lists how the runs have ended.
func (m *model) ends() (ends []string) {
	for _, name := range slices.Sorted(maps.Keys(m.runs.runs)) {
		run := m.runs.runs[name]
		ends = append(ends, m.short(name)+" "+string(run.Status)+" "+run.Cause)
	}
	return ends
}

// leftOver is a label that does no harm, and that the watchdog's DisabledLeftOver
// tells a person to take off: a function that hung put it on a version that others
// had revoked meanwhile. The next disable takes it along.
func (m *model) leftOver(v rotation.Versions, id string, l rotation.Label) bool {
	if l != rotation.Disabled || v.Has(id, rotation.Live(id)) || v.Has(id, rotation.Retiring) || v.Has(id, rotation.Current) {
		return false
	}
	m.hit("KEYTURN_DISABLED is left over")
	return !m.db.accepts(m.credential(id))
}

// settled is the only end there may be: one login, the current version's, no
// label of ours but what stays, and a trail that nothing is missing from.
func (m *model) settled() {
	v := m.store.Labels(arn)
	current := v.Holder(rotation.Current)
	for login, r := range m.db.roles {
		c := credential{login, r.password}
		if r.open && c != m.credential(current) && (!r.byHand || m.tracked(v, c)) {
			m.rt.Fatalf("login %s is an orphan: %s; runs %v", login, m.describe(), m.ends())
		}
	}
	for id, labels := range v {
		for _, l := range labels {
			ours := strings.HasPrefix(string(l), "KEYTURN_")
			// On the current version RETIRING is a promotion that broke off: the next completes it.
			stays := l == rotation.Rejected || m.leftOver(v, id, l) || (id == current && (l == rotation.Live(id) || l == rotation.Retiring))
			if ours && !stays {
				m.rt.Fatalf("%s is left on version %s: %s; runs %v", m.short(string(l)), m.short(id), m.describe(), m.ends())
			}
		}
	}
	m.buried()
	if _, err := audit.Verify(context.Background(), m.ledger, arn); err != nil {
		m.rt.Fatalf("the audit trail: %v", err)
	}
}

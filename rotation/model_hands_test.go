package rotation_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/rotation"
)

// storeAgain makes the login of a version that goes current under another one.
func (m *model) storeAgain(goes string) (version string) {
	m.excuse(goes)
	version = m.put(m.credential(goes))
	m.byHand[version] = true
	return version
}

// hands are what a person does to the secret beside Keyturn.
func (m *model) hands() []action {
	return []action{
		{"hand: stores another login", 1, func(*rapid.T) { m.storeAnother() }},
		{"hand: moves AWSCURRENT back", 1, func(*rapid.T) {
			old := m.store.Labels(arn).Holder(rotation.Previous)
			must(m.db.accepts(m.credential(old)) && !m.isStolen(old))
			m.move(rotation.Current, old)
		}},
		{"hand: moves AWSCURRENT on", 1, func(*rapid.T) {
			v := m.store.Labels(arn)
			next := v.Holder(rotation.Pending)
			must(next != v.Holder(rotation.Current) && m.db.accepts(m.credential(next)) && !m.isStolen(next))
			m.move(rotation.Current, next)
		}},
		{"hand: takes AWSPENDING off", 1, func(*rapid.T) {
			p := m.store.Labels(arn).Holder(rotation.Pending)
			must(p != "")
			m.rt.Logf("%s  a hand takes AWSPENDING off %s", m.now.Format("15:04:05"), m.short(p))
			_ = m.store.Detach(context.Background(), arn, rotation.Pending, p) // always succeeds
		}},
		{"hand: locks the pending login", 1, func(*rapid.T) { m.lockPending() }},
		{"hand: stores the current login again", 1, func(*rapid.T) {
			current := m.store.Labels(arn).Holder(rotation.Current)
			c := m.credential(current)
			must(m.db.accepts(c) && !m.stolen[c])
			asked := !m.byHand[current]
			m.byHand[m.put(c)] = !asked
		}},
		{"hand: stores the login again that goes", 1, func(*rapid.T) {
			v := m.store.Labels(arn)
			goes := v.Holder(rotation.Retiring)
			must(goes != "" && goes != v.Holder(rotation.Current))
			c := m.credential(goes)
			must(m.db.accepts(c) && !m.stolen[c])
			m.storeAgain(goes)
		}},
		{"hand: stores a stolen login again", 1, func(*rapid.T) {
			v := m.store.Labels(arn)
			for _, id := range slices.Sorted(maps.Keys(v)) {
				if c := m.credential(id); m.stolen[c] && m.db.accepts(c) {
					m.storeAgain(id)
					return
				}
			}
			must(false)
		}},
	}
}

// lockPending is somebody at the target who locks a new login before it is current.
// A rotation gets there first.
func (m *model) lockPending() {
	const most = 4 // steps
	for range most {
		if p := m.pendingThatWorks(); p != "" {
			m.rt.Logf("%s  a hand locks the login of version %s", m.now.Format("15:04:05"), m.short(p))
			m.db.roles[m.credential(p).login].open = false
			return
		}
		if names := m.running(); !m.secretsManager(0) {
			must(len(names) > 0)
			m.drive(names[0], 0)
		}
	}
	must(false)
}

// pendingThatWorks is a pending version whose login works, and which nobody has
// ever read as the current one. From where a finish has proven it there is no way
// to tell that it doesn't any more.
func (m *model) pendingThatWorks() (version string) {
	v := m.store.Labels(arn)
	pending := v.Holder(rotation.Pending)
	c := m.credential(pending)
	proven := slices.ContainsFunc(m.processes, func(p *process) bool { return strings.Contains(p.name, "finish") })
	read := slices.ContainsFunc(m.consumers, func(x *consumer) bool { return x.value == c })
	if !v.Has(pending, rotation.Candidate(pending)) || v.Has(pending, rotation.Previous) || proven || read {
		return ""
	}
	if !m.db.accepts(c) || c == m.credential(v.Holder(rotation.Current)) || m.db.roles[c.login].token != pending {
		return ""
	}
	return pending
}

// storeAnother gives AWSCURRENT a login that nobody has heard of.
func (m *model) storeAnother() {
	c := credential{fmt.Sprintf("hand%d", m.versions), m.password()}
	m.db.roles[c.login] = &role{password: c.password, open: true, byHand: true}
	m.put(c)
}

// put is PutSecretValue without stages.
func (m *model) put(c credential) (version string) {
	m.abandon()
	version = m.newVersion()
	m.rt.Logf("%s  a hand stores %s as version %s", m.now.Format("15:04:05"), c.login, m.short(version))
	m.store.PutByHand(arn, version, c.String())
	return version
}

// move is UpdateSecretVersionStage.
func (m *model) move(l rotation.Label, to string) {
	v := m.store.Labels(arn)
	m.rt.Logf("%s  a hand moves %s to %s", m.now.Format("15:04:05"), m.short(string(l)), m.short(to))
	m.byHand[to] = true
	m.excuse(to)
	if err := m.store.Move(context.Background(), arn, l, to, v.Holder(l)); err != nil {
		m.rt.Fatal(err)
	}
	m.abandon()
}

// excuse: who makes a login current that is refused finds it refused until Keyturn
// has seen it; and a function that has read the labels for the last time refuses it
// even then.
func (m *model) excuse(version string) {
	m.excused = !m.db.accepts(m.credential(version))
	for _, p := range m.processes {
		if p.at == atCommit {
			m.excused, m.late = true, p.deadline
		}
	}
}

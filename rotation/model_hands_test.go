package rotation_test

import (
	"context"
	"fmt"

	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/rotation"
)

// hands are what a person does to the secret beside Keyturn. Storing the current
// login again isn't among them: the comment on the login goes on naming the version
// that it was made for until the next rotation's Set claims it, so that taking it
// away before then is refused as Fenced, for a person to mend. Without comments,
// TestAHandMayMeddleAnywhere does it before every step.
func (m *model) hands() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"stores another login": func(*rapid.T) {
			c := credential{fmt.Sprintf("hand%d", m.versions), m.password()}
			m.db.roles[c.login] = &role{password: c.password, open: true, byHand: true}
			m.put(c)
		},
		"moves AWSCURRENT back": func(rt *rapid.T) {
			old := m.store.Labels(arn).Holder(rotation.Previous)
			must(rt, m.db.accepts(m.credential(old)))
			m.move(rotation.Current, old)
		},
		"moves AWSCURRENT on": func(rt *rapid.T) {
			v := m.store.Labels(arn)
			next := v.Holder(rotation.Pending)
			must(rt, next != v.Holder(rotation.Current) && m.db.accepts(m.credential(next)))
			m.move(rotation.Current, next)
		},
		"takes AWSPENDING off": func(rt *rapid.T) {
			p := m.store.Labels(arn).Holder(rotation.Pending)
			must(rt, p != "")
			m.rt.Logf("%s  a hand takes AWSPENDING off %s", m.now.Format("15:04:05"), m.short(p))
			_ = m.store.Detach(context.Background(), arn, rotation.Pending, p) // always succeeds
		},
	}
}

// put is PutSecretValue without stages.
func (m *model) put(c credential) {
	m.abandon()
	version := m.newVersion()
	m.rt.Logf("%s  a hand stores %s as version %s", m.now.Format("15:04:05"), c.login, m.short(version))
	m.store.PutByHand(arn, version, c.String())
}

// move is UpdateSecretVersionStage. Who moves AWSCURRENT to a version that is
// being taken away may find it refused until Keyturn has seen it.
func (m *model) move(l rotation.Label, to string) {
	v := m.store.Labels(arn)
	m.rt.Logf("%s  a hand moves %s to %s", m.now.Format("15:04:05"), m.short(string(l)), m.short(to))
	m.byHand[to] = true
	m.excused = v.Has(to, rotation.Retiring) || v.Has(to, rotation.Disabled) || v.Has(to, rotation.Rejected)
	if err := m.store.Move(context.Background(), arn, l, to, v.Holder(l)); err != nil {
		m.rt.Fatal(err)
	}
	m.abandon()
}

package rotation_test

import (
	"time"

	"github.com/keyturn/keyturn/rotation"
)

// consumer is one instance of a registered party. It uses what it has read for
// the party's cache age, comes back within the party's cadence, and keeps a
// session as long as it likes.
type consumer struct {
	party   rotation.Party
	value   credential
	version string
	read    time.Time
	used    time.Time
	excused bool   // it has read what a person had made current without asking
	session string // the login of its open session, or ""
	away    bool   // it keeps what it has cached, and comes back no later than that is too old
}

func consumersOf(parties []rotation.Party, instances int) (all []*consumer) {
	for _, party := range parties {
		for range instances {
			all = append(all, &consumer{party: party})
		}
	}
	return all
}

// holds reports a cached value that the consumer may still use.
func (m *model) holds(c *consumer) bool {
	return !c.read.IsZero() && !m.now.After(c.read.Add(c.party.CacheAge))
}

// refresh reads AWSCURRENT.
func (m *model) refresh(c *consumer) {
	c.version = m.store.Labels(arn).Holder(rotation.Current)
	c.value, c.read = m.credential(c.version), m.now
	c.excused = m.byHand[c.version] || m.excused
}

// connect opens a session with what is cached, or with what is read now.
func (m *model) connect(c *consumer) {
	if !m.holds(c) {
		m.refresh(c)
	}
	c.used, c.away = m.now, false
	if !m.db.accepts(c.value) {
		if !c.excused {
			m.rt.Fatalf("%s is refused with version %s, read at %s; labels %s", c.party.Name, m.short(c.version), c.read.Format("15:04:05"), m.describe())
		}
		c.read = time.Time{} // it reads again next time
		return
	}
	c.session = c.value.login
	m.reports = append(m.reports, report{c.version, rotation.Evidence{
		Party: c.party.Name, Digest: c.version, By: "its own report", Proof: rotation.Behaved, At: m.now,
	}})
}

// use is one use, after which an instance that comes and goes has gone.
func (m *model) use(c *consumer) {
	always := c.party.Cadence == 0
	m.connect(c)
	if !always {
		c.session = ""
	}
}

// report is what a consumer says of itself: with which version it got in.
type report struct {
	version  string
	evidence rotation.Evidence
}

// sessions lists who holds a session under a login.
func (m *model) sessions(login string) (left []string) {
	for _, c := range m.consumers {
		if login != "" && c.session == login {
			left = append(left, c.party.Name)
		}
	}
	return left
}

// observe is one look at who presents a login that goes.
func (m *model) observe(subject, goes, stays, version string) rotation.Observation {
	o := rotation.Observation{Subject: subject, Holders: m.sessions(goes)}
	for _, c := range m.consumers {
		if c.session != "" && c.session == stays {
			o.Sighted = append(o.Sighted, rotation.Evidence{Party: c.party.Name, By: "its session", At: m.now})
		}
	}
	for _, r := range m.reports {
		if r.version == version {
			o.Sighted = append(o.Sighted, r.evidence)
		}
	}
	return o
}

// pass lets time go by: functions meet their time limit and consumers come back
// in time.
func (m *model) pass(d time.Duration) {
	const step = 10 * time.Second
	for end := m.now.Add(d); m.now.Before(end); {
		m.now = m.now.Add(step)
		for i := 0; i < len(m.processes); {
			if p := m.processes[i]; !m.now.Before(p.deadline) {
				m.resume(p, die)
			} else {
				i++
			}
		}
		for _, c := range m.consumers {
			if c.party.Cadence > 0 && !m.now.Before(c.used.Add(c.party.Cadence)) {
				m.use(c)
			}
		}
		m.check()
	}
}

package rotation_test

import (
	"fmt"
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
	habit   habit
}

// habit is how an instance goes about what it has read.
type habit int

const (
	steady habit = iota // it connects with what it has cached, all the time
	eager               // it reads whenever it connects
	hoards              // it connects once more at the last moment of what it has cached
	habits
)

func consumersOf(parties []rotation.Party) (all []*consumer) {
	for _, party := range parties {
		for h := range habits {
			all = append(all, &consumer{party: party, habit: h})
		}
	}
	return all
}

// live is what an instance does when there is nothing to wait for.
func (m *model) live(c *consumer) {
	switch {
	case c.habit == eager:
		m.refresh(c)
		m.use(c)
	case c.habit == hoards && c.party.CacheAge > 0:
		if !m.holds(c) {
			m.refresh(c)
		}
	case !c.away || !m.holds(c):
		m.use(c)
	}
}

// moment is the least time that is told apart.
const moment = 10 * time.Second

// holds reports a cached value that the consumer may still use: it is younger than
// the party's cache age.
func (m *model) holds(c *consumer) bool {
	return !c.read.IsZero() && m.now.Before(c.read.Add(c.party.CacheAge))
}

// forgiven reports that what a consumer has read needn't work: a person or an
// emergency has decided so.
func (m *model) forgiven(c *consumer) bool {
	return c.excused || m.stolen[c.value] || m.hasty[c.value]
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
		if !m.forgiven(c) {
			m.rt.Fatalf("%s is refused with version %s, read at %s; labels %s", c.party.Name, m.short(c.version), c.read.Format("15:04:05"), m.describe())
		}
		c.read = time.Time{} // it reads again next time
		return
	}
	c.session = c.value.login
	if m.now.Before(m.silent[c.party.Name]) {
		return
	}
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
func (m *model) observe(subject, goes, stays, from, version string) rotation.Observation {
	o := rotation.Observation{Subject: subject, Holders: m.sessions(goes)}
	for _, r := range m.reports {
		if r.version == from {
			o.Holders = append(o.Holders, rotation.Present(m.now, []rotation.Evidence{r.evidence})...)
		}
	}
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

// looks are what one run has seen of the sessions of a login that goes.
type looks struct {
	first time.Time
	quiet int             // in a row
	seen  map[string]bool // parties on the login that stays
}

// looked holds a drain that is done against what is promised of one
// (docs/rotation.md), told from what was there to be seen and not from cursors.
func (m *model) looked(c rotation.Change, o rotation.Observation, done bool) {
	key := fmt.Sprint(c.Rotation, c.Rank, c.From)
	l := m.looks[key]
	if l == nil {
		l = &looks{first: m.now, seen: map[string]bool{}}
		m.looks[key] = l
	}
	if l.quiet++; len(o.Holders) > 0 {
		l.quiet = 0
	}
	for _, e := range o.Sighted {
		l.seen[e.Party] = l.seen[e.Party] || e.At.IsZero() || !e.At.Before(l.first)
	}
	if !done || c.Emergency {
		return
	}
	least, follows := m.policy.FunctionLimit, true
	for _, p := range m.policy.Parties {
		if !c.Unpresented {
			least, follows = max(least, p.CacheAge, p.Cadence, m.policy.Window), follows && l.seen[p.Name]
		}
	}
	if age := m.now.Sub(l.first); age < least || l.quiet < m.policy.QuietPolls || !follows {
		m.rt.Fatalf("the drain of %s is done after %s of %s, %d quiet looks, with %v on the new one: %s",
			m.short(c.From), age, least, l.quiet, l.seen, m.describe())
	}
	if !c.Unpresented {
		m.hit("a drain ends by its evidence")
	}
}

// pass lets time go by: functions meet their time limit and consumers come back
// in time.
func (m *model) pass(d time.Duration) {
	const step = moment
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
			last := c.habit == hoards && c.party.CacheAge > 0 && m.holds(c) && !m.now.Add(step).Before(c.read.Add(c.party.CacheAge))
			if last && !m.stolen[c.value] {
				m.hit("a consumer connects at the last moment of what it has cached")
			}
			if last || (c.party.Cadence > 0 && !m.now.Before(c.used.Add(c.party.Cadence))) {
				m.use(c)
			}
			if last {
				c.session = ""
			}
		}
		m.check()
	}
}

package rotation_test

import (
	"context"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// emergency is one execution of emergency.asl.json: a person has called
// `keyturn emergency`. Each has a token of its own.
type emergency struct {
	token string
	cut   bool
	at    int // the act that is next
	until time.Time
	tries int
	p     *process
	over  bool
}

const (
	actMark = iota
	actCut
	actReplace
	actBury
	actsOver
)

var actNames = []string{"mark", "cut", "replace", "bury"}

// call begins an emergency.
func (m *model) emergency(cut bool) *emergency {
	m.witnessEmergency(cut)
	e := &emergency{token: m.newVersion(), cut: cut}
	m.emergencies = append(m.emergencies, e)
	m.rt.Logf("%s  emergency %s begins, cut %v", m.now.Format("15:04:05"), m.short(e.token), cut)
	return e
}

// underWay lists the emergencies that aren't over.
func (m *model) underWay() (all []*emergency) {
	for _, e := range m.emergencies {
		if !e.over {
			all = append(all, e)
		}
	}
	return all
}

// hurry lets an emergency make its next act, if it isn't waiting.
func (m *model) hurry(e *emergency, calls int) bool {
	if e.over || e.p != nil || m.now.Before(e.until) {
		return false
	}
	req := rotation.Request{Secret: arn, Token: e.token, Direction: rotation.Head, Generation: 1}
	p := m.start("emergency "+m.short(e.token)+" "+actNames[e.at], func(ctx context.Context, r *rotation.Rotator) (rotation.Result, error) {
		if e.at == actCut {
			atTarget(r)
		}
		return []func(context.Context, rotation.Request) (rotation.Result, error){r.MarkStolen, r.Cut, r.Replace, r.Bury}[e.at](ctx, req)
	})
	e.p = p
	p.answered = func(res rotation.Result, err error) {
		e.p = nil
		m.acted(e, res, err)
	}
	p.crashed = func() {
		e.p = nil
		m.acted(e, noResult, fault.New(fault.Unavailable, "Lambda.Unknown"))
	}
	m.letGo(p, calls)
	return true
}

// acted is what emergency.asl.json makes of an answer. One that fails leaves the
// rest to the person who called it.
func (m *model) acted(e *emergency, res rotation.Result, err error) {
	const attempts = 6
	switch {
	case err != nil && fault.NameOf(err).Class() == fault.Retry && e.tries < attempts:
		e.tries++
	case err != nil:
		e.over = true
	case res.Outcome != rotation.Done:
		e.tries, e.until = 0, m.now.Add(res.After)
	default:
		e.tries, e.until = 0, m.now
		if e.at++; e.at == actCut && !e.cut {
			e.at++
		}
		e.over = e.at == actsOver
	}
}

// asks reports that somebody has asked for a cut which may be under way.
func (m *model) asksForCut() bool {
	return slices.ContainsFunc(m.emergencies, func(e *emergency) bool { return e.cut })
}

// stolenLeft reports a credential that an emergency has marked and that no run
// has taken away yet.
func (m *model) stolenLeft() bool {
	for id, labels := range m.store.Labels(arn) {
		if slices.Contains(labels, rotation.Stolen(id)) {
			return true
		}
	}
	return false
}

// isStolen reports a version that holds a stolen credential.
func (m *model) isStolen(version string) bool { return m.stolen[m.credential(version)] }

// emergencyBegins is a person who has found a credential stolen; another may have
// found it at the same time.
func (m *model) emergencyBegins(rt *rapid.T) {
	const most = 2
	must(len(m.underWay()) < most && len(m.emergencies) < 2*most)
	e := m.emergency(rapid.Bool().Draw(rt, "cut"))
	m.hurry(e, calls(rt))
}

func (m *model) emergencyWorks(rt *rapid.T) {
	all := m.underWay()
	must(len(all) > 0)
	must(m.hurry(all[rapid.IntRange(0, len(all)-1).Draw(rt, "emergency")], calls(rt)))
}

// witnessEmergency counts where a secret is when an emergency begins.
func (m *model) witnessEmergency(cut bool) {
	v := m.store.Labels(arn)
	current, pending, retiring := v.Holder(rotation.Current), v.Holder(rotation.Pending), v.Holder(rotation.Retiring)
	draining := retiring != "" && retiring != current
	head := pending != "" && !v.Has(pending, rotation.Current) && !v.Has(pending, rotation.Previous)
	how := ", without cut"
	if cut {
		how = ", with cut"
	}
	switch {
	case draining && v.Has(retiring, rotation.Rejected):
		m.hit("emergency during a rollback")
	case draining:
		m.hit("emergency during a drain" + how)
	case head:
		m.hit("emergency before promotion" + how)
	default:
		m.hit("emergency while stable" + how)
	}
	if len(m.underWay()) > 0 {
		m.hit("two emergencies at once")
	}
}

// noteStolen notes what an emergency has declared stolen, by its first label or by
// its last: from then on it needn't work, but for what AWSCURRENT shows.
func (m *model) noteStolen(v rotation.Versions) {
	for id, labels := range v {
		if slices.ContainsFunc(labels, func(l rotation.Label) bool {
			return l == rotation.Stolen(id) || strings.HasPrefix(string(l), string(rotation.Replace("")))
		}) {
			m.stolen[m.credential(id)] = true
		}
	}
}

// buried is the end of every emergency: what was stolen is dead, and isn't what
// AWSCURRENT shows.
func (m *model) buried() {
	current := m.credential(m.store.Labels(arn).Holder(rotation.Current))
	for c := range m.stolen {
		if m.db.accepts(c) || c == current {
			m.rt.Fatalf("the stolen login %s works, or is current: %s; runs %v", c.login, m.describe(), m.ends())
		}
	}
	for _, e := range m.emergencies {
		if !e.over {
			m.rt.Fatalf("emergency %s waits for ever: %s; runs %v", m.short(e.token), m.describe(), m.ends())
		}
	}
}

// callAgain is what an emergency that failed asks for.
func (m *model) callAgain() {
	m.emergency(slices.ContainsFunc(m.emergencies, func(e *emergency) bool { return e.cut }))
}

// hands an event's name to the counters.
func (m *model) hit(what string) { m.hits.add(strings.TrimSpace(what)) }

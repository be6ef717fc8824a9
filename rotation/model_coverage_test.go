package rotation_test

import (
	"flag"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/rotation"
)

// coverage counts what the model has drawn, over all of a run's cases. A nil one
// counts nothing.
type coverage struct {
	mu    sync.Mutex
	cases int
	seen  map[string]int
}

func (c *coverage) add(what string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[what]++
}

func (c *coverage) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cases++
}

// judge fails the test when something that the model is for was hardly drawn: a
// model that never comes to a situation proves nothing about it.
func (c *coverage) judge(t *testing.T, worlds int) {
	t.Helper()
	checks, err := strconv.Atoi(flag.Lookup("rapid.checks").Value.String())
	if err != nil {
		t.Fatal(err)
	}
	const size = 100 // rapid's own
	if t.Failed() || checks < size || c.cases < worlds*size {
		return // a part of it was asked for, or it broke off
	}
	for _, what := range slices.Sorted(maps.Keys(c.seen)) {
		t.Logf("%6d  %s", c.seen[what], what)
	}
	for what, least := range leastDrawn {
		if c.seen[what] < least {
			t.Errorf("%q: %d times in %d cases, want %d at least", what, c.seen[what], c.cases, least)
		}
	}
}

// witness counts the situations in which a process makes its next call.
func (m *model) witness(p *process, v verdict) {
	switch v {
	case die:
		m.hit("a function dies")
		return
	case refuse:
		m.hit("a call fails")
		return
	case loseAnswer:
		m.hit("an answer is lost")
	default:
	}
	if p.zombie && p.writes() {
		m.hit("a zombie writes")
		if p.at == atCommit {
			m.hit("a zombie acts at the target")
		}
	}
	if to, ok := strings.CutPrefix(p.at, "Move CURRENT "); ok {
		labels := m.store.Labels(arn)
		m.hit("AWSCURRENT is moved by a run")
		if p.zombie {
			m.hit("a zombie moves AWSCURRENT")
		}
		if _, goes, _ := strings.Cut(to, "→"); p.rejected != "" && goes == m.short(p.rejected) {
			m.rt.Fatalf("%s promotes version %s, which was turned back before it began: %s", p.name, goes, m.describe())
		}
		if m.db.pair {
			_, to, _ = strings.Cut(to, "→")
			for id := range labels {
				if m.short(id) == to {
					m.hit(half(m.credential(id).login))
				}
			}
		}
	}
}

func half(login string) string {
	switch {
	case strings.HasPrefix(login, "hand"):
		return "a stranger's login is promoted beside a pair"
	case strings.HasSuffix(login, clone):
		return "the clone of a pair is promoted"
	}
	return "the base of a pair is promoted"
}

// witnessRollback counts where a secret is when a person turns it back.
func (m *model) witnessRollback() {
	v := m.store.Labels(arn)
	current, pending, retiring := v.Holder(rotation.Current), v.Holder(rotation.Pending), v.Holder(rotation.Retiring)
	switch {
	case retiring != "" && v.Has(retiring, rotation.Disabled):
		m.hit("rollback after disable")
	case retiring != "" && retiring != current && v.Has(current, rotation.Pending):
		m.hit("rollback while AWSPENDING is left over")
	case retiring != "" && retiring != current:
		m.hit("rollback after promotion")
	case pending != "" && pending != current:
		m.hit("rollback before promotion")
	}
}

// leastDrawn is a tenth or less of what a run draws on average, so that chance
// doesn't fail it.
var leastDrawn = map[string]int{
	"action: Secrets Manager":                        10,
	"action: all work":                               70,
	"action: cancel":                                 10,
	"action: consumer":                               50,
	"action: dies":                                   4,
	"action: emergency":                              20,
	"action: emergency works":                        7,
	"action: goes on":                                15,
	"action: hand: locks the pending login":          2,
	"action: hand: moves AWSCURRENT back":            5,
	"action: hand: stores another login":             8,
	"action: hand: stores the current login again":   5,
	"action: hand: stores the login again that goes": 2,
	"action: hand: takes AWSPENDING off":             2,
	"action: hangs":                                  13,
	"action: late login":                             5,
	"action: late login in the hold":                 10,
	"action: machine":                                30,
	"action: operator resumes":                       20,
	"action: operator rotates":                       40,
	"action: operator turns":                         40,
	"action: operator turns late":                    4,
	"action: schedule":                               60,
	"action: stop":                                   25,
	"action: time passes":                            45,
	"action: watchdog":                               45,

	"AWSCURRENT is moved by a run":                                 65,
	"Secrets Manager abandons a rotation":                          4,
	"a call fails":                                                 5,
	"a consumer connects at the last moment of what it has cached": 150,
	"a drain ends by its evidence":                                 35,
	"a function dies":                                              45,
	"a function hangs":                                             15,
	"a function is retried while it still runs":                    5,
	"a run is stopped while its function runs on":                  3,
	"a stolen login is cut":                                        10,
	"a zombie writes":                                              6,
	"a held login is let in again":                                 10,
	"a run that wakes from its hold drains anew":                   5,
	"an answer is lost":                                            4,
	"cancelled during a drain":                                     3,
	"emergency before promotion, with cut":                         2,
	"emergency before promotion, without cut":                      2,
	"emergency during a drain, with cut":                           2,
	"emergency during a drain, without cut":                        2,
	"emergency during a rollback":                                  1,
	"rollback after disable":                                       5,
	"rollback after promotion":                                     13,
	"rollback before promotion":                                    13,
	"rollback while AWSPENDING is left over":                       2,
	"the base of a pair is promoted":                               9,
	"the clone of a pair is promoted":                              20,
	"two emergencies at once":                                      4,
}

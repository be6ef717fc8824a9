package asl

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Parse reads and checks a definition. Its error is a [*DefinitionError] that
// lists everything that is wrong: a field that isn't supported where it stands,
// a path or intrinsic that can't be read, a transition to nowhere, a state that
// nothing leads to, a graph without an end.
func Parse(definition []byte) (*Machine, error) {
	p := &parser{names: map[string]string{}}
	if len(definition) > MaxDefinition {
		p.fail(InvalidSchema, "", "the definition is longer than %d bytes", MaxDefinition)
		return nil, &DefinitionError{p.diagnostics}
	}
	v, err := decodeUnique(definition)
	if err != nil {
		p.fail(InvalidJSON, "", "the definition isn't JSON: %v", err)
		return nil, &DefinitionError{p.diagnostics}
	}
	o := p.object(v, "/")
	o.oneOf("Version", "1.0", "1.0")
	o.oneOf("QueryLanguage", "JSONPath", "JSONPath")
	m := &Machine{timeout: time.Duration(o.whole("TimeoutSeconds", 0, 1, maxSeconds)) * time.Second}
	m.graph = p.graph(o)
	if p.diagnostics != nil {
		return nil, &DefinitionError{p.diagnostics}
	}
	return m, nil
}

// graph reads StartAt and States; the caller has taken what else may stand
// beside them.
func (p *parser) graph(o *object) graph {
	g := graph{startAt: o.requiredText("StartAt"), states: map[string]*state{}}
	v, ok := o.take("States")
	o.closed()
	if !ok {
		o.fail("States", "this field is required")
		return g
	}
	at := strings.TrimSuffix(o.at, "/") + "/States"
	states := p.object(v, at).members
	for _, name := range slices.Sorted(maps.Keys(states)) {
		here := at + "/" + name
		if n := utf8.RuneCountInString(name); n == 0 || n > maxStateName {
			p.fail(InvalidSchema, here, "a state's name has 1 to %d characters", maxStateName)
		}
		if other, twice := p.names[name]; twice {
			p.fail(DuplicateName, here, "state %q stands also at %s", name, other)
		}
		p.names[name] = here
		g.states[name] = p.state(name, states[name], here)
	}
	before := len(p.diagnostics)
	p.checkTargets(g, o.at)
	if len(p.diagnostics) == before {
		p.checkReach(g, o.at)
	}
	return g
}

// transition is a place that names another state.
type transition struct{ at, to string }

func (s *state) transitions() []transition {
	var out []transition
	add := func(field, to string) {
		if to != "" {
			out = append(out, transition{s.at + "/" + field, to})
		}
	}
	add("Next", s.next)
	for i, c := range s.catch {
		add(fmt.Sprintf("Catch[%d]/Next", i), c.next)
	}
	if s.choice != nil {
		for i, r := range s.choice.rules {
			add(fmt.Sprintf("Choices[%d]/Next", i), r.next)
		}
		add("Default", s.choice.otherwise)
	}
	return out
}

func (p *parser) checkTargets(g graph, at string) {
	at = strings.TrimSuffix(at, "/")
	if _, ok := g.states[g.startAt]; !ok && g.startAt != "" {
		p.fail(MissingTarget, at+"/StartAt", "there is no state %q", g.startAt)
	}
	for _, name := range slices.Sorted(maps.Keys(g.states)) {
		for _, t := range g.states[name].transitions() {
			if _, ok := g.states[t.to]; !ok {
				p.fail(MissingTarget, t.at, "there is no state %q", t.to)
			}
		}
	}
}

// checkReach refuses states that nothing leads to, and a graph that can't end.
func (p *parser) checkReach(g graph, at string) {
	reached, queue, ends := map[string]bool{g.startAt: true}, []string{g.startAt}, false
	for len(queue) > 0 {
		s, ok := g.states[queue[0]]
		queue = queue[1:]
		if !ok {
			continue
		}
		ends = ends || s.ends()
		for _, t := range s.transitions() {
			if !reached[t.to] {
				reached[t.to] = true
				queue = append(queue, t.to)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.states)) {
		if !reached[name] {
			p.fail(MissingTarget, g.states[name].at, "state %q is not reachable", name)
		}
	}
	if !ends {
		p.fail(MissingEnd, strings.TrimSuffix(at, "/")+"/States", "no state ends it: one needs End, Succeed or Fail")
	}
}

// ends reports whether the graph can stop here by the definition's will.
func (s *state) ends() bool { return s.next == "" && s.kind != "Choice" }

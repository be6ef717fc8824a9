package asl

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

type choice struct {
	rules     []rule
	otherwise string // Default; may be empty
}

// rule is a comparison, or several joined by And, Or, Not.
type rule struct {
	next     string
	join     string // And, Or, Not; empty for a comparison
	parts    []rule
	variable path
	compare  comparison
}

// comparison is one data test: a family of values, an operation, and what to
// compare with (a value, or a path to it).
type comparison struct {
	family, op string
	value      any
	path       *path
}

var operations = map[string]func(order int) bool{
	"Equals":            func(o int) bool { return o == 0 },
	"LessThan":          func(o int) bool { return o < 0 },
	"GreaterThan":       func(o int) bool { return o > 0 },
	"LessThanEquals":    func(o int) bool { return o <= 0 },
	"GreaterThanEquals": func(o int) bool { return o >= 0 },
}

var typeTests = map[string]func(v any) bool{
	"IsNull":      func(v any) bool { return v == nil },
	"IsNumeric":   func(v any) bool { _, ok := v.(json.Number); return ok },
	"IsString":    func(v any) bool { _, ok := v.(string); return ok },
	"IsBoolean":   func(v any) bool { _, ok := v.(bool); return ok },
	"IsTimestamp": func(v any) bool { _, ok := timestamp(v); return ok },
}

func timestamp(v any) (time.Time, bool) {
	text, ok := v.(string)
	if !ok {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	return t, err == nil
}

// order compares two values of a family; false if one doesn't belong to it.
func order(family string, a, b any) (int, bool) {
	switch family {
	case "String":
		x, okx := a.(string)
		y, oky := b.(string)
		return strings.Compare(x, y), okx && oky
	case "Numeric":
		x, okx := a.(json.Number)
		y, oky := b.(json.Number)
		if !okx || !oky {
			return 0, false
		}
		return compareNumbers(x, y), true
	case "Boolean":
		x, okx := a.(bool)
		y, oky := b.(bool)
		if x == y {
			return 0, okx && oky
		}
		return 1, okx && oky
	default: // Timestamp
		x, okx := timestamp(a)
		y, oky := timestamp(b)
		return x.Compare(y), okx && oky
	}
}

// comparisonOf reads an operator's name: StringEquals, NumericLessThanPath, …
func comparisonOf(name string) (comparison, bool) {
	if name == "StringMatches" {
		return comparison{family: "String", op: "Matches"}, true
	}
	if _, ok := typeTests[name]; ok || name == "IsPresent" {
		return comparison{op: name}, true
	}
	for _, family := range []string{"String", "Numeric", "Boolean", "Timestamp"} {
		op, ok := strings.CutPrefix(name, family)
		op = strings.TrimSuffix(op, "Path")
		if ok && operations[op] != nil && (family != "Boolean" || op == "Equals") {
			return comparison{family: family, op: op}, true
		}
	}
	return comparison{}, false
}

func (p *parser) parseChoice(o *object, s *state) {
	p.paths(o, s)
	c := &choice{}
	c.otherwise, _ = o.text("Default")
	list := o.list("Choices")
	if len(list) == 0 {
		o.fail("Choices", "at least one rule is required")
	}
	for i, v := range list {
		r := p.object(v, fmt.Sprintf("%s/Choices[%d]", s.at, i))
		next := r.requiredText("Next")
		read := p.rule(r)
		read.next = next
		c.rules = append(c.rules, read)
	}
	s.choice = c
}

func (p *parser) rule(o *object) rule {
	defer o.closed()
	for _, join := range []string{"And", "Or", "Not"} {
		v, ok := o.take(join)
		if !ok {
			continue
		}
		r := rule{join: join}
		if join == "Not" {
			r.parts = []rule{p.rule(p.object(v, o.at+"/Not"))}
			return r
		}
		list := o.list(join)
		if len(list) == 0 {
			o.fail(join, "at least one rule is required")
		}
		for i, part := range list {
			r.parts = append(r.parts, p.rule(p.object(part, fmt.Sprintf("%s/%s[%d]", o.at, join, i))))
		}
		return r
	}
	return p.comparison(o)
}

func (p *parser) comparison(o *object) rule {
	var r rule
	o.requiredText("Variable")
	if v := o.reference("Variable"); v != nil {
		r.variable = *v
	}
	count := 0
	for name := range o.members {
		c, ok := comparisonOf(name)
		if !ok {
			continue
		}
		count++
		p.operand(o, name, &c)
		r.compare = c
	}
	if count != 1 {
		p.fail(InvalidSchema, o.at, "exactly one comparison operator is required, not %d", count)
	}
	return r
}

// operand reads what the variable is compared with and checks its type.
func (p *parser) operand(o *object, name string, c *comparison) {
	if strings.HasSuffix(name, "Path") {
		c.path = o.reference(name)
		return
	}
	c.value, _ = o.take(name)
	var fits bool
	if c.family == "" {
		_, fits = c.value.(bool)
	} else {
		_, fits = order(c.family, c.value, c.value)
	}
	if !fits {
		o.fail(name, "%s is no value for this operator", encode(c.value))
	}
}

// holds evaluates a rule; a variable that isn't there is an error but for
// IsPresent.
func (r rule) holds(s scope) (bool, error) {
	switch r.join {
	case "Not":
		ok, err := r.parts[0].holds(s)
		return !ok, err
	case "And", "Or":
		for _, part := range r.parts {
			ok, err := part.holds(s)
			if err != nil || ok == (r.join == "Or") {
				return ok, err
			}
		}
		return r.join == "And", nil
	}
	v, err := r.variable.eval(s)
	if r.compare.op == "IsPresent" {
		return (err == nil) == r.compare.value.(bool), nil // the parser has checked the type
	}
	if err != nil {
		return false, err
	}
	return r.compare.holds(v, s)
}

func (c comparison) holds(v any, s scope) (bool, error) {
	if test, ok := typeTests[c.op]; ok {
		return test(v) == c.value.(bool), nil // the parser has checked the type
	}
	with := c.value
	if c.path != nil {
		var err error
		if with, err = c.path.eval(s); err != nil {
			return false, err
		}
	}
	if c.op == "Matches" {
		text, ok := v.(string)
		return ok && wildcardMatch(with.(string), text), nil // the parser has checked the type
	}
	o, ok := order(c.family, v, with)
	return ok && operations[c.op](o), nil
}

// wildcardMatch is StringMatches: * stands for anything, \* for itself.
func wildcardMatch(pattern, text string) bool {
	parts := []string{""}
	for i := 0; i < len(pattern); i++ {
		switch {
		case pattern[i] == '\\' && i+1 < len(pattern) && slices.Contains([]byte{'*', '\\'}, pattern[i+1]):
			i++
			parts[len(parts)-1] += pattern[i : i+1]
		case pattern[i] == '*':
			parts = append(parts, "")
		default:
			parts[len(parts)-1] += pattern[i : i+1]
		}
	}
	rest, ok := strings.CutPrefix(text, parts[0])
	if !ok || len(parts) == 1 {
		return ok && rest == ""
	}
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}

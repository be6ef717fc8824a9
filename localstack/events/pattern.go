package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// pattern tests an event: every field that it names must fit.
type pattern struct {
	fields map[string]test
	or     [][]pattern // each group: one of its patterns fits
}

// test is a nested pattern, or alternatives for a leaf.
type test struct {
	nested *pattern
	leaf   []matcher
}

// matcher tests one value of an event. A field that isn't there is only ever
// tested by exists.
type matcher struct {
	absent bool // fits when there is no such field
	fits   func(value any) bool
}

func parsePattern(text string) (*pattern, error) {
	var doc map[string]any
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("it is no JSON object: %w", err)
	}
	return compile(doc)
}

func compile(doc map[string]any) (*pattern, error) {
	if len(doc) == 0 {
		return nil, errors.New("an empty pattern is not allowed")
	}
	p := &pattern{fields: map[string]test{}}
	for name, value := range doc {
		var t test
		var err error
		switch v := value.(type) {
		case map[string]any:
			t.nested, err = compile(v)
		case []any:
			if name == "$or" {
				var group []pattern
				if group, err = compileOr(v); err == nil {
					p.or = append(p.or, group)
					continue
				}
			} else {
				t.leaf, err = compileLeaf(v)
			}
		default:
			err = fmt.Errorf("%q must be an object or an array", name)
		}
		if err != nil {
			return nil, err
		}
		p.fields[name] = t
	}
	return p, nil
}

func compileOr(alternatives []any) ([]pattern, error) {
	var out []pattern
	for _, a := range alternatives {
		doc, ok := a.(map[string]any)
		if !ok {
			return nil, errors.New("$or takes objects")
		}
		p, err := compile(doc)
		if err != nil {
			return nil, err
		}
		out = append(out, *p)
	}
	if len(out) < 2 {
		return nil, errors.New("$or takes at least two objects")
	}
	return out, nil
}

func compileLeaf(alternatives []any) ([]matcher, error) {
	if len(alternatives) == 0 {
		return nil, errors.New("empty arrays are not allowed")
	}
	var out []matcher
	for _, a := range alternatives {
		content, ok := a.(map[string]any)
		if !ok {
			out = append(out, matcher{fits: func(v any) bool { return v == a }})
			continue
		}
		m, err := compileContent(content)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// compileContent reads one content filter, such as {"prefix": "a"}.
func compileContent(content map[string]any) (matcher, error) {
	if len(content) != 1 {
		return matcher{}, errors.New("a content filter has exactly one operator")
	}
	for operator, operand := range content {
		switch operator {
		case "exists":
			wanted, ok := operand.(bool)
			if !ok {
				return matcher{}, errors.New("exists takes true or false")
			}
			return matcher{absent: !wanted, fits: func(any) bool { return wanted }}, nil
		case "anything-but":
			return anythingBut(operand)
		case "numeric":
			return numeric(operand)
		default:
			text, ok := operand.(string)
			f := textFilter(operator, text)
			if !ok || f == nil {
				return matcher{}, fmt.Errorf("unrecognized match type %q, or its operand is of the wrong type", operator)
			}
			return matcher{fits: f}, nil
		}
	}
	return matcher{}, nil
}

func textFilter(operator, operand string) func(any) bool {
	test := map[string]func(string) bool{
		"prefix":             func(s string) bool { return strings.HasPrefix(s, operand) },
		"suffix":             func(s string) bool { return strings.HasSuffix(s, operand) },
		"equals-ignore-case": func(s string) bool { return strings.EqualFold(s, operand) },
		"wildcard":           func(s string) bool { return wildcard(operand, s) },
	}[operator]
	if test == nil {
		return nil
	}
	return func(v any) bool {
		s, ok := v.(string)
		return ok && test(s)
	}
}

// wildcard matches * against any run of characters.
func wildcard(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	rest, ok := strings.CutPrefix(s, parts[0])
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return ok && strings.HasSuffix(rest, parts[len(parts)-1])
}

func anythingBut(operand any) (matcher, error) {
	var refused []matcher
	var err error
	switch v := operand.(type) {
	case []any:
		for _, item := range v {
			if _, nested := item.(map[string]any); nested {
				return matcher{}, errors.New("anything-but takes values or one filter")
			}
		}
		refused, err = compileLeaf(v)
	default:
		refused, err = compileLeaf([]any{v})
	}
	if err != nil {
		return matcher{}, err
	}
	return matcher{fits: func(v any) bool {
		return !slices.ContainsFunc(refused, func(m matcher) bool { return m.fits(v) })
	}}, nil
}

// numeric reads pairs of operator and number: ["=", 5], [">", 0, "<=", 9].
func numeric(operand any) (matcher, error) {
	list, ok := operand.([]any)
	if !ok || (len(list) != 2 && len(list) != 4) {
		return matcher{}, errors.New("numeric takes one or two pairs of operator and number")
	}
	var tests []func(float64) bool
	for i := 0; i < len(list); i += 2 {
		operator, _ := list[i].(string)
		limit, isNumber := list[i+1].(float64)
		test := map[string]func(float64) bool{
			"=":  func(n float64) bool { return n == limit },
			"<":  func(n float64) bool { return n < limit },
			"<=": func(n float64) bool { return n <= limit },
			">":  func(n float64) bool { return n > limit },
			">=": func(n float64) bool { return n >= limit },
		}[operator]
		if test == nil || !isNumber {
			return matcher{}, errors.New("numeric compares by =, <, <=, > or >= with a number")
		}
		tests = append(tests, test)
	}
	return matcher{fits: func(v any) bool {
		n, ok := v.(float64)
		return ok && !slices.ContainsFunc(tests, func(t func(float64) bool) bool { return !t(n) })
	}}, nil
}

// matches tests an event or a part of it.
func (p *pattern) matches(doc map[string]any) bool {
	for name, t := range p.fields {
		value, there := doc[name]
		if t.nested != nil && !nestedFits(t.nested, value) {
			return false
		}
		if t.nested == nil && !leafFits(t.leaf, value, there) {
			return false
		}
	}
	for _, group := range p.or {
		if !slices.ContainsFunc(group, func(alternative pattern) bool { return alternative.matches(doc) }) {
			return false
		}
	}
	return true
}

// nestedFits tests an object, or any object of an array. A missing object is
// tested as an empty one, so that exists: false fits.
func nestedFits(p *pattern, value any) bool {
	switch v := value.(type) {
	case map[string]any:
		return p.matches(v)
	case []any:
		return slices.ContainsFunc(v, func(item any) bool {
			doc, ok := item.(map[string]any)
			return ok && p.matches(doc)
		})
	case nil:
		return p.matches(nil)
	}
	return false
}

// leafFits tests a value, or any value of an array.
func leafFits(leaf []matcher, value any, there bool) bool {
	return slices.ContainsFunc(leaf, func(m matcher) bool {
		if m.absent || !there {
			return m.absent && !there
		}
		switch v := value.(type) {
		case []any:
			return slices.ContainsFunc(v, m.fits)
		case map[string]any:
			return false
		}
		return m.fits(value)
	})
}

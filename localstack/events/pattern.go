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

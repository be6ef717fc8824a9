package asl

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// path is a JSONPath: names, indices, wildcards and slices. Filters, unions and
// recursive descent are refused.
type path struct {
	text     string
	context  bool // starts with $$: reads the context object
	steps    []step
	definite bool // at most one value: a Reference Path
}

type step struct {
	kind     stepKind
	name     string
	index    int
	from, to *int
}

type stepKind int

const (
	byName stepKind = iota
	byIndex
	wildcard
	slice
)

// parsePath reads a path that starts with $ or $$.
func parsePath(text string) (path, error) {
	p := path{text: text, definite: true}
	rest, ok := strings.CutPrefix(text, "$")
	if !ok {
		return p, fmt.Errorf("path %q doesn't start with $", text)
	}
	rest, p.context = strings.CutPrefix(rest, "$")
	for rest != "" {
		var s step
		var err error
		if s, rest, err = parseStep(rest); err != nil {
			return p, fmt.Errorf("path %q: %w", text, err)
		}
		if s.kind == wildcard || s.kind == slice {
			p.definite = false
		}
		p.steps = append(p.steps, s)
	}
	return p, nil
}

// parseReference reads a path that names one place.
func parseReference(text string) (path, error) {
	p, err := parsePath(text)
	if err == nil && !p.definite {
		err = fmt.Errorf("path %q may match several values; a reference path is wanted", text)
	}
	return p, err
}

func parseStep(rest string) (step, string, error) {
	switch {
	case strings.HasPrefix(rest, ".."):
		return step{}, "", errors.New("recursive descent isn't supported")
	case strings.HasPrefix(rest, ".*"):
		return step{kind: wildcard}, rest[2:], nil
	case rest[0] == '.':
		end := 1
		for _, r := range rest[1:] {
			if r != '_' && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
				break
			}
			end += len(string(r))
		}
		if end == 1 {
			return step{}, "", fmt.Errorf("a name is missing at %q", rest)
		}
		return step{kind: byName, name: rest[1:end]}, rest[end:], nil
	case rest[0] == '[':
		return parseBracket(rest)
	}
	return step{}, "", fmt.Errorf("%q is no step of a path", rest)
}

func parseBracket(rest string) (step, string, error) {
	if len(rest) > 1 && (rest[1] == '\'' || rest[1] == '"') {
		end := strings.Index(rest[2:], string(rest[1])+"]")
		if end < 0 {
			return step{}, "", fmt.Errorf("%q isn't closed, or isn't a single name", rest)
		}
		return step{kind: byName, name: rest[2 : 2+end]}, rest[2+end+2:], nil
	}
	end := strings.IndexByte(rest, ']')
	if end < 0 {
		return step{}, "", fmt.Errorf("%q isn't closed", rest)
	}
	inside, after := rest[1:end], rest[end+1:]
	if inside == "*" {
		return step{kind: wildcard}, after, nil
	}
	if from, to, ok := strings.Cut(inside, ":"); ok {
		s := step{kind: slice}
		for _, bound := range []struct {
			text string
			into **int
		}{{from, &s.from}, {to, &s.to}} {
			if bound.text == "" {
				continue
			}
			n, err := strconv.Atoi(bound.text)
			if err != nil {
				return step{}, "", fmt.Errorf("%q is no slice", inside)
			}
			*bound.into = &n
		}
		return s, after, nil
	}
	n, err := strconv.Atoi(inside)
	if err != nil {
		return step{}, "", fmt.Errorf("[%s] isn't supported: a name in quotes, an index, a slice or * is", inside)
	}
	return step{kind: byIndex, index: n}, after, nil
}

// get returns what the path finds. A path that isn't definite returns the list
// of its matches, which may be empty.
func (p path) get(root any) (any, bool) {
	found := []any{root}
	for _, s := range p.steps {
		var next []any
		for _, v := range found {
			next = append(next, s.apply(v)...)
		}
		found = next
	}
	if !p.definite {
		return slices.Clip(append([]any{}, found...)), true
	}
	if len(found) == 0 {
		return nil, false
	}
	return found[0], true
}

func (s step) apply(v any) []any {
	switch v := v.(type) {
	case map[string]any:
		switch s.kind {
		case byName:
			if member, ok := v[s.name]; ok {
				return []any{member}
			}
		case wildcard:
			var all []any
			for _, k := range slices.Sorted(maps.Keys(v)) {
				all = append(all, v[k])
			}
			return all
		}
	case []any:
		switch s.kind {
		case byIndex:
			if i, ok := position(s.index, len(v)); ok {
				return []any{v[i]}
			}
		case wildcard:
			return v
		case slice:
			return cut(v, s.from, s.to)
		}
	}
	return nil
}

func position(i, n int) (int, bool) {
	if i < 0 {
		i += n
	}
	return i, i >= 0 && i < n
}

func cut(v []any, from, to *int) []any {
	bound := func(p *int, otherwise int) int {
		if p == nil {
			return otherwise
		}
		i := *p
		if i < 0 {
			i += len(v)
		}
		return min(max(i, 0), len(v))
	}
	a, b := bound(from, 0), bound(to, len(v))
	if a >= b {
		return nil
	}
	return v[a:b]
}

var errNoPlace = errors.New("the place can't be reached")

// set returns a copy of root with value at the path; objects that are missing
// on the way are made. root itself stays as it is.
func (p path) set(root, value any) (any, error) { return setAt(root, p.steps, value) }

func setAt(root any, steps []step, value any) (any, error) {
	if len(steps) == 0 {
		return value, nil
	}
	s := steps[0]
	if s.kind == byIndex {
		list, ok := root.([]any)
		i, in := position(s.index, len(list))
		if !ok || !in {
			return nil, errNoPlace
		}
		inner, err := setAt(list[i], steps[1:], value)
		if err != nil {
			return nil, err
		}
		list = slices.Clone(list)
		list[i] = inner
		return list, nil
	}
	object, ok := root.(map[string]any)
	if !ok {
		return nil, errNoPlace
	}
	child, ok := object[s.name]
	if !ok {
		child = map[string]any{}
	}
	inner, err := setAt(child, steps[1:], value)
	if err != nil {
		return nil, err
	}
	object = maps.Clone(object)
	object[s.name] = inner
	return object, nil
}

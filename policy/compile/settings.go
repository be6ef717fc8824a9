package compile

import (
	"encoding/json"
	"errors"
	"regexp"

	"github.com/goccy/go-yaml/ast"

	"github.com/keyturn/keyturn/policy"
)

var quoted = regexp.MustCompile(`"([A-Za-z0-9_]+)"`)

// settings turns the kind's block into JSON and lets the kind judge it.
func (r *reader) settings(path string, f field, kind Kind, e *policy.Entry) {
	at := path + "." + e.Kind
	if f.node != nil {
		before := len(r.errs)
		value := r.value(f, at)
		if len(r.errs) > before {
			return
		}
		if _, ok := value.(map[string]any); !ok {
			r.fail(at, "a mapping is expected, not "+describe(f.node), "write the settings of "+e.Kind+" below it")
			return
		}
		raw, err := json.Marshal(value)
		if err != nil {
			r.fail(at, err.Error(), "mend it")
			return
		}
		e.Settings = raw
	}
	if kind.Validate == nil {
		if string(e.Settings) != "{}" {
			r.fail(at, "this kind has no settings", "leave the block out")
		}
		return
	}
	for _, err := range split(kind.Validate(e.Settings)) {
		place := at
		if m := quoted.FindStringSubmatch(err.Error()); m != nil {
			if _, known := r.places[at+"."+m[1]]; known {
				place = at + "." + m[1]
			}
		}
		r.fail(place, err.Error(), "see the settings of "+e.Kind+" in docs/policy.md")
	}
}

// split takes joined errors apart, through any wraps around the join.
func split(err error) []error {
	if err == nil {
		return nil
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		joined, ok := inner.(interface{ Unwrap() []error })
		if !ok {
			continue
		}
		var all []error
		for _, part := range joined.Unwrap() {
			all = append(all, split(part)...)
		}
		return all
	}
	return []error{err}
}

// value turns any node into what encoding/json writes.
func (r *reader) value(f field, path string) any {
	if _, null := f.node.(*ast.NullNode); null {
		return nil
	}
	f.path = path
	if !r.plain(f) {
		return nil
	}
	switch n := f.node.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		var s string
		r.text(f, &s)
		return s
	case *ast.BoolNode:
		return n.Value
	case *ast.FloatNode:
		return n.Value
	case *ast.IntegerNode:
		if v, ok := whole(n); ok {
			return v
		}
		r.fail(path, "the number "+n.GetToken().Value+" is too large to be kept exactly", "put it in quotes")
		return nil
	case *ast.SequenceNode:
		items := []any{}
		for _, item := range r.list(f) {
			items = append(items, r.value(item, item.path))
		}
		return items
	case ast.MapNode:
		object := map[string]any{}
		for it := n.MapRange(); it.Next(); {
			if name, ok := r.key(f, it.Key()); ok {
				r.places[path+"."+name] = placeOf(it.Key())
				object[name] = r.value(field{it.Value(), path + "." + name}, path+"."+name)
			}
		}
		return object
	}
	r.fail(path, describe(f.node)+" can't be a setting", "use a text, a number, true or false, a list or a mapping")
	return nil
}

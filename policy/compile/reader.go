package compile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/keyturn/keyturn/policy"
)

// Error is one thing that is wrong with a file.
type Error struct {
	File         string
	Line, Column int    // from 1
	Path         string // the field, as in secrets[0].drain.window; empty: the file
	Problem      string
	Mend         string
}

func (e *Error) Error() string {
	where := fmt.Sprintf("%s:%d:%d: ", e.File, e.Line, e.Column)
	if e.Path != "" {
		where += e.Path + ": "
	}
	return where + e.Problem + "; " + e.Mend
}

// place is a position in the file, from 1.
type place struct{ line, column int }

func placeOf(n ast.Node) place {
	t := n.GetToken()
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		t = m.Values[0].Key.GetToken()
	}
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{t.Position.Line, t.Position.Column}
}

// field is one value with its path. The zero field is one that isn't there.
type field struct {
	node ast.Node
	path string
}

// reader walks the file's nodes, remembers where each field stands and collects
// what is wrong. A field that is wrong leaves its target as it was.
type reader struct {
	file   string
	errs   []*Error
	places map[string]place
	faulty map[string]bool // fields with an error already
}

// fail notes an error at a field, or at the nearest one around it that is there.
func (r *reader) fail(path, problem, mend string) {
	at, known := r.places[path]
	for around := path; !known; {
		i := strings.LastIndexAny(around, ".[")
		if i < 0 {
			at = r.places[""]
			break
		}
		around = around[:i]
		at, known = r.places[around]
	}
	r.faulty[path] = true
	r.errs = append(r.errs, &Error{
		File: r.file, Line: max(at.line, 1), Column: max(at.column, 1), Path: path, Problem: problem, Mend: mend,
	})
}

// problem takes over a rule that policy.Check found broken, unless the field
// itself couldn't be read.
func (r *reader) problem(p policy.Problem, entries []policy.Entry) {
	if r.covered(p.Path) {
		return
	}
	for i, e := range entries {
		if p.Path == fmt.Sprintf("secrets[%d].settings", i) {
			p.Path = fmt.Sprintf("secrets[%d].%s", i, e.Kind)
		}
	}
	r.fail(p.Path, p.What, p.Mend)
}

// covered reports whether a field, or one around it, is wrong already.
func (r *reader) covered(path string) bool {
	if r.faulty[path] || path == "" {
		return r.faulty[path]
	}
	return r.covered(path[:max(strings.LastIndexAny(path, ".["), 0)])
}

// join returns every error in the order of the file.
func (r *reader) join() error {
	slices.SortStableFunc(r.errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	errs := make([]error, 0, len(r.errs))
	for _, e := range r.errs {
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

// plain refuses what would make one text mean something written elsewhere.
func (r *reader) plain(f field) bool {
	if f.node == nil {
		return false
	}
	switch f.node.(type) {
	case *ast.AnchorNode, *ast.AliasNode:
		r.fail(f.path, "anchors and aliases aren't taken", "write the value out, or use defaults")
		return false
	case *ast.TagNode:
		r.fail(f.path, "tags aren't taken", "write the value without its tag")
		return false
	case *ast.NullNode:
		r.fail(f.path, "empty", "give it a value or leave the key out")
		return false
	}
	return true
}

// mapping reads a mapping with known keys.
func (r *reader) mapping(f field, keys ...string) map[string]field {
	fields := map[string]field{}
	if f.node == nil {
		return fields
	}
	r.note(f)
	if !r.plain(f) {
		return fields
	}
	m, ok := f.node.(ast.MapNode)
	if !ok {
		r.fail(f.path, "a mapping is expected, not "+describe(f.node), "write its keys below it: "+strings.Join(keys, ", "))
		return fields
	}
	for it := m.MapRange(); it.Next(); {
		name, ok := r.key(f, it.Key())
		if !ok {
			continue
		}
		path := strings.TrimPrefix(f.path+"."+name, ".")
		r.places[path] = placeOf(it.Key())
		if !slices.Contains(keys, name) {
			r.fail(path, "unknown key", suggest(name, keys))
			continue
		}
		fields[name] = field{it.Value(), path}
	}
	return fields
}

func (r *reader) note(f field) {
	if _, known := r.places[f.path]; !known {
		r.places[f.path] = placeOf(f.node)
	}
}

// key reads the name of a mapping's key.
func (r *reader) key(f field, key ast.MapKeyNode) (string, bool) {
	s, ok := key.(*ast.StringNode)
	if !ok {
		r.fail(f.path, fmt.Sprintf("%s isn't a key", key.String()), "use plain names as keys; << and ? aren't taken")
		return "", false
	}
	return s.Value, true
}

// list reads a sequence.
func (r *reader) list(f field) []field {
	if !r.plain(f) {
		return nil
	}
	s, ok := f.node.(*ast.SequenceNode)
	if !ok {
		r.fail(f.path, "a list is expected, not "+describe(f.node), "write one item a line, each after a hyphen")
		return nil
	}
	fields := make([]field, 0, len(s.Values))
	for i, n := range s.Values {
		item := field{n, fmt.Sprintf("%s[%d]", f.path, i)}
		r.note(item)
		fields = append(fields, item)
	}
	return fields
}

// text reads a string.
func (r *reader) text(f field, into *string) {
	if !r.plain(f) {
		return
	}
	switch n := f.node.(type) {
	case *ast.StringNode:
		*into = n.Value
	case *ast.LiteralNode:
		*into = n.Value.Value
	default:
		r.fail(f.path, "a text is expected, not "+describe(f.node), "put it in quotes")
	}
}

func (r *reader) texts(f field, into *[]string) {
	for _, item := range r.list(f) {
		s := ""
		r.text(item, &s)
		*into = append(*into, s)
	}
}

func (r *reader) integer(f field, into *int) {
	if !r.plain(f) {
		return
	}
	n, ok := f.node.(*ast.IntegerNode)
	if ok {
		if v, fits := whole(n); fits {
			*into = int(v)
			return
		}
	}
	r.fail(f.path, "a whole number is expected, not "+describe(f.node), "write it in digits, without quotes")
}

func (r *reader) boolean(f field, into *bool) {
	if !r.plain(f) {
		return
	}
	b, ok := f.node.(*ast.BoolNode)
	if !ok {
		r.fail(f.path, "true or false is expected, not "+describe(f.node), "write true or false, without quotes")
		return
	}
	*into = b.Value
}

func (r *reader) duration(f field, into *policy.Duration) {
	if !r.plain(f) {
		return
	}
	s, ok := f.node.(*ast.StringNode)
	if !ok {
		r.fail(f.path, "a duration is expected, not "+describe(f.node), "add its unit, as in 90s, 15m, 1h or 7d")
		return
	}
	d, err := policy.ParseDuration(s.Value)
	if err != nil {
		r.fail(f.path, fmt.Sprintf("%q is not a duration", s.Value), "write whole numbers with units up to 3650d, as in 90s, 15m, 1h30m or 7d")
		return
	}
	*into = d
}

// whole reads an integer that every JSON reader keeps exactly.
func whole(n *ast.IntegerNode) (int64, bool) {
	const most = 1 << 53
	switch v := n.Value.(type) {
	case int64:
		return v, v <= most && v >= -most
	case uint64:
		if v <= most {
			return int64(v), true
		}
	}
	return 0, false
}

func describe(n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return fmt.Sprintf("the text %q", n.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + n.GetToken().Value
	case *ast.BoolNode:
		return n.GetToken().Value
	case *ast.SequenceNode:
		return "a list"
	case ast.MapNode:
		return "a mapping"
	}
	return "a " + strings.ToLower(n.Type().String())
}

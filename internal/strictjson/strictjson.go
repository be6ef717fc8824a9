// Package strictjson answers: does a JSON document say what a type knows, and
// nothing else?
//
// encoding/json lets a member stand in any case and any number of times, the
// last one counting, takes text after the document, and turns text that isn't
// UTF-8 into other text. Two readers of such a document may see two things. Here
// all of that is an error. An error names the field and never quotes a value.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Error says what is wrong with which field.
type Error struct {
	Field   string // as in list[0].number; empty: the document
	Problem string // "occurs twice"
}

func (e *Error) Error() string {
	if e.Field == "" {
		return "the document " + e.Problem
	}
	return fmt.Sprintf("field %q %s", e.Field, e.Problem)
}

func wrong(field, format string, args ...any) error {
	return &Error{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// maxDepth bounds the nesting, so that a hostile document can't exhaust the stack.
const maxDepth = 64

// Decode reads one document into a pointer. A member that the type doesn't know
// is an error.
func Decode(document []byte, into any) error { return decode(document, into, false) }

// DecodeKnown is Decode, but passes over members that the type doesn't know:
// for documents whose authors may add some.
func DecodeKnown(document []byte, into any) error { return decode(document, into, true) }

func decode(document []byte, into any, tolerant bool) error {
	if !utf8.Valid(document) {
		return wrong("", "isn't UTF-8")
	}
	if loneSurrogate(document) {
		return wrong("", "holds half of a surrogate pair, which no text can")
	}
	w := walker{d: json.NewDecoder(bytes.NewReader(document)), tolerant: tolerant}
	w.d.UseNumber()
	if err := w.value(reflect.TypeOf(into).Elem(), "", 0); err != nil {
		return err
	}
	if _, err := w.d.Token(); !errors.Is(err, io.EOF) {
		return wrong("", "is followed by something")
	}
	return named(json.Unmarshal(document, into))
}

// named says which field is wrong; the decoder's own text may quote a value.
func named(err error) error {
	var other *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &other):
		kind, _, _ := strings.Cut(other.Value, " ")
		return wrong(other.Field, "must be %s, not %s", article(other.Type), kind)
	}
	return err
}

// article says what a type is in JSON's words.
func article(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number of its range"
}

// walker reads a document's tokens beside the type that they are for.
type walker struct {
	d        *json.Decoder
	tolerant bool
}

// value checks one value; t is nil where the type says nothing.
func (w walker) value(t reflect.Type, path string, depth int) error {
	if depth > maxDepth {
		return wrong(path, "is nested deeper than %d levels", maxDepth)
	}
	token, err := w.d.Token()
	if err != nil {
		return syntax(err)
	}
	switch token {
	case json.Delim('{'):
		return w.object(known(t), path, depth)
	case json.Delim('['):
		if t = known(t); t != nil {
			if t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
				t = t.Elem()
			} else {
				t = nil // the decoder says that it is no array
			}
		}
		for i := 0; w.d.More(); i++ {
			if err := w.value(t, fmt.Sprintf("%s[%d]", path, i), depth+1); err != nil {
				return err
			}
		}
		_, err := w.d.Token()
		return syntax(err)
	}
	return nil
}

func (w walker) object(t reflect.Type, path string, depth int) error {
	seen := map[string]bool{}
	for w.d.More() {
		token, err := w.d.Token()
		if err != nil {
			return syntax(err)
		}
		name, _ := token.(string) // the decoder lets nothing else stand here
		here := strings.TrimPrefix(path+"."+name, ".")
		if seen[name] {
			return wrong(here, "occurs twice")
		}
		seen[name] = true
		inner, err := w.member(t, name, here)
		if err != nil {
			return err
		}
		if err := w.value(inner, here, depth+1); err != nil {
			return err
		}
	}
	_, err := w.d.Token()
	return syntax(err)
}

// member finds the type of one member. A name that differs from a known one in
// case only is an error for every reader: the decoder would take it.
func (w walker) member(t reflect.Type, name, path string) (reflect.Type, error) {
	switch {
	case t == nil:
		return nil, nil
	case t.Kind() == reflect.Map:
		return t.Elem(), nil
	case t.Kind() != reflect.Struct:
		return nil, nil // the decoder says that it is no object
	}
	names := fields(t, nil)
	for _, f := range names {
		if f.name == name {
			return f.of, nil
		}
	}
	for _, f := range names {
		if strings.EqualFold(f.name, name) {
			return nil, wrong(path, "is written %q", f.name)
		}
	}
	if w.tolerant {
		return nil, nil
	}
	known := make([]string, 0, len(names))
	for _, f := range names {
		known = append(known, f.name)
	}
	slices.Sort(known)
	return nil, wrong(path, "is unknown; there are %s", strings.Join(known, ", "))
}

// namedType is a member of a struct, as JSON names it.
type namedType struct {
	name string
	of   reflect.Type
}

func fields(t reflect.Type, into []namedType) []namedType {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case tag == "-":
		case f.Anonymous && tag == "":
			if inner := known(f.Type); inner != nil && inner.Kind() == reflect.Struct {
				into = fields(inner, into)
			}
		case !f.IsExported():
		case tag == "":
			into = append(into, namedType{f.Name, f.Type})
		default:
			into = append(into, namedType{tag, f.Type})
		}
	}
	return into
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// known is the type behind pointers; nil where it decodes itself, or can be
// anything.
func known(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		if t.Implements(unmarshaler) {
			return nil
		}
		t = t.Elem()
	}
	if t == nil || t.Kind() == reflect.Interface || reflect.PointerTo(t).Implements(unmarshaler) {
		return nil
	}
	return t
}

// loneSurrogate finds \u escapes that are no character. A backslash stands in
// strings only, if the document is JSON at all.
func loneSurrogate(document []byte) bool {
	high := false // the escape before was the first half of a pair
	for i := 0; i < len(document); i++ {
		half := rune(-1)
		if document[i] == '\\' {
			i++
			if i+4 < len(document) && document[i] == 'u' {
				if n, err := strconv.ParseInt(string(document[i+1:i+5]), 16, 32); err == nil && utf16.IsSurrogate(rune(n)) {
					half = rune(n)
				}
				i += 4
			}
		}
		low := half >= 0xDC00
		if high != low {
			return true
		}
		high = half >= 0 && !low
	}
	return high
}

// syntax keeps the place of a syntax error and leaves out the text around it.
func syntax(err error) error {
	var other *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return wrong("", "ends too soon")
	case errors.As(err, &other):
		return wrong("", "isn't JSON from byte %d on", other.Offset)
	}
	return wrong("", "isn't JSON")
}

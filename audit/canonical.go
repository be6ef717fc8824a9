package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a document, so that a hostile one can't
// exhaust the stack.
const maxDepth = 64

// Canonical rewrites one JSON document in the JSON Canonicalization Scheme
// (RFC 8785): no white space, members sorted by UTF-16 code units, the shortest
// escapes, numbers as ECMAScript prints them. Two documents that mean the same
// become the same bytes. A member that occurs twice, trailing text and a number
// beyond a double's range are errors.
func Canonical(document []byte) ([]byte, error) {
	tree, err := decodeTree(document)
	if err != nil {
		return nil, err
	}
	return appendCanonical(nil, tree)
}

// decodeTree decodes one document into maps, slices, strings, json.Number,
// booleans and nil.
func decodeTree(document []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	tree, err := decodeNode(d, 0)
	if err != nil {
		return nil, fmt.Errorf("decoding JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("decoding JSON: text after the end of the document")
	}
	return tree, nil
}

func decodeNode(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		return decodeObject(d, depth)
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := decodeNode(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	}
	return t, nil
}

func decodeObject(d *json.Decoder, depth int) (any, error) {
	object := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("member name %v is not a string", t)
		}
		if _, twice := object[name]; twice {
			return nil, fmt.Errorf("member %q occurs twice", name)
		}
		if object[name], err = decodeNode(d, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return object, err
}

func appendCanonical(b []byte, node any) ([]byte, error) {
	switch v := node.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case string:
		return appendString(b, v), nil
	case json.Number:
		return appendNumber(b, v)
	case []any:
		b = append(b, '[')
		for i, item := range v {
			if i > 0 {
				b = append(b, ',')
			}
			var err error
			if b, err = appendCanonical(b, item); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case map[string]any:
		var members []byte
		for _, name := range slices.SortedFunc(maps.Keys(v), compareUTF16) {
			var err error
			if members, err = appendMember(members, name, v[name]); err != nil {
				return nil, err
			}
		}
		return append(append(append(b, '{'), members...), '}'), nil
	}
	return nil, fmt.Errorf("a %T has no place in JSON", node)
}

// appendMember appends one member of an object to the ones before it.
func appendMember(b []byte, name string, value any) ([]byte, error) {
	if len(b) > 0 {
		b = append(b, ',')
	}
	return appendCanonical(append(appendString(b, name), ':'), value)
}

// appendNumber relies on encoding/json, which prints a float64 by the same
// ECMAScript rule that RFC 8785 section 3.2.2.3 asks for.
func appendNumber(b []byte, n json.Number) ([]byte, error) {
	f, err := n.Float64()
	if err != nil {
		return nil, fmt.Errorf("number %s doesn't fit a double: %w", n, err)
	}
	if f == 0 {
		return append(b, '0'), nil // RFC 8785 prints minus zero as 0
	}
	text, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("printing number %s: %w", n, err)
	}
	return append(b, text...), nil
}

var shortEscapes = map[rune]byte{
	'"': '"', '\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't',
}

// appendString escapes what RFC 8785 section 3.2.2.2 escapes and nothing else.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s { // a byte that isn't UTF-8 is read as RuneError, as encoding/json writes it
		if r >= ' ' && r != '"' && r != '\\' {
			b = utf8.AppendRune(b, r)
			continue
		}
		if c, ok := shortEscapes[r]; ok {
			b = append(b, '\\', c)
			continue
		}
		b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&0xf])
	}
	return append(b, '"')
}

// compareUTF16 orders by UTF-16 code units (RFC 8785 section 3.2.3); for ASCII
// that is the order of bytes.
func compareUTF16(a, b string) int {
	if ascii(a) && ascii(b) {
		return strings.Compare(a, b)
	}
	return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

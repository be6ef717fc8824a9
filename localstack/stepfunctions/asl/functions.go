package asl

import (
	"crypto/md5"  //nolint:gosec // an algorithm that States.Hash names; nothing is protected by it
	"crypto/sha1" //nolint:gosec // as above
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// function is an intrinsic function: how many arguments it takes, what can be
// said against them before a run, and what it does.
type function struct {
	min, max int
	check    func([]expression) error
	call     func([]any) (any, error)
}

const anyNumber = math.MaxInt

// functions are the intrinsics of the states language that are supported here
// (developer guide, "Intrinsic functions").
var functions = map[string]function{
	"States.Format":        {1, anyNumber, checkFormat, format},
	"States.MathAdd":       {2, 2, nil, mathAdd},
	"States.JsonToString":  {1, 1, nil, func(a []any) (any, error) { return encode(a[0]), nil }},
	"States.StringToJson":  {1, 1, nil, stringToJSON},
	"States.Array":         {0, anyNumber, nil, func(a []any) (any, error) { return append([]any{}, a...), nil }},
	"States.ArrayLength":   {1, 1, nil, arrayLength},
	"States.ArrayContains": {2, 2, nil, arrayContains},
	"States.ArrayGetItem":  {2, 2, nil, arrayGetItem},
	"States.JsonMerge":     {3, 3, checkMerge, jsonMerge},
	"States.StringSplit":   {2, 2, nil, stringSplit},
	"States.Hash":          {2, 2, checkHash, hash},
	"States.UUID":          {0, 0, nil, func([]any) (any, error) { return uuid.NewString(), nil }},
}

var errNotText = errors.New("an argument isn't text")

// pieces splits a format at its {} and takes off the escapes.
func pieces(text string) ([]string, error) {
	var out []string
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && strings.IndexByte(`{}\`, text[i+1]) >= 0:
			i++
			b.WriteByte(text[i])
		case c == '{':
			if i+1 == len(text) || text[i+1] != '}' {
				return nil, errors.New(`a { must be followed by } or be escaped as \{`)
			}
			i++
			out = append(out, b.String())
			b.Reset()
		case c == '}':
			return nil, errors.New(`a } must be escaped as \}`)
		default:
			b.WriteByte(c)
		}
	}
	return append(out, b.String()), nil
}

func checkFormat(args []expression) error {
	l, ok := args[0].(literal)
	if !ok {
		return nil
	}
	text, ok := l.value.(string)
	if !ok {
		return errors.New("the format must be text")
	}
	parts, err := pieces(text)
	if err != nil {
		return err
	}
	if len(parts)-1 != len(args)-1 {
		return fmt.Errorf("%d {} for %d values", len(parts)-1, len(args)-1)
	}
	return nil
}

func format(args []any) (any, error) {
	text, ok := args[0].(string)
	if !ok {
		return nil, errNotText
	}
	parts, err := pieces(text)
	if err != nil {
		return nil, err
	}
	if len(parts) != len(args) {
		return nil, fmt.Errorf("%d {} for %d values", len(parts)-1, len(args)-1)
	}
	out := parts[0]
	for i, v := range args[1:] {
		switch v := v.(type) {
		case string:
			out += v
		case json.Number, bool, nil:
			out += encode(v)
		default:
			return nil, fmt.Errorf("value %d is neither text, number, boolean nor null", i+1)
		}
		out += parts[i+1]
	}
	return out, nil
}

// mathAdd works on 32-bit integers and rounds what isn't whole, as documented.
func mathAdd(args []any) (any, error) {
	var sum float64
	for _, a := range args {
		n, ok := a.(json.Number)
		if !ok {
			return nil, errors.New("an argument isn't a number")
		}
		f, err := n.Float64()
		if f = math.Round(f); err != nil || f < math.MinInt32 || f > math.MaxInt32 {
			return nil, fmt.Errorf("%s is no 32-bit integer", n)
		}
		sum += f
	}
	if sum < math.MinInt32 || sum > math.MaxInt32 {
		return nil, errors.New("the sum is no 32-bit integer")
	}
	return json.Number(strconv.FormatInt(int64(sum), 10)), nil
}

func stringToJSON(args []any) (any, error) {
	text, ok := args[0].(string)
	if !ok {
		return nil, errNotText
	}
	return decode([]byte(text))
}

func array(v any) ([]any, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, errors.New("the first argument isn't an array")
	}
	return list, nil
}

func arrayLength(args []any) (any, error) {
	list, err := array(args[0])
	if err != nil {
		return nil, err
	}
	return json.Number(strconv.Itoa(len(list))), nil
}

func arrayContains(args []any) (any, error) {
	list, err := array(args[0])
	if err != nil {
		return nil, err
	}
	for _, v := range list {
		if equal(v, args[1]) {
			return true, nil
		}
	}
	return false, nil
}

func arrayGetItem(args []any) (any, error) {
	list, err := array(args[0])
	if err != nil {
		return nil, err
	}
	i, ok := wholeNumber(args[1])
	if !ok || i < 0 || i >= int64(len(list)) {
		return nil, fmt.Errorf("index %s isn't in an array of %d", encode(args[1]), len(list))
	}
	return list[i], nil
}

var errDeepMerge = errors.New("the third argument must be false: the service merges only one level")

func checkMerge(args []expression) error {
	if l, ok := args[2].(literal); ok && l.value != false {
		return errDeepMerge
	}
	return nil
}

func jsonMerge(args []any) (any, error) {
	a, ok := args[0].(map[string]any)
	b, okb := args[1].(map[string]any)
	if !ok || !okb {
		return nil, errors.New("an argument isn't an object")
	}
	if args[2] != false {
		return nil, errDeepMerge
	}
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out, nil
}

// stringSplit takes every character of its second argument for a separator;
// empty parts vanish.
func stringSplit(args []any) (any, error) {
	text, ok := args[0].(string)
	separators, oks := args[1].(string)
	if !ok || !oks {
		return nil, errNotText
	}
	out := []any{}
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
		out = append(out, part)
	}
	return out, nil
}

var hashes = map[string]func([]byte) []byte{
	"MD5":     func(b []byte) []byte { s := md5.Sum(b); return s[:] },  //nolint:gosec // as at the import
	"SHA-1":   func(b []byte) []byte { s := sha1.Sum(b); return s[:] }, //nolint:gosec // as at the import
	"SHA-256": func(b []byte) []byte { s := sha256.Sum256(b); return s[:] },
	"SHA-384": func(b []byte) []byte { s := sha512.Sum384(b); return s[:] },
	"SHA-512": func(b []byte) []byte { s := sha512.Sum512(b); return s[:] },
}

func checkHash(args []expression) error {
	if l, ok := args[1].(literal); ok {
		name, _ := l.value.(string)
		if hashes[name] == nil {
			return fmt.Errorf("algorithm %s isn't MD5, SHA-1, SHA-256, SHA-384 or SHA-512", encode(l.value))
		}
	}
	return nil
}

func hash(args []any) (any, error) {
	const longest = 10_000 // characters, a documented limit
	text, ok := args[0].(string)
	if !ok {
		text = encode(args[0])
	}
	if len(text) > longest {
		return nil, fmt.Errorf("the data is longer than %d characters", longest)
	}
	name, _ := args[1].(string)
	sum, ok := hashes[name]
	if !ok {
		return nil, fmt.Errorf("no algorithm %s", encode(args[1]))
	}
	return hex.EncodeToString(sum([]byte(text))), nil
}

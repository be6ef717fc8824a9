package asl

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Diagnostic is one thing that is wrong with a definition, in the form of
// ValidateStateMachineDefinition.
type Diagnostic struct {
	Code     string `json:"code"` // SCHEMA_VALIDATION_FAILED, MISSING_TRANSITION_TARGET, …
	Message  string `json:"message"`
	Location string `json:"location,omitempty"` // like /States/Test/Retry[0]
	Severity string `json:"severity"`           // ERROR
}

// Codes of diagnostics.
const (
	InvalidJSON   = "INVALID_JSON_DESCRIPTION"
	InvalidSchema = "SCHEMA_VALIDATION_FAILED"
	MissingTarget = "MISSING_TRANSITION_TARGET"
	MissingEnd    = "MISSING_END_STATE"
	DuplicateName = "DUPLICATE_STATE_NAME"
	BadPath       = "INVALID_JSON_PATH"
)

// DefinitionError says everything that is wrong with a definition.
type DefinitionError struct{ Diagnostics []Diagnostic }

func (e *DefinitionError) Error() string {
	texts := make([]string, len(e.Diagnostics))
	for i, d := range e.Diagnostics {
		texts[i] = d.Code + ": " + d.Message
		if d.Location != "" {
			texts[i] += " at " + d.Location
		}
	}
	return strings.Join(texts, ", ")
}

// parser collects diagnostics, so that a definition is judged whole.
type parser struct {
	diagnostics []Diagnostic
	names       map[string]string // state name → where it stands
}

func (p *parser) fail(code, at, format string, args ...any) {
	p.diagnostics = append(p.diagnostics, Diagnostic{
		Code: code, Location: at, Message: fmt.Sprintf(format, args...), Severity: "ERROR",
	})
}

// object reads the members of one JSON object and remembers which were asked
// for, so that the others can be refused.
type object struct {
	p       *parser
	at      string
	members map[string]any
	known   map[string]bool
}

func (p *parser) object(v any, at string) *object {
	m, ok := v.(map[string]any)
	if !ok {
		p.fail(InvalidSchema, at, "an object is wanted")
	}
	return &object{p: p, at: at, members: m, known: map[string]bool{"Comment": true}}
}

func (o *object) fail(name, format string, args ...any) {
	o.p.fail(InvalidSchema, strings.TrimSuffix(o.at, "/")+"/"+name, format, args...)
}

// take returns a member, null included.
func (o *object) take(name string) (any, bool) {
	o.known[name] = true
	v, ok := o.members[name]
	return v, ok
}

func (o *object) has(name string) bool {
	_, ok := o.members[name]
	return ok
}

// closed refuses every member that nobody took.
func (o *object) closed() {
	for _, name := range slices.Sorted(maps.Keys(o.members)) {
		if !o.known[name] {
			o.fail(name, "Field '%s' is not supported", name)
		}
	}
	if c, ok := o.members["Comment"]; ok {
		if _, text := c.(string); !text {
			o.fail("Comment", "text is wanted")
		}
	}
}

func (o *object) text(name string) (string, bool) {
	v, ok := o.take(name)
	if !ok {
		return "", false
	}
	s, ok := v.(string)
	if !ok || s == "" {
		o.fail(name, "text is wanted that isn't empty")
		return "", false
	}
	return s, true
}

func (o *object) requiredText(name string) string {
	s, _ := o.text(name)
	if !o.has(name) {
		o.fail(name, "this field is required")
	}
	return s
}

func (o *object) oneOf(name, otherwise string, allowed ...string) string {
	s, ok := o.text(name)
	if !ok {
		return otherwise
	}
	if !slices.Contains(allowed, s) {
		o.fail(name, "%q isn't one of %s", s, strings.Join(allowed, ", "))
	}
	return s
}

// whole reads a whole number between low and high.
func (o *object) whole(name string, otherwise, low, high int64) int64 {
	v, ok := o.take(name)
	if !ok {
		return otherwise
	}
	n, ok := wholeNumber(v)
	if !ok || n < low || n > high {
		o.fail(name, "a whole number from %d to %d is wanted, not %s", low, high, encode(v))
		return otherwise
	}
	return n
}

func (o *object) number(name string, otherwise, low float64) float64 {
	v, ok := o.take(name)
	if !ok {
		return otherwise
	}
	n, _ := v.(json.Number)
	f, err := n.Float64()
	if err != nil || f < low {
		o.fail(name, "a number of at least %g is wanted, not %s", low, encode(v))
		return otherwise
	}
	return f
}

func (o *object) flag(name string) bool {
	v, ok := o.take(name)
	if !ok {
		return false
	}
	b, ok := v.(bool)
	if !ok {
		o.fail(name, "true or false is wanted")
	}
	return b
}

func (o *object) list(name string) []any {
	v, ok := o.take(name)
	if !ok {
		return nil
	}
	l, ok := v.([]any)
	if !ok {
		o.fail(name, "an array is wanted")
	}
	return l
}

// reference reads a member that must be a reference path.
func (o *object) reference(name string) *path {
	text, ok := o.text(name)
	if !ok {
		return nil
	}
	p, err := parseReference(text)
	if err != nil {
		o.p.fail(BadPath, o.at+"/"+name, "%v", err)
		return nil
	}
	return &p
}

// template reads a payload template; nil if there is none.
func (o *object) template(name string) expression {
	v, ok := o.take(name)
	if !ok {
		return nil
	}
	if _, object := v.(map[string]any); !object {
		o.fail(name, "an object is wanted")
		return nil
	}
	e, err := compileTemplate(v)
	if err != nil {
		o.fail(name, "%v", err)
		return nil
	}
	return e
}

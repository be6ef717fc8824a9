package asl

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxNesting is how deep intrinsic functions may be nested (developer guide,
// "Intrinsic functions").
const maxNesting = 10

// intrinsic is one call of an intrinsic function.
type intrinsic struct {
	name string
	fn   function
	args []expression
}

// intrinsicError marks a call that its arguments made impossible.
type intrinsicError struct {
	name string
	err  error
}

func (e *intrinsicError) Error() string { return e.name + ": " + e.err.Error() }
func (e *intrinsicError) Unwrap() error { return e.err }

func (c intrinsic) eval(s scope) (any, error) {
	args := make([]any, len(c.args))
	for i, a := range c.args {
		v, err := a.eval(s)
		if err != nil {
			return nil, fmt.Errorf("%s, argument %d: %w", c.name, i+1, err)
		}
		args[i] = v
	}
	v, err := c.fn.call(args)
	if err != nil {
		return nil, &intrinsicError{c.name, err}
	}
	return v, nil
}

// parseIntrinsic reads a whole expression like States.Format('{}', $.a).
func parseIntrinsic(text string) (expression, error) {
	p := &intrinsicParser{rest: text}
	e, err := p.call(1)
	if err == nil && strings.TrimSpace(p.rest) != "" {
		err = fmt.Errorf("%q follows the function", p.rest)
	}
	if err != nil {
		return nil, fmt.Errorf("intrinsic %q: %w", text, err)
	}
	return e, nil
}

type intrinsicParser struct{ rest string }

func (p *intrinsicParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\n") }

func (p *intrinsicParser) eat(c byte) bool {
	p.space()
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *intrinsicParser) call(depth int) (expression, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("nested deeper than %d", maxNesting)
	}
	open := strings.IndexByte(p.rest, '(')
	if open < 0 {
		return nil, errors.New("a ( is missing")
	}
	name := strings.TrimSpace(p.rest[:open])
	fn, ok := functions[name]
	if !ok {
		return nil, fmt.Errorf("function %q isn't supported", name)
	}
	p.rest = p.rest[open+1:]
	c := intrinsic{name: name, fn: fn}
	for first := true; !p.eat(')'); first = false {
		if !first && !p.eat(',') {
			return nil, fmt.Errorf("a , or ) is missing before %q", p.rest)
		}
		arg, err := p.argument(depth)
		if err != nil {
			return nil, err
		}
		if l, ok := arg.(literal); ok && (name != "States.Format" || !first) {
			arg = l.unescaped()
		}
		c.args = append(c.args, arg)
	}
	if n := len(c.args); n < fn.min || n > fn.max {
		return nil, fmt.Errorf("%s doesn't take %d arguments", name, n)
	}
	if fn.check != nil {
		if err := fn.check(c.args); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return c, nil
}

func (p *intrinsicParser) argument(depth int) (expression, error) {
	p.space()
	switch {
	case p.rest == "":
		return nil, errors.New("an argument is missing")
	case p.rest[0] == '\'':
		return p.text()
	case strings.HasPrefix(p.rest, "States."):
		return p.call(depth + 1)
	case p.rest[0] == '$':
		return p.path()
	}
	end := strings.IndexAny(p.rest, ",)")
	if end < 0 {
		return nil, errors.New("a ) is missing")
	}
	word := strings.TrimSpace(p.rest[:end])
	v, err := decode([]byte(word))
	if err != nil {
		return nil, fmt.Errorf("%q is no argument: a path, a function, a number, true, false, null or 'text' is", word)
	}
	switch v.(type) {
	case json.Number, bool, nil:
	default:
		return nil, fmt.Errorf("%q is no argument; text stands in single quotes", word)
	}
	p.rest = p.rest[end:]
	return literal{v}, nil
}

// path takes everything up to the comma or parenthesis that is in no bracket.
func (p *intrinsicParser) path() (expression, error) {
	depth, end := 0, len(p.rest)
scan:
	for i, r := range p.rest {
		switch r {
		case '[':
			depth++
		case ']':
			depth--
		case ',', ')', ' ':
			if depth == 0 {
				end = i
				break scan
			}
		}
	}
	parsed, err := parsePath(p.rest[:end])
	p.rest = p.rest[end:]
	return parsed, err
}

// unescaped takes off the escapes that parser.text leaves for a format.
func (l literal) unescaped() literal {
	if text, ok := l.value.(string); ok {
		return literal{strings.NewReplacer(`\\`, `\`, `\{`, `{`, `\}`, `}`).Replace(text)}
	}
	return l
}

// text reads 'a\'b'. The escapes of {, } and \ stay for States.Format.
func (p *intrinsicParser) text() (expression, error) {
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case '\'':
			p.rest = p.rest[i+1:]
			return literal{b.String()}, nil
		case '\\':
			i++
			if i == len(p.rest) || !slices.Contains([]byte{'\'', '\\', '{', '}'}, p.rest[i]) {
				return nil, errors.New(`only \' \\ \{ and \} may be escaped`)
			}
			if p.rest[i] != '\'' {
				b.WriteByte('\\')
			}
			b.WriteByte(p.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return nil, errors.New("text isn't closed by '")
}

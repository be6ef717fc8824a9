package asl

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// scope is what an expression reads: the data ($) and the context object ($$).
type scope struct {
	data    any
	context func() any
}

// expression is a path, an intrinsic, or a template made of them.
type expression interface {
	eval(scope) (any, error)
}

type literal struct{ value any }

func (l literal) eval(scope) (any, error) { return l.value, nil }

type objectTemplate map[string]expression

func (o objectTemplate) eval(s scope) (any, error) {
	out := make(map[string]any, len(o))
	for _, k := range slices.Sorted(maps.Keys(o)) {
		v, err := o[k].eval(s)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", k, err)
		}
		out[k] = v
	}
	return out, nil
}

type arrayTemplate []expression

func (a arrayTemplate) eval(s scope) (any, error) {
	out := make([]any, len(a))
	for i, e := range a {
		v, err := e.eval(s)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		out[i] = v
	}
	return out, nil
}

var errPathNotFound = errors.New("finds nothing in its input")

func (p path) eval(s scope) (any, error) {
	root := s.data
	if p.context {
		root = s.context()
	}
	v, ok := p.get(root)
	if !ok {
		return nil, fmt.Errorf("path %s %w", p.text, errPathNotFound)
	}
	return v, nil
}

// compileTemplate reads a payload template: a member whose name ends in ".$"
// holds a path or an intrinsic, everything else stands as it is.
func compileTemplate(v any) (expression, error) {
	switch v := v.(type) {
	case map[string]any:
		return compileObject(v)
	case []any:
		out := make(arrayTemplate, len(v))
		for i := range v {
			e, err := compileTemplate(v[i])
			if err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
			out[i] = e
		}
		return out, nil
	default:
		return literal{v}, nil
	}
}

func compileObject(m map[string]any) (expression, error) {
	out := objectTemplate{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		name, dynamic := strings.CutSuffix(k, ".$")
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("field %q stands twice, with and without .$", name)
		}
		var e expression
		var err error
		if dynamic {
			text, ok := m[k].(string)
			if !ok {
				return nil, fmt.Errorf("field %q must be a string: a path or an intrinsic function", k)
			}
			e, err = compileExpression(text)
		} else {
			e, err = compileTemplate(m[k])
		}
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", k, err)
		}
		out[name] = e
	}
	return out, nil
}

// compileExpression reads a path or an intrinsic function.
func compileExpression(text string) (expression, error) {
	if strings.HasPrefix(text, "States.") {
		return parseIntrinsic(text)
	}
	return parsePath(text)
}

// runtimeError is what the service reports for an expression that can't be
// evaluated; no Retry or Catch matches it.
func runtimeError(reserved string, err error) *Error {
	return &Error{Name: Runtime, Cause: reserved + ": " + err.Error(), inner: true}
}

// evaluate runs an expression and names its failure.
func evaluate(e expression, s scope) (any, *Error) {
	v, err := e.eval(s)
	if err == nil {
		return v, nil
	}
	var failed *intrinsicError
	if errors.As(err, &failed) {
		return nil, runtimeError(IntrinsicFailure, err)
	}
	return nil, runtimeError(ParameterPathFailure, err)
}

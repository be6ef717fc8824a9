package events

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// compileContent reads one content filter, such as {"prefix": "a"} (EventBridge
// user guide, "Comparison operators for use in event patterns").
func compileContent(content map[string]any) (matcher, error) {
	if len(content) != 1 {
		return matcher{}, errors.New("a content filter has exactly one operator")
	}
	for operator, operand := range content {
		switch operator {
		case "exists":
			wanted, ok := operand.(bool)
			if !ok {
				return matcher{}, errors.New("exists takes true or false")
			}
			return matcher{absent: !wanted, fits: func(any) bool { return wanted }}, nil
		case "anything-but":
			return anythingBut(operand)
		case "numeric":
			return numeric(operand)
		case "cidr":
			return cidr(operand)
		default:
			return textFilter(operator, operand)
		}
	}
	return matcher{}, nil
}

// textFilter reads an operator on text. A prefix or suffix may be one that
// ignores case: {"prefix": {"equals-ignore-case": "a"}}.
func textFilter(operator string, operand any) (matcher, error) {
	if folded, ok := operand.(map[string]any); ok && len(folded) == 1 && (operator == "prefix" || operator == "suffix") {
		operand, operator = folded["equals-ignore-case"], operator+" ignoring case"
	}
	text, ok := operand.(string)
	test := map[string]func(string) bool{
		"prefix":               func(s string) bool { return strings.HasPrefix(s, text) },
		"suffix":               func(s string) bool { return strings.HasSuffix(s, text) },
		"prefix ignoring case": func(s string) bool { return strings.HasPrefix(strings.ToLower(s), strings.ToLower(text)) },
		"suffix ignoring case": func(s string) bool { return strings.HasSuffix(strings.ToLower(s), strings.ToLower(text)) },
		"equals-ignore-case":   func(s string) bool { return strings.EqualFold(s, text) },
	}[operator]
	if operator == "wildcard" && ok {
		parts, err := parseWildcard(text)
		if err != nil {
			return matcher{}, err
		}
		test = func(s string) bool { return wildcard(parts, s) }
	}
	if !ok || test == nil {
		return matcher{}, fmt.Errorf("unrecognized match type %q, or its operand is of the wrong type", operator)
	}
	return matcher{fits: func(v any) bool {
		s, ok := v.(string)
		return ok && test(s)
	}}, nil
}

// parseWildcard splits a pattern at its stars. A backslash makes a star or a
// backslash stand for itself; two stars in a row are refused.
func parseWildcard(pattern string) ([]string, error) {
	parts := []string{""}
	for i := 0; i < len(pattern); i++ {
		last := &parts[len(parts)-1]
		switch {
		case pattern[i] == '*' && *last == "" && len(parts) > 1:
			return nil, errors.New("consecutive wildcard characters are not allowed")
		case pattern[i] == '*':
			parts = append(parts, "")
		case pattern[i] != '\\':
			*last += pattern[i : i+1]
		case i+1 < len(pattern) && (pattern[i+1] == '*' || pattern[i+1] == '\\'):
			i++
			*last += pattern[i : i+1]
		default:
			return nil, errors.New("a backslash escapes a star or a backslash")
		}
	}
	return parts, nil
}

// wildcard matches the parts in order, with any run of characters between them.
func wildcard(parts []string, s string) bool {
	if len(parts) == 1 {
		return parts[0] == s
	}
	rest, ok := strings.CutPrefix(s, parts[0])
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return ok && strings.HasSuffix(rest, parts[len(parts)-1])
}

// anythingBut reads values, or one filter on text with one or more operands.
func anythingBut(operand any) (matcher, error) {
	refused, err := butThese(operand)
	if err != nil {
		return matcher{}, err
	}
	return matcher{fits: func(v any) bool {
		return !slices.ContainsFunc(refused, func(m matcher) bool { return m.fits(v) })
	}}, nil
}

func butThese(operand any) ([]matcher, error) {
	if filter, ok := operand.(map[string]any); ok {
		if len(filter) != 1 {
			return nil, errors.New("a content filter has exactly one operator")
		}
		var out []matcher
		for operator, operand := range filter {
			if len(listOf(operand)) == 0 {
				return nil, errors.New("empty arrays are not allowed")
			}
			for _, one := range listOf(operand) {
				m, err := textFilter(operator, one)
				if err != nil {
					return nil, err
				}
				out = append(out, m)
			}
		}
		return out, nil
	}
	for _, one := range listOf(operand) {
		if _, nested := one.(map[string]any); nested {
			return nil, errors.New("anything-but takes values or one filter")
		}
	}
	return compileLeaf(listOf(operand))
}

func listOf(operand any) []any {
	if list, ok := operand.([]any); ok {
		return list
	}
	return []any{operand}
}

// cidr reads a block of addresses.
func cidr(operand any) (matcher, error) {
	text, _ := operand.(string)
	block, err := netip.ParsePrefix(text)
	if err != nil {
		return matcher{}, errors.New("cidr takes a block of addresses")
	}
	return matcher{fits: func(v any) bool {
		s, _ := v.(string)
		address, err := netip.ParseAddr(s)
		return err == nil && block.Contains(address)
	}}, nil
}

// numeric reads pairs of operator and number: ["=", 5], [">", 0, "<=", 9].
func numeric(operand any) (matcher, error) {
	list, ok := operand.([]any)
	if !ok || (len(list) != 2 && len(list) != 4) {
		return matcher{}, errors.New("numeric takes one or two pairs of operator and number")
	}
	var tests []func(float64) bool
	for i := 0; i < len(list); i += 2 {
		operator, _ := list[i].(string)
		limit, isNumber := list[i+1].(float64)
		test := map[string]func(float64) bool{
			"=":  func(n float64) bool { return n == limit },
			"<":  func(n float64) bool { return n < limit },
			"<=": func(n float64) bool { return n <= limit },
			">":  func(n float64) bool { return n > limit },
			">=": func(n float64) bool { return n >= limit },
		}[operator]
		if test == nil || !isNumber {
			return matcher{}, errors.New("numeric compares by =, <, <=, > or >= with a number")
		}
		tests = append(tests, test)
	}
	return matcher{fits: func(v any) bool {
		n, ok := v.(float64)
		return ok && !slices.ContainsFunc(tests, func(t func(float64) bool) bool { return !t(n) })
	}}, nil
}

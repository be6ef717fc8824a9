package keyturn_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// of lists the logical ids of a type, sorted.
func (t template) of(kind string) []string {
	var ids []string
	for id, r := range t.Resources {
		if r.Type == kind {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// text spells a value out as far as the template knows it: ${Id} and ${Id.Arn}
// stand for what CloudFormation fills in.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case map[string]any:
		if ref, ok := v["Ref"].(string); ok {
			pseudo := map[string]string{"AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com"}
			if known, ok := pseudo[ref]; ok {
				return known
			}
			return "${" + ref + "}"
		}
		if at, ok := v["Fn::GetAtt"].([]any); ok {
			return "${" + text(at[0]) + "." + text(at[1]) + "}"
		}
		if join, ok := v["Fn::Join"].([]any); ok {
			var parts []string
			for _, p := range join[1].([]any) {
				parts = append(parts, text(p))
			}
			return strings.Join(parts, text(join[0]))
		}
	case float64, bool:
		return fmt.Sprint(v)
	}
	raw, _ := json.Marshal(v)
	return string(raw)
}

// texts spells out one value or a list.
func texts(v any) []string {
	if list, ok := v.([]any); ok {
		var all []string
		for _, one := range list {
			all = append(all, text(one))
		}
		return all
	}
	if v == nil {
		return nil
	}
	return []string{text(v)}
}

// at walks into properties by names.
func at(v any, path ...string) any {
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

// statement is one of a policy, spelled out.
type statement struct {
	Sid       string
	Deny      bool
	Principal any
	Actions   []string
	Resources []string
	Condition map[string]any
}

func statements(policy any) []statement {
	var all []statement
	list, _ := at(policy, "Statement").([]any)
	for _, s := range list {
		condition, _ := at(s, "Condition").(map[string]any)
		sid, _ := at(s, "Sid").(string)
		all = append(all, statement{
			Sid: sid, Deny: at(s, "Effect") == "Deny", Principal: at(s, "Principal"),
			Actions: texts(at(s, "Action")), Resources: texts(at(s, "Resource")), Condition: condition,
		})
	}
	return all
}

// rights are the statements of a role.
func (t template) rights(role string) []statement {
	var all []statement
	policies, _ := t.Resources[role].Properties["Policies"].([]any)
	for _, p := range policies {
		all = append(all, statements(at(p, "PolicyDocument"))...)
	}
	return all
}

// functions are the logical ids by name.
func (t template) functions() map[string]string {
	ids := map[string]string{}
	for _, id := range t.of("AWS::Lambda::Function") {
		ids[text(t.Resources[id].Properties["FunctionName"])] = id
	}
	return ids
}

// roleOf is the logical id of a function's role.
func (t template) roleOf(tb testing.TB, function string) string {
	tb.Helper()
	id, ok := t.functions()[function]
	if !ok {
		tb.Fatalf("no function %s among %v", function, slices.Sorted(maps.Keys(t.functions())))
	}
	role := text(t.Resources[id].Properties["Role"])
	return strings.TrimSuffix(strings.TrimPrefix(role, "${"), ".Arn}")
}

// one finds the only resource of a type for which fits holds.
func (t template) one(tb testing.TB, kind string, fits func(resource) bool) (string, resource) {
	tb.Helper()
	var found []string
	for _, id := range t.of(kind) {
		if fits(t.Resources[id]) {
			found = append(found, id)
		}
	}
	if len(found) != 1 {
		tb.Fatalf("%d resources of type %s fit: %v", len(found), kind, found)
	}
	return found[0], t.Resources[found[0]]
}

// named fits a property.
func named(property, value string) func(resource) bool {
	return func(r resource) bool { return text(r.Properties[property]) == value }
}

// like matches as IAM's ArnLike: * and ? within the whole text.
func like(pattern, value string) bool {
	switch {
	case pattern == "":
		return value == ""
	case pattern[0] == '*':
		return like(pattern[1:], value) || (value != "" && like(pattern, value[1:]))
	}
	return value != "" && (pattern[0] == '?' || pattern[0] == value[0]) && like(pattern[1:], value[1:])
}

// call is what somebody tries.
type call struct {
	Who, Action string
	Keys        map[string][]string // condition keys that the request has
}

// denies reports whether a policy's denials hit a call. Only the conditions that
// our policies use are known; another one ends the test.
func denies(tb testing.TB, all []statement, c call) bool {
	tb.Helper()
	keys := map[string][]string{"aws:PrincipalArn": {c.Who}}
	maps.Copy(keys, c.Keys)
	for _, s := range all {
		if s.Deny && slices.ContainsFunc(s.Actions, func(a string) bool { return like(a, c.Action) }) && holds(tb, s.Condition, keys) {
			return true
		}
	}
	return false
}

func holds(tb testing.TB, condition map[string]any, keys map[string][]string) bool {
	tb.Helper()
	for operator, tests := range condition {
		for key, wanted := range tests.(map[string]any) {
			have := keys[key]
			any := slices.ContainsFunc(texts(wanted), func(w string) bool {
				return slices.ContainsFunc(have, func(h string) bool { return like(w, h) })
			})
			var ok bool
			switch operator {
			case "ArnNotLike", "ArnNotEquals", "ForAllValues:StringNotEquals", "StringNotEquals":
				ok = !any
			case "Null":
				ok = (len(have) == 0) == (text(wanted) == "true")
			case "Bool", "StringEquals", "StringLike", "ArnLike", "ArnEquals":
				ok = any
			default:
				tb.Fatalf("the test doesn't know condition %s", operator)
			}
			if !ok {
				return false
			}
		}
	}
	return true
}

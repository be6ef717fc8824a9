package stepfunctions_test

import (
	"encoding/json"
	"strings"
)

// asReferenceWould is a trace of ours with the known differences put in that
// change values and not the way (see known).
func asReferenceWould(ours trace) trace {
	out := ours
	out.Entered, out.Calls = nil, nil
	for _, v := range ours.Entered {
		out.Entered = append(out.Entered, visited{v.State, withTimeoutCause(v.Input)})
	}
	for _, v := range ours.Calls {
		out.Calls = append(out.Calls, visited{v.State, withTimeoutCause(v.Input)})
	}
	out.Output = withTimeoutCause(ours.Output)
	if cause, isText := withTimeoutCause(ours.Cause).(string); isText {
		out.Cause = cause
	}
	if ours.Error == "States.Timeout" && ours.Cause == "" {
		out.Cause = "States.Timeout"
	}
	return out
}

// withTimeoutCause gives each error output of a time-out the cause that the
// reference writes, in JSON texts too.
func withTimeoutCause(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, member := range v {
			out[k] = withTimeoutCause(member)
		}
		if v["Error"] == "States.Timeout" && v["Cause"] == "" {
			out["Cause"] = "States.Timeout"
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = withTimeoutCause(v[i])
		}
		return out
	case string:
		if inner, ok := jsonObject(v); ok {
			return encoded(withTimeoutCause(inner))
		}
	}
	return v
}

func jsonObject(text string) (map[string]any, bool) {
	var v map[string]any
	if !strings.HasPrefix(text, "{") || json.Unmarshal([]byte(text), &v) != nil {
		return nil, false
	}
	return v, true
}

func encoded(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// sameText compares two texts; a JSON object may have its members in another
// order and, at the reference, have lost its backslashes.
func sameText(a, b string) bool {
	return a == b || withoutBackslashes(a, b) || withoutBackslashes(b, a)
}

func withoutBackslashes(text, stripped string) bool {
	object, ok := jsonObject(text)
	if !ok {
		return false
	}
	rest, ok := afterValue(object, stripped)
	return ok && rest == ""
}

// afterValue reads a value at the beginning of a JSON text that has lost its
// backslashes, and returns what follows. Texts that hold an object are read as
// one, since its members' order isn't fixed either.
func afterValue(v any, text string) (string, bool) {
	switch v := v.(type) {
	case map[string]any:
		return afterObject(v, text)
	case string:
		if inner, ok := jsonObject(v); ok {
			rest, ok := strings.CutPrefix(text, `"`)
			if ok {
				if rest, ok = afterObject(inner, rest); ok {
					return strings.CutPrefix(rest, `"`)
				}
			}
			return "", false
		}
	}
	return strings.CutPrefix(text, strings.ReplaceAll(encoded(v), `\`, ""))
}

func afterObject(v map[string]any, text string) (string, bool) {
	rest, ok := strings.CutPrefix(text, "{")
	for n := len(v); ok && n > 0; n-- {
		rest, ok = afterMember(v, rest)
		if ok && n > 1 {
			rest, ok = strings.CutPrefix(rest, ",")
		}
	}
	if !ok {
		return "", false
	}
	return strings.CutPrefix(rest, "}")
}

// afterMember reads whichever member comes first.
func afterMember(v map[string]any, text string) (string, bool) {
	for name, member := range v {
		if rest, ok := strings.CutPrefix(text, encoded(name)+":"); ok {
			return afterValue(member, rest)
		}
	}
	return "", false
}

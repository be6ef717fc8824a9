package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// path is a JSON path of names and array places: $.detail.items[0].
type path []any

var pathStep = regexp.MustCompile(`^(?:\.([A-Za-z0-9_-]+)|\[([0-9]+)\]|\['([^']+)'\])`)

func parsePath(text string) (path, error) {
	rest, ok := strings.CutPrefix(text, "$")
	if !ok {
		return nil, fmt.Errorf("the path %q doesn't begin with $", text)
	}
	var out path
	for rest != "" {
		m := pathStep.FindStringSubmatch(rest)
		switch {
		case m == nil:
			return nil, fmt.Errorf("the local EventBridge can't read the path %q", text)
		case m[2] != "":
			n, err := strconv.Atoi(m[2])
			if err != nil {
				return nil, fmt.Errorf("the path %q: %w", text, err)
			}
			out = append(out, n)
		default:
			out = append(out, m[1]+m[3])
		}
		rest = rest[len(m[0]):]
	}
	return out, nil
}

func (p path) get(doc any) (any, bool) {
	for _, step := range p {
		switch at := step.(type) {
		case string:
			object, ok := doc.(map[string]any)
			if !ok {
				return nil, false
			}
			if doc, ok = object[at]; !ok {
				return nil, false
			}
		case int:
			list, ok := doc.([]any)
			if !ok || at >= len(list) {
				return nil, false
			}
			doc = list[at]
		}
	}
	return doc, true
}

var placeholder = regexp.MustCompile(`<([A-Za-z0-9_.-]+)>`)

// predefined are the variables that every template may use.
var predefined = map[string]bool{
	"aws.events.rule-arn": true, "aws.events.rule-name": true,
	"aws.events.event": true, "aws.events.event.json": true, "aws.events.event.ingestion-time": true,
}

func (t *inputTransformer) check(id string) error {
	if t == nil {
		return nil
	}
	if t.InputTemplate == "" || len(t.InputTemplate) > 8192 || len(t.InputPathsMap) > 100 {
		return invalid("InputTransformer for target %s: a template of 1 to 8192 characters and at most 100 paths", id)
	}
	for name, text := range t.InputPathsMap {
		if strings.HasPrefix(name, "AWS") {
			return invalid("InputTransformer for target %s: a variable can't begin with AWS", id)
		}
		if _, err := parsePath(text); err != nil {
			return invalid("InputTransformer for target %s: %v", id, err)
		}
	}
	for _, m := range placeholder.FindAllStringSubmatch(t.InputTemplate, -1) {
		if _, ok := t.InputPathsMap[m[1]]; !ok && !predefined[m[1]] {
			return invalid("InputTemplate for target %s contains placeholder %s that isn't in InputPathsMap", id, m[1])
		}
	}
	return nil
}

// payload is what the target is given for an event.
func (t target) payload(r *rule, body []byte, event map[string]any, now time.Time) ([]byte, error) {
	switch {
	case t.Input != "":
		return []byte(t.Input), nil
	case t.InputPath != "":
		p, err := parsePath(t.InputPath)
		if err != nil {
			return nil, err
		}
		value, ok := p.get(event)
		if !ok {
			return nil, fmt.Errorf("the event has nothing at %s", t.InputPath)
		}
		return json.Marshal(value)
	case t.InputTransformer != nil:
		out, err := t.InputTransformer.render(r, event, now)
		// A topic takes text too: lines that are quoted strings, quotes and all.
		text := topicARN.MatchString(t.Arn) && quotedLines(out)
		if err == nil && !json.Valid(out) && !text {
			return nil, errors.New("the input template gives no valid JSON for this event")
		}
		return out, err
	}
	return body, nil
}

func (t *inputTransformer) render(r *rule, event map[string]any, now time.Time) ([]byte, error) {
	values := map[string]any{
		"aws.events.rule-arn": r.arn(), "aws.events.rule-name": r.name,
		"aws.events.event": event, "aws.events.event.json": event,
		"aws.events.event.ingestion-time": now.Format(time.RFC3339),
	}
	for name, text := range t.InputPathsMap {
		p, err := parsePath(text)
		if err != nil {
			return nil, err
		}
		if value, ok := p.get(event); ok {
			values[name] = value
		}
	}
	return t.fill(values)
}

func quotedLines(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && (line[0] != '"' || !json.Valid(line)) {
			return false
		}
	}
	return true
}

// fill puts the values in: within quotes as text, elsewhere as JSON. A variable
// whose path found nothing is empty.
func (t *inputTransformer) fill(values map[string]any) ([]byte, error) {
	var out []byte
	quoted := false
	text := t.InputTemplate
	for i := 0; i < len(text); i++ {
		m := placeholder.FindStringSubmatch(text[i:])
		if text[i] == '<' && m != nil && strings.HasPrefix(text[i:], m[0]) {
			value, ok := values[m[1]]
			encoded, err := encode(value, ok, quoted)
			if err != nil {
				return nil, err
			}
			out = append(out, encoded...)
			i += len(m[0]) - 1
			continue
		}
		if text[i] == '"' && (i == 0 || text[i-1] != '\\') {
			quoted = !quoted
		}
		out = append(out, text[i])
	}
	return out, nil
}

func encode(value any, there, quoted bool) ([]byte, error) {
	if !there {
		value = ""
	}
	if !quoted {
		return json.Marshal(value)
	}
	text, ok := value.(string)
	if !ok {
		doc, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		text = string(doc)
	}
	encoded, err := json.Marshal(text)
	if err != nil {
		return nil, err
	}
	return encoded[1 : len(encoded)-1], nil
}

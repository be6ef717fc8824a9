package lambdaentry

import (
	"regexp"
)

const redacted = "[redacted]"

// Secrets reach texts through other people's errors: a DSN that a driver
// echoes, a JSON document in a decoder's message, a verifier in a statement.
var leaks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s]*@`), "$1:" + redacted + "@"},
	{regexp.MustCompile(`(?i)("?(?:password|passwd|pwd|secretstring|rotationtoken|secretaccesskey|sessiontoken)"?\s*[:=]\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,;}]+)`), "$1" + redacted},
	{regexp.MustCompile(`SCRAM-SHA-256\$[^\s']+`), "SCRAM-SHA-256$" + redacted},
}

// Redact takes what looks like a secret out of a text. It is the last net, not
// the first: values travel as rotation.Value, which can't be printed.
func Redact(text string) string {
	for _, l := range leaks {
		text = l.pattern.ReplaceAllString(text, l.with)
	}
	return text
}

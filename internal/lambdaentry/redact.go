package lambdaentry

import (
	"regexp"
	"sync"
)

const redacted = "[redacted]"

// A leak is one way of secrets into texts: other people's errors. A driver echoes
// a DSN, a decoder's message a JSON document, a server a statement with a verifier.
type leak struct {
	pattern *regexp.Regexp
	with    string
}

// leaks are compiled at the first error, not at every cold start.
var leaks = sync.OnceValue(func() []leak {
	return []leak{
		{regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s]*@`), "$1:" + redacted + "@"},
		{regexp.MustCompile(`(?i)("?(?:password|passwd|pwd|secretstring|rotationtoken|secretaccesskey|sessiontoken)"?\s*[:=]\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,;}]+)`), "$1" + redacted},
		{regexp.MustCompile(`SCRAM-SHA-256\$[^\s']+`), "SCRAM-SHA-256$" + redacted},
	}
})

// Redact takes what looks like a secret out of a text. It is the last net, not
// the first: values travel as rotation.Value, which can't be printed.
func Redact(text string) string {
	for _, l := range leaks() {
		text = l.pattern.ReplaceAllString(text, l.with)
	}
	return text
}

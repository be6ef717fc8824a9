package lambdaentry

import (
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

const redacted = "[redacted]"

// patterns recognise secrets in texts that others wrote, mostly errors: a driver
// echoes a DSN, a decoder a JSON document, a server a statement with a verifier.
// They are compiled at the first suspicious text, not at every cold start.
var patterns = sync.OnceValue(func() (p struct {
	// A name, its closing quote in any depth of escaping, and the sign between it
	// and the value; or, as in SQL, white space alone.
	key *regexp.Regexp
	// The secret is the one group.
	others []*regexp.Regexp
}) {
	p.key = regexp.MustCompile(`(?i)(?:password|passwd|passphrase|pwd|secret_?string|secret_?binary|rotation_?token|` +
		`secret_?access_?key|session_?token|security-token|client_?secret|private_?key)` +
		`(?:(?:\\*["'\x60]|%(?:25)*2[27])?\s*((?:=>|[:=]+|%(?:25)*3[ad])\s*)|\s+)`)
	for _, pattern := range []string{
		`(?i)\b[a-z][a-z0-9+.-]*:\\*/\\*/[^\s:/]*:(\S*)@`,
		`(?i)\b[a-z][a-z0-9+.-]*%(?:25)*3a%(?:25)*2f%(?:25)*2f(\S*)%(?:25)*40`,
		`(?i)\b(?:authorization|cookie)["']?\s*[:=]\s*([^\r\n]*)`,
		`SCRAM-SHA-256\$([^\s']+)`,
		`\bmd5([0-9a-f]{32})\b`,
		`\b(e[yw][A-Za-z0-9+/_-]{16,}[=.A-Za-z0-9+/_-]*)`,
		`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)`,
	} {
		p.others = append(p.others, regexp.MustCompile(pattern))
	}
	return p
})

// Redact takes what looks like a secret out of a text: what follows a name such
// as password, as JSON, escaped JSON in JSON, a Go literal, a connection string,
// SQL or percent-encoded; a URL's login; verifiers; authorization headers; private
// keys in PEM and JSON objects in base64. It takes too much rather than too little.
//
// It is the last net, not the first: values travel as rotation.Value, which can't
// be printed. What it can't recognise is a value without its name, an unquoted
// one with white space in it, and one in hex, compressed or cut in pieces.
func Redact(text string) string {
	if !suspicious(text) {
		return text
	}
	for range mostPasses {
		once := redactOnce(text)
		if once == text {
			break
		}
		text = once
	}
	return text
}

// mostPasses is enough for what one pass leaves to look like a value for the
// next; a text that was redacted stays as it is.
const mostPasses = 8

func redactOnce(text string) string {
	spans := keyed(text)
	for _, pattern := range patterns().others {
		for _, at := range pattern.FindAllStringSubmatchIndex(text, -1) {
			spans = append(spans, span{at[2], at[3]})
		}
	}
	return cutOut(text, spans)
}

const mostText = 8 << 10 // Step Functions' cause takes 32 KiB

// brief redacts what leaves a function. It cuts before that, and only between two
// words: half a login wouldn't be recognised.
func brief(text string) string {
	if len(text) > mostText {
		text = text[:max(strings.LastIndexFunc(text[:mostText], unicode.IsSpace), 0)] + " …"
	}
	return Redact(text)
}

// cut shortens a text that is redacted already to whole characters.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + " …"
}

// span is a part of a text.
type span struct{ from, to int }

// cutOut replaces spans, which may overlap.
func cutOut(text string, spans []span) string {
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	var b strings.Builder
	done := 0
	for i := 0; i < len(spans); {
		whole := spans[i]
		for i++; i < len(spans) && spans[i].from <= whole.to; i++ {
			whole.to = max(whole.to, spans[i].to)
		}
		if whole.from < whole.to {
			b.WriteString(text[done:whole.from] + redacted)
			done = whole.to
		}
	}
	return b.String() + text[done:]
}

// suspicious is a quick look, so that a harmless text costs next to nothing.
func suspicious(text string) bool {
	lower := strings.ToLower(text)
	for _, part := range []string{
		"passw", "passph", "pwd", "secret", "token", "private", "authorization", "cookie",
		"://", `:\`, "%3a", "253a", "scram-sha-256$", "md5", "ey", "ew",
	} {
		if strings.Contains(lower, part) {
			return true
		}
	}
	return false
}

// keyed finds what follows a name. A name within such a value counts too: what
// looks like the end of a value may be the beginning of the next one.
func keyed(text string) []span {
	var spans []span
	for start, covered := 0, 0; ; {
		at := patterns().key.FindStringSubmatchIndex(text[start:])
		if at == nil {
			return spans
		}
		value := start + at[1]
		start += at[0] + 1
		from, to := secretIn(text[value:], at[2] >= 0 && value >= covered)
		if from == to {
			continue
		}
		spans = append(spans, span{value + from, value + to})
		if covered = max(covered, value+to); covered == len(text) {
			return spans
		}
	}
}

// secretIn finds a value at the start of a text. Without a sign between name and
// value only a quoted one is a value.
func secretIn(text string, sign bool) (from, to int) {
	prefix := len(text) - len(strings.TrimLeft(text, "bBeEnNrRuU")) // as in E'…' and b"…"
	if from, to, ok := quotedIn(text, prefix); ok && prefix <= 2 {
		return from, to
	}
	switch {
	case !sign:
		return 0, 0
	case strings.HasPrefix(text, "{"), strings.HasPrefix(text, "[") && !strings.HasPrefix(text, redacted):
		return 0, len(text) // an object or a list: where it ends isn't worth the risk
	}
	if end := strings.IndexFunc(text, unicode.IsSpace); end >= 0 {
		return 0, end
	}
	return 0, len(text)
}

// quotedIn finds what stands between quotes that are escaped equally often: once
// in a JSON document, twice in a JSON document that is a string of another one.
func quotedIn(text string, at int) (from, to int, ok bool) {
	escapes := len(text[at:]) - len(strings.TrimLeft(text[at:], `\`))
	from = at + escapes + 1
	if from > len(text) || !strings.ContainsAny(text[from-1:from], "\"'`") {
		return 0, 0, false
	}
	quote := text[from-1]
	if escapes&(escapes+1) != 0 { // no depth of escaping makes that
		return from, len(text), true
	}
	for i := from; i < len(text); i++ {
		if text[i] != quote {
			continue
		}
		before := len(text[from:i]) - len(strings.TrimRight(text[from:i], `\`))
		switch {
		case quote == '"' && before%(2*(escapes+1)) != escapes:
		case quote == '\'' && i+1 < len(text) && text[i+1] == '\'':
			i++ // SQL's quote in a quoted text
		case quote == '\'' && before != escapes:
		default:
			return from, i - min(before, escapes), true
		}
	}
	return from, len(text), true // it isn't closed
}

func redactAll(texts []string) []string {
	out := slices.Clone(texts)
	for i, text := range out {
		out[i] = brief(text)
	}
	return out
}

// redactAttr lets no log line leave with what Redact recognises.
func redactAttr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(brief(v.String()))
	case slog.KindAny:
		if err, ok := v.Any().(error); ok {
			a.Value = slog.StringValue(brief(err.Error()))
		}
	}
	return a
}

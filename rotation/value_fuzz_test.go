package rotation_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"text/template"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// holder keeps a value where fmt finds no methods: in an unexported field.
type holder struct {
	user     string
	password rotation.Value
	nested   *struct{ inner rotation.Value }
}

// FuzzAValueIsNeverWritten sends a value every way out of the process but
// Reveal, and looks for it in plain and in the usual encodings.
func FuzzAValueIsNeverWritten(f *testing.F) {
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "% X", "%d", "%p", "%T", "%c", "%U", "%t", "%w"} {
		f.Add(verb, "cAnArY-9f2c")
	}
	f.Add("%!", "a\"b\\c d\x00\n€")
	f.Fuzz(func(t *testing.T, verb, canary string) {
		if len(canary) < 8 || len(canary) > 200 || len(verb) > 40 || strings.Count(verb, "%") != 1 || strings.ContainsAny(verb, "123456789") {
			return // a width of millions only fills the memory
		}
		v := rotation.NewValue(canary)
		h := holder{"app", v, &struct{ inner rotation.Value }{v}}
		var out strings.Builder
		for _, x := range []any{
			v, &v, []rotation.Value{v}, map[string]rotation.Value{"password": v}, map[rotation.Value]int{v: 1},
			h, &h, []holder{h}, [1]any{h}, struct{ V rotation.Value }{v}, rotation.Change{RotationToken: v}, rotation.Request{RotationToken: v},
		} {
			fmt.Fprintf(&out, verb+"\n", x)
			text, _ := json.Marshal(x)
			out.Write(text)
			var log bytes.Buffer
			for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
				slog.New(h).With("with", x).Error(fmt.Sprint(x), "value", x, slog.Group("g", "x", x), "error", fmt.Errorf("logging in: %v", x))
			}
			out.Write(log.Bytes())
			out.WriteString(fault.Wrap(fault.Internal, errors.New(fmt.Sprint(x)), "with %v", x).Error())
			record, _ := json.Marshal(audit.Record{Notes: []string{fmt.Sprint(x)}, Missing: []string{fmt.Sprintf("%+v", x)}})
			out.Write(record)
		}
		_ = template.Must(template.New("").Parse("{{.}} {{printf \"%q\" .}} {{js .}}")).Execute(&out, v)
		for what, text := range encodings(canary) {
			if strings.Contains(out.String(), text) {
				t.Errorf("the value stands there %s, with verb %q", what, verb)
			}
		}
	})
}

// encodings are the ways in which a value may stand in a text; short ones, which
// are everywhere, are left out.
func encodings(canary string) map[string]string {
	quoted, _ := json.Marshal(canary)
	all := map[string]string{
		"in plain": canary, "as JSON": strings.Trim(string(quoted), `"`), "as Go": strings.Trim(strconv.Quote(canary), `"`),
		"in a URL": url.QueryEscape(canary), "in base64": base64.RawStdEncoding.EncodeToString([]byte(canary)),
		"in hex": hex.EncodeToString([]byte(canary)), "as bytes": strings.Trim(fmt.Sprintf("%d", []byte(canary)), "[]"),
	}
	const mark = "[redacted]"
	for what, text := range all {
		if len(text) < 8 || strings.Trim(text, "0 ") == "" || strings.Contains(mark, text) {
			delete(all, what)
		}
	}
	return all
}

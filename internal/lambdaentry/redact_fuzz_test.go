package lambdaentry_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/keyturn/keyturn/internal/lambdaentry"
)

// jsonText is a text as encoding/json writes it, quotes included.
func jsonText(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// conninfo quotes a value as libpq's connection strings do.
func conninfo(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// notations are all the ways in which docs/security.md promises that a value is
// recognised.
func notations(v string) map[string]string {
	document := `{"engine":"postgres","username":"app","password":` + jsonText(v) + `,"host":"db"}`
	encoded := base64.StdEncoding.EncodeToString([]byte(document))
	all := map[string]string{
		"JSON":                         document,
		"JSON with spaces":             `{"password" : ` + jsonText(v) + "\n}",
		"JSON in JSON":                 `{"SecretString":` + jsonText(document) + `}`,
		"JSON in JSON in JSON":         jsonText(`{"body":` + jsonText(document) + `}`),
		"Go literal of JSON":           strconv.Quote(document),
		"Go literal":                   `Password:` + strconv.Quote(v) + `,`,
		"Go raw literal of JSON":       "`" + document + "`",
		"connection string":            "host=db password=" + conninfo(v) + " user=app",
		"connection string in JSON":    `{"error":` + jsonText("dial: password="+conninfo(v)+" user=app") + `}`,
		"SQL":                          "ALTER ROLE app PASSWORD '" + strings.ReplaceAll(v, "'", "''") + "' VALID UNTIL 'infinity'",
		"SQL with escapes":             "ALTER ROLE app PASSWORD E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(v) + "'",
		"percent-encoded JSON":         "GET /?q=" + url.QueryEscape(document),
		"percent-encoded twice":        "GET /?q=" + url.QueryEscape(url.QueryEscape(document)),
		"query":                        "GET /?user=app&password=" + url.QueryEscape(v) + "&x=1",
		"URL's login":                  "dial " + (&url.URL{Scheme: "postgres", User: url.UserPassword("a@b", v), Host: "db:5432"}).String(),
		"URL's login, percent-encoded": "next=" + url.QueryEscape((&url.URL{Scheme: "postgres", User: url.UserPassword("app", v), Host: "db"}).String()),
		"URL's login in JSON":          strings.ReplaceAll(jsonText((&url.URL{Scheme: "postgres", User: url.UserPassword("app", v), Host: "db"}).String()), "/", `\/`),
		"base64":                       "SecretBinary " + encoded,
		"base64 for URLs":              base64.RawURLEncoding.EncodeToString([]byte(document)),
		"header":                       "Authorization: Bearer " + v,
		"rotation token":               `{"RotationToken":` + jsonText(v) + `}`,
		"AWS key":                      "AWS_SECRET_ACCESS_KEY=" + conninfo(v),
	}
	if strings.IndexFunc(v, unicode.IsSpace) < 0 && !strings.ContainsAny(v, "\"'`\\{[") {
		all["unquoted"] = "PGPASSWORD=" + v + " psql"
		all["struct"] = fmt.Sprintf("%+v", struct{ User, Password string }{"app", v})
		all["map"] = fmt.Sprint(map[string]string{"password": v, "user": "app"})
	}
	for name, text := range all {
		all[name+", logged"] = "level=ERROR msg=" + strconv.Quote(text)
	}
	return all
}

const mark = "[redacted]"

// pieces are the encodings of a value that must not be left, halves included.
func pieces(v string) []string {
	half := len(v) / 2
	for !utf8.RuneStart(v[half]) {
		half--
	}
	var all []string
	for _, part := range []string{v, v[:half], v[half:]} {
		if quoted := jsonText(part); len(part) >= 6 && !strings.Contains(mark, part) {
			all = append(all, part, quoted[1:len(quoted)-1], url.QueryEscape(part), url.PathEscape(part), url.QueryEscape(url.QueryEscape(part)))
		}
	}
	return all
}

// FuzzRedact plants a value in every notation, between any other texts.
func FuzzRedact(f *testing.F) {
	f.Add("query", canary, "pwd=pwd=' '", "0")
	for which := range notations(canary) {
		f.Add(which, canary, "", "")
		f.Add(which, `it's "the" \ cAnArY`, `role "app"`, "\n")
		f.Add(which, `password='x`, `"password":"`, `\"`)
		f.Add(which, `pass word=@:/%?#[]{}`, `pwd=' `, "`")
		f.Add(which, "ünïcode\x00\x01€", "x://u:", "@")
		f.Add(which, `trailing\\`, `\`, `"`)
		f.Add(which, "[redacted]canary", "password=", " ")
		f.Add(which, "with@at and more", "x://u:", "")
	}
	f.Fuzz(func(t *testing.T, which, value, before, after string) {
		text, ok := notations(value)[which]
		if !ok || len(value) < 8 || len(value) > 100 || !utf8.ValidString(value) || strings.ContainsAny(value, "\r\n") {
			return
		}
		got := lambdaentry.Redact(before + " " + text + " " + after)
		around := before + " " + notations("ZZZZZZZZ")[which] + " " + after
		for _, piece := range pieces(value) {
			if strings.Contains(got, piece) && !strings.Contains(around, piece) {
				t.Errorf("%s: Redact(%q) = %q", which, before+" "+text+" "+after, got)
			}
		}
		if again := lambdaentry.Redact(got); again != got {
			t.Errorf("%s: %q becomes %q the second time", which, got, again)
		}
	})
}

// What helps to find a fault has to stay.
func TestRedactLeavesTheRest(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`password authentication failed for user "app_x"`,
		`field "password" is missing; add it as a string`,
		"the secret arn:aws:secretsmanager:eu-central-1:111122223333:secret:app-AbCdEf has no version 11111111-1111-4111-8111-111111111111",
		"password_encryption is md5: set it to scram-sha-256, and see that no client needs md5",
		"dialing https://secretsmanager.eu-central-1.amazonaws.com/: connection refused",
		"role app_x isn't permitted to log in (SQLSTATE 28000)",
		"every key of the eyewitness",
	} {
		if got := lambdaentry.Redact(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	if got := lambdaentry.Redact(`{"username":"app","password":"x","host":"db"}`); got != `{"username":"app","password":"[redacted]","host":"db"}` {
		t.Errorf("got %s", got)
	}
}

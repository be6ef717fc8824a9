package postgres_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
)

const canary = "cAnArY-9f2c"

// seeds are secrets, right and wrong ones.
var seeds = []string{
	`{"engine":"postgres","host":"DB.example","port":5432,"username":"app","password":"` + canary + `","dbname":"shop","masterarn":"arn","ssl":true}`,
	`{"engine":"aurora-postgresql","host":"db","port":"5433","username":"app","password":"` + canary + `","ssl":"false","dbClusterIdentifier":"c"}`,
	`{"engine":"postgres","host":"db","username":"app","password":"` + canary + `","Host":"evil"}`,
	`{"engine":"postgres","host":"db","host":"evil","username":"app","password":"` + canary + `"}`,
	`{"engine":"postgres","host":"db","username":"app","password":"\ud800` + canary + `"}`,
	`{"engine":"postgres","host":"db","username":"app","password":"` + canary + `\u0000"}`,
	`{"engine":"postgres","host":"db","username":"app","password":"` + canary + `","port":"+1"}`,
	`{"engine":"postgres","host":"db","username":"app","password":"` + canary + `","port":1e2}`,
	`{"engine":"postgres","host":"db,evil","username":"app","password":"` + canary + `"}`,
	`{"engine":"postgres","host":"/tmp","username":"app","password":["` + canary + `"]}`,
	`{"engine":"postgres","host":"db","username":"app","password":"` + canary + `","dbname":"host=evil password=x"}`,
	"{\"engine\":\"postgres\",\"host\":\"db\",\"username\":\"\xff\",\"password\":\"" + canary + "\"}",
	`{"` + canary + `":1}`, `["` + canary + `"]`, canary, ``, `null`, `{"password":{"a":"` + canary + `"}}`,
}

// FuzzDocument: a secret that is taken means the same to every reader, lies
// within PostgreSQL's bounds and survives a rotation; one that isn't is refused
// by the name of its field and never by its value.
func FuzzDocument(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	set := postgres.Settings{Hosts: []string{"db.example:5432"}, Admin: "arn"}
	f.Fuzz(func(t *testing.T, text string) {
		for name, parse := range map[string]func(string) (*postgres.Document, error){
			"application": postgres.ParseDocument, "admin": postgres.ParseAdmin,
		} {
			d, err := parse(text)
			if err != nil {
				if !fault.Is(err, fault.InvalidInput) {
					t.Errorf("%s %q: %v", name, text, err)
				}
				leaks(t, text, err)
				continue
			}
			var said map[string]any
			if err := json.Unmarshal([]byte(text), &said); err != nil || !utf8.ValidString(text) {
				t.Fatalf("%s: %q was taken: %v", name, text, err)
			}
			for field, value := range map[string]string{"username": d.Username, "password": d.Password} {
				if said[field] != value || value == "" || strings.Contains(value, "\x00") {
					t.Errorf("%s %q: %s is %q", name, text, field, value)
				}
			}
			if d.Port < 1 || d.Port > 65535 || len(d.Username) > 63 || len(d.Database) > 63 || d.Database == "" || strings.Contains(d.Database+d.Host, "\x00") {
				t.Errorf("%s %q: out of bounds: %+v", name, text, *d)
			}
		}
		allowed(t, set, text)
	})
}

// allowed checks what the policy says to a secret, and a secret's next version.
func allowed(t *testing.T, set postgres.Settings, text string) {
	t.Helper()
	d, err := postgres.ParseDocument(text)
	if err != nil {
		return
	}
	if err := postgres.Allows(set, text); err != nil {
		if !fault.Is(err, fault.PolicyViolation) || fault.HintOf(err) == "" {
			t.Errorf("%q: %v", text, err)
		}
	} else if d.Host != "db.example" || d.Port != 5432 || d.Plaintext || (d.MasterARN != "" && d.MasterARN != "arn") {
		t.Errorf("%q: the policy allows %+v", text, *d)
	}
	next, err := postgres.WithLogin(text, `o'"\app`, "p'\"\\€")
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	n, err := postgres.ParseDocument(next)
	if err != nil || n.Username != `o'"\app` || n.Password != "p'\"\\€" {
		t.Fatalf("%q became %q: %v", text, next, err)
	}
	n.Username, n.Password = d.Username, d.Password
	if *n != *d {
		t.Errorf("%q became %q, which is %+v", text, next, *n)
	}
}

// leaks fails when an error repeats a value. The names of fields may be repeated.
func leaks(t *testing.T, text string, err error) {
	t.Helper()
	said := err.Error() + fault.HintOf(err)
	var fields map[string]any
	if json.Unmarshal([]byte(text), &fields) == nil {
		for name := range fields {
			if strings.Contains(name, canary) {
				return
			}
		}
	}
	if strings.Contains(text, canary) && strings.Contains(said, canary) {
		t.Errorf("%q: the value stands in %q", text, said)
	}
}

// FuzzParseSettings: settings that are taken are complete, and say the same when
// they are written again.
func FuzzParseSettings(f *testing.F) {
	for _, text := range []string{
		`{"hosts":["DB.example:5432"],"admin":"arn","login_log":"/var/log/pg.log"}`,
		`{"hosts":["[::1]:1"],"admin":"a","mode":"pair","clone_suffix":"_b","poolers":[{"address":"p:6432","admin":"x","databases":["d"]}],"replicas":["r:1"]}`,
		`{"hosts":["h:1"],"admin":"a","adopt":"rename","owner":"o\u0000wner"}`,
		`{"hosts":["h:1"],"admin":"a","clone_suffix":"\u0000"}`,
		`{"hosts":["h:1"],"admin":"a","poolers":[{"Address":"p:6432","address":"q:1","admin":"x","databases":["d"]}]}`,
		`{"hosts":["h:1","h:1"],"admin":"a","lock_timeout":"-3s","statement_timeout":"1000000h"}`,
		`{"hosts":["h:+1"],"admin":"a","connect_timeout":"0s"}`,
		`{"hosts":["h\n:1","/tmp:1","a,b:1"," h:1"],"admin":"a"}`,
		`{"hosts":null,"admin":null}`, `[]`, `{"mode":1}`, `{"allow_plaintext":"true"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := postgres.ParseSettings(text)
		if err != nil {
			if !fault.Is(err, fault.InvalidInput) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		for _, a := range append(append([]string{}, s.Hosts...), s.Replicas...) {
			if a != strings.ToLower(a) || strings.ContainsAny(a, " ,/\x00\n\t@?") {
				t.Errorf("%q allows the address %q", text, a)
			}
		}
		for _, d := range []postgres.Duration{s.ConnectTimeout, s.LockTimeout, s.StatementTimeout} {
			if d < postgres.Duration(time.Millisecond) || d > postgres.Duration(15*time.Minute) {
				t.Errorf("%q: a time-out of %s", text, time.Duration(d))
			}
		}
		if strings.Contains(s.Owner+s.Identity+s.CloneSuffix, "\x00") || len(s.Hosts) == 0 || s.Admin == "" || len(s.Owner) > 63 || len(s.Identity) > 63 || s.PreparedGrace < 0 {
			t.Errorf("%q: %+v", text, s)
		}
		written, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := postgres.ParseSettings(written)
		rewritten, _ := json.Marshal(again)
		if err != nil || string(rewritten) != string(written) {
			t.Errorf("%q was written %q and then %q: %v", text, written, rewritten, err)
		}
	})
}

// FuzzLoginLog reads any log: it counts no login of the future or of a name that
// isn't asked for, and calls no record complete that can't show a name.
func FuzzLoginLog(f *testing.F) {
	const line = "2026-01-02 03:04:05.678 UTC [1] LOG:  connection authorized: user=app database=shop\n"
	f.Add(line+strings.Replace(line, "app", "apple", 1), "app")
	f.Add(strings.Replace(line, "app", "a\n\tb", 1), "a\nb")
	f.Add("garbage\n"+strings.Repeat("x", 70<<10)+"\n"+line, "app")
	f.Add(strings.TrimSuffix(line, "\n"), "app")
	f.Add(line, "")
	f.Fuzz(func(t *testing.T, text, login string) {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		since := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
		count, last, complete, err := postgres.LogFile{Path: path}.Logins(t.Context(), login, since)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if count > strings.Count(text, "connection authorized: user=") || (count > 0 && last.Before(since)) {
			t.Errorf("%q: %d logins of %q, the last at %s", text, count, login, last)
		}
		if complete && strings.ContainsAny(login, "\r\n") {
			t.Errorf("a log of lines is said to show the logins of %q", login)
		}
	})
}

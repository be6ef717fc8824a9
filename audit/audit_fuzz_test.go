package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/audit"
)

// FuzzCanonical: two documents have the same canonical bytes only if they say the
// same, and those bytes stay as they are.
func FuzzCanonical(f *testing.F) {
	for _, text := range []string{
		`{ "b" : [ 1 , 2.50 ] , "a" : null, "é":"\ud83d\ude00" }`, `[1e3,-0,1E-7,9007199254740993]`, `"\u0000\u001f\u007f\ud800"`,
		`{"a":1,"a":2}`, `{"a":{"b":{"c":[[[[]]]]}}}`, `1e309`, "\"\xff\"", `{"":""}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		once, err := audit.Canonical(text)
		if err != nil {
			return
		}
		twice, err := audit.Canonical(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q became %q and then %q: %v", text, once, twice, err)
		}
		var before, after any
		if json.Unmarshal(text, &before) != nil || json.Unmarshal(once, &after) != nil {
			t.Fatalf("%q became %q", text, once)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%q became %q:\n%s", text, once, diff)
		}
	})
}

// FuzzVerify replaces one record or index entry by anything, and by anything that
// carries a right hash: Verify reads it, and finds it.
func FuzzVerify(f *testing.F) {
	ledger := history(f)
	known := heads(f, ledger)
	victims := []string{key(secret, "one", 2), key(secret, "two", 1), index(1), index(2)}
	for i, victim := range victims {
		f.Add(uint8(i), ledger.Body(victim))
		f.Add(uint8(i), bytes.Replace(ledger.Body(victim), []byte(`"v2"`), []byte(`"v3"`), 1))
		f.Add(uint8(i), bytes.Replace(ledger.Body(victim), []byte(`{`), []byte(`{"SEQ":9,`), 1))
	}
	f.Add(uint8(0), []byte(`{"time":"10000-01-01T00:00:00Z","seq":1e3}`))
	f.Add(uint8(1), []byte(`{"seq":9223372036854775807,"evidence":[[[]]],"missing":[null]}`))
	f.Add(uint8(2), []byte(`{"n":-1,"tips":[{"seq":-5}],"rotation_id":"../x"}`))
	f.Add(uint8(3), []byte{})
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		victim := victims[int(which)%len(victims)]
		original := ledger.Body(victim)
		for i, b := range [][]byte{body, audit.SealAgain(body)} {
			if b == nil || bytes.Equal(b, original) {
				continue
			}
			changed := ledger.Clone()
			changed.Tamper(victim, b)
			summary, err := audit.Verify(t.Context(), changed, secret, known...)
			var findings *audit.FindingsError
			last := i == 1 && victim == index(2) // nothing pins the latest announcement yet, if it is well made
			if !last && (!errors.As(err, &findings) || len(summary.Findings) == 0) {
				t.Errorf("%s became %q: %v", victim, b, err)
			}
			if _, err := audit.Records(t.Context(), changed, secret); err == nil && !json.Valid(b) && victim[0] == 'r' {
				t.Errorf("%s became %q, and was read", victim, b)
			}
			// What is damaged doesn't keep the next rotation from being recorded.
			j := &audit.Journal{Ledger: changed, Log: quiet}
			if err := j.Record(t.Context(), record(secret, "three", "create", audit.Intent, 50)); err != nil {
				t.Errorf("%s became %q: the next record: %v", victim, b, err)
			}
		}
	})
}

// FuzzSightings: a party's file gives evidence of that party alone, within the
// ranks that there are.
func FuzzSightings(f *testing.F) {
	const good = `{"party":"web","digest":"v2","by":"pool","proof":3,"at":"2026-03-01T12:00:00Z"}`
	f.Add([]byte(good+"\n"+good), "web")
	f.Add([]byte(good[:40]), "web")
	f.Add([]byte(`{"party":"batch","proof":4,"at":"2026-03-01T12:00:00Z"}`), "web")
	f.Add([]byte(`{"party":"web","proof":5,"at":"2026-03-01T12:00:00Z"}`+"\n\n{}\nnull\n[]"), "web")
	f.Add([]byte(good), "../web")
	f.Add([]byte(good), ".")
	f.Fuzz(func(t *testing.T, content []byte, party string) {
		root := t.TempDir()
		d := audit.EvidenceDir{Dir: root}
		path := d.Path(secret, "v2", party)
		if filepath.Dir(filepath.Dir(filepath.Dir(filepath.Dir(path)))) != root {
			t.Fatalf("%q lies at %s", party, path)
		}
		if len(filepath.Base(path)) > 200 {
			return // no file system takes it; policies don't either
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		seen, err := d.Seen(t.Context(), secret, "v2")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range seen {
			if d.Path(secret, "v2", s.Party) != path || s.Proof < 1 || s.Proof > 4 || s.At.IsZero() {
				t.Errorf("%q of %q is evidence: %+v", content, party, s)
			}
		}
	})
}

// FuzzUnchained: a line that is taken up for reconciling is a record that can be
// chained.
func FuzzUnchained(f *testing.F) {
	f.Add([]byte(`{"unchained":true,"time":"2026-03-01T12:00:00Z","secret_id":"s","rotation_id":"r","evidence":[{"a":1}]}`))
	f.Add([]byte(`{"unchained":true,"unchained":false}`))
	f.Add([]byte(`{"unchained":"yes"}`))
	f.Add([]byte(`{"unchained":true,"evidence":{"a":1,"a":2}}`))
	f.Add([]byte(`"unchained"`))
	f.Fuzz(func(t *testing.T, line []byte) {
		body, ok := audit.Unchained(line)
		if ok && !json.Valid(body) {
			t.Errorf("%q became %q", line, body)
		}
		j := &audit.Journal{Ledger: history(t), Log: quiet}
		if _, err := j.Reconcile(t.Context(), bytes.NewReader(line)); err != nil && ok {
			t.Errorf("%q: %v", line, err)
		}
	})
}

package compile_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/policy/compile"
)

const whole = `version: 1
function_limit: 60s
defaults: {window: 15m, on_drain_timeout: hold}
secrets:
  - secret: arn:aws:secretsmanager:eu-central-1:111122223333:secret:orders/db-AbCdEf
    kind: postgres
    drain:
      window: 30m
      poll: 60s
      quiet_polls: 3
      max_overlap: 72h
      on_timeout: terminate
    hold: 24h
    schedule: rate(30 days)
    consumers:
      - name: orders-api
        cadence: 1h
        cache: 5m
        follow: [https://orders-1.internal/keyturn]
    postgres:
      mode: pair
      hosts: ["db.internal:5432"]
      admin: arn:aws:secretsmanager:eu-central-1:111122223333:secret:orders/admin-GhIjKl
      login_log: {"db.internal:5432": /var/log/pg.log}
`

// FuzzSource: a file either says everything that is wrong, each with its place
// and what to do, or becomes a document that the functions read.
func FuzzSource(f *testing.F) {
	f.Add([]byte(whole))
	for _, name := range []string{"testdata/full.yaml", "testdata/minimal.yaml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, change := range [][2]string{
		{"version: 1", "version: 1\nversion: 1"}, {"quiet_polls: 3", "quiet_polls: 0x3"}, {"quiet_polls: 3", "quiet_polls: 3.0"},
		{"kind: postgres", "kind: &a postgres"}, {"hold: 24h", "hold: !!str 24h"}, {"hold: 24h", "? hold\n    : 24h"},
		{"mode: pair", "mode: [pair]"}, {"mode: pair", "<<: {mode: pair}"}, {"hold: 24h", "hold: |\n      24h"},
		{"postgres:\n", "postgres: ~\n"}, {"db.internal", "db.internal\\0"}, {"secrets:", "---\nsecrets:"}, {"30 days", "30 days)\t# "},
	} {
		f.Add([]byte(strings.Replace(whole, change[0], change[1], 1)))
	}
	for _, text := range []string{"", "a: b: c", "\t", "- - - -", "{", "[[[[", "? ", "&a *a", "%YAML 1.2\n---\n", "'", "a: >-\n", "\xff", "!!binary x"} {
		f.Add([]byte(text))
	}
	kinds := map[string]compile.Kind{postgres.Kind: {
		Defaults: postgres.New(postgres.Config{}).Defaults(),
		Validate: func(settings json.RawMessage) error { _, err := postgres.ParseSettings(settings); return err },
	}}
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := compile.Source("keyturn.yaml", text, kinds)
		if err == nil {
			again, err := policy.Parse(doc.JSON())
			if err != nil || again.Hash() != doc.Hash() {
				t.Errorf("%q became %s, which isn't read: %v", text, doc.JSON(), err)
			}
			return
		}
		if !fault.Is(err, fault.InvalidInput) {
			t.Errorf("%q: %v", text, err)
		}
		var one *compile.Error
		if !errors.As(err, &one) {
			t.Fatalf("%q: no place in %v", text, err)
		}
		lines := strings.Count(string(text), "\n") + strings.Count(string(text), "\r") + 1
		if one.Line < 1 || one.Column < 1 || one.Line > lines || one.Problem == "" || one.Mend == "" {
			t.Errorf("%q: %+v", text, one)
		}
	})
}

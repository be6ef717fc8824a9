package policy_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/rotation"
)

// FuzzParse: a document that is taken says the same to every reader, keeps the
// rules, and its canonical bytes are taken again under the same hash.
func FuzzParse(f *testing.F) {
	good := string(document(f, "a", prefix+"orders/db-AbCdEf").JSON())
	f.Add([]byte(good))
	for _, change := range [][2]string{
		{`"secret":"a"`, `"secret":"a","Secret":"b"`}, {`"hold":"1m"`, `"HOLD":"1m"`}, {`"quiet_polls":2`, `"quiet_polls":2.0`},
		{`"settings":{"a":2,"b":1}`, `"settings":{"a":1e309}`}, {`"1h"`, `"99999999999999d"`}, {`"a"`, `"\u0061"`},
		{`"kind":"postgres"`, `"kind":"postgres","consumers":[{"name":"web","follow":["http://u:p@h/"],"wave":1}]`},
		{`"settings":{"a":2,"b":1}`, `"settings":{"a":2,"b":1},"schedule":"cron(0 8 1 * ? *)"`},
	} {
		f.Add([]byte(strings.Replace(good, change[0], change[1], 1)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := policy.Parse(text)
		if err != nil {
			if !fault.Is(err, fault.InvalidInput) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		again, err := policy.Parse(doc.JSON())
		if err != nil || again.Hash() != doc.Hash() || string(again.JSON()) != string(doc.JSON()) {
			t.Fatalf("%q: the canonical form is %q, %v", text, doc.JSON(), err)
		}
		var said any
		if json.Unmarshal(text, &said) != nil || shouts(said) {
			t.Errorf("%q has a member whose name isn't ours", text)
		}
		if len(doc.Secrets()) == 0 {
			t.Errorf("%q lists no secret", text)
		}
		for _, secret := range doc.Secrets() {
			arn := secret
			if !policy.IsARN(secret) {
				arn = prefix + secret + "-AbCdEf"
			}
			p, err := doc.Policy(arn)
			if err != nil || p.Hash != doc.Hash() {
				t.Errorf("%q: the policy of %q: %v", text, arn, err)
				continue
			}
			within(t, p)
		}
	})
}

// shouts reports a member whose name has capitals: none of ours has. Settings are
// the kind's.
func shouts(node any) bool {
	switch v := node.(type) {
	case map[string]any:
		for name, inner := range v {
			if name != strings.ToLower(name) || (name != "settings" && shouts(inner)) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, shouts)
	}
	return false
}

// within checks the bounds that Check promises.
func within(t *testing.T, p rotation.Policy) {
	t.Helper()
	for name, d := range map[string]time.Duration{
		"window": p.Window, "hold": p.Hold, "max_overlap": p.MaxOverlap, "poll": p.Poll, "head_limit": p.HeadLimit, "function_limit": p.FunctionLimit,
	} {
		if d < 0 || d > policy.MaxDuration {
			t.Errorf("%s is %s", name, d)
		}
	}
	switch {
	case p.Poll < time.Second, p.QuietPolls < 1, p.QuietPolls > 1000, p.FunctionLimit < time.Second, p.FunctionLimit > 15*time.Minute,
		p.MaxOverlap < p.DrainFloor(), p.OnTimeout != rotation.Hold && p.OnTimeout != rotation.Terminate,
		p.Driver != rotation.DriverSecretsManager && p.Driver != rotation.DriverMachine, p.Kind == "", p.Settings[0] != '{':
		t.Errorf("out of bounds: %+v", p)
	}
	for _, party := range p.Parties {
		for _, url := range party.Follow {
			if strings.Contains(url, "@") && !strings.Contains(strings.TrimPrefix(url, "http"), "/") {
				t.Errorf("party %s is told at %s", party.Name, url)
			}
		}
	}
}

// FuzzParseDuration: what is taken is whole seconds within ten years, and comes
// back as it was written.
func FuzzParseDuration(f *testing.F) {
	for _, text := range []string{"90s", "1h30m", "3650d", "0s", "1d1d", "18446744073709551616s", "1H", "-1s", "00000001s"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := policy.ParseDuration(text)
		if err != nil {
			return
		}
		again, err := policy.ParseDuration(d.String())
		if err != nil || again != d || d < 0 || time.Duration(d) > policy.MaxDuration || time.Duration(d)%time.Second != 0 {
			t.Errorf("%q is %s, and that is %s, %v", text, time.Duration(d), time.Duration(again), err)
		}
	})
}

// FuzzParseSchedule: what is taken is a period that Secrets Manager offers.
func FuzzParseSchedule(f *testing.F) {
	for _, text := range []string{
		"rate(4 hours)", "rate(1000 days)", "cron(0 16 1,15 * ? *)", "cron(0 8,20 ? * SUN-MON *)", "cron(0 3 15W * ? *)",
		"cron(0 3 ? 1/3 SUN#1 *)", "cron(0 0/8 L * ? *)", "cron(0 3 ? * 6L *)", "cron(0 1/9223372036854775807 * * ? *)",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		period, window, err := policy.ParseSchedule(text)
		if err == nil && (period < 4*time.Hour || period > policy.MaxDuration || window < time.Hour || window > 24*time.Hour) {
			t.Errorf("%q is every %s in a window of %s", text, period, window)
		}
	})
}

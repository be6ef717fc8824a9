package policy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/rotation"
)

const prefix = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:"

func entry(secret string) policy.Entry {
	return policy.Entry{
		Secret: secret, Kind: "postgres", Driver: rotation.DriverSecretsManager,
		Drain: policy.Drain{
			Window: policy.Duration(time.Minute), Poll: policy.Duration(time.Second), QuietPolls: 2,
			MaxOverlap: policy.Duration(time.Hour), OnTimeout: rotation.Hold,
		},
		Hold: policy.Duration(time.Minute), HeadLimit: policy.Duration(time.Minute), FailedLogins: 3, Settings: []byte(`{"b":1,"a":2}`),
	}
}

func document(t testing.TB, secrets ...string) policy.Document {
	t.Helper()
	var entries []policy.Entry
	for _, s := range secrets {
		entries = append(entries, entry(s))
	}
	doc, err := policy.New(policy.Duration(time.Minute), entries)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestPolicyMatchesExactly(t *testing.T) {
	t.Parallel()
	doc := document(t, prefix+"orders/db-AbCdEf", "billing/db", "a-bcdefg")
	tests := map[string]bool{
		prefix + "orders/db-AbCdEf":         true,
		prefix + "orders/db-AbCdEg":         false,
		prefix + "orders/db":                false,
		prefix + "billing/db-123456":        true,
		prefix + "billing/db-12345":         false,
		prefix + "billing/db-1234567":       false,
		prefix + "billing/db-12345?":        false,
		prefix + "billing/db-AbCdEf-123456": false,
		prefix + "billing/dbx-123456":       false,
		prefix + "x/billing/db-123456":      false,
		prefix + "a-bcdefg-123456":          true,
		prefix + "a-bcdefg":                 false, // the secret "a", which isn't listed
		"billing/db":                        false, // a name is another identity of the same secret
		"arn:aws:s3:::billing/db-123456":    false,
		"":                                  false,
	}
	for arn, listed := range tests {
		p, err := doc.Policy(arn)
		switch {
		case listed && (err != nil || p.Secret != arn || p.Hash != doc.Hash()):
			t.Errorf("Policy(%q): %+v, %v", arn, p, err)
		case !listed && (!fault.Is(err, fault.NotManaged) || fault.HintOf(err) == ""):
			t.Errorf("Policy(%q): %v, want %s with a hint", arn, err, fault.NotManaged)
		}
	}
	if diff := cmp.Diff([]string{prefix + "orders/db-AbCdEf", "billing/db", "a-bcdefg"}, doc.Secrets()); diff != "" {
		t.Errorf("Secrets (-want +got):\n%s", diff)
	}
}

func TestHashIsOfTheCanonicalBytes(t *testing.T) {
	t.Parallel()
	doc := document(t, "a")
	spaced := strings.ReplaceAll(string(doc.JSON()), ",", " ,\n ")
	again, err := policy.Parse([]byte(spaced))
	if err != nil || again.Hash() != doc.Hash() || string(again.JSON()) != string(doc.JSON()) {
		t.Errorf("hash %s became %s, %v", doc.Hash(), again.Hash(), err)
	}
	if other := document(t, "b"); other.Hash() == doc.Hash() {
		t.Error("two documents have one hash")
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := string(document(t, "a").JSON())
	tests := map[string]string{
		"nothing":           "",
		"trailing text":     good + "{}",
		"unknown member":    strings.Replace(good, `"version"`, `"extra":1,"version"`, 1),
		"unknown in entry":  strings.Replace(good, `"kind"`, `"kinds":1,"kind"`, 1),
		"member twice":      strings.Replace(good, `"version":1`, `"version":1,"version":1`, 1),
		"other version":     strings.Replace(good, `"version":1`, `"version":2`, 1),
		"number for time":   strings.Replace(good, `"hold":"1m"`, `"hold":60`, 1),
		"unknown unit":      strings.Replace(good, `"hold":"1m"`, `"hold":"1w"`, 1),
		"no kind":           strings.Replace(good, `"kind":"postgres"`, `"kind":""`, 1),
		"poll zero":         strings.Replace(good, `"poll":"1s"`, `"poll":"0s"`, 1),
		"settings a list":   strings.Replace(good, `{"a":2,"b":1}`, `[]`, 1),
		"settings missing":  strings.Replace(good, `,"settings":{"a":2,"b":1}`, ``, 1),
		"no secrets":        `{"version":1,"function_limit":"1m","secrets":[]}`,
		"no function limit": strings.Replace(good, `"function_limit":"1m",`, ``, 1),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if text == good {
				t.Fatal("the test changes nothing")
			}
			if _, err := policy.Parse([]byte(text)); !fault.Is(err, fault.InvalidInput) {
				t.Errorf("got %v, want %s", err, fault.InvalidInput)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	doc := document(t, "a")
	path := filepath.Join(t.TempDir(), "policy.json")
	if _, err := policy.Load(path); !fault.Is(err, fault.InvalidInput) || !errors.Is(err, os.ErrNotExist) || fault.HintOf(err) == "" {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, doc.JSON(), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := policy.Load(path)
	if err != nil || got.Hash() != doc.Hash() {
		t.Errorf("loaded %s, %v", got.Hash(), err)
	}
}

func TestZeroDocumentManagesNothing(t *testing.T) {
	t.Parallel()
	if _, err := (policy.Document{}).Policy(prefix + "a-123456"); !fault.Is(err, fault.NotManaged) {
		t.Errorf("got %v", err)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	good := map[string]time.Duration{
		"90s": 90 * time.Second, "15m": 15 * time.Minute, "1h": time.Hour, "7d": 168 * time.Hour,
		"1h30m": 90 * time.Minute, "1d2h3m4s": 26*time.Hour + 184*time.Second, "0s": 0, "3650d": policy.MaxDuration,
	}
	for text, want := range good {
		if got, err := policy.ParseDuration(text); err != nil || time.Duration(got) != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "90", "-1s", "+1s", "1.5h", "1 h", "30m1h", "1h1h", "1w", "h", "3651d", "99999999999999999999s", "1ms", "1H"} {
		if got, err := policy.ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v", text, got)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		d := policy.Duration(time.Duration(rapid.Int64Range(0, int64(policy.MaxDuration/time.Second)).Draw(rt, "seconds")) * time.Second)
		if again, err := policy.ParseDuration(d.String()); err != nil || again != d {
			rt.Fatalf("%v was written %s and read %v, %v", time.Duration(d), d, again, err)
		}
	})
}

func TestParseSchedule(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	tests := map[string]struct{ period, window time.Duration }{
		"rate(4 hours)":                {4 * time.Hour, time.Hour},
		"rate(30 days)":                {30 * day, day},
		"rate(1 day)":                  {day, day},
		"cron(0 16 1,15 * ? *)":        {14 * day, day}, // 1 to 15 February and every other month
		"cron(0 8 1 * ? *)":            {28 * day, day},
		"cron(0 /8 * * ? *)":           {0, 0},
		"cron(0 0/8 * * ? *)":          {8 * time.Hour, time.Hour},
		"cron(0 8,20 ? * SUN-MON *)":   {12 * time.Hour, time.Hour},
		"cron(0 3 L * ? *)":            {28 * day, day},
		"cron(0 3 15W * ? *)":          {28 * day, day},
		"cron(0 3 ? 1/3 SUN#1 *)":      {84 * day, day},
		"cron(0 3 ? * 2L *)":           {28 * day, day},
		"cron(0 3 29 FEB ? *)":         {1461 * day, day},
		"cron(0 3 31 2 ? *)":           {0, 0}, // never
		"cron(0 0/2 * * ? *)":          {0, 0}, // too often
		"cron(0 23,0 * * ? *)":         {0, 0}, // too often, over midnight
		"cron(5 8 1 * ? *)":            {0, 0},
		"cron(0 8 1 * ? 2027)":         {0, 0},
		"cron(0 8 1 * 1 *)":            {0, 0},
		"cron(0 8 ? * ? *)":            {0, 0},
		"cron(0 25 1 * ? *)":           {0, 0},
		"cron(0 8 1 * ?)":              {0, 0},
		"rate(3 hours)":                {0, 0},
		"rate(1001 days)":              {0, 0},
		"rate(30 minutes)":             {0, 0},
		"rate(99999999999999999 days)": {0, 0},
		"every day":                    {0, 0},
	}
	for text, want := range tests {
		period, window, err := policy.ParseSchedule(text)
		if (err != nil) != (want.period == 0) || period != want.period || window != want.window {
			t.Errorf("%s: %s and %s, %v; want %s and %s", text, period, window, err, want.period, want.window)
		}
	}
}

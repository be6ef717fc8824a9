package policy_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/policy"
)

// problems of a document with one entry.
func problems(e policy.Entry) string {
	var all []string
	for _, p := range policy.Check(policy.Duration(time.Minute), []policy.Entry{e}) {
		all = append(all, p.Error())
	}
	return strings.Join(all, "\n")
}

func TestNamesOfSecrets(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 512)
	tests := map[string]string{
		"a":                        "",
		"orders/db_+=.@-":          "",
		long:                       "",
		long + "n":                 "use 1 to 512 letters",
		"a b":                      "use 1 to 512 letters",
		"a:b":                      "use 1 to 512 letters",
		"ä":                        "use 1 to 512 letters",
		"a\n":                      "use 1 to 512 letters",
		"":                         "missing",
		prefix + "a-123456":        "",
		prefix + long + "-AbCdEf":  "",
		prefix + long + "n-AbCdEf": "copy the full ARN",
		prefix + "a-123456-7":      "copy the full ARN",
		prefix + "-123456":         "copy the full ARN",
		prefix + "a-12345":         "copy the full ARN",
		prefix + "a_123456":        "copy the full ARN",
		prefix + "a-12345_":        "copy the full ARN",
		prefix + "a-123456\n":      "copy the full ARN",
		prefix + "a:b-123456":      "copy the full ARN",
		"arn:":                     "copy the full ARN",
		"arn:" + prefix[4:] + "a":  "copy the full ARN",
		"arn:aws-us-gov:" + prefix[8:] + "a-123456":                           "",
		"arn:aws2:" + prefix[8:] + "a-123456":                                 "copy the full ARN",
		"arn:gcp:" + prefix[8:] + "a-123456":                                  "copy the full ARN",
		"arn:aws:secretsmanager::111122223333:secret:a-123456":                "copy the full ARN",
		"arn:aws:secretsmanager:EU:111122223333:secret:a-123456":              "copy the full ARN",
		"arn:aws:secretsmanager:eu-central-1:11112222333:secret:a-123456":     "copy the full ARN",
		"arn:aws:secretsmanager:eu-central-1:11112222333x:secret:a-123456":    "copy the full ARN",
		"arn:aws:ssm:eu-central-1:111122223333:secret:a-123456":               "copy the full ARN",
		"arn:aws:secretsmanager:eu-central-1:111122223333:parameter:a-123456": "copy the full ARN",
	}
	for secret, want := range tests {
		got := problems(entry(secret))
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%.80q: problems %q, want %q", secret, got, want)
		}
	}
}

// The forms as AWS documents them, written as one expression each.
func TestNamesAreTheDocumentedForms(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]+$`)
	arn := regexp.MustCompile(`^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+-[A-Za-z0-9]{6}$`)
	near := rapid.StringMatching(`(arn:(aws|aw)[a-z-]?:(secretsmanager|x)?:[a-z0-9A-]{0,2}:[0-9a]{11,13}:secret:)?[A-Za0/_+=.@: \n-]{0,4}(-[A-Za-z0-9_]{5,7})?`)
	rapid.Check(t, func(rt *rapid.T) {
		secret := near.Draw(rt, "secret")
		want := name.MatchString(secret)
		if policy.IsARN(secret) {
			want = arn.MatchString(secret)
		}
		if got := problems(entry(secret)); (got == "") != want {
			rt.Fatalf("%q: problems %q", secret, got)
		}
	})
}

func TestNamesOfConsumers(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"web": "", "_": "", "0": "", "Web-1.eu_x": "", strings.Repeat("n", 63): "",
		strings.Repeat("n", 64): "use 1 to 63", ".web": "use 1 to 63", "-web": "use 1 to 63", "we b": "use 1 to 63",
		"wéb": "use 1 to 63", "web\n": "use 1 to 63", "": "missing",
	}
	for name, want := range tests {
		e := entry("a")
		e.Consumers = []policy.Consumer{{Name: name}}
		got := problems(e)
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%q: problems %q, want %q", name, got, want)
		}
	}
}

func TestRatesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"rate()", "rate(4)", "rate(4 hours", "rate(4  hours)", "rate( 4 hours)", "rate(4 hours) ", "rate(-4 hours)", "rate(+4 hours)",
		"rate(4 weeks)", "rate(4 Hours)", "rate( hours)", "rate(100000 hours)", "rate(4 hours)x", "rate(4 hours )", "rate(٤ hours)",
	} {
		if period, _, err := policy.ParseSchedule(text); err == nil {
			t.Errorf("%q is read as %s", text, period)
		}
	}
}

package lambdaentry_test

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/lambdaentry"
)

const canary = "cAnArY-9f2c"

func TestRedactTakesSecretsOut(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"cannot connect to postgres://app:" + canary + "@db:5432/x",
		"cannot connect to postgres://app:p@" + canary + "@db:5432/x",
		`{"username":"app","password":"` + canary + `"}`,
		`{"password": "a\"b` + canary + `"}`,
		"host=db password=" + canary + " user=app",
		"host=db password='" + canary + " x' user=app",
		"ALTER ROLE app PASSWORD: '" + canary + "'",
		"CREATE ROLE x PASSWORD 'SCRAM-SHA-256$4096:" + canary + "'",
		`RotationToken="` + canary + `"`,
		`{"SecretString":"` + canary + `"}`,
	} {
		if got := lambdaentry.Redact(text); strings.Contains(got, canary) {
			t.Errorf("Redact(%q) = %q", text, got)
		}
	}
	if got := lambdaentry.Redact("role app_x isn't permitted to log in"); got != "role app_x isn't permitted to log in" {
		t.Errorf("a harmless text became %q", got)
	}
}

package awsproto_test

import (
	"net/http/httptest"
	"testing"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

// A role's session is known by its role to policies, and by both names to CloudTrail.
func TestCallers(t *testing.T) {
	t.Parallel()
	const role = "arn:aws:iam::000000000000:role/keyturn/app/setSecret-1"
	for name, tt := range map[string]struct{ key, token, arn, principal string }{
		"nobody":      {"", "", "arn:aws:iam::000000000000:root", "arn:aws:iam::000000000000:root"},
		"a user":      {"eve", "", "arn:aws:iam::000000000000:user/eve", "arn:aws:iam::000000000000:user/eve"},
		"another one": {"eve", "local", "arn:aws:iam::000000000000:user/eve", "arn:aws:iam::000000000000:user/eve"},
		"a role":      {"setSecret", role, "arn:aws:sts::000000000000:assumed-role/setSecret-1/setSecret", role},
	} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/", nil)
		if tt.key != "" {
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+tt.key+"/20260101/us-east-1/s3/aws4_request, SignedHeaders=host")
		}
		if tt.token != "" {
			r.Header.Set("X-Amz-Security-Token", tt.token)
		}
		c := awsproto.CallerOf(awsproto.WithCaller(r).Context())
		if c.ARN() != tt.arn || c.PrincipalARN() != tt.principal {
			t.Errorf("%s: %s, %s", name, c.ARN(), c.PrincipalARN())
		}
	}
}

package deployment_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/deployment"
)

// The SDK also looks at the process's own variable, which a shell may have set to
// work on a local AWS.
func TestMain(m *testing.M) {
	_ = os.Unsetenv("AWS_ENDPOINT_URL") // fails for names that can't be one
	os.Exit(m.Run())
}

// with is what Lambda sets, and some more.
func with(more map[string]string) func(string) string {
	env := map[string]string{
		"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_SESSION_TOKEN": "token",
	}
	return func(name string) string {
		if v, ok := more[name]; ok {
			return v
		}
		return env[name]
	}
}

// used is what the clients make of a configuration.
type used struct {
	Region, Secrets, Executions string // endpoints; empty: AWS's own
	Attempts                    int
	Mode                        aws.RetryMode
	FIPS                        aws.FIPSEndpointState
	DualStack                   aws.DualStackEndpointState
}

func TestClientsTakeLambdasSettings(t *testing.T) {
	t.Parallel()
	base := used{Region: "eu-central-1"}
	tests := map[string]struct {
		env  map[string]string
		want func(*used)
	}{
		"lambda's own":       {nil, func(*used) {}},
		"the default region": {map[string]string{"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-1"}, func(u *used) { u.Region = "eu-west-1" }},
		"one endpoint":       {map[string]string{"AWS_ENDPOINT_URL": "http://a"}, func(u *used) { u.Secrets, u.Executions = "http://a", "http://a" }},
		"an endpoint each": {
			map[string]string{"AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://s", "AWS_ENDPOINT_URL_SFN": "http://f"},
			func(u *used) { u.Secrets, u.Executions = "http://s", "http://f" },
		},
		"one of its own": {
			map[string]string{"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_SFN": "http://f"},
			func(u *used) { u.Secrets, u.Executions = "http://a", "http://f" },
		},
		"no endpoints": {
			map[string]string{"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_SFN": "http://f", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
			func(*used) {},
		},
		"retries": {
			map[string]string{"AWS_MAX_ATTEMPTS": "7", "AWS_RETRY_MODE": "adaptive"},
			func(u *used) { u.Attempts, u.Mode = 7, aws.RetryModeAdaptive },
		},
		"switches": {
			map[string]string{"AWS_USE_FIPS_ENDPOINT": "TRUE", "AWS_USE_DUALSTACK_ENDPOINT": "false"},
			func(u *used) {
				u.FIPS, u.DualStack = aws.FIPSEndpointStateEnabled, aws.DualStackEndpointStateDisabled
			},
		},
		"the other switches": {
			map[string]string{"AWS_USE_FIPS_ENDPOINT": "false", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
			func(u *used) {
				u.FIPS, u.DualStack = aws.FIPSEndpointStateDisabled, aws.DualStackEndpointStateEnabled
			},
		},
	}
	for name, tt := range tests {
		cfg, err := deployment.AWSConfig(with(tt.env))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s, f := secretsmanager.NewFromConfig(cfg).Options(), sfn.NewFromConfig(cfg).Options()
		got := used{
			Region: s.Region, Secrets: aws.ToString(s.BaseEndpoint), Executions: aws.ToString(f.BaseEndpoint),
			Attempts: cfg.RetryMaxAttempts, Mode: cfg.RetryMode,
			FIPS: s.EndpointOptions.UseFIPSEndpoint, DualStack: s.EndpointOptions.UseDualStackEndpoint,
		}
		want := base
		tt.want(&want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if got.Attempts > 0 && s.Retryer.MaxAttempts() != got.Attempts {
			t.Errorf("%s: the client tries %d times", name, s.Retryer.MaxAttempts())
		}
	}
}

func TestCredentialsAreTheRoles(t *testing.T) {
	t.Parallel()
	cfg, err := deployment.AWSConfig(with(nil))
	if err != nil {
		t.Fatal(err)
	}
	got, err := cfg.Credentials.Retrieve(t.Context())
	if err != nil || got.AccessKeyID != "id" || got.SecretAccessKey != "key" || got.SessionToken != "token" || got.CanExpire {
		t.Errorf("credentials of %q, expiring: %v, %v", got.AccessKeyID, got.CanExpire, err)
	}
}

func TestSettingsThatCantBeRead(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ env, named string }{
		"no region":     {"AWS_REGION=", "AWS_REGION"},
		"no key":        {"AWS_ACCESS_KEY_ID= AWS_SECRET_ACCESS_KEY=", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		"nothing":       {"AWS_REGION= AWS_ACCESS_KEY_ID= AWS_SECRET_ACCESS_KEY=", "AWS_REGION and AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		"retry mode":    {"AWS_RETRY_MODE=legacy", "AWS_RETRY_MODE"},
		"attempts":      {"AWS_MAX_ATTEMPTS=many", "AWS_MAX_ATTEMPTS"},
		"no attempt":    {"AWS_MAX_ATTEMPTS=0", "AWS_MAX_ATTEMPTS"},
		"fips":          {"AWS_USE_FIPS_ENDPOINT=yes", "AWS_USE_FIPS_ENDPOINT"},
		"dual stack":    {"AWS_USE_DUALSTACK_ENDPOINT=1", "AWS_USE_DUALSTACK_ENDPOINT"},
		"ignored ones?": {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=x", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"},
	}
	for name, tt := range tests {
		env := map[string]string{}
		for setting := range strings.FieldsSeq(tt.env) {
			k, v, _ := strings.Cut(setting, "=")
			env[k] = v
		}
		_, err := deployment.AWSConfig(with(env))
		if !fault.Is(err, fault.InvalidInput) || !strings.Contains(err.Error(), tt.named) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is linked is loaded and initialised at every cold start.
func TestFunctionsLinkOnlyWhatTheyUse(t *testing.T) {
	t.Parallel()
	const sdk = "github.com/aws/aws-sdk-go-v2/"
	refuse(t, []string{"../../functions/..."}, sdk+"config", sdk+"service/sso", sdk+"service/ssooidc", sdk+"service/signin", sdk+"service/sts")
	refuse(t, []string{"../../policy", "../../rotation", "../../audit"}, "regexp")
}

func refuse(t *testing.T, packages []string, refused ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list", "-deps"}, packages...)...).Output()
	if err != nil {
		t.Fatalf("listing what %s link: %v", packages, err)
	}
	linked := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		linked[strings.TrimSpace(line)] = true
	}
	if len(linked) < 10 {
		t.Fatalf("go list named only %d packages", len(linked))
	}
	for _, p := range refused {
		if linked[p] {
			t.Errorf("%s link %s", packages, p)
		}
	}
}

func TestSettingsNameAllThatIsMissing(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		env    map[string]string
		starts bool
		want   string // part of the error; empty: none
	}{
		"nothing":             {nil, true, "lacks KEYTURN_STATE_MACHINE and KEYTURN_AUDIT_BUCKET"},
		"nothing, in a zone":  {nil, false, "lacks KEYTURN_AUDIT_BUCKET"},
		"a bucket, in a zone": {map[string]string{deployment.EnvAuditBucket: "b"}, false, ""},
		"a bucket":            {map[string]string{deployment.EnvAuditBucket: "b"}, true, "lacks KEYTURN_STATE_MACHINE"},
		"a folder":            {map[string]string{deployment.EnvAuditDir: "d", deployment.EnvStateMachine: "m"}, true, ""},
		"both":                {map[string]string{deployment.EnvAuditDir: "d", deployment.EnvAuditBucket: "b"}, false, "both"},
	}
	for name, tt := range tests {
		s, err := deployment.ReadSettings(func(key string) string { return tt.env[key] }, tt.starts)
		switch {
		case tt.want == "" && (err != nil || s.Policy != "policy.json"):
			t.Errorf("%s: %+v, %v", name, s, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

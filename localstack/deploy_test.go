package localstack_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What is posted to /_keyturn/deploy is deployed, and its outputs come back; a web
// page can't ask for it.
func TestDeployByControl(t *testing.T) {
	t.Parallel()
	a, _ := start(t)
	good := filepath.Join(t.TempDir(), "shop.template.json")
	if err := os.WriteFile(good, []byte(`{
		"Resources": {"Made": {"Type": "AWS::SecretsManager::Secret", "Properties": {"Name": "made"}}},
		"Outputs": {"Secret": {"Value": {"Ref": "Made"}}}
	}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		template, kind, origin string
		status                 int
		want                   string
	}{
		"a template":          {good, "application/json", "", 200, "secret:made-"},
		"one that is missing": {good + ".gone", "application/json", "", 400, "no such file"},
		"a relative path":     {"shop.template.json", "application/json", "", 400, "absolute"},
		"a form of a page":    {good, "text/plain", "", 400, "from no web page"},
		"a script of a page":  {good, "application/json", "https://example.com", 400, "from no web page"},
	} {
		t.Run(name, func(t *testing.T) {
			if status, text := post(t, a.Endpoint, c.template, c.kind, c.origin); status != c.status || !strings.Contains(text, c.want) {
				t.Errorf("%d %s", status, text)
			}
		})
	}
	if status, text := post(t, a.Endpoint, good, "application/json", ""); status != 400 || !strings.Contains(text, "ResourceExists") {
		t.Errorf("a second time: %d %s", status, text)
	}
}

func post(t *testing.T, endpoint, template, kind, origin string) (status int, text string) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"template": template})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint+"/_keyturn/deploy", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	if origin != "" {
		req.Header.Set("Origin", origin)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// The check that make deploy begins with finds the local trail by the AWS CLI, and
// no other.
func TestTrailScriptFindsTheLocalTrail(t *testing.T) {
	t.Parallel()
	a, _ := start(t)
	check := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "../infra/cdk/trail.sh", args...)
		cmd.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+a.Endpoint, "AWS_REGION=us-east-1",
			"AWS_ACCESS_KEY_ID=operator", "AWS_SECRET_ACCESS_KEY=local", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := check(); err != nil || !strings.Contains(out, "trail/local records the management events of us-east-1") {
		t.Errorf("%v: %s", err, out)
	}
	other := "arn:aws:cloudtrail:us-east-1:000000000000:trail/other"
	if out, err := check(other); err == nil || !strings.Contains(out, "TrailNotFoundException") {
		t.Errorf("a trail that isn't there: %v: %s", err, out)
	}
}

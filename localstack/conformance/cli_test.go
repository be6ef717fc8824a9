package conformance_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// TestC6_2_LabelsByTheAWSCLI runs the script that an operator could have typed,
// with a client that isn't ours, and compares what it prints with what AWS
// documents.
func TestC6_2_LabelsByTheAWSCLI(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("aws"); err != nil {
		t.Fatal("this test drives the AWS CLI: install it with make deps (Debian and Ubuntu: apt-get install awscli) so that aws is in PATH")
	}
	a := anywhere(t)
	cmd := exec.CommandContext(t.Context(), "sh", filepath.Join("testdata", "cli", "labels.sh"))
	cmd.Env = os.Environ()
	if a.real == nil {
		cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "AWS_") })
	}
	cmd.Env = append(cmd.Env, "NAME="+a.prefix+"labels-"+uuid.NewString()[:8], "AWS_PAGER=", "AWS_REGION="+a.region, "AWS_DEFAULT_REGION="+a.region)
	if a.real == nil {
		home := t.TempDir()
		cmd.Env = append(cmd.Env, "ENDPOINT="+a.local.Endpoint, "AWS_ACCESS_KEY_ID=AKIACLI", "AWS_SECRET_ACCESS_KEY=unused",
			"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE="+home+"/config", "AWS_SHARED_CREDENTIALS_FILE="+home+"/credentials")
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "cli", "labels.golden"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(out), "\n")); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

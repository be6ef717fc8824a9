package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fakeCLI answers as aws cloudtrail does for one trail of this account.
const fakeCLI = `#!/bin/sh
case "$*" in
*describe-trails*) echo "$TRAILS" ;;
*get-trail-status*) echo "$LOGGING" ;;
*AdvancedEventSelectors*) echo "$ADVANCED" ;;
*EventSelectors*) echo "$SIMPLE" ;;
*) echo "unknown: $*" >&2; exit 2 ;;
esac
`

func TestTrail(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "aws"), []byte(fakeCLI), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		trails, logging, simple, advanced string
		good                              bool
	}{
		"management events":            {"arn:aws:cloudtrail:eu-central-1:1:trail/a", "True", "1", "0", true},
		"by advanced selectors":        {"arn:aws:cloudtrail:eu-central-1:1:trail/a", "True", "0", "1", true},
		"data events only":             {"arn:aws:cloudtrail:eu-central-1:1:trail/a", "True", "0", "0", false},
		"stopped":                      {"arn:aws:cloudtrail:eu-central-1:1:trail/a", "False", "1", "0", false},
		"none":                         {"None", "", "", "", false},
		"none of this region":          {"", "", "", "", false},
		"a second one that is as good": {"arn:one arn:two", "True", "1", "0", true},
	} {
		cmd := exec.CommandContext(t.Context(), "./trail.sh")
		cmd.Env = append(os.Environ(), "PATH="+folder+":"+os.Getenv("PATH"), "AWS_REGION=eu-central-1",
			"TRAILS="+tt.trails, "LOGGING="+tt.logging, "SIMPLE="+tt.simple, "ADVANCED="+tt.advanced)
		out, err := cmd.CombinedOutput()
		if (err == nil) != tt.good || (!tt.good && !strings.Contains(string(out), "hint: ")) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

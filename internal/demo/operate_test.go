package demo

import (
	"os/exec"
	"strings"
	"testing"
)

// A person who keeps the demo's folder can work on it with the tool's own commands.
func TestOperateFileLeadsToTheDeployment(t *testing.T) {
	s := newStage(t, func(s *stage) { s.options.Keep = true })
	script := `. "$0"; echo "$SECRET $AWS_ENDPOINT_URL"; test -s "$KEYTURN_POLICY"; echo "$KEYTURN_STATE_MACHINE $KEYTURN_EMERGENCY_STATE_MACHINE"`
	out, err := exec.CommandContext(t.Context(), "sh", "-euc", script, s.path("operate.sh")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := s.appARN + " " + s.aws.Endpoint + "\n" + s.machine + " " + strings.Replace(s.machine, "rotation", "emergency", 1) + "\n"
	if string(out) != want {
		t.Errorf("got %s\nwant %s", out, want)
	}
}

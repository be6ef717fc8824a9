package chaos_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/chaos"
)

// TestNothingIsLost walks as many faults as fit into some seconds, evenly taken
// from every entry and mode; make chaos walks for minutes.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	var progress strings.Builder
	totals, err := chaos.Run(ctx, chaos.Options{Budget: 30 * time.Second, Progress: &progress})
	var report strings.Builder
	totals.Write(&report)
	t.Log(progress.String(), report.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range totals.Broken {
		t.Error(broken)
	}
	if len(totals.Scenes) == 0 || totals.Logins == 0 {
		t.Error("nothing was walked")
	}
	if lines := strings.Split(strings.TrimSpace(report.String()), "\n"); !strings.HasPrefix(lines[len(lines)-1], "faults ") {
		t.Errorf("the report ends with %q", lines[len(lines)-1])
	}
}

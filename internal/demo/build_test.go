package demo

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An interrupted build leaves nothing in the temporary folder, and nobody locked out.
func TestAnInterruptedBuildLeavesNothing(t *testing.T) {
	cache, temporary := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temporary)
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("GOCACHE", filepath.Join(cache, "go")) // empty: the build is long
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for ctx.Err() == nil {
			if begun, _ := filepath.Glob(filepath.Join(temporary, "keyturn-demo-*", "go-build", "*")); len(begun) > 0 {
				return
			}
			_ = pause(ctx, 10*time.Millisecond) // or the build has ended
		}
	}()
	_, err := Run(ctx, Options{Consumers: 8, Rate: 40, Rotations: 1, Baseline: time.Second, Progress: t.Output()})
	if err == nil {
		t.Fatal("an interrupted build made a demo")
	}
	left, err := os.ReadDir(temporary)
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	unlock, err := lock(t.Context(), filepath.Join(cache, "keyturn", "functions.lock"))
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

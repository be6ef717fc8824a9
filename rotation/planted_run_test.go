//go:build planted

package rotation_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Each planted defect is found by the model at its own size, within a few tries.
// It takes about a minute a defect: `make planted`.
func TestPlantedDefectsAreFound(t *testing.T) {
	const tries = 3
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range plantedDefects() {
		t.Run(d.name, func(t *testing.T) {
			overlay := d.plant(t, here)
			for n := range tries {
				out, err := exec.Command("go", "test", "-vet=off", "-overlay", overlay, "-run", "^TestModel$", "-count=1",
					"-model.search", "-rapid.nofailfile", "-rapid.shrinktime=1ms", "-failfast", "."). // #nosec G204
					CombinedOutput()
				text := string(out)
				switch {
				case strings.Contains(text, "[build failed]"):
					t.Fatalf("it doesn't compile:\n%s", text)
				case err != nil && strings.Contains(text, "[rapid] failed after"):
					t.Logf("try %d: %s", n+1, firstFailure(text))
					return
				case err != nil:
					t.Fatalf("it breaks otherwise:\n%s", text)
				}
			}
			t.Errorf("the model passes %d times", tries)
		})
	}
}

// plant writes the file with the defect, and an overlay that lets the compiler
// take it for the product's.
func (d planted) plant(t *testing.T, here string) (overlay string) {
	t.Helper()
	text, err := os.ReadFile(d.file)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	broken, overlay := filepath.Join(folder, d.file), filepath.Join(folder, "overlay.json")
	if err := os.WriteFile(broken, []byte(strings.Replace(string(text), d.is, d.becomes, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, d.file): broken}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}

func firstFailure(text string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, "[rapid] failed after") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

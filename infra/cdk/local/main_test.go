package local_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Built once for all tests: the app, the operator's tool, and the functions for
// this machine where the app expects those for Lambda's.
var app, tool, functions string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "keyturn-local-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "building what is deployed:", err)
		return 1
	}
	return m.Run()
}

func build(dir string) error {
	app, tool, functions = filepath.Join(dir, "app"), filepath.Join(dir, "keyturn"), filepath.Join(dir, "functions")
	if err := command("..", "go", "build", "-o", app, "."); err != nil {
		return err
	}
	if err := command("../../..", "go", "build", "-o", tool, "./cmd/keyturn"); err != nil {
		return err
	}
	built := filepath.Join(dir, "built")
	if err := command("../../..", "go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", built+"/", "./functions/..."); err != nil {
		return err
	}
	names, err := os.ReadDir(built)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := os.MkdirAll(filepath.Join(functions, n.Name()), 0o750); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(built, n.Name()), filepath.Join(functions, n.Name(), "bootstrap")); err != nil {
			return err
		}
	}
	return nil
}

func command(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return nil
}

// synth runs the app for a keyturn.yaml, as cdk synth does, and returns the path of
// the template.
func synth(t *testing.T, yaml string) string {
	t.Helper()
	raw, err := os.ReadFile("../cdk.json")
	if err != nil {
		t.Fatal(err)
	}
	var config struct{ Context map[string]any }
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	context, err := json.Marshal(config.Context)
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	cmd := exec.CommandContext(t.Context(), app)
	cmd.Env = append(os.Environ(), "KEYTURN_YAML="+yaml, "KEYTURN_FUNCTIONS="+functions, "CDK_OUTDIR="+out, "CDK_CONTEXT_JSON="+string(context))
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("synthesizing: %v\n%s", err, text)
	}
	templates, err := filepath.Glob(filepath.Join(out, "*.template.json"))
	if err != nil || len(templates) != 1 {
		t.Fatalf("templates: %v, %v", templates, err)
	}
	return templates[0]
}

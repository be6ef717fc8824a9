package stepfunctions_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
	"github.com/keyturn/keyturn/stepfunctions"
)

// complaints are what the validators of npm say, by file and validator.
type complaints map[string]map[string][]string

const (
	validator       = "asl-validator"
	languageService = "amazon-states-language-service"
)

func validate(t *testing.T, files ...string) complaints {
	t.Helper()
	out, err := node(t.Context(), t, "validate.mjs", files...).Output()
	if err != nil {
		t.Fatalf("validating %v: %v", files, err)
	}
	var found complaints
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatalf("reading %s: %v", out, err)
	}
	if len(found) != len(files) {
		t.Fatalf("%d of %d files were validated", len(found), len(files))
	}
	return found
}

// definitions lists every ASL file of the repository.
func definitions(t *testing.T) []string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && (name == ".git" || name == "bin" || name == "node_modules") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".asl.json") {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("there is no ASL file")
	}
	return files
}

func TestEveryDefinitionIsValid(t *testing.T) {
	t.Parallel()
	files := definitions(t)
	for file, by := range validate(t, files...) {
		for _, name := range []string{validator, languageService} {
			said, asked := by[name]
			if !asked || len(said) > 0 {
				t.Errorf("%s, %s: %s", file, name, strings.Join(said, "\n"))
			}
		}
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		definition, err := filled(string(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := asl.Parse([]byte(definition)); err != nil {
			t.Errorf("%s: our interpreter refuses it: %v", file, err)
		}
	}
}

// A validator that were asked the wrong way would find everything valid.
func TestTheValidatorsFindMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, old, new, finds string }{
		{"a target that doesn't exist", `"Next": "CreateAnswer"`, `"Next": "Nowhere"`, validator},
		{"a path that is none", `"$.last.cursor"`, `"$[.cursor"`, validator},
		{"a field that doesn't exist", `"MaxAttempts"`, `"MaxTries"`, languageService},
	}
	dir := t.TempDir()
	var files []string
	for i, tt := range tests {
		text := strings.Replace(stepfunctions.Rotation, tt.old, tt.new, 1)
		if text == stepfunctions.Rotation {
			t.Fatalf("the file doesn't hold %s", tt.old)
		}
		files = append(files, filepath.Join(dir, fmt.Sprintf("broken%d.asl.json", i)))
		if err := os.WriteFile(files[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found := validate(t, files...)
	for i, tt := range tests {
		if len(found[files[i]][tt.finds]) == 0 {
			t.Errorf("%s doesn't find %s", tt.finds, tt.name)
		}
	}
}

// Package docs answers: is what the pages say of this repository still there?
package docs

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z0-9]\\w*)`")
	link     = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	target   = regexp.MustCompile("(?:`|^\\$ |^    |^)make ([a-z-]+)")
	defined  = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w*)\(`)
)

// pages are the README and everything beside this file, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("*.md")
	if err != nil || len(paths) < 5 {
		t.Fatalf("found %v: %v", paths, err)
	}
	all := map[string]string{}
	for _, path := range append(paths, filepath.Join("..", "README.md")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[path] = string(text)
	}
	return all
}

func TestEveryTestThatIsNamedExists(t *testing.T) {
	t.Parallel()
	there := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range defined.FindAllSubmatch(source, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range pages(t) {
		for _, m := range testName.FindAllStringSubmatch(text, -1) {
			if !there[m[1]] {
				t.Errorf("%s names %s, which isn't there", path, m[1])
			}
		}
	}
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	t.Parallel()
	for path, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

// Every page can be reached from the README.
func TestEveryPageIsLinked(t *testing.T) {
	t.Parallel()
	all := pages(t)
	readme := filepath.Join("..", "README.md")
	reached := map[string]bool{readme: true}
	for queue := []string{readme}; len(queue) > 0; queue = queue[1:] {
		for _, m := range link.FindAllStringSubmatch(all[queue[0]], -1) {
			next := filepath.Join(filepath.Dir(queue[0]), m[1])
			next = strings.TrimPrefix(next, filepath.Join("..", "docs")+string(filepath.Separator))
			if _, isPage := all[next]; isPage && !reached[next] {
				reached[next] = true
				queue = append(queue, next)
			}
		}
	}
	for path := range all {
		if !reached[path] {
			t.Errorf("no way leads from the README to %s", path)
		}
	}
}

func TestEveryMakeTargetExists(t *testing.T) {
	t.Parallel()
	help, err := exec.CommandContext(t.Context(), "make", "--no-print-directory", "-C", "..", "help").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range pages(t) {
		for line := range strings.Lines(text) {
			for _, m := range target.FindAllStringSubmatch(line, -1) {
				if !bytes.Contains(help, []byte("  "+m[1]+" ")) {
					t.Errorf("%s: there is no target for make %s", path, m[1])
				}
			}
		}
	}
}

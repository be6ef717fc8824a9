package conformance_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rules is how many rules each section of the contract has; of C11, a recipe for
// each kind of target, how many there are engines for.
var rules = []struct {
	section string
	n       int
}{{"C1", 7}, {"C2", 7}, {"C3", 8}, {"C4", 15}, {"C5", 2}, {"C6", 5}, {"C7", 9}, {"C8", 5}, {"C9", 7}, {"C11", 2}}

// untested are the rules that nothing here can break, see docs/conformance.md.
var untested = []string{"C4.11", "C8.3", "C8.4", "C8.5"}

// row is one rule in docs/conformance.md.
type row struct {
	rule, tests, account string
}

var (
	rowPattern  = regexp.MustCompile(`(?m)^\| (C[0-9]+\.[0-9]+) \| .+ \| (.*) \| (yes|no.*) \|$`)
	linkPattern = regexp.MustCompile(`\[(Test\w+)\]\(\.\./([\w/]+_test\.go)\)`)
	namePattern = regexp.MustCompile(`^Test(C[0-9]+)_([0-9]+)_`)
	rulePattern = regexp.MustCompile(`^TestC[0-9]`)
)

func readRows(t *testing.T) []row {
	t.Helper()
	text, err := os.ReadFile("../../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []row
	for _, m := range rowPattern.FindAllStringSubmatch(string(text), -1) {
		out = append(out, row{m[1], m[2], m[3]})
	}
	return out
}

// testsOf are the test functions of a file, and whether each speaks to the
// account that the environment selects.
func testsOf(t *testing.T, path string) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Errorf("docs/conformance.md: %v", err)
		return nil
	}
	out := map[string]bool{}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv != nil {
			continue
		}
		anywhere := false
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				name, ok := call.Fun.(*ast.Ident)
				anywhere = anywhere || ok && name.Name == "anywhere"
			}
			return true
		})
		out[f.Name.Name] = anywhere
	}
	return out
}

func TestEveryRuleIsListedOnce(t *testing.T) {
	t.Parallel()
	var want, got []string
	for _, r := range rules {
		for i := range r.n {
			want = append(want, fmt.Sprintf("%s.%d", r.section, i+1))
		}
	}
	for _, r := range readRows(t) {
		got = append(got, r.rule)
	}
	if !slices.Equal(got, want) {
		t.Errorf("docs/conformance.md lists %v, want %v", got, want)
	}
}

func TestEveryListedTestExists(t *testing.T) {
	t.Parallel()
	for _, r := range readRows(t) {
		links := linkPattern.FindAllStringSubmatch(r.tests, -1)
		reason, none := strings.CutPrefix(r.tests, "none: ")
		if none != slices.Contains(untested, r.rule) || none && len(reason) < 10 || !none && len(links) == 0 {
			t.Errorf("%s: neither tests nor a reason that is known here: %q", r.rule, r.tests)
		}
		reaches := false
		for _, link := range links {
			name, path := link[1], filepath.Join("..", "..", link[2])
			anywhere, ok := testsOf(t, path)[name]
			if !ok {
				t.Errorf("%s: there is no %s in %s", r.rule, name, link[2])
			}
			reaches = reaches || anywhere
			if m := namePattern.FindStringSubmatch(name); m != nil && m[1]+"."+m[2] != r.rule && r.rule != "C6.1" {
				t.Errorf("%s: %s shows another rule", r.rule, name)
			}
		}
		if reaches != (r.account == "yes") || !reaches && !none && !strings.HasPrefix(r.account, "no: ") {
			t.Errorf("%s: tests that speak to a real account: %v, the list says %q", r.rule, reaches, r.account)
		}
	}
}

func TestEveryTestOfARuleIsListed(t *testing.T) {
	t.Parallel()
	listed := map[string]bool{}
	for _, r := range readRows(t) {
		for _, link := range linkPattern.FindAllStringSubmatch(r.tests, -1) {
			listed[link[1]] = true
		}
	}
	for _, folder := range []string{".", "../secretsmanager", "..", "../events"} {
		paths, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no tests in %s: %v", folder, err)
		}
		for _, path := range paths {
			for name := range testsOf(t, path) {
				if rulePattern.MatchString(name) && !listed[name] {
					t.Errorf("docs/conformance.md doesn't list %s of %s", name, path)
				}
			}
		}
	}
}

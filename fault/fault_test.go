package fault_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/fault"
)

func TestNamesListsEveryConstant(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "fault.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[fault.Name]bool{}
	for _, name := range fault.Names() {
		if listed[name] {
			t.Errorf("%s is listed twice", name)
		}
		listed[name] = true
	}
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		if !ok || !strings.HasPrefix(literal.Value, `"Keyturn.`) {
			return true
		}
		declared++
		if name := fault.Name(strings.Trim(literal.Value, `"`)); !listed[name] {
			t.Errorf("%s is declared and not in Names", name)
		}
		return true
	})
	if declared != len(listed) {
		t.Errorf("%d names declared, %d listed", declared, len(listed))
	}
}

func TestNameSurvivesWrapping(t *testing.T) {
	t.Parallel()
	root := fault.New(fault.Throttled, "too fast").WithHint("wait")
	tests := []struct {
		name string
		err  error
		want fault.Name
	}{
		{"bare", root, fault.Throttled},
		{"fmt", fmt.Errorf("outer: %w", root), fault.Throttled},
		{"fault keeps the inner name", fault.Wrap(fault.Internal, fmt.Errorf("mid: %w", root), "outer"), fault.Throttled},
		{"joined", errors.Join(errors.New("other"), root), fault.Throttled},
		{"unnamed", errors.New("plain"), fault.Internal},
		{"named by wrap", fault.Wrap(fault.Conflict, errors.New("plain"), "writing"), fault.Conflict},
	}
	for _, tt := range tests {
		if got := fault.NameOf(tt.err); got != tt.want {
			t.Errorf("%s: NameOf = %s, want %s", tt.name, got, tt.want)
		}
	}
	if fault.Wrap(fault.Internal, nil, "nothing") != nil {
		t.Error("Wrap of nil is not nil")
	}
	if got := fault.HintOf(fmt.Errorf("outer: %w", root)); got != "wait" {
		t.Errorf("HintOf = %q", got)
	}
	if fault.Is(nil, fault.Internal) {
		t.Error("no error is Internal")
	}
}

package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
)

// The app's stack can't be deleted by mistake: keyturn uninstall comes first. The
// property is no part of the template, so the program's own words are read.
func TestTheStackIsProtectedFromDeletion(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "main.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	protected := false
	ast.Inspect(file, func(n ast.Node) bool {
		pair, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		key, isName := pair.Key.(*ast.Ident)
		call, isCall := pair.Value.(*ast.CallExpr)
		if isName && isCall && key.Name == "TerminationProtection" && len(call.Args) == 1 {
			value, isValue := call.Args[0].(*ast.Ident)
			protected = isValue && value.Name == "true"
		}
		return true
	})
	if !protected {
		t.Error("the stack of main.go has no TerminationProtection")
	}
}

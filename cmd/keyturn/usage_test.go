package main

import (
	"fmt"
	"io/fs"
	"testing"

	"github.com/keyturn/keyturn/fault"
)

func TestEveryFaultHasAHint(t *testing.T) {
	t.Parallel()
	for _, name := range fault.Names() {
		if hints[name] == "" {
			t.Errorf("%s has no hint", name)
		}
	}
	for want, err := range map[string]error{
		"its own":               fault.Wrap(fault.Internal, fault.New(fault.InvalidInput, "cause").WithHint("its own"), "doing"),
		hints[fault.Internal]:   fmt.Errorf("an error that nobody named"),
		hints[fault.NotManaged]: fault.New(fault.NotManaged, "unlisted"),
		"check that path: there is nothing of that name": fault.Wrap(fault.InvalidInput, fs.ErrNotExist, "reading"),
	} {
		if got := hintFor(err); got != want {
			t.Errorf("%v: hint %q, want %q", err, got, want)
		}
	}
}

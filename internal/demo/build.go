package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/keyturn/keyturn/fault"
)

// functionNames are the folders of functions/.
var functionNames = []string{
	"createSecret", "setSecret", "testSecret", "finishSecret", "adoptSecret", "drainCheck",
	"disableSecret", "revokeSecret", "rollback", "rotateSecret", "watchdog",
}

// build makes the function binaries as the deployment would, but for this
// machine. They are kept outside the demo's folder: the Go command rebuilds
// only what has changed.
func (s *stage) build(ctx context.Context) error {
	if s.options.Naive {
		return nil
	}
	if s.functions = s.options.Functions; s.functions != "" {
		return s.built()
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return fault.Wrap(fault.Internal, err, "finding the user's cache folder")
	}
	s.functions = filepath.Join(cache, "keyturn", "functions")
	if err := os.MkdirAll(s.functions, 0o750); err != nil {
		return fault.Wrap(fault.Internal, err, "making the folder for the functions")
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/keyturn/keyturn").Output()
	if err != nil {
		return fault.New(fault.InvalidInput, "the functions' source isn't here").
			WithHint("run keyturn demo inside a checkout, or name a folder of built functions with --functions")
	}
	fmt.Fprintln(s.options.Progress, "building the functions (the first time takes a minute)")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w", //nolint:gosec // our own cache folder
		"-o", s.functions+string(filepath.Separator), "./functions/...")
	cmd.Dir, cmd.Env = strings.TrimSpace(string(root)), append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fault.New(fault.Internal, "building the functions: %s", strings.TrimSpace(string(text)))
	}
	return s.built()
}

func (s *stage) built() error {
	for _, name := range functionNames {
		if _, err := os.Stat(filepath.Join(s.functions, name)); err != nil {
			return fault.New(fault.InvalidInput, "there is no function %s in %s", name, s.functions).
				WithHint("make build puts all of them into bin/functions")
		}
	}
	return nil
}

package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// functionNames are the folders of functions/.
var functionNames = []string{
	"createSecret", "setSecret", "testSecret", "finishSecret", "adoptSecret", "drainCheck",
	"disableSecret", "revokeSecret", "rollback", "abortSecret", "rotateSecret", "watchdog", "emergency", "cutSecret",
}

// build makes the function binaries as the deployment would, but for this
// machine. They are built outside the demo's folder, because the Go command
// rebuilds only what has changed there, and linked into it: another demo may
// build other sources while this one runs.
func (s *stage) build(ctx context.Context) error {
	if s.options.Naive {
		return nil
	}
	if s.options.Functions != "" {
		folder, err := filepath.Abs(s.options.Functions)
		if err != nil {
			return fault.Wrap(fault.InvalidInput, err, "finding the folder of functions")
		}
		s.functions = folder
		return s.built()
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return fault.New(fault.InvalidInput, "there is no folder to build the functions in: %s", err).
			WithHint("set HOME, or name a folder of built functions with --functions")
	}
	root, err := source(ctx)
	if err != nil {
		return err
	}
	folder := filepath.Join(cache, "keyturn", "functions")
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return fault.Wrap(fault.InvalidInput, err, "making the folder for the functions")
	}
	fmt.Fprintln(s.options.Progress, "building the functions (the first time takes a minute)")
	unlock, err := lock(ctx, folder+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	scratch := s.path("go-build")
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return fault.Wrap(fault.Internal, err, "making the folder to build in")
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w", //nolint:gosec // our own cache folder
		"-o", folder+string(filepath.Separator), "./functions/...")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	// An interrupted Go command may leave its temporary folder, and a killed one
	// the compilers that write to it.
	cmd.Env = append(cmd.Env, "GOTMPDIR="+scratch)
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) }, 10*time.Second
	if text, err := cmd.CombinedOutput(); err != nil {
		return fault.New(fault.Internal, "building the functions: %s (%s)", strings.TrimSpace(string(text)), err).
			WithHint("go build ./functions/... in %s shows the same; or name a folder of built functions with --functions", root)
	}
	return s.link(folder)
}

// source is the folder of Keyturn's module.
func source(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/keyturn/keyturn").Output()
	switch root := strings.TrimSpace(string(out)); {
	case errors.Is(err, exec.ErrNotFound):
		return "", fault.New(fault.InvalidInput, "the functions can't be built: there is no go command in PATH").
			WithHint("install Go (https://go.dev/dl), or name a folder of built functions with --functions")
	case err != nil || root == "":
		return "", fault.New(fault.InvalidInput, "the functions' source isn't here").
			WithHint("run keyturn demo inside a checkout, or name a folder of built functions with --functions")
	default:
		return root, nil
	}
}

// lock waits until no other demo builds. The kernel unlocks what a killed
// process leaves locked.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.InvalidInput, err, "locking the folder of functions")
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = pause(ctx, 100*time.Millisecond)
		}
		if err != nil {
			_ = f.Close()
			return nil, fault.Wrap(fault.Unavailable, err, "locking the folder of functions")
		}
	}
}

// link takes the functions, as they are now, into the demo's own folder.
func (s *stage) link(from string) error {
	s.functions = s.path("functions")
	if err := os.Mkdir(s.functions, 0o700); err != nil {
		return fault.Wrap(fault.Internal, err, "making the folder for the functions")
	}
	s.closeLater(func() { _ = os.RemoveAll(s.functions) })
	for _, name := range functionNames {
		source, target := filepath.Join(from, name), filepath.Join(s.functions, name)
		if os.Link(source, target) == nil {
			continue
		}
		// Another file system: a copy.
		body, err := os.ReadFile(source)
		if err == nil {
			err = os.WriteFile(target, body, 0o700) //nolint:gosec // a program
		}
		if err != nil {
			return fault.Wrap(fault.Internal, err, "copying the function %s", name)
		}
	}
	return nil
}

// built checks a folder of functions that somebody else has built.
func (s *stage) built() error {
	for _, name := range functionNames {
		path := filepath.Join(s.functions, name)
		info, err := os.Stat(path)
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			continue
		}
		return fault.New(fault.InvalidInput, "there is no function %s in %s that can be executed", name, s.functions).
			WithHint("make build puts all of them into bin/functions")
	}
	return nil
}

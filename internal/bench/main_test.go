package bench_test

import (
	"archive/zip"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// baseline is a function that has the same libraries linked and does nothing.
const baseline = "bare"

// binaries is the folder of the functions, built as the deployment builds them
// but for this machine.
var binaries string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv(envBare) != "" {
		if err := serveBare(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bare process:", err)
			return 1
		}
		return 0
	}
	if err := build(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer printTables(os.Stdout)
	return m.Run()
}

// build keeps the binaries in the user's cache: the Go command links again only
// what has changed.
func build(ctx context.Context) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return fmt.Errorf("finding the user's cache folder: %w", err)
	}
	binaries = filepath.Join(cache, "keyturn", "bench")
	if err := os.MkdirAll(binaries, 0o750); err != nil {
		return fmt.Errorf("making the folder for the functions: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w",
		"-o", binaries+string(filepath.Separator), "../../functions/...", "./testdata/"+baseline)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the functions: %w\n%s", err, out)
	}
	return nil
}

// functionNames are the folders of functions/.
func functionNames(tb testing.TB) []string {
	tb.Helper()
	entries, err := os.ReadDir("../../functions")
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// zipSize packs a binary as internal/lambdazip does and counts the bytes.
func zipSize(binary string) (int64, error) {
	in, err := os.Open(binary)
	if err != nil {
		return 0, err
	}
	defer func() { _ = in.Close() }()
	var size counter
	archive := zip.NewWriter(&size)
	w, err := archive.Create("bootstrap")
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(w, in); err != nil {
		return 0, err
	}
	err = archive.Close() // writes the directory
	return int64(size), err
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// median of some figures, the upper of two in the middle; zero of none.
func median[T cmp.Ordered](all []T) (middle T) {
	if len(all) == 0 {
		return middle
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

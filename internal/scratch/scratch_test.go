package scratch_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/scratch"
)

// asOwner makes this test binary a process that owns a folder and works on.
const asOwner = "SCRATCH_TEST_OWNER"

func TestMain(m *testing.M) {
	parent := os.Getenv(asOwner)
	if parent == "" {
		os.Exit(m.Run())
	}
	d, err := scratch.Make(parent, "own-")
	if err != nil {
		panic(err)
	}
	if err := os.MkdirAll(filepath.Join(d.Path, "deep", "er"), 0o700); err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stdout, d.Path)
	time.Sleep(time.Hour) // until it is killed
}

// owner starts such a process and returns its folder.
func owner(t *testing.T, parent string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), asOwner+"="+parent)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(line)
}

func TestTheFoldersOfTheDeadGo(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	kept := filepath.Join(parent, "own-without-owner")
	other := filepath.Join(parent, "another-kind")
	for _, dir := range []string{kept, other} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	dead, left := owner(t, parent)
	if pid, err := os.ReadFile(filepath.Join(left, ".owner")); err != nil || strings.TrimSpace(string(pid)) != strconv.Itoa(dead.Process.Pid) {
		t.Errorf("the owner of %s is %q, %v", left, pid, err)
	}
	_, lives := owner(t, parent) // its own start must leave the first one's folder
	there(t, left, lives)
	if err := dead.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = dead.Wait() // it was killed

	mine, err := scratch.Make(parent, "own-")
	if err != nil {
		t.Fatal(err)
	}
	gone(t, left)
	there(t, lives, kept, other, mine.Path)
	second, err := scratch.Make(parent, "own-") // one process may own several
	if err != nil {
		t.Fatal(err)
	}
	there(t, mine.Path, second.Path)
	for range 2 {
		if err := mine.Remove(); err != nil {
			t.Error(err)
		}
	}
	gone(t, mine.Path)
	if err := second.Keep(); err != nil {
		t.Error(err)
	}
	third, err := scratch.Make(parent, "own-")
	if err != nil {
		t.Fatal(err)
	}
	there(t, second.Path)
	if err := third.Remove(); err != nil {
		t.Error(err)
	}
}

// A file that anybody may have put into a shared folder gives nobody a right.
func TestAForeignOwnerIsLeftAlone(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	linked, odd := filepath.Join(parent, "own-linked"), filepath.Join(parent, "own-odd")
	for _, dir := range []string{linked, filepath.Join(odd, ".owner")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	target := filepath.Join(parent, "target")
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(linked, ".owner")); err != nil {
		t.Fatal(err)
	}
	d, err := scratch.Make(parent, "own-")
	if err != nil {
		t.Fatal(err)
	}
	there(t, linked, odd, target)
	if err := d.Remove(); err != nil {
		t.Error(err)
	}
}

func TestNowhereToMakeIt(t *testing.T) {
	t.Parallel()
	_, err := scratch.Make(filepath.Join(t.TempDir(), "none"), "own-")
	if err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("got %v", err)
	}
}

func there(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("it should be there: %v", err)
		}
	}
}

func gone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

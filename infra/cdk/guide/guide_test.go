package guide_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

const page = "docs/operating.md"

// block is what stands between ```sh and ```.
type block struct {
	line int // of the page, where its first command stands
	text string
}

var fence = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

func blocks(t *testing.T, root string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	for _, at := range fence.FindAllSubmatchIndex(text, -1) {
		all = append(all, block{bytes.Count(text[:at[2]], []byte("\n")) + 1, string(text[at[2]:at[3]])})
	}
	return all
}

func TestOperatingIsFollowedToTheLetter(t *testing.T) {
	t.Parallel()
	checkout := copied(t)
	all := blocks(t, checkout)
	var script strings.Builder
	for i, b := range all {
		fmt.Fprintf(&script, "echo '== block %d of %d, %s:%d' \"at $SECONDS s\"\n%s\n", i+1, len(all), page, b.line, b.text)
	}
	script.WriteString("echo '== the page ends here'\n")
	out, err := shell(t, checkout, script.String())
	log, readErr := os.ReadFile(filepath.Join(checkout, "..", "keyturn-account", "up.log"))
	if err != nil || !strings.Contains(out, "== the page ends here") {
		t.Fatalf("following %s: %v\nthe local AWS's last lines (%v):\n%s\nthe commands' last lines:\n%s", page, err, readErr, last(string(log), 40), last(out, 40))
	}
	for what, pattern := range map[string]string{
		"the local AWS's trail is found":         `trail/local records the management events`,
		"the stack's outputs are shown":          `keyturn\.AuditBucket = `,
		"an old login is refused for what it is": `FATAL: +(password authentication failed|role "orders" (does not exist|is not permitted to log in))`,
		"the trail is whole":                     `\d+ records`,
	} {
		if !regexp.MustCompile(pattern).MatchString(out) {
			t.Errorf("%s: nothing the commands said matches %s", what, pattern)
		}
	}
}

// shell runs the script as a person's shell would, except that it ends at the first
// command that fails. What it has started ends with it.
func shell(t *testing.T, dir, script string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	file := filepath.Join(t.TempDir(), "guide.sh")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "bash", "-eu", file)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "KEYTURN_UP_ADDR=127.0.0.1:0")
	// A file, and no pipe: what the page leaves running may go on writing.
	said, err := os.Create(filepath.Join(t.TempDir(), "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = said.Close() }() // it is read below
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return signal(cmd, syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, cmd) })
	failed := cmd.Wait()
	out, err := os.ReadFile(said.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Log("what the commands said:\n" + string(out))
	return string(out), failed
}

// end ends what a page that wasn't followed to its end has left running: the local
// AWS, which stops its database, and the application. One signal lets it clean up; a
// second one would keep it from that.
func end(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	err := signal(cmd, syscall.SIGTERM)
	for deadline := time.Now().Add(30 * time.Second); err == nil && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		err = signal(cmd, 0)
	}
	if err == nil {
		err = signal(cmd, syscall.SIGKILL)
	}
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Errorf("ending what the page started: %v", err)
	}
}

// signal reaches the script and all that it has started.
func signal(cmd *exec.Cmd, s syscall.Signal) error { return syscall.Kill(-cmd.Process.Pid, s) }

// copied is what a clone of this checkout has, with what isn't committed yet.
func copied(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "keyturn")
	list := exec.CommandContext(t.Context(), "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
	list.Dir = root
	names, err := list.Output()
	if err != nil {
		t.Fatalf("listing the checkout's files: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		info, err := os.Stat(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not committed
		}
		content, readErr := os.ReadFile(filepath.Join(root, name))
		if err := errors.Join(err, readErr, os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), content, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func last(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

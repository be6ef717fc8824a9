package stepfunctions_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// trace is what an interpreter did: the same of both.
type trace struct {
	Entered []visited // states, in order, with their input
	Calls   []visited // attempts of Tasks, in order, with what Parameters made
	Slept   []int64   // milliseconds: waits, pauses before retries, time-outs that passed
	Status  string
	Error   string
	Cause   string
	Output  any
	Broken  string `json:",omitempty"` // what kept the reference from running
}

type visited struct {
	State string
	Input any
}

// request is one line to differential/reference.mjs.
type request struct {
	Definition json.RawMessage
	Input      any
	Context    map[string]map[string]string
	Answers    map[string][]answer // by state
}

// packages is where differential/install.sh puts the npm packages.
func packages(t *testing.T) string {
	t.Helper()
	lock, err := os.ReadFile("differential/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(lock)
	dir := filepath.Join(cache, "keyturn", "asl-npm-"+hex.EncodeToString(sum[:])[:16])
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
		t.Fatalf("the independent interpreter isn't installed: make deps (it runs stepfunctions/differential/install.sh): %v", err)
	}
	return dir
}

// node starts a script of differential/ with the packages' folder.
func node(ctx context.Context, t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("node is needed: make deps, or apt-get install npm: %v", err)
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"differential/" + script, packages(t)}, args...)...)
	cmd.Stderr = os.Stderr
	return cmd
}

// reference is the independent interpreter. It is started once, since Node takes
// longer to load it than to run a hundred scenarios.
type reference struct {
	mu  sync.Mutex
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

var shared reference

func startReference(t *testing.T) *reference {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.cmd != nil {
		return &shared
	}
	cmd := node(context.WithoutCancel(t.Context()), t, "reference.mjs")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	shared.cmd, shared.in, shared.out = cmd, stdin, bufio.NewReader(stdout)
	return &shared
}

// stop ends the script with its input; what it would still say is of no use.
func (r *reference) stop() {
	if r.cmd != nil {
		_ = r.in.Close()
		_ = r.cmd.Wait()
	}
}

// TestMain draws more scenarios than package rapid does by itself: a run of both
// interpreters takes a few milliseconds.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		if err := flag.Set("rapid.checks", "300"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	shared.stop()
	os.Exit(code)
}

func (r *reference) run(t fataler, q request) trace {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	q.Context = map[string]map[string]string{
		"StateMachine": {"Id": machineARN, "Name": "rotation"},
		"Execution":    {"Id": machineARN + ":x", "Name": "x"},
	}
	if err := json.NewEncoder(r.in).Encode(q); err != nil {
		t.Fatalf("asking the reference: %v", err)
	}
	line, err := r.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("the reference ended: %v", err)
	}
	var seen trace
	if err := json.Unmarshal(line, &seen); err != nil {
		t.Fatalf("reading %s: %v", line, err)
	}
	if seen.Broken != "" {
		t.Fatalf("the reference couldn't run it: %s", seen.Broken)
	}
	return seen
}

package lambda_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/lambda"
)

// binary is the built testdata/function.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "keyturn-lambda")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "bootstrap")
	build := exec.Command("go", "build", "-o", binary, "./testdata/function")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the test function: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	if code == 0 {
		if err := leaked(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// leaked names goroutines that stay. net/http keeps a connection half a second
// after its last answer, longer than goleak waits by itself.
func leaked() error {
	var err error
	for range 10 {
		if err = goleak.Find(goleak.IgnoreTopFunction("internal/poll.runtime_pollWait")); err == nil {
			return nil
		}
	}
	return err
}

// logs collects what functions write.
type logs struct {
	mu    sync.Mutex
	lines []string
}

func (l *logs) add(_, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

func (l *logs) count(line string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, have := range l.lines {
		if strings.HasPrefix(have, line) {
			n++
		}
	}
	return n
}

// eventually waits for a condition with a deadline that no sound run meets.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so: %s", what)
		}
	}
}

func serve(t *testing.T, c lambda.Config, functions ...lambda.Function) *lambda.Service {
	t.Helper()
	s := lambda.New(c)
	t.Cleanup(s.Close)
	for _, f := range functions {
		if f.Binary == "" {
			f.Binary = binary
		}
		if f.Timeout == 0 {
			f.Timeout = time.Minute
		}
		if err := s.Register(f); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func invoke(t *testing.T, s *lambda.Service, payload string) (string, string) {
	t.Helper()
	out, err := s.Invoke(t.Context(), "f", []byte(payload))
	if err != nil {
		t.Fatalf("invoking: %v", err)
	}
	return string(out.Payload), out.FunctionError
}

func TestErrors(t *testing.T) {
	t.Parallel()
	const id = "RequestId: [0-9a-f-]{36} Error: "
	script := filepath.Join(t.TempDir(), "bootstrap")
	if err := os.WriteFile(script, []byte("\x7fELF is not enough"), 0o700); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, mode, kind, message string
		function                  lambda.Function
	}{
		{name: "named by the function", mode: "named", kind: "Keyturn.DrainInProgress", message: "a drain is going on"},
		{name: "wrapped", mode: "wrapped", kind: "wrapError", message: "doing x: y"},
		{name: "panic", mode: "panic", kind: "string", message: "x"},
		{name: "named panic", mode: "named panic", kind: "Keyturn.Internal", message: "a defect"},
		{name: "exit 1", mode: "exit 1", kind: "Runtime.ExitError", message: id + "Runtime exited with error: exit status 1"},
		{name: "exit 0", mode: "exit 0", kind: "Runtime.ExitError", message: id + "Runtime exited without providing a reason"},
		{
			name: "time-out", mode: "sleep", kind: "Sandbox.Timedout", message: id + `Task timed out after 0\.30 seconds`,
			function: lambda.Function{Timeout: 300 * time.Millisecond},
		},
		{name: "too long an answer", mode: "big", kind: "Function.ResponseSizeTooLarge", message: "Response payload size .*"},
		{
			name: "exit at the start", kind: "Runtime.ExitError", message: id + "Runtime exited with error: exit status 7",
			function: lambda.Function{Env: []string{"START=exit"}},
		},
		{
			name: "error at the start", kind: "Keyturn.InvalidInput", message: "KEYTURN_POLICY isn't set",
			function: lambda.Function{Env: []string{"START=error"}},
		},
		{
			name: "never ready", kind: "Sandbox.Timedout", message: id + `Task timed out after 60\.00 seconds`,
			function: lambda.Function{Env: []string{"START=hang"}},
		},
		{
			name: "no program", kind: "Runtime.InvalidEntrypoint", message: id + ".*exec format error",
			function: lambda.Function{Binary: script},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.function.Name = "f"
			config := lambda.Config{}
			if tt.name == "never ready" {
				config.InitTimeout = 300 * time.Millisecond
			}
			s := serve(t, config, tt.function)
			payload, failed := invoke(t, s, fmt.Sprintf(`{"mode":%q,"for":60000000000}`, tt.mode))
			var got struct{ ErrorType, ErrorMessage string }
			if err := json.Unmarshal([]byte(payload), &got); err != nil {
				t.Fatalf("%s: %v", payload, err)
			}
			if failed != "Unhandled" || got.ErrorType != tt.kind {
				t.Errorf("got %q, %s, want Unhandled, %s", failed, payload, tt.kind)
			}
			if !regexp.MustCompile("^" + tt.message + "$").MatchString(got.ErrorMessage) {
				t.Errorf("message %q doesn't match %q", got.ErrorMessage, tt.message)
			}
			if stats, ok := s.Stats("f"); !ok || stats.Errors != 1 || stats.Invocations != 1 {
				t.Errorf("stats %+v", stats)
			}
		})
	}
}

func TestEchoAndContext(t *testing.T) {
	t.Parallel()
	s := serve(t, lambda.Config{}, lambda.Function{Name: "f", MemoryMB: 256, Aliases: []string{"live"}})
	const arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
	for _, reference := range []string{"f", arn, arn + ":live", arn + ":$LATEST", "f:live"} {
		out, err := s.Invoke(t.Context(), reference, []byte(`{"mode":"context"}`))
		if err != nil {
			t.Fatalf("%s: %v", reference, err)
		}
		invoked := arn // and the qualifier, where there was one (developer guide, "Runtime API", Lambda-Runtime-Invoked-Function-Arn)
		if _, qualifier, ok := strings.Cut(strings.TrimPrefix(reference, arn), ":"); ok {
			invoked += ":" + qualifier
		}
		if want := `["` + invoked + `","f",256,true]`; string(out.Payload) != want {
			t.Errorf("%s: got %s, want %s", reference, out.Payload, want)
		}
	}
	if got, _ := invoke(t, s, ""); got != `{}` {
		t.Errorf("without a payload: %s", got)
	}
	for reference, code := range map[string]string{
		"g": "ResourceNotFoundException", "f:dead": "ResourceNotFoundException", arn + "x": "ResourceNotFoundException",
		"arn:aws:sns:us-east-1:000000000000:topic:f": "ValidationException", "a:b:c": "ValidationException",
	} {
		_, err := s.Invoke(t.Context(), reference, nil)
		var e *awsproto.Error
		if !errors.As(err, &e) || e.Code != code {
			t.Errorf("%s: got %v, want %s", reference, err, code)
		}
	}
	var e *awsproto.Error
	if _, err := s.Invoke(t.Context(), "f", []byte(`{`)); !errors.As(err, &e) || e.Code != "InvalidRequestContentException" {
		t.Errorf("bad JSON: %v", err)
	}
}

func TestEnvironmentInheritsNothing(t *testing.T) {
	t.Setenv("PGPASSWORD", "canary") // not parallel
	s := serve(t, lambda.Config{EndpointURL: "http://127.0.0.1:1"}, lambda.Function{Name: "f", Env: []string{"KEYTURN_POLICY=/p", "MINE="}})
	payload, _ := invoke(t, s, `{"mode":"environ"}`)
	var env []string
	if err := json.Unmarshal([]byte(payload), &env); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, pair := range env {
		name, _, _ := strings.Cut(pair, "=")
		if !slices.Contains([]string{"PATH", "HOME", "TMPDIR"}, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	want := []string{
		"AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
		"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE",
		"AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION",
		"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "KEYTURN_POLICY", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
		"LANG", "MINE", "TZ", "_HANDLER", "_X_AMZN_TRACE_ID", // the last by the function's own runtime
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestRegisterRefuses(t *testing.T) {
	t.Parallel()
	s := serve(t, lambda.Config{})
	plain := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]lambda.Function{
		"name":         {Name: "a b", Binary: binary},
		"no binary":    {Name: "f", Binary: plain + "x"},
		"no program":   {Name: "f", Binary: plain},
		"directory":    {Name: "f", Binary: t.TempDir()},
		"reserved":     {Name: "f", Binary: binary, Env: []string{"AWS_REGION=x"}},
		"no pair":      {Name: "f", Binary: binary, Env: []string{"X"}},
		"long timeout": {Name: "f", Binary: binary, Timeout: time.Hour},
	} {
		if err := s.Register(f); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestWarmAndCold(t *testing.T) {
	t.Parallel()
	c := clock.New()
	s := serve(t, lambda.Config{Clock: c}, lambda.Function{Name: "f"})
	first, _ := invoke(t, s, `{"mode":"pid"}`)
	for range 5 {
		if again, _ := invoke(t, s, `{"mode":"pid"}`); again != first {
			t.Fatalf("pid %s, then %s", first, again)
		}
	}
	c.Advance(9 * time.Minute)
	if again, _ := invoke(t, s, `{"mode":"pid"}`); again != first {
		t.Errorf("after 9 minutes: pid %s, then %s", first, again)
	}
	c.Advance(11 * time.Minute)
	eventually(t, "the idle environment is gone", func() bool { st, _ := s.Stats("f"); return st.Alive == 0 })
	if again, _ := invoke(t, s, `{"mode":"pid"}`); again == first {
		t.Errorf("after 11 minutes the same process answers")
	}
	stats, _ := s.Stats("f")
	if stats.Environments != 2 || len(stats.ColdStarts) != 2 || len(stats.PeakMemory) != 2 {
		t.Errorf("stats %+v", stats)
	}
	for i := range stats.ColdStarts {
		if stats.ColdStarts[i] <= 0 || stats.PeakMemory[i] < 1<<20 || stats.PeakMemory[i] > 1<<30 {
			t.Errorf("environment %d: cold start %s, %d bytes", i, stats.ColdStarts[i], stats.PeakMemory[i])
		}
	}
}

func TestConcurrency(t *testing.T) {
	t.Parallel()
	l := &logs{}
	s := serve(t, lambda.Config{LogSink: l.add}, lambda.Function{Name: "f", MaxConcurrency: 2, Timeout: 2 * time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := s.Invoke(ctx, "f", []byte(`{"mode":"sleep","for":100000000000}`))
			left <- err
		}()
	}
	eventually(t, "two sleep", func() bool { return l.count("mode sleep") == 2 })
	var e *awsproto.Error
	if _, err := s.Invoke(t.Context(), "f", nil); !errors.As(err, &e) || e.Code != "TooManyRequestsException" || e.Status != 429 {
		t.Errorf("a third: %v", err)
	}
	cancel() // the callers go, the functions work on
	for range 2 {
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that left got %v", err)
		}
	}
	if stats, _ := s.Stats("f"); stats.Alive != 2 || stats.Throttles != 1 {
		t.Errorf("stats %+v", stats)
	}
	s.Close()
	if stats, _ := s.Stats("f"); stats.Alive != 0 {
		t.Errorf("after Close %d live", stats.Alive)
	}
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	s := serve(t, lambda.Config{Throttle: func(name string) bool { return name == "f" }}, lambda.Function{Name: "f"}, lambda.Function{Name: "g"})
	var e *awsproto.Error
	if _, err := s.Invoke(t.Context(), "f", nil); !errors.As(err, &e) || e.Code != "TooManyRequestsException" {
		t.Errorf("f: %v", err)
	}
	if _, err := s.Invoke(t.Context(), "g", nil); err != nil {
		t.Errorf("g: %v", err)
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	kills := make(chan time.Duration, 2)
	kills <- 20 * time.Millisecond
	kills <- 0
	s := serve(t, lambda.Config{Kill: func(string) time.Duration { return <-kills }}, lambda.Function{Name: "f"})
	payload, failed := invoke(t, s, `{"mode":"sleep","for":100000000000}`)
	if failed != "Unhandled" || !strings.Contains(payload, "Runtime.ExitError") || !strings.Contains(payload, "signal: killed") {
		t.Errorf("killed: %q %s", failed, payload)
	}
	if got, failed := invoke(t, s, `{}`); failed != "" || got != `{}` {
		t.Errorf("the next one: %q %s", failed, got)
	}
}

func TestNoOrphans(t *testing.T) {
	t.Parallel()
	s := serve(t, lambda.Config{}, lambda.Function{Name: "f"})
	pid, _ := invoke(t, s, `{"mode":"child"}`)
	var child int
	if err := json.Unmarshal([]byte(pid), &child); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(child, 0); err != nil {
		t.Fatalf("the child isn't there: %v", err)
	}
	s.Close()
	s.Close() // twice is fine
	eventually(t, "the child is dead", func() bool { return dead(child) })
	if _, err := s.Invoke(t.Context(), "f", nil); err == nil {
		t.Error("a closed service answers")
	}
}

// dead reports whether a process is gone; one that nobody has waited for is.
func dead(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestRegisterReplaces(t *testing.T) {
	t.Parallel()
	s := serve(t, lambda.Config{}, lambda.Function{Name: "f"})
	first, _ := invoke(t, s, `{"mode":"pid"}`)
	if err := s.Register(lambda.Function{Name: "f", Binary: binary, Timeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if second, _ := invoke(t, s, `{"mode":"pid"}`); second == first {
		t.Error("the replaced function answers")
	}
	var pid int
	if err := json.Unmarshal([]byte(first), &pid); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replaced process is dead", func() bool { return dead(pid) })
}

func TestLogs(t *testing.T) {
	t.Parallel()
	l := &logs{}
	s := serve(t, lambda.Config{LogSink: l.add}, lambda.Function{Name: "f"})
	invoke(t, s, `{"mode":"exit 1"}`)
	for _, line := range []string{"START RequestId: ", "mode exit 1", "last words without an end", "END RequestId: ", "REPORT RequestId: "} {
		eventually(t, "a line "+line, func() bool { return l.count(line) == 1 })
	}
}

// The longest answer is the one that the error about a longer one names.
func TestAnswersHave6291556BytesAtMost(t *testing.T) {
	t.Parallel()
	const longest = 6_291_556
	s := serve(t, lambda.Config{}, lambda.Function{Name: "f"})
	if got, failed := invoke(t, s, fmt.Sprintf(`{"mode":"sized","size":%d}`, longest)); failed != "" || len(got) != longest {
		t.Errorf("%d bytes: %q, answered %d: %.200s", longest, failed, len(got), got)
	}
	got, failed := invoke(t, s, fmt.Sprintf(`{"mode":"sized","size":%d}`, longest+1))
	if failed != "Unhandled" || !strings.Contains(got, "Function.ResponseSizeTooLarge") || !strings.Contains(got, fmt.Sprint(longest)) {
		t.Errorf("one byte more: %q %.200s", failed, got)
	}
}

// The time zone is no reserved variable (developer guide, "Defined runtime
// environment variables").
func TestAFunctionMaySetItsTimeZone(t *testing.T) {
	t.Parallel()
	s := serve(t, lambda.Config{}, lambda.Function{Name: "f", Env: []string{"TZ=Europe/Vienna"}})
	if got, _ := invoke(t, s, `{"mode":"environ"}`); !strings.Contains(got, `"TZ=Europe/Vienna"`) || strings.Contains(got, "TZ=:UTC") {
		t.Errorf("environment %s", got)
	}
}

package lambda_test

import (
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

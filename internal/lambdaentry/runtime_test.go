package lambdaentry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/rotation"
)

const asFunction = "KEYTURN_TEST_AS_FUNCTION"

// TestMain lets the test binary be the function: the real runtime client talks
// to a Runtime API of the test.
func TestMain(m *testing.M) {
	if os.Getenv(asFunction) == "" {
		os.Exit(m.Run())
	}
	lambdaentry.Run(func(context.Context, *slog.Logger) (lambdaentry.Handler, error) {
		if os.Getenv(asFunction) == "broken" {
			return nil, fault.New(fault.InvalidInput, "no password=%s", canary)
		}
		return lambdaentry.Step(misbehave), nil
	})
}

// misbehave does what the request's secret says.
func misbehave(_ context.Context, req rotation.Request) (rotation.Result, error) {
	switch req.Secret {
	case "panic":
		panic("password=" + canary)
	case "collector":
		return rotation.Result{Outcome: rotation.Done, Cursor: fmt.Sprint(debug.SetGCPercent(50))}, nil
	case "deadline":
		return rotation.Result{}, fmt.Errorf("asking: %w", context.DeadlineExceeded)
	case "long":
		return rotation.Result{}, fault.New(fault.Internal, "%spostgres://app:%s%s@db", strings.Repeat("word ", 1630), canary, strings.Repeat("x", 1<<20))
	case "wait":
		return rotation.Result{Outcome: rotation.Wait, After: 1500 * time.Millisecond, Cursor: "c", Missing: []string{"app"}}, nil
	}
	return rotation.Result{}, fmt.Errorf("outer: %w", fault.New(fault.Name(req.Secret), "password=%s", canary).WithHint("mend it"))
}

type invocation struct {
	path, errorType, body string
}

// invoke runs the function for one event and returns what it told the Runtime API.
func invoke(t *testing.T, mode, event string) (invocation, string) {
	t.Helper()
	answered := make(chan invocation, 4)
	served := false
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/next") && !served:
			served = true
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", "r1")
			w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(time.Minute).UnixMilli()))
			_, _ = io.WriteString(w, event)
		case strings.HasSuffix(r.URL.Path, "/next"):
			<-r.Context().Done()
		default:
			body, _ := io.ReadAll(r.Body)
			w.WriteHeader(http.StatusAccepted)
			var document struct{ ErrorType string }
			_ = json.Unmarshal(body, &document)
			answered <- invocation{r.URL.Path, document.ErrorType, string(body)}
		}
	}))
	t.Cleanup(api.Close)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = []string{asFunction + "=" + mode, "AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(api.URL, "http://"), "_LAMBDA_SERVER_PORT="}
	var logs strings.Builder
	cmd.Stderr, cmd.Stdout = &logs, &logs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	var got invocation
	select {
	case got = <-answered:
	case <-exited:
	case <-time.After(time.Minute):
		t.Error("the function didn't answer")
	}
	_ = cmd.Process.Kill()
	<-exited
	return got, logs.String()
}

func event(secret string) string {
	return `{"secret":"` + secret + `","token":"t","direction":"forward","generation":1,"cursor":"","polls":3}`
}

func TestEveryFaultReachesTheRuntimeByName(t *testing.T) {
	t.Parallel()
	cases := map[string]fault.Name{"panic": fault.Internal, "deadline": fault.Ambiguous}
	for _, name := range fault.Names() {
		cases[string(name)] = name
	}
	for secret, want := range cases {
		t.Run(secret, func(t *testing.T) {
			t.Parallel()
			got, logs := invoke(t, "run", event(secret))
			if !strings.HasSuffix(got.path, "/error") || got.errorType != string(want) {
				t.Errorf("the runtime got %s with type %q, want %s", got.path, got.errorType, want)
			}
			if strings.Contains(got.body+logs, canary) {
				t.Errorf("a secret reached the runtime or the log: %s %s", got.body, logs)
			}
		})
	}
}

func TestAnswerIsWhatTheStateMachineReads(t *testing.T) {
	t.Parallel()
	got, _ := invoke(t, "run", event("wait"))
	var answer map[string]any
	if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"outcome": "wait", "after_seconds": 2.0, "cursor": "c", "polls": 4.0}
	for key, value := range want {
		if answer[key] != value {
			t.Errorf("%s = %v, want %v", key, answer[key], value)
		}
	}
}

func TestALongErrorIsCut(t *testing.T) {
	t.Parallel()
	got, logs := invoke(t, "run", event("long"))
	if len(got.body) > 9<<10 || strings.Contains(got.body+logs, canary) || !strings.Contains(got.body, "word …") {
		t.Errorf("the runtime got %d bytes", len(got.body))
	}
}

func TestFunctionsCollectGarbageEarly(t *testing.T) {
	t.Parallel()
	if got, _ := invoke(t, "run", event("collector")); !strings.Contains(got.body, `"cursor":"50"`) {
		t.Errorf("the function's GC percentage: %s", got.body)
	}
}

func TestUnknownFieldIsRefusedByName(t *testing.T) {
	t.Parallel()
	got, _ := invoke(t, "run", `{"secret":"x","tokn":"t"}`)
	if got.errorType != string(fault.InvalidInput) || !strings.Contains(got.body, "tokn") {
		t.Errorf("got %+v", got)
	}
}

func TestWrongSettingsEndTheProcess(t *testing.T) {
	t.Parallel()
	_, logs := invoke(t, "broken", event("wait"))
	if !strings.Contains(logs, "the function can't start") || strings.Contains(logs, canary) {
		t.Errorf("logs: %s", logs)
	}
}

// A ping keeps a function in use and is no step.
func TestAPingIsAnsweredWithoutAStep(t *testing.T) {
	t.Parallel()
	if got, _ := invoke(t, "run", `{"ping":true}`); !strings.HasSuffix(got.path, "/response") || got.body != `{"pong":true}` {
		t.Errorf("the runtime got %s with %s", got.path, got.body)
	}
	for _, event := range []string{`{"ping":false}`, `{"ping":true,"secret":"s"}`, `{"Ping":true}`} {
		if got, _ := invoke(t, "run", event); !strings.HasSuffix(got.path, "/error") || got.errorType != string(fault.InvalidInput) {
			t.Errorf("%s: the runtime got %s with type %q", event, got.path, got.errorType)
		}
	}
}

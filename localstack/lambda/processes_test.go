package lambda_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/lambda"
)

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

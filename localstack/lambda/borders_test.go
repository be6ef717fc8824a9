package lambda_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/lambda"
)

// filled is a JSON object of so many bytes.
func filled(n int) []byte { return []byte(`{"mode":"pid","x":"` + strings.Repeat("x", n-21) + `"}`) }

// The longest requests (developer guide, "Lambda quotas", Invocation payload).
func TestBordersOfRequests(t *testing.T) {
	t.Parallel()
	s := serve(t, lambda.Config{}, lambda.Function{Name: "f"})
	c := client(t, s)
	for _, tt := range []struct {
		mode types.InvocationType
		n    int
		fits bool
	}{
		{types.InvocationTypeRequestResponse, 6 << 20, true},
		{types.InvocationTypeRequestResponse, 6<<20 + 1, false},
		{types.InvocationTypeEvent, 1 << 20, true},
		{types.InvocationTypeEvent, 1<<20 + 1, false},
	} {
		payload := filled(tt.n)
		if len(payload) != tt.n {
			t.Fatalf("%d bytes, want %d", len(payload), tt.n)
		}
		_, err := c.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: aws.String("f"), InvocationType: tt.mode, Payload: payload})
		var long *types.RequestTooLargeException
		if (err == nil) != tt.fits || err != nil && !errors.As(err, &long) {
			t.Errorf("%s of %d bytes: %v", tt.mode, tt.n, err)
		}
	}
	for _, tt := range []struct{ function, mode, code string }{
		{"f", "Sometime", "InvalidParameterValueException"},
		{"g", "DryRun", "ResourceNotFoundException"},
		{"g", "Event", "ResourceNotFoundException"},
		{"arn:aws:lambda:eu-west-1:000000000000:function:f", "DryRun", "ResourceNotFoundException"},
		{"arn:aws:lambda:us-east-1:111122223333:function:f", "DryRun", "ResourceNotFoundException"},
	} {
		_, err := c.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: &tt.function, InvocationType: types.InvocationType(tt.mode)})
		if err == nil || !strings.Contains(err.Error(), tt.code) {
			t.Errorf("%s of %s: %v, want %s", tt.mode, tt.function, err, tt.code)
		}
	}
}

// What Lambda takes where nothing is said, and what it refuses (API reference,
// CreateFunction; developer guide, "Reserved environment variables").
func TestBordersOfFunctions(t *testing.T) {
	t.Parallel()
	s := lambda.New(lambda.Config{})
	t.Cleanup(s.Close)
	if err := s.Register(lambda.Function{Name: "f", Binary: binary}); err != nil {
		t.Fatal(err)
	}
	got, err := client(t, s).GetFunctionConfiguration(t.Context(), &sdk.GetFunctionConfigurationInput{FunctionName: aws.String("f")})
	if err != nil || aws.ToInt32(got.Timeout) != 3 || aws.ToInt32(got.MemorySize) != 128 {
		t.Errorf("configuration %+v, %v", got, err)
	}
	register := func(f lambda.Function) error {
		f.Binary = binary
		if f.Name == "" {
			f.Name = "f"
		}
		return s.Register(f)
	}
	for _, f := range []lambda.Function{{Timeout: 15 * time.Minute}, {Name: strings.Repeat("f", 64)}, {Env: []string{"AWS_PROFILE=x", "LANG=C"}}} {
		if err := register(f); err != nil {
			t.Error(err)
		}
	}
	bad := []lambda.Function{{Timeout: 15*time.Minute + time.Second}, {Timeout: -time.Second}, {Name: strings.Repeat("f", 65)}, {Name: "a.b"}}
	for _, name := range []string{
		"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
		"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
		"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_RUNTIME_API",
	} {
		bad = append(bad, lambda.Function{Env: []string{name + "=x"}})
	}
	for _, f := range bad {
		if err := register(f); err == nil {
			t.Errorf("accepted: %+v", f)
		}
	}
}

// A function is told when its time is up, and what runs longer is gone: the next
// invocation is cold.
func TestTheDeadlineIsTheFunctionsOwn(t *testing.T) {
	t.Parallel()
	s := serve(t, lambda.Config{}, lambda.Function{Name: "f", Timeout: 5 * time.Second})
	first, _ := invoke(t, s, `{"mode":"pid"}`)
	var left time.Duration
	text, _ := invoke(t, s, `{"mode":"left"}`)
	if err := json.Unmarshal([]byte(text), &left); err != nil || left <= 0 || left > 5*time.Second {
		t.Errorf("%s left of 5s, %v", left, err)
	}
	if text, failed := invoke(t, s, `{"mode":"sleep","for":100000000000}`); failed == "" || !strings.Contains(text, "timed out after 5.00 seconds") {
		t.Errorf("%q %s", failed, text)
	}
	if again, _ := invoke(t, s, `{"mode":"pid"}`); again == first {
		t.Error("the environment that ran out of time answers again")
	}
}

// The account's concurrency is all functions' together.
func TestConcurrencyOfTheAccount(t *testing.T) {
	t.Parallel()
	l := &logs{}
	s := serve(t, lambda.Config{Concurrency: 1, LogSink: l.add}, lambda.Function{Name: "f"}, lambda.Function{Name: "g"})
	go func() { _, _ = s.Invoke(t.Context(), "g", []byte(`{"mode":"sleep","for":100000000000}`)) }() // ends with the service
	eventually(t, "one sleeps", func() bool { return l.count("mode sleep") == 1 })
	var e *awsproto.Error
	if _, err := s.Invoke(t.Context(), "f", nil); !errors.As(err, &e) || e.Code != "TooManyRequestsException" {
		t.Errorf("a second: %v", err)
	}
}

// An event that is throttled waits for its turn, six hours at most (developer
// guide, "Asynchronous invocation").
func TestThrottledEventsWait(t *testing.T) {
	t.Parallel()
	for _, lasting := range []time.Duration{time.Hour, 7 * time.Hour} {
		t.Run(lasting.String(), func(t *testing.T) {
			t.Parallel()
			l, moved := &logs{}, clock.New()
			begun := moved.Now()
			var mu sync.Mutex
			asked := 0
			s := serve(t, lambda.Config{LogSink: l.add, Clock: moved, Throttle: func(string) bool {
				mu.Lock()
				defer mu.Unlock()
				asked++
				return moved.Now().Sub(begun) < lasting
			}}, lambda.Function{Name: "f"})
			tries := func() int {
				mu.Lock()
				defer mu.Unlock()
				return asked
			}
			if _, err := client(t, s).Invoke(t.Context(), &sdk.InvokeInput{FunctionName: aws.String("f"), InvocationType: types.InvocationTypeEvent}); err != nil {
				t.Fatal(err)
			}
			for moved.Now().Sub(begun) < 8*time.Hour && l.count("REPORT") == 0 {
				for n := -1; n != tries(); time.Sleep(2 * time.Millisecond) {
					n = tries()
				}
				moved.Advance(5 * time.Minute)
			}
			if lasting < 6*time.Hour {
				eventually(t, "it is delivered", func() bool { return l.count("REPORT") == 1 })
			} else if n := l.count("START"); n != 0 {
				t.Errorf("delivered %d times after its six hours", n)
			}
		})
	}
}

// A failed event is tried again after one minute, and after two more.
func TestEventRetriesTakeMinutes(t *testing.T) {
	t.Parallel()
	l, moved := &logs{}, clock.New()
	s := serve(t, lambda.Config{LogSink: l.add, Clock: moved}, lambda.Function{Name: "f"})
	if _, err := client(t, s).Invoke(t.Context(), &sdk.InvokeInput{
		FunctionName: aws.String("f"), InvocationType: types.InvocationTypeEvent, Payload: []byte(`{"mode":"named"}`),
	}); err != nil {
		t.Fatal(err)
	}
	for n, pause := range []time.Duration{time.Minute, 2 * time.Minute} {
		eventually(t, "an attempt is over", func() bool { return l.count("REPORT") == n+1 })
		moved.Advance(pause - 5*time.Second)
		time.Sleep(20 * time.Millisecond) // whoever is early has had the time to
		if got := l.count("START"); got != n+1 {
			t.Errorf("attempt %d came before %s", got, pause)
		}
		moved.Advance(10 * time.Second)
	}
	eventually(t, "the last attempt", func() bool { return l.count("REPORT") == 3 })
}

// A function that is replaced at work ends with it.
func TestAReplacedFunctionFinishesItsWork(t *testing.T) {
	t.Parallel()
	l := &logs{}
	s := serve(t, lambda.Config{LogSink: l.add}, lambda.Function{Name: "f", MaxConcurrency: 1})
	answers := make(chan string, 1)
	go func() {
		out, err := s.Invoke(t.Context(), "f", []byte(`{"mode":"sleep","for":300000000}`))
		answers <- fmt.Sprint(string(out.Payload), out.FunctionError, err)
	}()
	eventually(t, "it works", func() bool { return l.count("mode sleep") == 1 })
	if err := s.Register(lambda.Function{Name: "f", Binary: binary, Timeout: time.Minute, Env: []string{"NEW=1"}}); err != nil {
		t.Fatal(err)
	}
	if got := <-answers; !strings.Contains(got, `"mode":"sleep"`) || !strings.HasSuffix(got, "<nil>") {
		t.Errorf("the replaced one answered %s", got)
	}
	if got, _ := invoke(t, s, `{"mode":"environ"}`); !strings.Contains(got, "NEW=1") {
		t.Errorf("environment %s", got)
	}
}

// The end of the log is 4 KB (API reference, Invoke, LogResult), and a line that
// doesn't end is cut at what an event of a log stream holds.
func TestBordersOfLogs(t *testing.T) {
	t.Parallel()
	l := &logs{}
	s := serve(t, lambda.Config{LogSink: l.add}, lambda.Function{Name: "f"})
	out, err := client(t, s).Invoke(t.Context(), &sdk.InvokeInput{
		FunctionName: aws.String("f"), LogType: types.LogTypeTail, Payload: []byte(`{"mode":"chatty"}`),
	})
	if err != nil || len(aws.ToString(out.LogResult)) > 4096*4/3+4 || len(aws.ToString(out.LogResult)) < 4000 {
		t.Errorf("%d characters of the log, %v", len(aws.ToString(out.LogResult)), err)
	}
}

// The Runtime API's states: who answers twice, for another, or asks for work
// before an answer is refused, and the first answer stands (developer guide,
// "Runtime API"). The function tells what it was told.
func TestARuntimeOutOfTurn(t *testing.T) {
	t.Parallel()
	s := serve(t, lambda.Config{}, lambda.Function{Name: "f", Env: []string{"RUNTIME=unruly"}})
	got, failed := invoke(t, s, `{}`)
	if failed != "" || got != `"first"` {
		t.Errorf("answer %q %s", failed, got)
	}
	got, _ = invoke(t, s, `{}`)
	if want := `["403 InvalidStateTransition","400 InvalidRequestID","403 InvalidStateTransition","403 InvalidStateTransition"]`; got != want {
		t.Errorf("told %s, want %s", got, want)
	}
	// An error that isn't JSON is named by its header, and Runtime.Unknown without.
	for _, want := range []string{`"errorType":"Keyturn.Odd"`, `"errorType":"Runtime.Unknown"`} {
		if got, failed := invoke(t, s, `{}`); failed != "Unhandled" || !strings.Contains(got, want) || !strings.Contains(got, "no JSON") {
			t.Errorf("error %q %s, want %s", failed, got, want)
		}
	}
	if got, failed := invoke(t, s, `{}`); failed != "Unhandled" || got != `{"errorType":"Keyturn.Broken","errorMessage":"half"}` {
		t.Errorf("a stream that broke off: %q %s", failed, got)
	}
}

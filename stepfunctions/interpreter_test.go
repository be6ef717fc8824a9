package stepfunctions_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
)

// still is a clock on which sleeping takes no time.
type still struct {
	mu    sync.Mutex
	now   time.Time
	slept []int64 // milliseconds, of sleeps that weren't empty
}

func (s *still) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *still) Sleep(ctx context.Context, d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d > 0 {
		s.now = s.now.Add(d)
		s.slept = append(s.slept, d.Milliseconds())
	}
	return ctx.Err()
}

// deadline is a clock for time-outs: they pass when a call hangs, never before. A
// state that has both a time-out and a heartbeat would end by either.
type deadline struct {
	clock *still
	hang  chan struct{}
}

func (d deadline) Now() time.Time { return d.clock.Now() }

func (d deadline) Sleep(ctx context.Context, length time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-d.hang:
	}
	if ctx.Err() != nil { // a timer that nobody waits for any more: the signal is another's
		d.hang <- struct{}{}
		return ctx.Err()
	}
	return d.clock.Sleep(ctx, length)
}

// answer is what a Task gets.
type answer struct {
	Result json.RawMessage `json:",omitempty"`
	Error  string          `json:",omitempty"`
	Cause  string          `json:",omitempty"`
	Hang   bool            `json:",omitempty"`
}

// interpret runs a machine on our interpreter, with tasks that answer decides.
func interpret(t fataler, m *asl.Machine, input any, answers func(asl.TaskCall) answer) (*asl.Execution, trace) {
	t.Helper()
	began := time.Unix(1_000_000, 0)
	clock := &still{now: began}
	hang, ended := make(chan struct{}), make(chan struct{})
	defer close(ended)
	var mu sync.Mutex // branches call at once
	var seen trace
	env := asl.Environment{
		Clock: clock, TaskClock: deadline{clock, hang}, Random: func() float64 { return 1 },
		Context: asl.Context{
			StateMachineID: machineARN, StateMachineName: "rotation", ExecutionID: machineARN + ":x", ExecutionName: "x", StartTime: began,
		},
		Recorder: func(e asl.Event) {
			if strings.HasSuffix(e.Type, "StateEntered") {
				seen.Entered = append(seen.Entered, visited{e.Details["name"].(string), value(t, []byte(e.Details["input"].(string)))})
			}
		},
		Task: func(_ context.Context, call asl.TaskCall) ([]byte, *asl.Error) {
			mu.Lock()
			seen.Calls = append(seen.Calls, visited{call.State, value(t, call.Input)})
			mu.Unlock()
			a := answers(call)
			switch {
			case a.Hang:
				hang <- struct{}{}
				<-ended
			case a.Error != "":
				return nil, &asl.Error{Name: a.Error, Cause: a.Cause}
			}
			return a.Result, nil
		},
	}
	text, err := json.Marshal(input)
	if err != nil {
		t.Fatalf("the input: %v", err)
	}
	e := m.Run(context.Background(), env, text)
	seen.Status, seen.Slept = string(e.Status), clock.slept
	if e.Error != nil {
		seen.Error, seen.Cause = e.Error.Name, e.Error.Cause
	} else {
		seen.Output = value(t, e.Output)
	}
	return e, seen
}

const machineARN = "arn:aws:states:eu-west-1:123456789012:stateMachine:rotation"

// fataler is a test, or a check of package rapid.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func value(t fataler, text []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%s is no JSON: %v", text, err)
	}
	return v
}

package stepfunctions_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/stepfunctions"
)

func TestRedrive(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	broken := true
	calls := map[string]int{}
	count := func(name string) func(context.Context, []byte) (host.Invocation, error) {
		return func(context.Context, []byte) (host.Invocation, error) {
			mu.Lock()
			defer mu.Unlock()
			calls[name]++
			if name == "g" && broken {
				return host.Invocation{Payload: []byte(`{"errorType":"X"}`), FunctionError: "Unhandled"}, nil
			}
			return host.Invocation{Payload: []byte(`1`)}, nil
		}
	}
	b := setup(t, stepfunctions.Config{Invoker: functions{"f": count("f"), "g": count("g")}})
	arn := b.create("m", machine(`"A":{`+call("f")+`,"ResultPath":null,"Next":"B"},"B":{`+call("g")+`,"ResultPath":null,"End":true}`))
	run := b.start(arn, "r", `{}`)
	if d := b.end(run); d.Status != types.ExecutionStatusFailed || d.RedriveStatus != types.ExecutionRedriveStatusRedrivable {
		t.Fatalf("first: %+v", d)
	}
	mu.Lock()
	broken = false
	mu.Unlock()
	in := &sfn.RedriveExecutionInput{ExecutionArn: run, ClientToken: aws.String("t")}
	first, err := b.client.RedriveExecution(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	d := b.end(run)
	if d.Status != types.ExecutionStatusSucceeded || aws.ToInt32(d.RedriveCount) != 1 || aws.ToString(d.Error) != "" {
		t.Errorf("after: %+v", d)
	}
	if calls["f"] != 1 || calls["g"] != 2 {
		t.Errorf("calls %v", calls)
	}
	if again, err := b.client.RedriveExecution(t.Context(), in); err != nil || !again.RedriveDate.Equal(*first.RedriveDate) {
		t.Errorf("the same token: %+v, %v", again, err)
	}
	var not *types.ExecutionNotRedrivable
	if _, err := b.client.RedriveExecution(t.Context(), &sfn.RedriveExecutionInput{ExecutionArn: run}); !errors.As(err, &not) {
		t.Errorf("a succeeded one: %v", err)
	}
	h, err := b.client.GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{ExecutionArn: run})
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for i, e := range h.Events {
		if e.Id != int64(i+1) {
			t.Errorf("event %d has id %d", i+1, e.Id)
		}
		text = append(text, string(e.Type))
	}
	if !strings.Contains(strings.Join(text, " "), "TaskFailed ExecutionFailed ExecutionRedriven TaskStateEntered TaskScheduled") {
		t.Errorf("history: %v", text)
	}
}

func TestRedrivePeriod(t *testing.T) {
	t.Parallel()
	b := setup(t, stepfunctions.Config{})
	run := b.start(b.create("m", machine(`"A":{"Type":"Fail","Error":"X"}`)), "r", `{}`)
	b.end(run)
	b.clock.Advance(15 * 24 * time.Hour)
	var not *types.ExecutionNotRedrivable
	if _, err := b.client.RedriveExecution(t.Context(), &sfn.RedriveExecutionInput{ExecutionArn: run}); !errors.As(err, &not) {
		t.Errorf("after 15 days: %v", err)
	}
}

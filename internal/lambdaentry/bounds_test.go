package lambdaentry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/rotation"
)

// Step Functions takes 262,144 bytes of a task's result: more would end the run,
// and so would whoever can make what is missing long.
func TestAnAnswerIsSmallWhateverAStepHasSeen(t *testing.T) {
	t.Parallel()
	const most = 160 << 10
	var many []string
	var evidence []rotation.Evidence
	for i := range 5000 {
		many = append(many, fmt.Sprintf("%d %s", i, strings.Repeat("\x01", 2000)))
		evidence = append(evidence, rotation.Evidence{
			Party: fmt.Sprintf("instance %d %s", i, strings.Repeat("\x01", 2000)), By: "password=" + canary + strings.Repeat("é", 2000),
			Digest: strings.Repeat("x", 2000), Proof: rotation.Loaded, At: time.Now(),
		})
	}
	step := lambdaentry.Step(func(context.Context, rotation.Request) (rotation.Result, error) {
		return rotation.Result{Outcome: rotation.Done, Missing: many, Notes: many, Evidence: evidence}, nil
	})
	payload, failed := lambdaentry.Answer(t.Context(), slog.New(slog.DiscardHandler), step, []byte(event("x")))
	if failed || len(payload) > most || strings.Contains(string(payload), canary) {
		t.Fatalf("failed %t, %d bytes", failed, len(payload))
	}
	var answer struct {
		Missing, Notes []string
		Evidence       []rotation.Evidence
	}
	if err := json.Unmarshal(payload, &answer); err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]string{answer.Missing, answer.Notes} {
		if len(list) != 21 || list[20] != "and 4980 more" || !strings.HasPrefix(list[0], "0 ") {
			t.Errorf("%d of 5000 are named, the last is %.40q", len(list), list[len(list)-1])
		}
	}
	if len(answer.Evidence) != 20 || !strings.HasPrefix(answer.Evidence[0].Party, "instance 0 ") {
		t.Errorf("%d pieces of evidence", len(answer.Evidence))
	}
}

// A function that is killed at its time-out leaves no fault's name, no record and
// no closed connection: a step's own time ends before.
func TestAStepEndsBeforeItsFunction(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	killed, _ := ctx.Deadline()
	step := lambdaentry.Step(func(ctx context.Context, _ rotation.Request) (rotation.Result, error) {
		if own, ok := ctx.Deadline(); !ok || killed.Sub(own) < 400*time.Millisecond {
			t.Errorf("the step's deadline is %v before its function's", killed.Sub(own))
		}
		<-ctx.Done()
		return rotation.Result{}, fault.New(fault.Unavailable, "no answer in time")
	})
	payload, failed := lambdaentry.Answer(ctx, slog.New(slog.DiscardHandler), step, []byte(event("x")))
	if !failed || !strings.Contains(string(payload), string(fault.Unavailable)) || ctx.Err() != nil {
		t.Errorf("it ends %s, its function's time: %v", payload, ctx.Err())
	}
	// A process without a limit of its own gets none.
	unbounded := lambdaentry.Step(func(ctx context.Context, _ rotation.Request) (rotation.Result, error) {
		if _, ok := ctx.Deadline(); ok {
			t.Error("a step without a limit has a deadline")
		}
		return rotation.Result{Outcome: rotation.Done}, nil
	})
	if payload, failed := lambdaentry.Answer(context.Background(), slog.New(slog.DiscardHandler), unbounded, []byte(event("x"))); failed {
		t.Errorf("it ends %s", payload)
	}
}

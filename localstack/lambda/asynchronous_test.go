package lambda_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/lambda"
)

const failedARN = "arn:aws:sqs:us-east-1:000000000000:failed"

// queue keeps the records of failed events.
type queue struct {
	mu      sync.Mutex
	records []map[string]any
}

func (q *queue) SendTo(_ context.Context, arn, body string, attributes map[string]string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	record := map[string]any{"queue": arn, "attributes": len(attributes)}
	if err := json.Unmarshal([]byte(body), &record); err != nil {
		return err
	}
	q.records = append(q.records, record)
	return nil
}

func (q *queue) got() []map[string]any {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.records
}

// Developer guide, "Capturing records of Lambda asynchronous invocations".
func TestFailedEventsReachTheirDestination(t *testing.T) {
	t.Parallel()
	for retries, invoked := range map[int]float64{0: 1, 1: 2, 2: 3} {
		moved, q := clock.New(), &queue{}
		s := serve(t, lambda.Config{Clock: moved, Queues: q}, lambda.Function{
			Name: "f", Aliases: []string{"live"}, Events: &lambda.Events{Retries: retries, MaxAge: 6 * time.Hour, OnFailure: failedARN},
		})
		if err := s.InvokeEvent(t.Context(), "arn:aws:lambda:us-east-1:000000000000:function:f:live", []byte(`{"mode":"named"}`)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the record", func() bool {
			moved.Advance(time.Minute)
			return len(q.got()) == 1
		})
		record := q.got()[0]
		request, _ := record["requestContext"].(map[string]any)
		if id, _ := request["requestId"].(string); len(id) != 36 {
			t.Errorf("request id %q", id)
		}
		if at, err := time.Parse(time.RFC3339, record["timestamp"].(string)); err != nil || at.After(moved.Now()) {
			t.Errorf("timestamp %v, %v", record["timestamp"], err)
		}
		answer, _ := json.Marshal(record["responsePayload"])
		if !strings.Contains(string(answer), `"errorType"`) {
			t.Errorf("answer %s", answer)
		}
		delete(request, "requestId")
		delete(record, "timestamp")
		delete(record, "responsePayload")
		want := map[string]any{
			"version": "1.0", "queue": failedARN, "attributes": 0, "requestPayload": map[string]any{"mode": "named"},
			"requestContext": map[string]any{
				"functionArn": "arn:aws:lambda:us-east-1:000000000000:function:f:live", "condition": "RetriesExhausted", "approximateInvokeCount": invoked,
			},
			"responseContext": map[string]any{"statusCode": 200.0, "executedVersion": "$LATEST", "functionError": "Unhandled"},
		}
		if diff := cmp.Diff(want, record); diff != "" {
			t.Errorf("%d retries (-want +got):\n%s", retries, diff)
		}
	}
}

func TestEventsThatAreNeverInvokedGrowOld(t *testing.T) {
	t.Parallel()
	moved, q := clock.New(), &queue{}
	s := serve(t, lambda.Config{Clock: moved, Queues: q, Throttle: func(string) bool { return true }}, lambda.Function{
		Name: "f", Events: &lambda.Events{Retries: 2, MaxAge: time.Minute, OnFailure: failedARN},
	})
	if err := s.InvokeEvent(t.Context(), "f", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the record", func() bool {
		moved.Advance(10 * time.Second)
		return len(q.got()) == 1
	})
	request, _ := q.got()[0]["requestContext"].(map[string]any)
	if request["condition"] != "EventAgeExceeded" || request["approximateInvokeCount"] != 0.0 || q.got()[0]["responseContext"] != nil ||
		request["functionArn"] != "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST" {
		t.Errorf("%v", q.got()[0])
	}
}

func TestEventSettingsHaveLimits(t *testing.T) {
	t.Parallel()
	s := serve(t, lambda.Config{})
	for _, e := range []lambda.Events{{Retries: -1, MaxAge: time.Hour}, {Retries: 3, MaxAge: time.Hour}, {MaxAge: 59 * time.Second}, {MaxAge: 6*time.Hour + 1}} {
		if err := s.Register(lambda.Function{Name: "f", Binary: binary, Events: &e}); err == nil {
			t.Errorf("%+v was taken", e)
		}
	}
	if err := s.Register(lambda.Function{Name: "f", Binary: binary, Events: &lambda.Events{MaxAge: time.Minute}}); err != nil {
		t.Error(err)
	}
	if err := s.InvokeEvent(t.Context(), "none", nil); err == nil {
		t.Error("a function that isn't there took an event")
	}
}

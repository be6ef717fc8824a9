package events_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/events"
	"github.com/keyturn/keyturn/localstack/host"
)

const (
	topicARN = "arn:aws:sns:us-east-1:000000000000:findings"
	queueARN = "arn:aws:sqs:us-east-1:000000000000:dead"
)

// stores keeps what topics and queues are given.
type stores struct {
	mu      sync.Mutex
	topic   error // what the topic answers
	message []string
	dead    []map[string]string
	bodies  []string
}

func (s *stores) PublishTo(_ context.Context, arn string, message []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if arn != topicARN {
		return &awsproto.Error{Code: "NotFound", Message: "Topic does not exist", Status: http.StatusNotFound}
	}
	s.message = append(s.message, string(message))
	return s.topic
}

func (s *stores) SendTo(_ context.Context, arn, body string, attributes map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if arn != queueARN {
		return awsproto.Errorf("QueueDoesNotExist", "no %s", arn)
	}
	s.bodies, s.dead = append(s.bodies, body), append(s.dead, attributes)
	return nil
}

func (s *stores) letters() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.dead)
}

func put(t *testing.T, s *events.Service, target map[string]any) {
	t.Helper()
	target["Id"] = "1"
	call(t, s, "PutRule", map[string]any{"Name": "r", "EventPattern": `{"source":["s"]}`})
	call(t, s, "PutTargets", map[string]any{"Rule": "r", "Targets": []any{target}})
}

func TestTopicsAreTargets(t *testing.T) {
	t.Parallel()
	for want, more := range map[string]map[string]any{
		`{"text":"Rotation of app failed"}`: {"InputTransformer": map[string]any{
			"InputPathsMap": map[string]string{"name": "$.detail.name"}, "InputTemplate": `{"text":"Rotation of <name> failed"}`,
		}},
		`"app"`:       {"InputPath": "$.detail.name"},
		`{"fixed":1}`: {"Input": `{"fixed":1}`},
		"\"Secret: app\"\n\"Account 000000000000, \"": {"InputTransformer": map[string]any{
			"InputPathsMap": map[string]string{"name": "$.detail.name", "account": "$.account", "none": "$.detail.none"},
			"InputTemplate": "\"Secret: <name>\"\n\"Account <account>, <none>\"",
		}},
	} {
		to := &stores{}
		s := events.New(events.Config{Clock: clock.New(), Topics: to})
		more["Arn"] = topicARN
		put(t, s, more)
		s.Publish(host.Event{Source: "s", DetailType: "T", Detail: []byte(`{"name":"app"}`)})
		s.Close()
		if diff := cmp.Diff([]string{want}, to.message); diff != "" {
			t.Errorf("messages (-want +got):\n%s", diff)
		}
	}
}

// Lines of text are for people; a function takes JSON alone, and a line that is no
// quoted string is none of a message.
func TestLinesOfTextAreForTopics(t *testing.T) {
	t.Parallel()
	for template, arn := range map[string]string{
		"\"one\"\n\"two\"": functionARN,
		"\"one\"\ntwo":     topicARN,
	} {
		to, fn := &stores{}, &targets{}
		s := events.New(events.Config{Clock: clock.New(), Topics: to, Invoker: fn})
		put(t, s, map[string]any{"Arn": arn, "InputTransformer": map[string]any{"InputTemplate": template}})
		s.Publish(host.Event{Source: "s", DetailType: "T"})
		s.Close()
		if len(to.message)+len(fn.got()) != 0 {
			t.Errorf("%s was delivered: %v %v", template, to.message, fn.got())
		}
	}
}

// EventBridge user guide, "Using dead-letter queues to process undelivered
// events".
func TestWhatCannotBeDeliveredGoesToTheDeadLetterQueue(t *testing.T) {
	t.Parallel()
	tests := []struct {
		what       string
		answer     error
		policy     map[string]any
		advance    time.Duration
		attributes map[string]string
	}{
		{
			"after the retries", errors.New("connection refused"), map[string]any{"MaximumRetryAttempts": 2}, time.Minute,
			map[string]string{"ERROR_CODE": "SDK_CLIENT_ERROR", "RETRY_ATTEMPTS": "2", "EXHAUSTED_RETRY_CONDITION": "MaximumRetryAttempts"},
		},
		{
			"after its age", awsproto.Errorf("ThrottlingException", "slow down"), map[string]any{"MaximumEventAgeInSeconds": 60}, 2 * time.Hour,
			map[string]string{"ERROR_CODE": "THROTTLING", "RETRY_ATTEMPTS": "1", "EXHAUSTED_RETRY_CONDITION": "MaximumEventAgeInSeconds"},
		},
		{
			"at once", &awsproto.Error{Code: "NotFound", Message: "Topic does not exist", Status: http.StatusNotFound}, map[string]any{}, 0,
			map[string]string{"ERROR_CODE": "NO_RESOURCE", "RETRY_ATTEMPTS": "0"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			to, c := &stores{topic: tt.answer}, clock.New()
			s := events.New(events.Config{Clock: c, Topics: to, Queues: to})
			t.Cleanup(s.Close)
			put(t, s, map[string]any{
				"Arn": topicARN, "Input": `{"fixed":1}`, "RetryPolicy": tt.policy, "DeadLetterConfig": map[string]any{"Arn": queueARN},
			})
			s.Publish(host.Event{Source: "s", DetailType: "T", Detail: []byte(`{"name":"app"}`)})
			deadline := time.Now().Add(30 * time.Second)
			for to.letters() == 0 {
				if time.Now().After(deadline) {
					t.Fatal("nothing came")
				}
				c.Advance(tt.advance)
				time.Sleep(2 * time.Millisecond)
			}
			s.Close()
			got := to.dead[0]
			if !strings.Contains(got["ERROR_MESSAGE"], "publishing to the topic: ") {
				t.Errorf("error message %q", got["ERROR_MESSAGE"])
			}
			delete(got, "ERROR_MESSAGE")
			tt.attributes["RULE_ARN"], tt.attributes["TARGET_ARN"] = "arn:aws:events:us-east-1:000000000000:rule/r", topicARN
			if tt.what == "after its age" {
				// How many tries there were depends on how far the clock was moved.
				delete(got, "RETRY_ATTEMPTS")
				delete(tt.attributes, "RETRY_ATTEMPTS")
			}
			if diff := cmp.Diff(tt.attributes, got); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
			if len(to.dead) != 1 || !strings.Contains(to.bodies[0], `"detail":{"name":"app"}`) {
				t.Errorf("letters %v", to.bodies) // the event, whatever the target would have been given
			}
		})
	}
}

// A function that fails had the event: its own asynchronous invocation ends it.
func TestAFunctionThatFailsIsNoDeadLetter(t *testing.T) {
	t.Parallel()
	to, c, failing := &stores{}, clock.New(), &targets{fail: 9}
	s := events.New(events.Config{Clock: c, Invoker: failing, Queues: to})
	put(t, s, map[string]any{"Arn": functionARN, "DeadLetterConfig": map[string]any{"Arn": queueARN}})
	s.Publish(host.Event{Source: "s", DetailType: "T"})
	failing.waitFor(t, 3, func() { c.Advance(time.Minute) })
	s.Close()
	if to.letters() != 0 {
		t.Errorf("letters %v", to.bodies)
	}
}

// What the CDK app deploys: a schedule that tells its function what to do.
func TestAScheduleGivesItsConstantInput(t *testing.T) {
	t.Parallel()
	f := start(t)
	to := function()
	to.Input = aws.String(`{"detections":["overdue"]}`)
	to.DeadLetterConfig = &types.DeadLetterConfig{Arn: aws.String(queueARN)}
	to.RetryPolicy = &types.RetryPolicy{MaximumRetryAttempts: aws.Int32(3), MaximumEventAgeInSeconds: aws.Int32(3600)}
	f.rule(t, &eventbridge.PutRuleInput{ScheduleExpression: aws.String("rate(1 hour)")}, to)
	listed, err := f.ListTargetsByRule(t.Context(), &eventbridge.ListTargetsByRuleInput{Rule: aws.String("r")})
	if err != nil || aws.ToString(listed.Targets[0].DeadLetterConfig.Arn) != queueARN {
		t.Errorf("%+v, %v", listed, err)
	}
	f.clock.Advance(61 * time.Minute)
	f.targets.waitFor(t, 1, func() {})
	f.service.Close()
	if diff := cmp.Diff([]string{`{"detections":["overdue"]}`}, f.targets.got()); diff != "" {
		t.Errorf("payloads (-want +got):\n%s", diff)
	}
}

// accepting is a Lambda that takes events.
type accepting struct {
	mu     sync.Mutex
	events []string
	err    error
}

func (a *accepting) InvokeEvent(_ context.Context, _ string, payload []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, string(payload))
	return a.err
}

// Lambda retries what it has accepted; what it refuses is EventBridge's to bury.
func TestEventsForFunctionsAreLambdasOnceAccepted(t *testing.T) {
	t.Parallel()
	for refusal, letters := range map[error]int{nil: 0, awsproto.Errorf("ResourceNotFoundException", "no function"): 1} {
		to, async, sync := &stores{}, &accepting{err: refusal}, &targets{}
		s := events.New(events.Config{Clock: clock.New(), Invoker: sync, Asynchronous: async, Queues: to})
		put(t, s, map[string]any{"Arn": functionARN, "Input": `{"n":1}`, "DeadLetterConfig": map[string]any{"Arn": queueARN}})
		s.Publish(host.Event{Source: "s", DetailType: "T"})
		deadline := time.Now().Add(30 * time.Second)
		for to.letters() < letters && time.Now().Before(deadline) {
			time.Sleep(2 * time.Millisecond)
		}
		s.Close()
		if len(async.events) != 1 || async.events[0] != `{"n":1}` || len(sync.got()) != 0 || to.letters() != letters {
			t.Errorf("%v: events %v, invocations %v, letters %v", refusal, async.events, sync.got(), to.bodies)
		}
	}
}

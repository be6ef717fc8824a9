package sqs_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/sqs"
)

const (
	queueARN = "arn:aws:sqs:us-east-1:000000000000:dead"
	noQueue  = "AWS.SimpleQueueService.NonExistentQueue"
)

// fixture is an SQS behind HTTP with a real SDK client and one queue.
type fixture struct {
	*sdk.Client
	t       *testing.T
	ctx     context.Context
	clock   *clock.Clock
	service *sqs.Service
	url     *string
}

func start(t *testing.T, attributes map[string]string) *fixture {
	t.Helper()
	f := &fixture{t: t, ctx: t.Context(), clock: clock.New()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { awsproto.ServeJSON(w, r, f.service) }))
	t.Cleanup(server.Close)
	f.service = sqs.New(sqs.Config{Clock: f.clock, Endpoint: server.URL})
	f.Client = sdk.New(sdk.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "unused", ""),
	})
	out, err := f.CreateQueue(f.ctx, &sdk.CreateQueueInput{QueueName: aws.String("dead"), Attributes: attributes, Tags: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	f.url = out.QueueUrl
	return f
}

func (f *fixture) send(body string) {
	f.t.Helper()
	if _, err := f.SendMessage(f.ctx, &sdk.SendMessageInput{QueueUrl: f.url, MessageBody: &body}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) receive(change ...func(*sdk.ReceiveMessageInput)) []types.Message {
	f.t.Helper()
	in := &sdk.ReceiveMessageInput{QueueUrl: f.url, MaxNumberOfMessages: 10}
	for _, c := range change {
		c(in)
	}
	out, err := f.ReceiveMessage(f.ctx, in)
	if err != nil {
		f.t.Fatal(err)
	}
	return out.Messages
}

func (f *fixture) attribute(name types.QueueAttributeName) string {
	f.t.Helper()
	out, err := f.GetQueueAttributes(f.ctx, &sdk.GetQueueAttributesInput{QueueUrl: f.url, AttributeNames: []types.QueueAttributeName{name}})
	if err != nil {
		f.t.Fatal(err)
	}
	return out.Attributes[string(name)]
}

func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

func wantCode(t *testing.T, err error, want string) {
	t.Helper()
	if code(err) != want {
		t.Errorf("error = %v, want %s", err, want)
	}
}

func bodies(messages []types.Message) (out []string) {
	for _, m := range messages {
		out = append(out, *m.Body)
	}
	return out
}

// Developer guide, "Amazon SQS visibility timeout".
func TestMessagesAreHiddenUntilTheirTimeoutAndGoneWhenDeleted(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.send("one")
	f.send("two")
	if got := f.attribute("ApproximateNumberOfMessages"); got != "2" {
		t.Errorf("%s messages", got)
	}
	first := f.receive(func(in *sdk.ReceiveMessageInput) { in.MaxNumberOfMessages = 1 })
	if diff := cmp.Diff([]string{"one"}, bodies(first)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"two"}, bodies(f.receive())); diff != "" {
		t.Error(diff)
	}
	if got := f.receive(); got != nil {
		t.Errorf("received %v", bodies(got))
	}
	if a, b := f.attribute("ApproximateNumberOfMessages"), f.attribute("ApproximateNumberOfMessagesNotVisible"); a != "0" || b != "2" {
		t.Errorf("%s wait, %s are hidden", a, b)
	}
	f.clock.Advance(31 * time.Second)
	again := f.receive(func(in *sdk.ReceiveMessageInput) {
		in.MessageSystemAttributeNames = []types.MessageSystemAttributeName{"ApproximateReceiveCount"}
		in.VisibilityTimeout = 3600
	})
	if diff := cmp.Diff([]string{"one", "two"}, bodies(again)); diff != "" || again[0].Attributes["ApproximateReceiveCount"] != "2" {
		t.Errorf("%v %s", again, diff)
	}
	remove := func(handle *string) error {
		_, err := f.DeleteMessage(f.ctx, &sdk.DeleteMessageInput{QueueUrl: f.url, ReceiptHandle: handle})
		return err
	}
	if err := remove(first[0].ReceiptHandle); err != nil || len(f.service.Messages(queueARN)) != 2 {
		t.Errorf("an old receipt: %v, %d left", err, len(f.service.Messages(queueARN)))
	}
	for range 2 {
		if err := remove(again[0].ReceiptHandle); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, remove(aws.String("nonsense")), "ReceiptHandleIsInvalid")
	f.clock.Advance(31 * time.Second)
	if got := f.receive(); got != nil {
		t.Errorf("an own timeout isn't kept: %v", bodies(got))
	}
	f.clock.Advance(time.Hour)
	if diff := cmp.Diff([]string{"two"}, bodies(f.receive())); diff != "" {
		t.Error(diff)
	}
}

func TestMessagesOfOtherServicesCarryTheirAttributes(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	if err := f.service.SendTo(f.ctx, queueARN, "event", map[string]string{"ERROR_CODE": "NO_RESOURCE", "RULE_ARN": "r"}); err != nil {
		t.Fatal(err)
	}
	if err := f.service.SendTo(f.ctx, queueARN+"x", "event", nil); err == nil {
		t.Error("a queue that isn't there took a message")
	}
	kept := f.service.Messages(queueARN)
	if len(kept) != 1 || kept[0].Body != "event" || kept[0].Attributes["ERROR_CODE"] != "NO_RESOURCE" || kept[0].Received != 0 {
		t.Errorf("%+v", kept)
	}
	for want, names := range map[string][]string{
		"ERROR_CODE":          {"ERROR_CODE"},
		"ERROR_CODE RULE_ARN": {"All"},
		"RULE_ARN":            {"RULE.*"},
		"":                    nil,
	} {
		got := f.receive(func(in *sdk.ReceiveMessageInput) { in.MessageAttributeNames, in.VisibilityTimeout = names, 0 })
		f.clock.Advance(time.Minute)
		var have []string
		for name := range got[0].MessageAttributes {
			have = append(have, name)
		}
		slices.Sort(have)
		if strings.Join(have, " ") != want {
			t.Errorf("%v: %v", names, have)
		}
	}
	// The digest of attributes, by an independent calculation: length and text of
	// name and type, 1, length and text of the value.
	out, err := f.SendMessage(f.ctx, &sdk.SendMessageInput{QueueUrl: f.url, MessageBody: aws.String("m"), MessageAttributes: map[string]types.MessageAttributeValue{
		"a": {DataType: aws.String("String"), StringValue: aws.String("b")},
	}})
	if err != nil || aws.ToString(out.MD5OfMessageAttributes) != "bef8bf215374a0a228d67533b1a488be" {
		t.Errorf("%s, %v", aws.ToString(out.MD5OfMessageAttributes), err)
	}
}

func TestALongPollEndsWithAMessageOrItsTime(t *testing.T) {
	t.Parallel()
	f := start(t, map[string]string{"ReceiveMessageWaitTimeSeconds": "20"})
	got := make(chan []types.Message)
	poll := func() {
		out, err := f.ReceiveMessage(f.ctx, &sdk.ReceiveMessageInput{QueueUrl: f.url})
		if err != nil {
			t.Error(err)
			out = &sdk.ReceiveMessageOutput{}
		}
		got <- out.Messages
	}
	go poll()
	f.send("one")
	if diff := cmp.Diff([]string{"one"}, bodies(<-got)); diff != "" {
		t.Error(diff)
	}
	go poll()
	for done := false; !done; {
		select {
		case none := <-got:
			if none != nil {
				t.Errorf("received %v", bodies(none))
			}
			done = true
		default:
			f.clock.Advance(5 * time.Second) // the hidden message comes back after 30 s
			time.Sleep(20 * time.Millisecond)
		}
		if len(f.service.Messages(queueARN)) != 1 {
			t.Fatal("the message is gone")
		}
		if f.service.Messages(queueARN)[0].Received > 1 {
			<-got
			done = true
		}
	}
}

func TestMessagesExpire(t *testing.T) {
	t.Parallel()
	f := start(t, map[string]string{"MessageRetentionPeriod": "60"})
	f.send("one")
	f.clock.Advance(59 * time.Second)
	if n := len(f.service.Messages(queueARN)); n != 1 {
		t.Errorf("%d messages", n)
	}
	f.clock.Advance(2 * time.Second)
	if n := len(f.service.Messages(queueARN)); n != 0 || f.attribute("ApproximateNumberOfMessages") != "0" {
		t.Errorf("%d messages", n)
	}
}

func TestQueuesAreMadeOnceAndFound(t *testing.T) {
	t.Parallel()
	f := start(t, map[string]string{"VisibilityTimeout": "60", "Policy": "{}"})
	same, err := f.CreateQueue(f.ctx, &sdk.CreateQueueInput{QueueName: aws.String("dead"), Attributes: map[string]string{"VisibilityTimeout": "60"}})
	if err != nil || *same.QueueUrl != *f.url {
		t.Errorf("%+v, %v", same, err)
	}
	url, err := f.GetQueueUrl(f.ctx, &sdk.GetQueueUrlInput{QueueName: aws.String("dead")})
	if err != nil || *url.QueueUrl != *f.url || !strings.HasSuffix(*f.url, "/000000000000/dead") {
		t.Errorf("%+v, %v", url, err)
	}
	all, err := f.GetQueueAttributes(f.ctx, &sdk.GetQueueAttributesInput{QueueUrl: f.url, AttributeNames: []types.QueueAttributeName{"All"}})
	want := map[string]string{
		"QueueArn": queueARN, "VisibilityTimeout": "60", "MessageRetentionPeriod": "345600", "ReceiveMessageWaitTimeSeconds": "0", "Policy": "{}",
		"SqsManagedSseEnabled": "true", "ApproximateNumberOfMessages": "0", "ApproximateNumberOfMessagesNotVisible": "0", "ApproximateNumberOfMessagesDelayed": "0",
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, all.Attributes); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	set := func(name, value string) error {
		_, err := f.SetQueueAttributes(f.ctx, &sdk.SetQueueAttributesInput{QueueUrl: f.url, Attributes: map[string]string{name: value}})
		return err
	}
	if err := set("Policy", `{"Statement":[]}`); err != nil || f.attribute("Policy") != `{"Statement":[]}` {
		t.Errorf("%s, %v", f.attribute("Policy"), err)
	}
	wantCode(t, set("VisibilityTimeout", "43201"), "InvalidAttributeValue")
	wantCode(t, set("DelaySeconds", "1"), "InvalidAttributeName")
	create := func(name string, attributes map[string]string) error {
		_, err := f.CreateQueue(f.ctx, &sdk.CreateQueueInput{QueueName: &name, Attributes: attributes})
		return err
	}
	wantCode(t, create("dead", map[string]string{"VisibilityTimeout": "61"}), "QueueAlreadyExists")
	wantCode(t, create("a.fifo", nil), "InvalidParameterValue")
	wantCode(t, create("q", map[string]string{"FifoQueue": "true"}), "InvalidAttributeName")
	wantCode(t, create("q", map[string]string{"RedrivePolicy": "{}"}), "InvalidAttributeName")
	wantCode(t, create("q", map[string]string{"VisibilityTimeout": "43201"}), "InvalidAttributeValue")
	wantCode(t, create("q", map[string]string{"MessageRetentionPeriod": "59"}), "InvalidAttributeValue")
	_, err = f.GetQueueUrl(f.ctx, &sdk.GetQueueUrlInput{QueueName: aws.String("none")})
	wantCode(t, err, noQueue)
	none := strings.Replace(*f.url, "dead", "none", 1)
	_, err = f.ReceiveMessage(f.ctx, &sdk.ReceiveMessageInput{QueueUrl: &none})
	var missing *types.QueueDoesNotExist
	if !errors.As(err, &missing) {
		t.Errorf("%v", err)
	}
	_, err = f.GetQueueAttributes(f.ctx, &sdk.GetQueueAttributesInput{QueueUrl: f.url, AttributeNames: []types.QueueAttributeName{"Other"}})
	wantCode(t, err, "InvalidAttributeName")
}

func TestMessagesThatAreRefused(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	send := func(change func(*sdk.SendMessageInput)) error {
		in := &sdk.SendMessageInput{QueueUrl: f.url, MessageBody: aws.String("m")}
		change(in)
		_, err := f.SendMessage(f.ctx, in)
		return err
	}
	wantCode(t, send(func(in *sdk.SendMessageInput) { in.MessageBody = aws.String("") }), "InvalidParameterValue")
	wantCode(t, send(func(in *sdk.SendMessageInput) { in.MessageBody = aws.String(strings.Repeat("x", 1<<20+1)) }), "InvalidParameterValue")
	wantCode(t, send(func(in *sdk.SendMessageInput) { in.MessageBody = aws.String(strings.Repeat("x", 1<<20)) }), "")
	wantCode(t, send(func(in *sdk.SendMessageInput) { in.DelaySeconds = 5 }), "SerializationException")
	wantCode(t, send(func(in *sdk.SendMessageInput) {
		in.MessageAttributes = map[string]types.MessageAttributeValue{"n": {DataType: aws.String("Number"), StringValue: aws.String("1")}}
	}), "InvalidParameterValue")
	for _, change := range []func(*sdk.ReceiveMessageInput){
		func(in *sdk.ReceiveMessageInput) { in.MaxNumberOfMessages = 11 },
		func(in *sdk.ReceiveMessageInput) { in.WaitTimeSeconds = 21 },
		func(in *sdk.ReceiveMessageInput) { in.VisibilityTimeout = 43201 },
	} {
		in := &sdk.ReceiveMessageInput{QueueUrl: f.url}
		change(in)
		_, err := f.ReceiveMessage(f.ctx, in)
		wantCode(t, err, "InvalidParameterValue")
	}
	_, err := f.PurgeQueue(f.ctx, &sdk.PurgeQueueInput{QueueUrl: f.url})
	wantCode(t, err, "UnknownOperationException")
}

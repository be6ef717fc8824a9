package sns_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/sns"
)

const topicARN = "arn:aws:sns:us-east-1:000000000000:findings"

// fixture is an SNS behind HTTP with a real SDK client.
type fixture struct {
	*sdk.Client
	t       *testing.T
	ctx     context.Context
	service *sns.Service
}

type invoker func(name string, payload []byte)

func (f invoker) Invoke(_ context.Context, name string, payload []byte) (host.Invocation, error) {
	f(name, payload)
	return host.Invocation{}, nil
}

func start(t *testing.T, i host.Invoker) *fixture {
	t.Helper()
	f := &fixture{t: t, ctx: t.Context(), service: sns.New(sns.Config{Clock: clock.New(), Invoker: i})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { awsproto.ServeQuery(w, r, f.service) }))
	t.Cleanup(func() { f.service.Close(); server.Close() })
	f.Client = sdk.New(sdk.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "unused", ""),
	})
	return f
}

func (f *fixture) create() {
	f.t.Helper()
	out, err := f.CreateTopic(f.ctx, &sdk.CreateTopicInput{Name: aws.String("findings")})
	if err != nil || *out.TopicArn != topicARN {
		f.t.Fatalf("%+v, %v", out, err)
	}
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

func TestMessagesAreKept(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.create()
	out, err := f.Publish(f.ctx, &sdk.PublishInput{
		TopicArn: aws.String(topicARN), Subject: aws.String("propagating too long"), Message: aws.String("<b> & \n\"é\""),
		MessageAttributes: map[string]types.MessageAttributeValue{
			"kind":   {DataType: aws.String("String"), StringValue: aws.String("stuck")},
			"secret": {DataType: aws.String("String"), StringValue: aws.String("app/db")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.service.PublishTo(f.ctx, topicARN, []byte(`{"from":"a rule"}`)); err != nil {
		t.Fatal(err)
	}
	got := f.service.Messages(topicARN)
	want := []sns.Message{
		{Subject: "propagating too long", Body: "<b> & \n\"é\"", Attributes: map[string]string{"kind": "stuck", "secret": "app/db"}},
		{Body: `{"from":"a rule"}`},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(sns.Message{}, "ID", "At")); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	if got[0].ID != *out.MessageId || got[0].At.IsZero() {
		t.Errorf("%+v", got[0])
	}
	if f.service.Messages("arn:aws:sns:us-east-1:000000000000:none") != nil {
		t.Error("a topic that isn't there has messages")
	}
}

// API reference, Publish.
func TestMessagesThatAreRefused(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.create()
	tests := []struct {
		what string
		in   sdk.PublishInput
		code string
	}{
		{"empty", sdk.PublishInput{Message: aws.String("")}, "InvalidParameter"},
		{"256 KiB", sdk.PublishInput{Message: aws.String(strings.Repeat("x", 256<<10))}, ""},
		{"longer", sdk.PublishInput{Message: aws.String(strings.Repeat("x", 256<<10+1))}, "InvalidParameter"},
		{"a subject of 100", sdk.PublishInput{Message: aws.String("m"), Subject: aws.String(strings.Repeat("s", 100))}, ""},
		{"a longer one", sdk.PublishInput{Message: aws.String("m"), Subject: aws.String(strings.Repeat("s", 101))}, "InvalidParameter"},
		{"of two lines", sdk.PublishInput{Message: aws.String("m"), Subject: aws.String("a\nb")}, "InvalidParameter"},
		{"no ASCII", sdk.PublishInput{Message: aws.String("m"), Subject: aws.String("é")}, "InvalidParameter"},
		{"by protocol", sdk.PublishInput{Message: aws.String(`{"default":"m"}`), MessageStructure: aws.String("json")}, "InvalidParameter"},
		{"a number", sdk.PublishInput{Message: aws.String("m"), MessageAttributes: map[string]types.MessageAttributeValue{
			"n": {DataType: aws.String("Number"), StringValue: aws.String("1")},
		}}, "InvalidParameter"},
		{"no topic", sdk.PublishInput{Message: aws.String("m"), TopicArn: aws.String(topicARN + "x")}, "NotFound"},
		{"no ARN", sdk.PublishInput{Message: aws.String("m"), TopicArn: aws.String("findings")}, "InvalidParameter"},
		{"a telephone", sdk.PublishInput{Message: aws.String("m"), TopicArn: aws.String(topicARN), PhoneNumber: aws.String("+1")}, "InvalidParameter"},
		{"by TargetArn", sdk.PublishInput{Message: aws.String("m"), TargetArn: aws.String(topicARN), TopicArn: aws.String("")}, ""},
	}
	for _, tt := range tests {
		if tt.in.TopicArn == nil {
			tt.in.TopicArn = aws.String(topicARN)
		}
		if _, err := f.Publish(f.ctx, &tt.in); code(err) != tt.code {
			t.Errorf("%s: %v, want %q", tt.what, err, tt.code)
		}
	}
}

func TestTopicsAreMadeOnceAndDescribed(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	in := &sdk.CreateTopicInput{
		Name: aws.String("findings"), Attributes: map[string]string{"DisplayName": "Keyturn", "KmsMasterKeyId": "alias/k"},
		Tags: []types.Tag{{Key: aws.String("app"), Value: aws.String("keyturn")}},
	}
	for range 2 {
		if out, err := f.CreateTopic(f.ctx, in); err != nil || *out.TopicArn != topicARN {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	in.Attributes["DisplayName"] = "Another"
	_, err := f.CreateTopic(f.ctx, in)
	wantCode(t, err, "InvalidParameter")
	for _, name := range []string{"", "a b", "a.fifo", strings.Repeat("t", 257)} {
		_, err := f.CreateTopic(f.ctx, &sdk.CreateTopicInput{Name: &name})
		wantCode(t, err, "InvalidParameter")
	}
	_, err = f.CreateTopic(f.ctx, &sdk.CreateTopicInput{Name: aws.String("t"), Attributes: map[string]string{"FifoTopic": "true"}})
	wantCode(t, err, "InvalidParameter")
	out, err := f.GetTopicAttributes(f.ctx, &sdk.GetTopicAttributesInput{TopicArn: aws.String(topicARN)})
	want := map[string]string{
		"TopicArn": topicARN, "Owner": "000000000000", "DisplayName": "Keyturn", "KmsMasterKeyId": "alias/k",
		"SubscriptionsConfirmed": "0", "SubscriptionsPending": "0", "SubscriptionsDeleted": "0",
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.Attributes); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	set := func(name, value string) error {
		_, err := f.SetTopicAttributes(f.ctx, &sdk.SetTopicAttributesInput{TopicArn: aws.String(topicARN), AttributeName: &name, AttributeValue: &value})
		return err
	}
	if err := set("Policy", `{"Statement":[]}`); err != nil {
		t.Fatal(err)
	}
	wantCode(t, set("DeliveryPolicy", "{}"), "InvalidParameter")
	if out, err = f.GetTopicAttributes(f.ctx, &sdk.GetTopicAttributesInput{TopicArn: aws.String(topicARN)}); err != nil || out.Attributes["Policy"] != `{"Statement":[]}` {
		t.Errorf("%+v, %v", out, err)
	}
	for range 2 { // deleting what isn't there succeeds
		if _, err := f.DeleteTopic(f.ctx, &sdk.DeleteTopicInput{TopicArn: aws.String(topicARN)}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = f.GetTopicAttributes(f.ctx, &sdk.GetTopicAttributesInput{TopicArn: aws.String(topicARN)})
	wantCode(t, err, "NotFound")
	_, err = f.ListTopics(f.ctx, &sdk.ListTopicsInput{})
	wantCode(t, err, "InvalidAction")
}

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	const function = "arn:aws:lambda:us-east-1:000000000000:function:alarm"
	type invocation struct {
		name    string
		payload []byte
	}
	invoked := make(chan invocation, 9)
	f := start(t, invoker(func(name string, payload []byte) { invoked <- invocation{name, payload} }))
	f.create()
	subscribe := func(protocol, endpoint string, always bool) (string, error) {
		out, err := f.Subscribe(f.ctx, &sdk.SubscribeInput{TopicArn: aws.String(topicARN), Protocol: &protocol, Endpoint: &endpoint, ReturnSubscriptionArn: always})
		if err != nil {
			return "", err
		}
		return *out.SubscriptionArn, nil
	}
	mail, err := subscribe("email", "ops@example.com", false)
	if err != nil || mail != "pending confirmation" {
		t.Errorf("%s, %v", mail, err)
	}
	again, err := subscribe("email", "ops@example.com", true)
	if err != nil || !strings.HasPrefix(again, topicARN+":") {
		t.Errorf("%s, %v", again, err)
	}
	arn, err := subscribe("lambda", function, false)
	if err != nil || !strings.HasPrefix(arn, topicARN+":") || arn == again {
		t.Errorf("%s, %v", arn, err)
	}
	for protocol, endpoint := range map[string]string{"sms": "+1", "email": "nobody", "lambda": "f", "https": "http://x", "": "x"} {
		_, err := subscribe(protocol, endpoint, false)
		wantCode(t, err, "InvalidParameter")
	}
	_, err = f.Subscribe(f.ctx, &sdk.SubscribeInput{
		TopicArn: aws.String(topicARN), Protocol: aws.String("lambda"), Endpoint: aws.String(function), Attributes: map[string]string{"FilterPolicy": "{}"},
	})
	wantCode(t, err, "InvalidParameter")
	list, err := f.ListSubscriptionsByTopic(f.ctx, &sdk.ListSubscriptionsByTopicInput{TopicArn: aws.String(topicARN)})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range list.Subscriptions {
		got = append(got, *s.Protocol+" "+*s.Endpoint+" "+*s.SubscriptionArn)
	}
	if diff := cmp.Diff([]string{"email ops@example.com PendingConfirmation", "lambda " + function + " " + arn}, got); diff != "" {
		t.Errorf("subscriptions (-want +got):\n%s", diff)
	}
	if _, err := f.Publish(f.ctx, &sdk.PublishInput{TopicArn: aws.String(topicARN), Message: aws.String("m"), Subject: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	f.service.Close() // waits for the function
	call := <-invoked
	var event struct {
		Records []struct {
			EventSource, EventSubscriptionArn string
			Sns                               struct{ Message, Subject, TopicArn, Type string }
		}
	}
	if err := json.Unmarshal(call.payload, &event); err != nil || call.name != function || len(invoked) != 0 {
		t.Fatalf("%s %s %v", call.name, call.payload, err)
	}
	r := event.Records[0]
	if r.EventSource != "aws:sns" || r.EventSubscriptionArn != arn || r.Sns.Message != "m" || r.Sns.Subject != "s" || r.Sns.TopicArn != topicARN || r.Sns.Type != "Notification" {
		t.Errorf("%s", call.payload)
	}
}

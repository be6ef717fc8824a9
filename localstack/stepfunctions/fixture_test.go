package stepfunctions_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/stepfunctions"
)

// functions is a strict fake of Lambda: a function that isn't there doesn't run.
type functions map[string]func(ctx context.Context, payload []byte) (host.Invocation, error)

func (f functions) Invoke(ctx context.Context, name string, payload []byte) (host.Invocation, error) {
	do, ok := f[name]
	if !ok {
		return host.Invocation{}, &awsproto.Error{Code: "ResourceNotFoundException", Status: 404, Message: "Function not found: " + name}
	}
	return do(ctx, payload)
}

func answers(payload string) func(context.Context, []byte) (host.Invocation, error) {
	return func(context.Context, []byte) (host.Invocation, error) {
		return host.Invocation{Payload: []byte(payload)}, nil
	}
}

func fails(document string) func(context.Context, []byte) (host.Invocation, error) {
	return func(context.Context, []byte) (host.Invocation, error) {
		return host.Invocation{Payload: []byte(document), FunctionError: "Unhandled"}, nil
	}
}

func refuses(code string) func(context.Context, []byte) (host.Invocation, error) {
	return func(context.Context, []byte) (host.Invocation, error) {
		return host.Invocation{}, awsproto.Errorf(code, "refused")
	}
}

// bus keeps what is published.
type bus struct {
	mu     sync.Mutex
	events []host.Event
}

func (b *bus) Publish(e host.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
}

// bench is a service with a real SDK client.
type bench struct {
	t       *testing.T
	service *stepfunctions.Service
	client  *sfn.Client
	clock   *clock.Clock
	bus     *bus
}

func setup(t *testing.T, c stepfunctions.Config) *bench {
	t.Helper()
	b := &bench{t: t, clock: clock.New(), bus: &bus{}}
	c.Clock, c.Bus = b.clock, b.bus
	b.service = stepfunctions.New(c)
	t.Cleanup(b.service.Close)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { awsproto.ServeJSON(w, r, b.service) }))
	t.Cleanup(server.Close)
	b.client = sfn.New(sfn.Options{
		Region: awsproto.Region, BaseEndpoint: aws.String(server.URL), RetryMaxAttempts: 1, HTTPClient: server.Client(),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
	return b
}

const role = "arn:aws:iam::000000000000:role/r"

func (b *bench) create(name, definition string) *string {
	b.t.Helper()
	out, err := b.client.CreateStateMachine(b.t.Context(), &sfn.CreateStateMachineInput{
		Name: &name, Definition: &definition, RoleArn: aws.String(role),
	})
	if err != nil {
		b.t.Fatalf("creating %s: %v", name, err)
	}
	return out.StateMachineArn
}

func (b *bench) start(machine *string, name, input string) *string {
	b.t.Helper()
	out, err := b.client.StartExecution(b.t.Context(), &sfn.StartExecutionInput{StateMachineArn: machine, Name: &name, Input: &input})
	if err != nil {
		b.t.Fatalf("starting %s: %v", name, err)
	}
	return out.ExecutionArn
}

func (b *bench) describe(arn *string) *sfn.DescribeExecutionOutput {
	b.t.Helper()
	out, err := b.client.DescribeExecution(b.t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: arn})
	if err != nil {
		b.t.Fatalf("describing: %v", err)
	}
	return out
}

func (b *bench) end(arn *string) *sfn.DescribeExecutionOutput {
	b.t.Helper()
	select {
	case <-b.service.Done(*arn):
	case <-time.After(30 * time.Second):
		b.t.Fatalf("%s doesn't end", *arn)
	}
	return b.describe(arn)
}

func (b *bench) eventually(what string, holds func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("still not so: %s", what)
		}
	}
}

func machine(states string) string { return `{"StartAt":"A","States":{` + states + `}}` }

func call(function string) string {
	return `"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","Parameters":{"FunctionName":"` + function + `","Payload.$":"$"}`
}

const (
	waitADay  = `"A":{"Type":"Wait","Seconds":86400,"Next":"B"},"B":{"Type":"Succeed"}`
	onlyAPass = `"A":{"Type":"Pass","Result":{"done":true},"End":true}`
)

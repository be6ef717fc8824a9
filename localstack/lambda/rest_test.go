package lambda_test

import (
	"encoding/base64"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/lambda"
)

// client is a real SDK client of the service, without retries of its own.
func client(t *testing.T, s *lambda.Service) *sdk.Client {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return sdk.New(sdk.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), RetryMaxAttempts: 1, HTTPClient: server.Client(),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
}

func TestSDK(t *testing.T) {
	t.Parallel()
	s := serve(t, lambda.Config{}, lambda.Function{Name: "f", MaxConcurrency: 3, Env: []string{"A=b"}}, lambda.Function{Name: "g"})
	c, ctx := client(t, s), t.Context()

	out, err := c.Invoke(ctx, &sdk.InvokeInput{FunctionName: aws.String("f"), Payload: []byte(`{"mode":"named"}`), LogType: types.LogTypeTail})
	if err != nil {
		t.Fatal(err)
	}
	tail, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	if err != nil || !strings.Contains(string(tail), "REPORT RequestId: ") {
		t.Errorf("log %q, %v", tail, err)
	}
	if aws.ToString(out.FunctionError) != "Unhandled" || aws.ToString(out.ExecutedVersion) != "$LATEST" || out.StatusCode != 200 ||
		!strings.Contains(string(out.Payload), `"errorType":"Keyturn.DrainInProgress"`) {
		t.Errorf("got %+v, %s", out, out.Payload)
	}
	arn := aws.String("arn:aws:lambda:us-east-1:000000000000:function:f")
	out, err = c.Invoke(ctx, &sdk.InvokeInput{FunctionName: arn, Payload: []byte(`{"a":1}`), Qualifier: aws.String("$LATEST")})
	if err != nil || string(out.Payload) != `{"a":1}` || out.FunctionError != nil {
		t.Errorf("got %+v, %v", out, err)
	}
	out, err = c.Invoke(ctx, &sdk.InvokeInput{FunctionName: arn, InvocationType: types.InvocationTypeDryRun})
	if err != nil || out.StatusCode != 204 {
		t.Errorf("dry run: %+v, %v", out, err)
	}
	got, err := c.GetFunction(ctx, &sdk.GetFunctionInput{FunctionName: aws.String("f")})
	if err != nil || aws.ToString(got.Configuration.FunctionArn) != *arn || aws.ToInt32(got.Configuration.Timeout) != 60 ||
		got.Configuration.Environment.Variables["A"] != "b" || aws.ToInt32(got.Concurrency.ReservedConcurrentExecutions) != 3 {
		t.Errorf("get: %+v, %v", got, err)
	}
	list, err := c.ListFunctions(ctx, &sdk.ListFunctionsInput{})
	if err != nil || len(list.Functions) != 2 || aws.ToString(list.Functions[1].FunctionName) != "g" {
		t.Errorf("list: %+v, %v", list, err)
	}
	conf, err := c.GetFunctionConfiguration(ctx, &sdk.GetFunctionConfigurationInput{FunctionName: aws.String("g")})
	if err != nil || conf.State != types.StateActive {
		t.Errorf("configuration: %+v, %v", conf, err)
	}
	var missing *types.ResourceNotFoundException
	if _, err := c.Invoke(ctx, &sdk.InvokeInput{FunctionName: aws.String("nope")}); !errors.As(err, &missing) {
		t.Errorf("no such function: %v", err)
	}
	var bad *types.InvalidRequestContentException
	if _, err := c.Invoke(ctx, &sdk.InvokeInput{FunctionName: aws.String("f"), Payload: []byte(`x`)}); !errors.As(err, &bad) {
		t.Errorf("bad payload: %v", err)
	}
	if _, err := c.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: aws.String("f")}); err == nil || !strings.Contains(err.Error(), "has no DELETE") {
		t.Errorf("delete: %v", err)
	}
}

func TestSDKThrottled(t *testing.T) {
	t.Parallel()
	s := serve(t, lambda.Config{Throttle: func(string) bool { return true }}, lambda.Function{Name: "f"})
	var slow *types.TooManyRequestsException
	if _, err := client(t, s).Invoke(t.Context(), &sdk.InvokeInput{FunctionName: aws.String("f")}); !errors.As(err, &slow) {
		t.Errorf("got %v", err)
	}
}

func TestEventRetries(t *testing.T) {
	t.Parallel()
	l, moved := &logs{}, clock.New()
	s := serve(t, lambda.Config{LogSink: l.add, Clock: moved}, lambda.Function{Name: "f"})
	out, err := client(t, s).Invoke(t.Context(), &sdk.InvokeInput{
		FunctionName: aws.String("f"), InvocationType: types.InvocationTypeEvent, Payload: []byte(`{"mode":"named"}`),
	})
	if err != nil || out.StatusCode != 202 {
		t.Fatalf("got %+v, %v", out, err)
	}
	for n := range 3 {
		eventually(t, "one more attempt", func() bool {
			moved.Advance(time.Minute)
			return l.count("REPORT") > n
		})
	}
	moved.Advance(time.Hour)
	if n := l.count("mode named"); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
}

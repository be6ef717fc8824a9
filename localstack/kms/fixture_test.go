package kms_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/kms"
)

const day = 24 * time.Hour

// fixture is a KMS behind HTTP with a real SDK client and a recording bus.
type fixture struct {
	*sdk.Client
	t       *testing.T
	ctx     context.Context
	clock   *clock.Clock
	service *kms.Service

	mu     sync.Mutex
	events []host.Event
}

func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, ctx: t.Context(), clock: clock.New()}
	f.service = kms.New(kms.Config{Clock: f.clock, Bus: f})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		awsproto.ServeJSON(w, awsproto.WithCaller(r), f.service)
	}))
	t.Cleanup(server.Close)
	f.Client = sdk.New(sdk.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "unused", ""),
	})
	return f
}

func (f *fixture) Publish(e host.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
}

func (f *fixture) key(spec types.KeySpec) *types.KeyMetadata {
	f.t.Helper()
	out, err := f.CreateKey(f.ctx, &sdk.CreateKeyInput{KeySpec: spec, KeyUsage: types.KeyUsageTypeSignVerify})
	if err != nil {
		f.t.Fatal(err)
	}
	return out.KeyMetadata
}

func (f *fixture) sign(id string, algorithm types.SigningAlgorithmSpec, kind types.MessageType, message []byte) ([]byte, error) {
	out, err := f.Sign(f.ctx, &sdk.SignInput{KeyId: &id, SigningAlgorithm: algorithm, MessageType: kind, Message: message})
	if err != nil {
		return nil, err
	}
	return out.Signature, nil
}

func (f *fixture) state(id string) types.KeyState {
	f.t.Helper()
	out, err := f.DescribeKey(f.ctx, &sdk.DescribeKeyInput{KeyId: &id})
	if err != nil {
		f.t.Fatal(err)
	}
	return out.KeyMetadata.KeyState
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

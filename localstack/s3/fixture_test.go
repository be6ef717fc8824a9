package s3_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/s3"
)

const trailBucket = "audit-trail"

// fixture is an S3 behind HTTP with a real SDK client and a recording bus.
type fixture struct {
	*sdk.Client
	t       *testing.T
	ctx     context.Context
	url     string
	http    *http.Client
	clock   *clock.Clock
	service *s3.Service
	bus     *recorder

	mu   sync.Mutex
	last http.Header // of the latest request
}

func start(t *testing.T) *fixture { return startOn(t, httptest.NewServer) }

func startOn(t *testing.T, listen func(http.Handler) *httptest.Server) *fixture {
	t.Helper()
	f := &fixture{t: t, ctx: t.Context(), clock: clock.New(), bus: &recorder{}}
	f.service = s3.New(s3.Config{Clock: f.clock, Bus: f.bus})
	server := listen(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.last = r.Header.Clone()
		f.mu.Unlock()
		f.service.ServeHTTP(w, awsproto.WithCaller(r))
	}))
	t.Cleanup(server.Close)
	f.url, f.http = server.URL, server.Client()
	f.Client = sdk.New(sdk.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1, HTTPClient: server.Client(),
		// As clients that are made of a loaded configuration have it.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported, ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
		Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "unused", ""),
	})
	return f
}

type recorder struct {
	mu     sync.Mutex
	events []host.Event
}

func (r *recorder) Publish(e host.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// of returns the details of the events with a type.
func (r *recorder) of(t *testing.T, kind string) (out []map[string]any) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.DetailType != kind {
			continue
		}
		var d map[string]any
		if err := json.Unmarshal(e.Detail, &d); err != nil {
			t.Fatalf("event %s: %v", e.Detail, err)
		}
		out = append(out, d)
	}
	return out
}

func (f *fixture) create(name string, locked bool) {
	f.t.Helper()
	in := &sdk.CreateBucketInput{Bucket: &name}
	if locked {
		in.ObjectLockEnabledForBucket = &locked
	}
	if _, err := f.CreateBucket(f.ctx, in); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) versioning(status types.BucketVersioningStatus) {
	f.t.Helper()
	if _, err := f.PutBucketVersioning(f.ctx, &sdk.PutBucketVersioningInput{
		Bucket: aws.String(trailBucket), VersioningConfiguration: &types.VersioningConfiguration{Status: status},
	}); err != nil {
		f.t.Fatal(err)
	}
}

// put writes an object; the options change the call.
func (f *fixture) put(key, body string, options ...func(*sdk.PutObjectInput)) (string, error) {
	in := &sdk.PutObjectInput{Bucket: aws.String(trailBucket), Key: &key, Body: strings.NewReader(body)}
	for _, o := range options {
		o(in)
	}
	out, err := f.PutObject(f.ctx, in)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.VersionId), nil
}

func (f *fixture) mustPut(key, body string, options ...func(*sdk.PutObjectInput)) string {
	f.t.Helper()
	id, err := f.put(key, body, options...)
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

func ifAbsent(in *sdk.PutObjectInput) { in.IfNoneMatch = aws.String("*") }

// get reads an object; "" for the version reads the current one.
func (f *fixture) get(key, version string) (string, error) {
	in := &sdk.GetObjectInput{Bucket: aws.String(trailBucket), Key: &key}
	if version != "" {
		in.VersionId = &version
	}
	out, err := f.GetObject(f.ctx, in)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(out.Body)
	if closing := out.Body.Close(); err == nil {
		err = closing
	}
	return string(body), err
}

func (f *fixture) wantBody(key, version, want string) {
	f.t.Helper()
	if got, err := f.get(key, version); err != nil || got != want {
		f.t.Errorf("%s (version %q) is %q, %v; want %q", key, version, got, err, want)
	}
}

func (f *fixture) remove(key, version string, options ...func(*sdk.DeleteObjectInput)) (*sdk.DeleteObjectOutput, error) {
	in := &sdk.DeleteObjectInput{Bucket: aws.String(trailBucket), Key: &key}
	if version != "" {
		in.VersionId = &version
	}
	for _, o := range options {
		o(in)
	}
	return f.DeleteObject(f.ctx, in)
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

// raw sends what no SDK would: a request with the headers as they are. It returns
// the status and the error's code.
func (f *fixture) raw(method, target, body string, headers map[string]string) (int, string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.ctx, method, f.url+target, bytes.NewReader([]byte(body)))
	if err != nil {
		f.t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(body))
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	for name, value := range headers {
		req.Header.Set(name, value)
		if value == "" {
			req.Header.Del(name)
		}
	}
	resp, err := f.http.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	var e struct{ Code string }
	if resp.StatusCode >= http.StatusMultipleChoices {
		if err := xml.Unmarshal(text, &e); err != nil {
			f.t.Fatalf("%s %s answered %s", method, target, text)
		}
	}
	return resp.StatusCode, e.Code
}

package secretsmanager_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

const functionARN = "arn:aws:lambda:us-east-1:000000000000:function:rotate"

// fixture is a Secrets Manager behind HTTP with a real SDK client, a rotation
// function in Go and a recording bus.
type fixture struct {
	*sm.Client
	t       *testing.T
	ctx     context.Context
	clock   *clock.Clock
	service *secretsmanager.Service
	fn      *function
	bus     *recorder
}

func start(t *testing.T, b secretsmanager.Behaviour) *fixture {
	t.Helper()
	f := &fixture{t: t, ctx: t.Context(), clock: clock.New(), bus: &recorder{}}
	f.fn = &function{f: f, reached: map[string]chan struct{}{}, hold: map[string]chan struct{}{}}
	f.service = secretsmanager.New(secretsmanager.Config{Clock: f.clock, Invoker: f.fn, Bus: f.bus, Behaviour: b})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		awsproto.ServeJSON(w, awsproto.WithCaller(r), f.service)
	}))
	f.Client = client(server.URL)
	t.Cleanup(func() {
		f.service.Close()
		server.Close()
	})
	return f
}

func client(endpoint string) *sm.Client {
	return sm.New(sm.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "unused", ""),
	})
}

// function rotates a secret as AWS's template does, unless told otherwise.
type function struct {
	f *fixture

	mu      sync.Mutex
	events  []rotationEvent
	failing map[string]int           // step to how many more failures
	lazy    bool                     // returns success without doing anything
	reached map[string]chan struct{} // closed when a held step is reached
	hold    map[string]chan struct{} // the step waits until this is closed
}

type rotationEvent struct{ Step, SecretID, ClientRequestToken, RotationToken string }

func (fn *function) Invoke(ctx context.Context, name string, payload []byte) (host.Invocation, error) {
	if name != functionARN {
		return host.Invocation{}, awsproto.Errorf("ResourceNotFoundException", "no function %s", name)
	}
	var e rotationEvent
	if err := json.Unmarshal(payload, &e); err != nil {
		return host.Invocation{}, err
	}
	fn.mu.Lock()
	fn.events = append(fn.events, e)
	fails, lazy := fn.failing[e.Step] > 0, fn.lazy
	if fails {
		fn.failing[e.Step]--
	}
	reached, hold := fn.reached[e.Step], fn.hold[e.Step]
	delete(fn.hold, e.Step)
	fn.mu.Unlock()
	if hold != nil {
		close(reached)
		<-hold
	}
	err := error(nil)
	switch {
	case fails:
		err = errors.New("told to fail")
	case !lazy:
		err = fn.rotate(ctx, e)
	}
	if err != nil {
		doc, _ := json.Marshal(map[string]string{"errorType": "Failed", "errorMessage": err.Error()})
		return host.Invocation{Payload: doc, FunctionError: "Unhandled"}, nil //nolint:nilerr // the answer carries it
	}
	return host.Invocation{Payload: []byte("null")}, nil
}

func (*function) Has(name string) bool { return name == functionARN }

func (fn *function) rotate(ctx context.Context, e rotationEvent) error {
	d, err := fn.f.DescribeSecret(ctx, &sm.DescribeSecretInput{SecretId: &e.SecretID})
	if err != nil {
		return err
	}
	stages := d.VersionIdsToStages[e.ClientRequestToken]
	if slices.Contains(stages, "AWSCURRENT") {
		return nil
	}
	if !slices.Contains(stages, "AWSPENDING") {
		return errors.New("the version is not pending")
	}
	switch e.Step {
	case "createSecret":
		_, err = fn.f.GetSecretValue(ctx, &sm.GetSecretValueInput{
			SecretId: &e.SecretID, VersionId: &e.ClientRequestToken, VersionStage: aws.String("AWSPENDING"),
		})
		if code(err) != "ResourceNotFoundException" {
			return err
		}
		_, err = fn.f.PutSecretValue(ctx, &sm.PutSecretValueInput{
			SecretId: &e.SecretID, ClientRequestToken: &e.ClientRequestToken, RotationToken: &e.RotationToken,
			SecretString: aws.String("value of " + e.ClientRequestToken), VersionStages: []string{"AWSPENDING"},
		})
	case "finishSecret":
		in := &sm.UpdateSecretVersionStageInput{
			SecretId: &e.SecretID, VersionStage: aws.String("AWSCURRENT"), MoveToVersionId: &e.ClientRequestToken,
		}
		for id, labels := range d.VersionIdsToStages {
			if slices.Contains(labels, "AWSCURRENT") {
				in.RemoveFromVersionId = &id
			}
		}
		_, err = fn.f.UpdateSecretVersionStage(ctx, in)
	}
	return err
}

// steps lists the steps that were invoked.
func (fn *function) steps() []string {
	fn.mu.Lock()
	defer fn.mu.Unlock()
	var out []string
	for _, e := range fn.events {
		out = append(out, e.Step)
	}
	return out
}

// fail makes a step fail n times.
func (fn *function) fail(step string, n int) {
	fn.mu.Lock()
	defer fn.mu.Unlock()
	fn.failing = map[string]int{step: n}
}

// holdAt makes the next invocation of a step wait; it returns functions that
// wait for the step to be reached and that let it go on.
func (fn *function) holdAt(step string) (reached, release func()) {
	fn.mu.Lock()
	defer fn.mu.Unlock()
	at, until := make(chan struct{}), make(chan struct{})
	fn.reached[step], fn.hold[step] = at, until
	release = sync.OnceFunc(func() { close(until) })
	fn.f.t.Cleanup(release)
	return func() { <-at }, release
}

// recorder keeps the names of service events, and all events.
type recorder struct {
	mu     sync.Mutex
	events []host.Event
}

func (r *recorder) Publish(e host.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

type detail struct {
	EventName           string
	EventSource         string
	EventType           string
	ErrorCode           string
	ReadOnly            bool
	UserIdentity        struct{ Arn string }
	RequestParameters   map[string]any
	ResponseElements    map[string]any
	AdditionalEventData struct{ SecretID string }
}

func (r *recorder) details(t *testing.T, detailType string) []detail {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []detail
	for _, e := range r.events {
		if e.DetailType != detailType {
			continue
		}
		var d detail
		if err := json.Unmarshal(e.Detail, &d); err != nil {
			t.Fatalf("event %s: %v", e.Detail, err)
		}
		out = append(out, d)
	}
	return out
}

// serviceEvents lists the events that the service sent of its own accord.
func (f *fixture) serviceEvents() []string {
	var out []string
	for _, d := range f.bus.details(f.t, "AWS Service Event via CloudTrail") {
		out = append(out, d.EventName)
	}
	return out
}

// eventually waits for a condition with a generous deadline.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (f *fixture) waitFor(event string, n int) {
	f.t.Helper()
	eventually(f.t, event, func() bool {
		seen := 0
		for _, name := range f.serviceEvents() {
			if name == event {
				seen++
			}
		}
		return seen >= n
	})
}

func (f *fixture) create(name, value string) (arn, version string) {
	f.t.Helper()
	out, err := f.CreateSecret(f.ctx, &sm.CreateSecretInput{Name: &name, SecretString: &value})
	if err != nil {
		f.t.Fatal(err)
	}
	return *out.ARN, *out.VersionId
}

// rotateInput is a RotateSecret with a function and a schedule far away.
func rotateInput(id, token string) *sm.RotateSecretInput {
	return &sm.RotateSecretInput{SecretId: &id, ClientRequestToken: &token, RotationLambdaARN: aws.String(functionARN)}
}

func (f *fixture) rotate(id string) string {
	f.t.Helper()
	token := uuid.NewString()
	if _, err := f.RotateSecret(f.ctx, rotateInput(id, token)); err != nil {
		f.t.Fatal(err)
	}
	return token
}

func (f *fixture) put(id, token, value string, stages ...string) error {
	_, err := f.PutSecretValue(f.ctx, &sm.PutSecretValueInput{
		SecretId: &id, ClientRequestToken: &token, SecretString: &value, VersionStages: stages,
	})
	return err
}

func (f *fixture) mustPut(id, value string, stages ...string) string {
	f.t.Helper()
	token := uuid.NewString()
	if err := f.put(id, token, value, stages...); err != nil {
		f.t.Fatal(err)
	}
	return token
}

// move calls UpdateSecretVersionStage; "" leaves a parameter out.
func (f *fixture) move(id, label, to, from string) error {
	in := &sm.UpdateSecretVersionStageInput{SecretId: &id, VersionStage: &label}
	if to != "" {
		in.MoveToVersionId = &to
	}
	if from != "" {
		in.RemoveFromVersionId = &from
	}
	_, err := f.UpdateSecretVersionStage(f.ctx, in)
	return err
}

func (f *fixture) describe(id string) *sm.DescribeSecretOutput {
	f.t.Helper()
	d, err := f.DescribeSecret(f.ctx, &sm.DescribeSecretInput{SecretId: &id})
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

// wantLabels compares who holds which labels.
func (f *fixture) wantLabels(id string, want map[string][]string) {
	f.t.Helper()
	if diff := cmp.Diff(want, f.describe(id).VersionIdsToStages); diff != "" {
		f.t.Errorf("labels (-want +got):\n%s", diff)
	}
}

// get reads a value; "" leaves a parameter out.
func (f *fixture) get(id, version, stage string) (string, error) {
	in := &sm.GetSecretValueInput{SecretId: &id}
	if version != "" {
		in.VersionId = &version
	}
	if stage != "" {
		in.VersionStage = &stage
	}
	out, err := f.GetSecretValue(f.ctx, in)
	if err != nil {
		return "", err
	}
	return *out.SecretString, nil
}

func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

// wantError compares an error's code and a part of its message.
func wantError(t *testing.T, err error, wantCode, part string) {
	t.Helper()
	if code(err) != wantCode || !strings.Contains(err.Error(), part) {
		t.Errorf("error = %v, want %s with %q", err, wantCode, part)
	}
}

package conformance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

// rig is one rotation function of whatever language on a local AWS of its own,
// with a secret and the target that knows it.
type rig struct {
	*account
	t       *testing.T
	s       *secret
	arn     string // of the function
	calls   *recorder
	invoker *invoker
	// works uses a value at the target, as a consumer does.
	works func(ctx context.Context, value string) error
	// watchdog is what a deployment's schedule does while others wait.
	watchdog func()
	// retired reports that nothing is left to do after a rotation.
	retired func() bool
	// alone fails the test if any credential but the current one works.
	alone func()

	service *tokenService // of the Python function
	db      *database     // of Keyturn's
	asked   time.Time     // when a stranded rotation was asked for last
}

// language makes rigs: one for single steps, one for a long life.
type language struct {
	name      string
	rig, live func(*testing.T, secretsmanager.Behaviour) *rig
}

// languages are the functions that the contract's rules are tried on.
var languages = []language{{"Go", newKeyturn, newQuickKeyturn}, {"Python", newPython, newPython}}

// each runs a test for each language's function.
func each(t *testing.T, b secretsmanager.Behaviour, test func(*testing.T, *rig)) {
	t.Helper()
	for _, l := range languages {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			test(t, l.rig(t, b))
		})
	}
}

// newRig starts the local AWS; the caller registers the function.
func newRig(t *testing.T, b secretsmanager.Behaviour) *rig {
	t.Helper()
	r := &rig{account: embedded(t, b), t: t, watchdog: func() {}, retired: func() bool { return true }, alone: func() {}}
	r.calls = record(t, r.local.Endpoint)
	r.invoker = &invoker{Registry: r.local.Lambda, failing: map[string]int{}}
	r.local.SecretsManager.SetInvoker(r.invoker)
	return r
}

// strand begins a rotation whose steps don't run: its version is pending and
// empty, and the test calls the steps itself.
func (r *rig) strand() string {
	r.t.Helper()
	r.invoker.fail("createSecret", 1)
	in := r.s.rotation(r.arn)
	if _, err := r.secrets.RotateSecret(r.t.Context(), in); err != nil {
		r.t.Fatal(err)
	}
	r.await(r.t, "the rotation to fail", func() bool { return len(r.invoker.events()) > 0 })
	r.calls.forget()
	return *in.ClientRequestToken
}

// failure is a function's error document.
type failure struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

// step invokes the function as Secrets Manager does; nil is success.
func (r *rig) step(step, version string) *failure {
	r.t.Helper()
	return r.invoke(event{Step: step, SecretID: r.s.arn, Version: version, RotationToken: r.invoker.issued(version)})
}

func (r *rig) invoke(e any) *failure {
	r.t.Helper()
	payload, err := json.Marshal(e)
	if err != nil {
		r.t.Fatal(err)
	}
	client := awslambda.NewFromConfig(clientConfig(r.local.Endpoint))
	out, err := client.Invoke(r.t.Context(), &awslambda.InvokeInput{FunctionName: &r.arn, Payload: payload})
	if err != nil {
		r.t.Fatal(err)
	}
	if out.FunctionError == nil {
		return nil
	}
	f := &failure{}
	if err := json.Unmarshal(out.Payload, f); err != nil {
		r.t.Fatalf("the function failed with %s", out.Payload)
	}
	return f
}

// must is step, and an error ends the test.
func (r *rig) must(step, version string) {
	r.t.Helper()
	if f := r.step(step, version); f != nil {
		r.t.Fatalf("%s: %s: %s", step, f.Type, f.Message)
	}
}

// value is a version's value as the members of its JSON.
func (r *rig) value(version string) map[string]any {
	r.t.Helper()
	text, err := r.s.get(version, "")
	if err != nil {
		r.t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		r.t.Fatal("the value isn't JSON")
	}
	return out
}

// store makes a version of these members.
func (r *rig) store(version string, members map[string]any, stages ...string) {
	r.t.Helper()
	text, err := json.Marshal(members)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.s.put(version, string(text), stages...); err != nil {
		r.t.Fatal(err)
	}
}

// event is what Secrets Manager invokes a rotation function with.
type event struct {
	Step          string `json:"Step"`
	SecretID      string `json:"SecretId"`
	Version       string `json:"ClientRequestToken"`
	RotationToken string `json:"RotationToken,omitempty"`
}

// invoker stands between Secrets Manager and Lambda.
type invoker struct {
	host.Registry
	mu      sync.Mutex
	seen    []event
	failing map[string]int // by step: how many more invocations fail before they begin
	pause   time.Duration  // before each invocation
}

func (i *invoker) Invoke(ctx context.Context, function string, payload []byte) (host.Invocation, error) {
	var e event
	if err := json.Unmarshal(payload, &e); err != nil {
		return host.Invocation{}, err
	}
	i.mu.Lock()
	i.seen = append(i.seen, e)
	fails, pause := i.failing[e.Step] > 0, i.pause
	if fails {
		i.failing[e.Step]--
	}
	i.mu.Unlock()
	time.Sleep(pause)
	if fails {
		return host.Invocation{FunctionError: "Unhandled", Payload: []byte(`{"errorType":"Injected","errorMessage":"told to fail"}`)}, nil
	}
	return i.Registry.Invoke(ctx, function, payload)
}

// fail makes the next n invocations for a step fail.
func (i *invoker) fail(step string, n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.failing[step] = n
}

// slow makes invocations begin later.
func (i *invoker) slow(pause time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pause = pause
}

func (i *invoker) events() []event {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.seen)
}

// issued is the RotationToken of a version's rotation; of one that no rotation
// made it is empty.
func (i *invoker) issued(version string) string {
	for _, e := range i.events() {
		if e.Version == version {
			return e.RotationToken
		}
	}
	return ""
}

// request is one call of Secrets Manager by a function.
type request struct {
	Action string
	In     map[string]any
}

// recorder is a proxy in front of the local AWS that keeps what goes through.
type recorder struct {
	URL    string
	mu     sync.Mutex
	seen   []request
	refuse func(request) error // decides about each call before it is made
}

// refusing sets which calls fail from now on; nil lets all through.
func (r *recorder) refusing(refuse func(request) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = refuse
}

func record(t *testing.T, endpoint string) *recorder {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		call := request{Action: strings.TrimPrefix(req.Header.Get("X-Amz-Target"), "secretsmanager."), In: map[string]any{}}
		if err := json.Unmarshal(body, &call.In); err != nil {
			awsproto.WriteError(w, awsproto.Errorf("SerializationException", "the proxy can't read this: %v", err))
			return
		}
		r.mu.Lock()
		r.seen = append(r.seen, call)
		refuse := r.refuse
		r.mu.Unlock()
		if refuse != nil {
			if err := refuse(call); err != nil {
				awsproto.WriteError(w, err)
				return
			}
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

func (r *recorder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = nil
}

// of lists the calls of an action, "" for all.
func (r *recorder) of(action string) []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []request
	for _, c := range r.seen {
		if action == "" || c.Action == action {
			out = append(out, c)
		}
	}
	return out
}

// Errors of Secrets Manager, for its fault points.
var (
	notFound   = awsproto.Errorf("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT")
	throttled  = awsproto.Errorf("ThrottlingException", "Rate exceeded")
	decryption = awsproto.Errorf("DecryptionFailure", "Secrets Manager can't decrypt the protected secret text using the provided KMS key.")
	internal   = &awsproto.Error{Code: "InternalServiceError", Message: "An error occurred on the server side.", Status: http.StatusInternalServerError}
)

func newVersion() string { return uuid.NewString() }

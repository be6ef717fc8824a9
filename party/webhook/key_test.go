package webhook_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/party/webhook"
	"github.com/keyturn/keyturn/rotation"
)

// vault holds one key, or fails.
type vault struct {
	mu    sync.Mutex
	key   rotation.Value
	err   error
	reads int
}

func (v *vault) Current(_ context.Context, secret string) (rotation.Value, string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reads++
	if secret != keyARN {
		return rotation.Value{}, "", errors.New("asked for " + secret)
	}
	return v.key, "version", v.err
}

func (v *vault) set(key rotation.Value) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.key = key
}

func (v *vault) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.reads
}

// signer makes presenters with a clock that the test moves.
func signer(t *testing.T, keys webhook.Keys, transport http.RoundTripper) (*webhook.Presenters, func(time.Duration)) {
	t.Helper()
	var mu sync.Mutex
	ahead := time.Duration(0)
	p := webhook.New(webhook.Config{Keys: keys, Transport: transport, Patience: time.Millisecond, Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(ahead)
	}})
	return p, func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		ahead += d
	}
}

func pool(t *testing.T) *http.Transport {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// receiver is written as docs/policy.md tells receivers to be.
type receiver struct {
	mu       sync.Mutex
	keys     []rotation.Value
	version  string
	unsigned int
	ahead    time.Duration // of its clock
	statuses []int
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, err := io.ReadAll(req.Body)
	header, genuine := req.Header.Get(webhook.SignatureHeader), false
	for _, k := range r.keys {
		genuine = genuine || webhook.CheckSignature(k, header, time.Now().Add(r.ahead), time.Minute, req.Method, body) == nil
	}
	status := http.StatusOK
	switch {
	case err != nil || !genuine:
		status = http.StatusUnauthorized
	case req.Method == http.MethodPost:
		r.version = "new"
		status = http.StatusAccepted
	}
	if header == "" {
		r.unsigned++
	}
	r.statuses = append(r.statuses, status)
	w.WriteHeader(status)
	if status == http.StatusOK {
		_, _ = io.WriteString(w, `{"version":"`+r.version+`","done":true}`)
	}
}

func (r *receiver) take() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.statuses
	r.statuses = nil
	return all
}

// move sets the clock forward and the keys that are taken.
func (r *receiver) move(d time.Duration, keys ...rotation.Value) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ahead += d
	r.keys = keys
}

// state is the version that it uses, and how many requests weren't signed.
func (r *receiver) state() (version string, unsigned int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version, r.unsigned
}

func (r *receiver) start(t *testing.T) rotation.Party {
	t.Helper()
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return rotation.Party{Name: "api", Follow: []string{server.URL}, Wave: 1, FollowKey: keyARN}
}

func TestReceiverTakesWhatIsSigned(t *testing.T) {
	t.Parallel()
	r, v := &receiver{keys: []rotation.Value{key}, version: "old"}, &vault{key: key}
	party := r.start(t)
	p, ahead := signer(t, v, pool(t))
	if res := follow(t, p, party); res.Outcome != rotation.Done {
		t.Errorf("got %+v", res)
	}
	if got := r.take(); !slices.Equal(got, []int{200, 202, 200}) {
		t.Errorf("the receiver answered %v", got)
	}
	follow(t, p, party)
	if n := v.count(); n != 1 {
		t.Errorf("the key was read %d times by one process", n)
	}
	r.take()
	ahead(-2 * time.Minute) // a clock that is off: what it dates is refused, and the key isn't to blame
	if res := follow(t, p, party); res.Outcome != rotation.Unknown || !strings.Contains(strings.Join(res.Missing, " "), "answered 401 to GET") {
		t.Errorf("a stale signature: %+v", res)
	}
}

// tamper changes a request on its way.
type tamper struct {
	http.RoundTripper
	change func(*http.Request)
}

func (t tamper) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	t.change(r)
	return t.RoundTripper.RoundTrip(r)
}

func TestReceiverRefusesWhatWasTamperedWith(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*http.Request){
		"body": func(r *http.Request) {
			if r.Method == http.MethodPost {
				text := `{"secret":"arn:s","version":"evil"}`
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
			}
		},
		"method": func(r *http.Request) {
			if r.Method == http.MethodPost {
				r.Method = http.MethodPut
			}
		},
		"no signature": func(r *http.Request) {
			if r.Method == http.MethodPost {
				r.Header.Del(webhook.SignatureHeader)
			}
		},
		"other time": func(r *http.Request) {
			if r.Method == http.MethodPost {
				r.Header.Set(webhook.SignatureHeader, strings.Replace(r.Header.Get(webhook.SignatureHeader), "t=1", "t=2", 1))
			}
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &receiver{keys: []rotation.Value{key}, version: "old"}
			party := r.start(t)
			p, _ := signer(t, &vault{key: key}, tamper{pool(t), change})
			res := follow(t, p, party)
			if version, _ := r.state(); res.Outcome == rotation.Done || version != "old" {
				t.Errorf("the receiver is on %s: %+v", version, res)
			}
			if got := r.take(); !slices.Contains(got, http.StatusUnauthorized) || slices.Contains(got, http.StatusAccepted) {
				t.Errorf("the receiver answered %v", got)
			}
		})
	}
}

func TestKeyThatChangesIsReadAgain(t *testing.T) {
	t.Parallel()
	next := rotation.NewValue(strings.Repeat("next-canary-", 5))
	r, v := &receiver{keys: []rotation.Value{key}, version: "new"}, &vault{key: key}
	party := r.start(t)
	p, ahead := signer(t, v, pool(t))
	follow(t, p, party)
	v.set(next)
	r.move(0, key, next) // both, as long as a process may use the old one
	for _, step := range []struct {
		ahead time.Duration
		reads int
	}{{0, 1}, {4 * time.Minute, 1}, {time.Minute, 2}, {time.Minute, 2}} {
		ahead(step.ahead)
		r.move(step.ahead, key, next)
		if res := follow(t, p, party); res.Outcome != rotation.Done {
			t.Errorf("after %s: %+v", step.ahead, res)
		}
		if n := v.count(); n != step.reads {
			t.Errorf("after %s: read %d times, want %d", step.ahead, n, step.reads)
		}
	}
}

func TestKeyThatIsRefusedIsReadAgain(t *testing.T) {
	t.Parallel()
	next := rotation.NewValue(strings.Repeat("next-canary-", 5))
	r, v := &receiver{keys: []rotation.Value{next}, version: "new"}, &vault{key: key}
	party := r.start(t)
	p, _ := signer(t, v, pool(t))
	if res := follow(t, p, party); res.Outcome != rotation.Unknown {
		t.Errorf("signed with another key: %+v", res)
	}
	v.set(next)
	if res := follow(t, p, party); res.Outcome != rotation.Done {
		t.Errorf("signed with its key: %+v", res)
	}
}

func TestNothingIsSentWithoutItsKey(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		keys webhook.Keys
		name fault.Name
		text string
	}{
		"no such secret": {&vault{err: fault.New(fault.InvalidStage, "reading a version that has no value")}, fault.InvalidInput, "doesn't exist or has no value"},
		"denied":         {&vault{err: fault.New(fault.PermissionDenied, "calling GetSecretValue").WithHint("another hint")}, fault.PermissionDenied, "can't be read"},
		"throttled":      {&vault{err: fault.New(fault.Throttled, "calling GetSecretValue")}, fault.Throttled, "can't be read"},
		"empty":          {&vault{}, fault.InvalidInput, "holds only 0 bytes"},
		"short":          {&vault{key: rotation.NewValue("short-canary")}, fault.InvalidInput, "holds only 12 bytes; a key has 32 or more"},
		"line end":       {&vault{key: rotation.NewValue(key.Reveal() + "\n")}, fault.InvalidInput, "begins or ends with white space"},
		"no reader":      {nil, fault.Internal, "nothing reads secrets"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &receiver{version: "old"}
			party := r.start(t)
			p, _ := signer(t, test.keys, pool(t))
			_, err := p.Follow(t.Context(), change(), party)
			if !fault.Is(err, test.name) || !strings.Contains(err.Error(), test.text) || !strings.Contains(err.Error(), keyARN) {
				t.Errorf("got %v, want %s: %s", err, test.name, test.text)
			}
			if hint := fault.HintOf(err); !strings.Contains(hint, "follow_key") {
				t.Errorf("hint %q", hint)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the error holds the key: %v", err)
			}
			if got := r.take(); len(got) != 0 {
				t.Errorf("something was sent: %v", got)
			}
		})
	}
}

func TestNoKeyMeansUnsigned(t *testing.T) {
	t.Parallel()
	r, v := &receiver{version: "old"}, &vault{key: key}
	party := r.start(t)
	party.FollowKey = ""
	p, _ := signer(t, v, pool(t))
	if res := follow(t, p, party); res.Outcome != rotation.Unknown { // this receiver wants signatures
		t.Errorf("got %+v", res)
	}
	if _, unsigned := r.state(); v.count() != 0 || unsigned == 0 {
		t.Errorf("%d keys read, %d requests unsigned", v.count(), unsigned)
	}
}

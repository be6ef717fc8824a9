package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/party/webhook"
	"github.com/keyturn/keyturn/rotation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const keyARN = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:follow-key-AbCdEf"

var key = rotation.NewValue("follow-key-canary-0123456789abcdef0123456789abcdef")

// consumer is a strict instance: it refuses requests that aren't as documented.
type consumer struct {
	*httptest.Server
	mu      sync.Mutex
	version string
	done    bool
	posts   int
	gets    int
	// obey says what a POST does; nil: it follows at once.
	obey func(c *consumer, version string)
	// fail answers instead, when it returns a status.
	fail func(r *http.Request) int
	t    *testing.T
}

func start(t *testing.T, version string) *consumer {
	t.Helper()
	c := &consumer{version: version, done: true, t: t}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *consumer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Error(err)
	}
	signature := r.Header.Get(webhook.SignatureHeader)
	if err := webhook.CheckSignature(key, signature, time.Now(), time.Minute, r.Method, body); err != nil {
		c.t.Error(err)
	}
	if c.fail != nil {
		if status := c.fail(r); status != 0 {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			return
		}
	}
	switch r.Method {
	case http.MethodGet:
		c.gets++
		fmt.Fprintf(w, `{"version":%q,"done":%t,"more":1}`, c.version, c.done)
	case http.MethodPost:
		c.posts++
		var order map[string]string
		if err := json.Unmarshal(body, &order); err != nil || order["secret"] != "arn:s" || len(order) != 2 {
			c.t.Errorf("order %s, %v", body, err)
		}
		if c.obey != nil {
			c.obey(c, order["version"])
		} else {
			c.version = order["version"]
		}
		w.WriteHeader(http.StatusAccepted)
	default:
		c.t.Errorf("method %s", r.Method)
	}
}

func (c *consumer) set(version string, done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version, c.done = version, done
}

func (c *consumer) told() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.posts
}

func fleet(t *testing.T, n int) ([]*consumer, rotation.Party) {
	t.Helper()
	party := rotation.Party{Name: "api", Wave: 2, FollowKey: keyARN}
	var all []*consumer
	for range n {
		c := start(t, "old")
		all = append(all, c)
		party.Follow = append(party.Follow, c.URL+"/keyturn?token=url-canary")
	}
	return all, party
}

func change() rotation.Change {
	return rotation.Change{Secret: "arn:s", From: "old", To: "new", Policy: rotation.Policy{Poll: time.Second, FunctionLimit: time.Minute}}
}

func presenters(t *testing.T) *webhook.Presenters {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return webhook.New(webhook.Config{Keys: &vault{key: key}, Transport: transport, Patience: time.Millisecond})
}

func follow(t *testing.T, p *webhook.Presenters, party rotation.Party) rotation.Result {
	t.Helper()
	res, err := p.Follow(t.Context(), change(), party)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%+v", res); strings.Contains(text, "canary") {
		t.Errorf("the result holds what nobody may read: %s", text)
	}
	return res
}

func posts(all []*consumer) []int {
	var n []int
	for _, c := range all {
		n = append(n, c.told())
	}
	return n
}

func TestFollowTellsEveryInstanceOnce(t *testing.T) {
	t.Parallel()
	all, party := fleet(t, 5)
	p := presenters(t)
	for range 2 { // the second call finds everything done
		res := follow(t, p, party)
		if res.Outcome != rotation.Done || len(res.Missing) != 0 || len(res.Evidence) != 5 {
			t.Fatalf("got %+v", res)
		}
		for i, e := range res.Evidence {
			if e.Proof != rotation.Loaded || e.Digest != "new" || !strings.HasPrefix(e.Party, fmt.Sprintf("api %d at ", i+1)) || e.At.IsZero() {
				t.Errorf("evidence %+v", e)
			}
		}
	}
	if diff := cmp.Diff([]int{1, 1, 1, 1, 1}, posts(all)); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
}

func TestFollowGoesInWaves(t *testing.T) {
	t.Parallel()
	all, party := fleet(t, 6)
	all[1].obey = func(c *consumer, version string) { c.version, c.done = version, false } // begins, isn't through
	all[4].obey = func(*consumer, string) {}                                               // takes the order and does nothing
	p := presenters(t)

	res := follow(t, p, party)
	if res.Outcome != rotation.Wait || len(res.Missing) != 5 || !strings.Contains(res.Missing[0], "api 2 at") || res.After != time.Second {
		t.Errorf("canary behind: %+v", res)
	}
	follow(t, p, party)
	if diff := cmp.Diff([]int{1, 1, 0, 0, 0, 0}, posts(all)); diff != "" {
		t.Errorf("orders while the canary is on its way (-want +got):\n%s", diff)
	}

	all[1].set("new", true)
	res = follow(t, p, party)
	if res.Outcome != rotation.Wait || len(res.Missing) != 1 || !strings.Contains(res.Missing[0], "api 5 at") {
		t.Errorf("last wave behind: %+v", res)
	}
	follow(t, p, party)
	if diff := cmp.Diff([]int{1, 1, 1, 1, 2, 1}, posts(all)); diff != "" {
		t.Errorf("orders in the last wave (-want +got):\n%s", diff)
	}

	all[0].set("old", true) // restarted with what it read at its start
	res = follow(t, p, party)
	if got := posts(all); got[0] != 2 || res.Outcome != rotation.Wait {
		t.Errorf("an instance that fell back was told %d times: %+v", got[0], res)
	}
}

func TestFollowNeverFailsOnAnInstance(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		harm   func(*consumer)
		want   rotation.Outcome
		reason string
	}{
		"down":     {func(c *consumer) { c.Close() }, rotation.Unknown, "can't be reached"},
		"GET 500":  {status(http.MethodGet, 500), rotation.Unknown, "answered 500 to GET"},
		"POST 503": {status(http.MethodPost, 503), rotation.Wait, "answered 503 to POST"},
		"GET redirects": {
			status(http.MethodGet, http.StatusFound), rotation.Unknown, "answered 302 to GET"},
		"POST redirects": {status(http.MethodPost, http.StatusTemporaryRedirect), rotation.Wait, "answered 307 to POST"},
		"no version":     {answers(`{"done":true}`), rotation.Unknown, "its answer to GET isn't"},
		"no JSON":        {answers(`<html>page-canary</html>`), rotation.Unknown, "its answer to GET isn't"},
		"endless": {answers(`{"version":"new","done":true,"x":"` + strings.Repeat("x", 1<<20) + `"}`),
			rotation.Unknown, "its answer to GET isn't"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, party := fleet(t, 3)
			test.harm(all[0])
			res := follow(t, presenters(t), party)
			if res.Outcome != test.want || len(res.Missing) != 2 || !strings.Contains(res.Missing[0], test.reason) {
				t.Errorf("got %+v", res)
			}
			if all[2].told() != 0 {
				t.Error("the wave after the canary was told")
			}
		})
	}
}

func status(method string, code int) func(*consumer) {
	return func(c *consumer) {
		c.fail = func(r *http.Request) int {
			if r.URL.Path == "/elsewhere" {
				c.t.Error("a redirect was followed")
			}
			if r.Method == method {
				return code
			}
			return 0
		}
	}
}

func answers(body string) func(*consumer) {
	return func(c *consumer) {
		c.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, body) // the client stops reading an endless one
		})
	}
}

// An instance that restarts because of the order is waited for, within patience.
func TestFollowWaitsForARestart(t *testing.T) {
	t.Parallel()
	all, party := fleet(t, 1)
	looks := 0
	all[0].fail = func(r *http.Request) int {
		if all[0].posts > 0 && r.Method == http.MethodGet {
			if looks++; looks < 3 {
				return http.StatusBadGateway
			}
		}
		return 0
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	p := webhook.New(webhook.Config{Keys: &vault{key: key}, Transport: transport, Patience: time.Minute})
	if res := follow(t, p, party); res.Outcome != rotation.Done {
		t.Errorf("got %+v", res)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	t.Parallel()
	all, party := fleet(t, 2)
	release := make(chan struct{})
	all[0].Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	res, err := presenters(t).Follow(ctx, change(), party)
	if err != nil || res.Outcome != rotation.Unknown || !strings.Contains(res.Missing[0], "no answer in time") {
		t.Errorf("got %+v, %v", res, err)
	}
}

func TestFollowNamesOnlySome(t *testing.T) {
	t.Parallel()
	party := rotation.Party{Name: "api", Wave: 1}
	down := start(t, "old")
	down.Close()
	for i := range 25 {
		party.Follow = append(party.Follow, fmt.Sprintf("%s/%d", down.URL, i))
	}
	res := follow(t, presenters(t), party)
	if len(res.Missing) != 11 || res.Missing[10] != "and 15 more" {
		t.Errorf("missing %q", res.Missing)
	}
}

func TestFollowRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	p := presenters(t)
	for _, party := range []rotation.Party{{Follow: []string{"ftp://h"}}, {Follow: []string{"https:///x"}}, {Follow: []string{"://"}}} {
		if _, err := p.Follow(t.Context(), change(), party); !fault.Is(err, fault.InvalidInput) {
			t.Errorf("%v: %v", party.Follow, err)
		}
	}
	if _, err := p.Follow(t.Context(), rotation.Change{Secret: "arn:s"}, rotation.Party{}); !fault.Is(err, fault.InvalidInput) {
		t.Errorf("no version: %v", err)
	}
	if res := follow(t, p, rotation.Party{Name: "self"}); res.Outcome != rotation.Done || len(res.Evidence) != 0 {
		t.Errorf("no URLs: %+v", res)
	}
}

func TestSignature(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_800_000_000, 0)
	body := []byte(`{"secret":"s"}`)
	key := rotation.NewValue("webhook-key-canary")
	good := webhook.Sign(key, at, "POST", body)
	// Computed apart: printf '1800000000.POST.{"secret":"s"}' | openssl dgst -sha256 -hmac webhook-key-canary
	const want = "t=1800000000,v1=c5126c567d13e225937a3e560640bae7f78ce6d6f820738303bb9bf0a27a04c5"
	if good != want {
		t.Errorf("signature %s, want %s", good, want)
	}
	if err := webhook.CheckSignature(key, good, at.Add(time.Minute), time.Minute, "POST", body); err != nil {
		t.Error(err)
	}
	bad := map[string]error{
		"other key":    webhook.CheckSignature(rotation.NewValue("x"), good, at, time.Minute, "POST", body),
		"no key":       webhook.CheckSignature(rotation.Value{}, webhook.Sign(rotation.Value{}, at, "POST", body), at, time.Minute, "POST", body),
		"other method": webhook.CheckSignature(key, good, at, time.Minute, "GET", body),
		"other body":   webhook.CheckSignature(key, good, at, time.Minute, "POST", slices.Concat(body, body)),
		"too old":      webhook.CheckSignature(key, good, at.Add(61*time.Second), time.Minute, "POST", body),
		"too new":      webhook.CheckSignature(key, good, at.Add(-61*time.Second), time.Minute, "POST", body),
		"other time":   webhook.CheckSignature(key, strings.Replace(good, "18", "19", 1), time.Unix(1_900_000_000, 0), time.Minute, "POST", body),
		"empty":        webhook.CheckSignature(key, "", at, time.Minute, "POST", body),
		"garbled":      webhook.CheckSignature(key, "t=x,v1=zz", at, time.Minute, "POST", body),
	}
	for name, err := range bad {
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

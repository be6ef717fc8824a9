package webhook_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/party/webhook"
	"github.com/keyturn/keyturn/rotation"
)

// crowd is many instances at one server: those that hang take a request and
// never answer it, the others follow at once.
type crowd struct {
	mu    sync.Mutex
	hangs func(n int) bool
	told  map[int]bool
}

func newCrowd(t *testing.T, n, wave int, hangs func(n int) bool) (*crowd, rotation.Party) {
	t.Helper()
	c := &crowd{hangs: hangs, told: map[int]bool{}}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	party := rotation.Party{Name: "api", Wave: wave}
	for i := range n {
		party.Follow = append(party.Follow, fmt.Sprintf("%s/%d", server.URL, i))
	}
	return c, party
}

func (c *crowd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var n int
	_, _ = fmt.Sscanf(r.URL.Path, "/%d", &n)
	if c.hangs(n) {
		<-r.Context().Done()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	version := "old"
	if r.Method == http.MethodPost {
		c.told[n] = true
	}
	if c.told[n] {
		version = "new"
	}
	fmt.Fprintf(w, `{"version":%q,"done":true}`, version)
}

func (c *crowd) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.told)
}

// within is one call that has so long.
func within(t *testing.T, p *webhook.Presenters, party rotation.Party, d time.Duration) rotation.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	res, err := p.Follow(ctx, change(), party)
	if err != nil || ctx.Err() != nil {
		t.Fatalf("got %v, its time: %v", err, ctx.Err())
	}
	return res
}

// Instances that hang take a function's time; whose turn it is before them is
// told all the same.
func TestFollowTellsTheCanaryWhoeverHangs(t *testing.T) {
	t.Parallel()
	c, party := newCrowd(t, 2000, 1, func(n int) bool { return n > 0 })
	res := within(t, presenters(t), party, 8*time.Second)
	if c.count() != 1 || res.Outcome == rotation.Done || len(res.Missing) > 11 {
		t.Errorf("%d were told, it is %s: %.300q", c.count(), res.Outcome, res.Missing)
	}
}

// Who gave no answer while there was time for looking, and gives one when its turn
// has come, is told in the same call.
func TestFollowTellsWhoIsSeenLate(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	c, party := newCrowd(t, 1, 1, func(int) bool { return asked.Add(1) == 1 })
	if res := within(t, presenters(t), party, 2*time.Second); c.count() != 1 {
		t.Errorf("it wasn't told: %s %q", res.Outcome, res.Missing)
	}
}

// In one wave, too: those who answer are told, some at each call.
func TestFollowTellsAllWhoAnswer(t *testing.T) {
	t.Parallel()
	const hanging, all = 30, 80
	c, party := newCrowd(t, all, all, func(n int) bool { return n < hanging })
	p := presenters(t)
	for deadline := time.Now().Add(time.Minute); c.count() < all-hanging; {
		res := within(t, p, party, time.Second)
		if res.Outcome != rotation.Unknown {
			t.Fatalf("it is %s", res.Outcome)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d were told", c.count(), all-hanging)
		}
	}
}

// 2,000 instances, one at a time: each call gets further, and the last one's
// answer fits into a run's state.
func TestFollowOfManyInstancesEnds(t *testing.T) {
	t.Parallel()
	c, party := newCrowd(t, 2000, 100, func(int) bool { return false })
	p := presenters(t)
	var res rotation.Result
	for deadline := time.Now().Add(2 * time.Minute); res.Outcome != rotation.Done; {
		res = within(t, p, party, 20*time.Second)
		if time.Now().After(deadline) {
			t.Fatalf("it is %s after %d of 2000: %q", res.Outcome, c.count(), res.Missing)
		}
	}
	if len(res.Evidence) != 2000 || res.Cursor != "" {
		t.Errorf("%d pieces of evidence, a cursor of %d bytes", len(res.Evidence), len(res.Cursor))
	}
	step := lambdaentry.Step(func(context.Context, rotation.Request) (rotation.Result, error) { return res, nil })
	payload, failed := lambdaentry.Answer(t.Context(), slog.New(slog.DiscardHandler), step, []byte(`{"secret":"s","token":"t","direction":"forward","generation":1,"cursor":"","polls":0}`))
	if failed || len(payload) > 64<<10 || !strings.Contains(string(payload), "api 1 at") {
		t.Errorf("failed %t, %d bytes", failed, len(payload))
	}
}

package load_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/internal/demo/load"
	"github.com/keyturn/keyturn/internal/pgtest"
)

func TestQuietRunHasNoFailuresAndItsCountsAddUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t, cluster)
	cfg := f.config()
	observer, err := pgx.ParseConfig(cluster.SuperuserDSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Observer = observer
	r := f.start(t, cfg)
	r.Mark("baseline")
	await(t, "every habit at work", func() bool {
		habits := map[load.Habit]bool{}
		for _, u := range r.Uses() {
			habits[u.Habit] = true
		}
		return len(habits) == len(load.Habits())
	})
	r.Mark("rotation")
	await(t, "two seconds of the series", func() bool { return len(r.Series()) >= 2 })
	live := r.Snapshot()
	total := r.Stop()

	if total.Failed != 0 || total.AuthRetries != 0 || total.Reconnects != 0 || total.Terminated != 0 {
		t.Errorf("nothing happened, but: %+v", total)
	}
	parts := r.Totals("start").Requests + r.Totals("baseline").Requests + r.Totals("rotation").Requests
	if parts != total.Requests || total.Requests == 0 {
		t.Errorf("the intervals hold %d requests, the run %d", parts, total.Requests)
	}
	used := int64(0)
	for _, u := range r.Uses() {
		used += u.Requests
		if u.Login != f.role || u.Last.Before(u.First) {
			t.Errorf("use: %+v", u)
		}
	}
	if used != total.Requests {
		t.Errorf("consumers remember %d requests, the run %d", used, total.Requests)
	}
	series := int64(0)
	for _, s := range r.Series() {
		series += s.Requests
	}
	if series > total.Requests {
		t.Errorf("the series holds %d requests of %d", series, total.Requests)
	}
	if live.Interval != "rotation" || live.Second.Logins[f.role] == 0 {
		t.Errorf("snapshot: %+v", live)
	}
	if again := r.Stop(); !cmp.Equal(again, total) {
		t.Error("a second Stop says something else")
	}
	if total.Max < total.P999 || total.P999 < total.P99 || total.P99 < total.P50 || total.P50 == 0 {
		t.Errorf("percentiles out of order: %+v", total)
	}
}

func TestRotationIsFollowedWithoutAFailure(t *testing.T) {
	t.Parallel()
	f := newFixture(t, cluster)
	cfg := f.config()
	cfg.EvidenceDir = t.TempDir()
	r := f.start(t, cfg)
	fresh := f.role + "_v2"
	f.newRole(t, fresh, "two")
	f.secret.Put("v2", fresh, "two")
	for _, p := range r.Parties() {
		for _, url := range p.Follow {
			await(t, "a restart", func() bool {
				version, done, status := adopt(t, url, f.secret.ARN(), "v2")
				return status == http.StatusOK && done && version == "v2"
			})
		}
	}
	await(t, "no session of the old login", func() bool { return f.sessions(t, f.role) == 0 })
	f.sql(t, "ALTER ROLE "+f.role+" NOLOGIN")
	consumers := map[string]bool{}
	await(t, "every consumer seen on the new login", func() bool {
		for _, u := range r.Uses() {
			if u.Login == fresh {
				consumers[u.Consumer] = true
			}
		}
		return len(consumers) == cfg.Consumers
	})
	if total := r.Stop(); total.Failed != 0 || total.AuthRetries != 0 || total.Reconnects != 0 {
		t.Errorf("the rotation was noticed: %+v", total)
	}
	for _, p := range r.Parties() {
		if len(p.Follow) > 0 {
			continue // restarted instances prove themselves over HTTP
		}
		path := audit.EvidenceDir{Dir: cfg.EvidenceDir}.Path(f.secret.ARN(), "v2", p.Name)
		if _, err := os.Stat(path); err != nil {
			t.Errorf("no evidence of %s: %v", p.Name, err)
		}
	}
}

func TestChangingThePasswordInPlaceShows(t *testing.T) {
	t.Parallel()
	f := newFixture(t, cluster)
	r := f.start(t, f.config())
	r.Mark("in place")
	f.sql(t, "ALTER ROLE "+f.role+" PASSWORD "+pgtest.Literal(pgtest.Verifier("two")))
	await(t, "refused logins", func() bool { return r.Totals("in place").Reasons["login refused 28P01"] > 0 })
	f.secret.Put("v2", f.role, "two")
	total := r.Stop()
	if total.Failed == 0 || len(total.FailedDetail) == 0 {
		t.Fatalf("the naive way shows no failure: %+v", total)
	}
	text := fmt.Sprintf("%+v", total)
	if strings.Contains(text, "password") || strings.Contains(text, f.role) {
		t.Errorf("the failures quote the server's text: %s", text)
	}
}

func TestStoppedServerShows(t *testing.T) {
	t.Parallel()
	own, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Stop)
	f := newFixture(t, own)
	cfg := f.config()
	cfg.Deadline = time.Second
	r := f.start(t, cfg)
	await(t, "requests", func() bool { return r.Snapshot().Totals.Requests > 20 })
	r.Mark("outage")
	own.StopNode(own.Primary)
	await(t, "failures of every pool", func() bool {
		failed := map[string]bool{}
		for _, d := range r.Totals("outage").FailedDetail {
			failed[d.Consumer] = true
		}
		return len(failed) > 2
	})
	r.Mark("after")
	await(t, "further failures", func() bool { return r.Totals("after").Reasons["no connection"] > 0 })
	total := r.Stop()
	if total.Failed == 0 || total.Reconnects == 0 {
		t.Errorf("an outage passed unnoticed: %+v", total)
	}
}

func TestEndedSessionsAreCountedApart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, cluster)
	cfg := f.config()
	cfg.Transaction, cfg.Consumers, cfg.Rate = 2*time.Second, 1, 1
	cfg.Mix = map[load.Habit]float64{load.LongTx: 1}
	r := f.start(t, cfg)
	await(t, "an ended transaction", func() bool {
		f.sql(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE xact_start IS NOT NULL AND usename = "+pgtest.Literal(f.role))
		return r.Snapshot().Totals.Terminated > 0
	})
	if total := r.Stop(); total.Failed < total.Terminated || total.Reconnects == 0 {
		t.Errorf("got %+v", total)
	}
}

func TestLateAnswerIsAFailure(t *testing.T) {
	t.Parallel()
	f := newFixture(t, cluster)
	cfg := f.config()
	cfg.Deadline = 100 * time.Millisecond
	cfg.Statement = "SELECT pg_sleep(0.3)"
	cfg.Mix = map[load.Habit]float64{load.Bursty: 1, load.PerConnect: 1, load.Environ: 1}
	cfg.Consumers, cfg.Rate = 3, 6
	r := f.start(t, cfg)
	await(t, "some requests", func() bool { return r.Snapshot().Totals.Requests >= 5 })
	total := r.Stop()
	if total.Failed != total.Requests || total.Reasons["late"] != total.Failed {
		t.Errorf("%d of %d failed, as %v; want all, as late", total.Failed, total.Requests, total.Reasons)
	}
	if total.P50 < cfg.Deadline {
		t.Errorf("the median %v is below the deadline that nobody met", total.P50)
	}
}

func TestRestartEndpoint(t *testing.T) {
	t.Parallel()
	f := newFixture(t, cluster)
	cfg := f.config()
	cfg.Mix = map[load.Habit]float64{load.Environ: 1}
	cfg.Consumers = 1
	r := f.start(t, cfg)
	parties := r.Parties()
	if len(parties) != 1 || parties[0].Name != "environ" || len(parties[0].Follow) != 1 || parties[0].Wave != 1 {
		t.Fatalf("parties: %+v", parties)
	}
	url := parties[0].Follow[0]
	arn := f.secret.ARN()

	if version, done := state(t, url); version != "v1" || !done {
		t.Errorf("at the start: %q, %v", version, done)
	}
	tests := map[string]struct {
		url, secret, version string
		status               int
		inUse                string
		done                 bool
	}{
		"what it has already":  {url, arn, "v1", http.StatusOK, "v1", true},
		"what isn't current":   {url, arn, "v9", http.StatusOK, "v1", false},
		"another secret":       {url, "arn:other", "v1", http.StatusNotFound, "", false},
		"another instance":     {strings.Replace(url, "environ-01", "environ-99", 1), arn, "v1", http.StatusNotFound, "", false},
		"no version":           {url, arn, "", http.StatusBadRequest, "", false},
		"the same, once again": {url, arn, "v1", http.StatusOK, "v1", true},
	}
	for name, tt := range tests {
		version, done, status := adopt(t, tt.url, tt.secret, tt.version)
		if status != tt.status || version != tt.inUse || done != tt.done {
			t.Errorf("%s: got %d %q %v", name, status, version, done)
		}
	}
	// A login that can't work: the old process stays.
	f.secret.Put("v2", "no_such_role", "x")
	if version, done, _ := adopt(t, url, arn, "v2"); version != "v1" || done {
		t.Errorf("with a broken version: %q, %v", version, done)
	}
	f.newRole(t, f.role+"_v3", "three")
	f.secret.Put("v3", f.role+"_v3", "three")
	await(t, "the restart", func() bool {
		version, done, _ := adopt(t, url, arn, "v3")
		return version == "v3" && done
	})
	await(t, "the old pool's end", func() bool { return f.sessions(t, f.role) == 0 })
	if total := r.Stop(); total.Failed != 0 {
		t.Errorf("restarts made failures: %+v", total)
	}
}

func TestBadConfigurations(t *testing.T) {
	t.Parallel()
	if _, err := load.Start(t.Context(), load.Config{}); err == nil || !strings.Contains(err.Error(), "SecretID") {
		t.Errorf("got %v, want an error that names what is missing", err)
	}
	f := newFixture(t, cluster)
	f.secret.Put("v1", f.role, "wrong")
	_, err := load.Start(t.Context(), f.config())
	if err == nil || !strings.Contains(err.Error(), "28P01") {
		t.Errorf("got %v, want the refused login", err)
	}
}

func adopt(t *testing.T, url, secret, version string) (inUse string, done bool, status int) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"secret": secret, "version": version})
	if err != nil {
		t.Fatal(err)
	}
	return ask(t, http.MethodPost, url, body)
}

func state(t *testing.T, url string) (inUse string, done bool) {
	t.Helper()
	inUse, done, _ = ask(t, http.MethodGet, url, nil)
	return inUse, done
}

func ask(t *testing.T, method, url string, body []byte) (inUse string, done bool, status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Version string
		Done    bool
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
	}
	return answer.Version, answer.Done, resp.StatusCode
}

package lambdaentry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

const (
	managed = "arn:aws:secretsmanager:us-east-1:000000000000:secret:app-AbCdEf"
	token   = "22222222-2222-4222-8222-222222222222"
	first   = "11111111-1111-4111-8111-111111111111"
)

// parts is the least that a Rotator needs; its engine is never reached.
type parts struct{ started []string }

func (*parts) Policy(secret string) (rotation.Policy, error) {
	if secret != managed {
		return rotation.Policy{}, fault.New(fault.NotManaged, "not listed")
	}
	return rotation.Policy{Secret: managed, Driver: rotation.DriverSecretsManager, FunctionLimit: time.Second}, nil
}

func (*parts) Secrets() []string { return []string{managed} }

func (*parts) Engine(string) (rotation.Engine, error) { return nil, nil } //nolint:nilnil // never called

func (*parts) Record(context.Context, audit.Record) error { return nil }

func (*parts) Note(context.Context, audit.Record) {}

func (p *parts) Start(_ context.Context, name string, _ rotation.Input) error {
	p.started = append(p.started, name)
	return nil
}

func (*parts) Stop(context.Context, string, string, string) error { return nil }

func (*parts) Describe(_ context.Context, _, name string) (rotation.Run, error) {
	return rotation.Run{Name: name, Status: rotation.RunAbsent}, nil
}

func rotator(t *testing.T) (*rotation.Rotator, *parts, *rotationtest.Store) {
	t.Helper()
	store, p := rotationtest.NewStore(), &parts{}
	store.Add(managed, first, "v")
	return &rotation.Rotator{
		Store: store, Engines: p, Policies: p, Journal: p, Runs: p, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}, p, store
}

func TestRotationEventsThatArentTheContract(t *testing.T) {
	t.Parallel()
	for event, want := range map[string]fault.Name{
		`not json`: fault.InvalidInput,
		`{"Step":"makeSecret","SecretId":"` + managed + `","ClientRequestToken":"` + token + `"}`:   fault.InvalidInput,
		`{"Step":"setSecret","SecretId":"` + managed + `","ClientRequestToken":"short"}`:            fault.InvalidInput,
		`{"Step":"setSecret","SecretId":"","ClientRequestToken":"` + token + `"}`:                   fault.InvalidInput,
		`{"Step":"setSecret","SecretId":"arn:other","ClientRequestToken":"` + token + `"}`:          fault.NotManaged,
		`{"Step":"setSecret","SecretId":"` + managed + `","ClientRequestToken":"` + token + `"}`:    fault.InvalidStage,
		`{"Step":"finishSecret","SecretId":"` + managed + `","ClientRequestToken":"` + token + `"}`: fault.InvalidStage,
	} {
		r, _, store := rotator(t)
		before := fmt.Sprint(store.Labels(managed))
		_, err := lambdaentry.FourSteps(r)(t.Context(), []byte(event))
		if !fault.Is(err, want) || fault.HintOf(err) == "" && want != fault.NotManaged && event[0] == '{' {
			t.Errorf("%s: %v (%s), want %s with a hint", event, err, fault.NameOf(err), want)
		}
		if after := fmt.Sprint(store.Labels(managed)); after != before {
			t.Errorf("%s changed the labels to %s", event, after)
		}
	}
}

func TestFieldsThatAWSAddsAreTolerated(t *testing.T) {
	t.Parallel()
	r, _, _ := rotator(t)
	event := `{"Step":"createSecret","SecretId":"` + managed + `","ClientRequestToken":"` + first + `","RotationToken":"r","New":{"x":1}}`
	if _, err := lambdaentry.FourSteps(r)(t.Context(), []byte(event)); err != nil {
		t.Errorf("the token is current, so the step is a success: %v", err)
	}
}

func TestWatchdogStartsWhatTheLabelsAskFor(t *testing.T) {
	t.Parallel()
	r, p, store := rotator(t)
	store.PutByHand(managed, token, "w")
	if err := store.Attach(t.Context(), managed, rotation.Retiring, first); err != nil {
		t.Fatal(err)
	}
	for _, event := range []string{`{"detail":{"additionalEventData":{"SecretId":"arn:somebody-elses"}}}`, `{}`, `{"detail":{"additionalEventData":{"SecretId":"` + managed + `"}}}`} {
		answer, err := lambdaentry.Watch(r)(t.Context(), []byte(event))
		if err != nil {
			t.Fatalf("%s: %v", event, err)
		}
		text, _ := json.Marshal(answer)
		if strings.Contains(event, "somebody") != (string(text) == `{"stable":0,"secrets":[]}`) {
			t.Errorf("%s was answered %s", event, text)
		}
	}
	if len(p.started) != 2 || !strings.HasSuffix(p.started[0], "-f-g1") {
		t.Errorf("started %v", p.started)
	}
}

// A failed rotation sends an event. If that started the next try at once, each
// failure would lead to another failed login.
func TestWatchdogAsksForAFailedRotationOnceAnHour(t *testing.T) {
	t.Parallel()
	r, _, store := rotator(t)
	if err := store.Rotate(t.Context(), managed, token); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r.Now = func() time.Time { return now }
	asked := func() (n int) {
		for _, c := range store.Calls()[1:] {
			if c.Op == "Rotate" {
				n++
			}
		}
		return n
	}
	watch := lambdaentry.Watch(r)
	for range 60 {
		for _, event := range []string{`{}`, `{"detail":{"additionalEventData":{"SecretId":"` + managed + `"}}}`} {
			if _, err := watch(t.Context(), []byte(event)); err != nil {
				t.Fatal(err)
			}
		}
		now = now.Add(time.Minute)
	}
	if n := asked(); n != 1 {
		t.Errorf("asked %d times in an hour", n)
	}
}

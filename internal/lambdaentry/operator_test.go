package lambdaentry_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/rotation"
)

// documented has a policy document beside the policies.
type documented struct{ *parts }

func (documented) JSON() []byte { return []byte(`{"version":1}`) }

func TestTheWatchdogTellsThePolicyAndDoesNothingElse(t *testing.T) {
	t.Parallel()
	r, p, store := rotator(t)
	r.Policies = documented{p}
	store.Edit(managed, func(d *rotation.Description) { d.RotationEnabled = nil })
	answer, err := lambdaentry.Watch(r)(t.Context(), []byte(lambdaentry.AboutEvent))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(answer); err != nil || string(text) != `{"policy":{"version":1}}` {
		t.Errorf("answered %s, %v", text, err)
	}
	// What only looks like it is a look at every secret.
	for _, event := range []string{`{"about":false}`, `{"about":true,"detail":{}}`} {
		answer, err := lambdaentry.Watch(r)(t.Context(), []byte(event))
		if err != nil {
			t.Fatalf("%s: %v", event, err)
		}
		if text, _ := json.Marshal(answer); !strings.Contains(string(text), `"secrets":[`) {
			t.Errorf("%s: answered %s", event, text)
		}
	}
	r.Policies = p
	if _, err := lambdaentry.Watch(r)(t.Context(), []byte(lambdaentry.AboutEvent)); !fault.Is(err, fault.Internal) {
		t.Errorf("without a document: %v", err)
	}
}

// planner is an engine that can look and nothing else: any other call is a nil one.
type planner struct {
	rotation.Engine
	err error
}

func (p planner) Plan(context.Context, rotation.Change) (rotation.Plan, error) {
	return rotation.Plan{
		Parties: []string{"node db:5432"}, Breaks: []string{"a script"}, Blockers: []string{`login "x" has password='hunter2secret'`},
	}, p.err
}

func (p planner) Create(context.Context, rotation.Change) (rotation.Result, error) {
	panic("a plan makes nothing")
}

type oneEngine struct{ engine rotation.Engine }

func (o oneEngine) Engine(string) (rotation.Engine, error) { return o.engine, nil }

func TestThePlanIsReadAndRedacted(t *testing.T) {
	t.Parallel()
	r, p, _ := rotator(t)
	r.Engines = oneEngine{planner{}}
	plan := func() rotation.Forecast {
		t.Helper()
		answer, err := lambdaentry.Cut(r)(t.Context(), []byte(`{"act":"plan","secret":"`+managed+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(answer)
		if err != nil || strings.Contains(string(text), "hunter2secret") {
			t.Fatalf("answered %s, %v", text, err)
		}
		var f rotation.Forecast
		if err := json.Unmarshal(text, &f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := plan()
	if f.Secret != managed || f.Current != first || len(f.Blockers) != 1 || len(f.Breaks) != 1 || len(f.Phases) != 4 {
		t.Errorf("got %+v", f)
	}
	r.Engines = oneEngine{planner{err: fault.New(fault.CredentialRejected, "it doesn't log in").WithHint("store the right one")}}
	want := "Keyturn.CredentialRejected: it doesn't log in (store the right one)"
	if f := plan(); len(f.Blockers) != 1 || f.Blockers[0] != want {
		t.Errorf("blockers %q, want %q", f.Blockers, want)
	}
	if _, err := lambdaentry.Cut(r)(t.Context(), []byte(`{"act":"plan","secret":"arn:other"}`)); !fault.Is(err, fault.NotManaged) {
		t.Errorf("an unlisted secret: %v", err)
	}
	if _, err := lambdaentry.Cut(r)(t.Context(), []byte(`{"act":"plan","secret":"x","more":1}`)); !fault.Is(err, fault.InvalidInput) {
		t.Errorf("another field: %v", err)
	}
	if len(p.started) > 0 {
		t.Errorf("started %v", p.started)
	}
}

package lambdaentry_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/rotation"
)

// refusal checks an error that an event has led to: it is a fault with a name,
// short, and doesn't repeat the event's values.
func refusal(t *testing.T, event []byte, err error) {
	t.Helper()
	if name := fault.NameOf(err); name == fault.Internal {
		t.Errorf("%q: %v has no name", event, err)
	}
	if text := lambdaentry.Redact(err.Error() + fault.HintOf(err)); strings.Contains(text, canary) {
		t.Errorf("%q: the canary stands in %q", event, text)
	}
}

// FuzzStepEvent: what a step is asked to do says exactly what the event says, and
// lies within what a state machine of ours can send.
func FuzzStepEvent(f *testing.F) {
	f.Add([]byte(`{"secret":"` + managed + `","token":"` + token + `","direction":"forward","generation":1,"cursor":"{}","polls":3}`))
	f.Add([]byte(`{"secret":"a","SECRET":"b","direction":"back","generation":2}`))
	f.Add([]byte(`{"direction":"sideways","generation":1}`))
	f.Add([]byte(`{"direction":"head","generation":1000000}`))
	f.Add([]byte(`{"direction":"head","generation":1,"polls":-1}`))
	f.Add([]byte(`{"direction":"head","generation":1e3}`))
	f.Add([]byte(`{"direction":"head","generation":1,"cursor":"` + canary + `","tokn":""}`))
	f.Add([]byte(`{"direction":"head","generation":"` + canary + `"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, event []byte) {
		var got *rotation.Request
		answer, err := lambdaentry.Step(func(_ context.Context, req rotation.Request) (rotation.Result, error) {
			got = &req
			return rotation.Result{Outcome: rotation.Wait, Cursor: req.Cursor}, nil
		})(t.Context(), event)
		if err != nil {
			if got != nil {
				t.Errorf("%q: the step was called and it failed: %v", event, err)
			}
			if !fault.Is(err, fault.InvalidInput) || fault.HintOf(err) == "" {
				t.Errorf("%q: %v, want %s with a hint", event, err, fault.InvalidInput)
			}
			refusal(t, event, err)
			return
		}
		var said map[string]any
		if err := json.Unmarshal(event, &said); err != nil {
			t.Fatalf("%q was taken: %v", event, err)
		}
		for name, value := range map[string]any{
			"secret": got.Secret, "token": got.Token, "direction": string(got.Direction), "generation": float64(got.Generation), "cursor": got.Cursor,
		} {
			if text, there := said[name]; there && text != nil && text != value {
				t.Errorf("%q: %s is %v", event, name, value)
			}
			delete(said, name)
		}
		delete(said, "polls")
		if len(said) > 0 {
			t.Errorf("%q: fields were passed over: %v", event, said)
		}
		if got.Generation < 1 || got.Generation > 999_999 || len(got.Cursor) > 256<<10 || got.ByStore || !got.RotationToken.Empty() {
			t.Errorf("%q: the request is %+v", event, got)
		}
		for _, d := range []rotation.Direction{rotation.Head, rotation.Forward} {
			if later := map[rotation.Direction]rotation.Direction{rotation.Head: rotation.Forward, rotation.Forward: rotation.Back}[d]; got.Direction == d &&
				rotation.Rank(d, got.Generation) >= rotation.Rank(later, 1) {
				t.Errorf("%q: a %s run outranks a %s run", event, d, later)
			}
		}
		if text, err := json.Marshal(answer); err != nil || len(text) > 2*len(event)+1000 {
			t.Errorf("%q: the answer has %d bytes, %v", event, len(text), err)
		}
	})
}

// FuzzRotationEvent: an event of Secrets Manager's form does nothing but for a
// managed secret, and changes no label without a rotation that is under way.
func FuzzRotationEvent(f *testing.F) {
	for _, step := range []string{"createSecret", "setSecret", "testSecret", "finishSecret", "FinishSecret", ""} {
		f.Add([]byte(`{"Step":"` + step + `","SecretId":"` + managed + `","ClientRequestToken":"` + token + `","RotationToken":"` + canary + `"}`))
	}
	f.Add([]byte(`{"step":"createSecret","SecretId":"` + managed + `"}`))
	f.Add([]byte(`{"Step":"createSecret","SecretId":"` + managed + `","SecretId":"arn:other","ClientRequestToken":"` + token + `"}`))
	f.Add([]byte(`{"Step":"createSecret","RotationToken":{"` + canary + `":1}}`))
	f.Add([]byte(`{"Step":"createSecret","New":{"a":[1]},"SecretId":"` + managed + `","ClientRequestToken":"` + first + `"}`))
	f.Fuzz(func(t *testing.T, event []byte) {
		r, _, store := rotator(t)
		before := store.Labels(managed)
		_, err := lambdaentry.FourSteps(r)(t.Context(), event)
		var said map[string]any
		if parsed := json.Unmarshal(event, &said); parsed != nil && err == nil {
			t.Fatalf("%q was taken: %v", event, parsed)
		}
		if err == nil && (said["SecretId"] != managed || said["ClientRequestToken"] != first) {
			t.Errorf("%q succeeded", event)
		}
		if diff := cmp.Diff(before, store.Labels(managed)); diff != "" && (err != nil || said["ClientRequestToken"] != first) {
			t.Errorf("%q changed the labels:\n%s", event, diff)
		}
		if err != nil && !strings.Contains(string(event), "Step") {
			refusal(t, event, err)
		}
	})
}

// FuzzWatchEvent: whatever an event says, only managed secrets are looked at.
func FuzzWatchEvent(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"detail":{"additionalEventData":{"SecretId":"` + managed + `"}}}`))
	f.Add([]byte(`{"detail":{"additionalEventData":{"SecretId":"` + managed + `x"}}}`))
	f.Add([]byte(`{"detail":{"additionaleventdata":{"SecretId":"` + managed + `"}}}`))
	f.Add([]byte(`{"detail":null,"source":"aws.secretsmanager","resources":["` + canary + `"]}`))
	f.Add([]byte(`{"detail":{"additionalEventData":[]}}`))
	f.Add([]byte(`{"detail":{"input":"{\"secret\":\"` + managed + `\",\"token\":\"t\"}"}}`))
	f.Add([]byte(`{"detail":{"input":"{\"secret\":\"` + managed + `x\"}"}}`))
	f.Add([]byte(`{"detail":{"input":"no JSON"}}`))
	f.Fuzz(func(t *testing.T, event []byte) {
		r, p, store := rotator(t)
		answer, err := lambdaentry.Watch(r)(t.Context(), event)
		if err != nil {
			refusal(t, event, err)
			return
		}
		for _, c := range store.Calls() {
			if c.Secret != managed {
				t.Errorf("%q: %s was called for %s", event, c.Op, c.Secret)
			}
		}
		if len(p.started) > 0 {
			t.Errorf("%q started %v although the secret is stable", event, p.started)
		}
		if text, err := json.Marshal(answer); err != nil || len(text) > 1000 {
			t.Errorf("%q: the answer is %s, %v", event, text, err)
		}
	})
}

// FuzzEmergencyEvent: an event that isn't the machine's changes nothing.
func FuzzEmergencyEvent(f *testing.F) {
	for _, act := range []string{"foretell", "mark", "cut", "replace", "bury", "Mark", ""} {
		f.Add([]byte(`{"act":"` + act + `","secret":"arn:other","token":"` + token + `","cut":true,"cursor":"","polls":0}`))
	}
	f.Add([]byte(`{"act":"mark","Act":"cut","secret":"` + managed + `"}`))
	f.Add([]byte(`{"act":"cut","cut":"` + canary + `"}`))
	f.Fuzz(func(t *testing.T, event []byte) {
		if strings.Contains(string(event), managed) {
			return // a managed secret's emergency is what the event is for
		}
		r, p, store := rotator(t)
		before := store.Labels(managed)
		_, err := lambdaentry.Emergency(r)(t.Context(), event)
		if err == nil {
			t.Errorf("%q succeeded", event)
			return
		}
		if !strings.Contains(string(event), "act") {
			refusal(t, event, err)
		}
		if diff := cmp.Diff(before, store.Labels(managed)); diff != "" || len(p.started) > 0 || len(store.Calls()) > 0 {
			t.Errorf("%q did something: %s %v %v", event, diff, p.started, store.Calls())
		}
	})
}

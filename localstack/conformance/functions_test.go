package conformance_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

// These tests are about what a rotation function does within its steps: C1, C3
// and C6.

func TestC1_3_NothingSecretIsLoggedOrAnswered(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{Retries: 1}, func(t *testing.T, r *rig) {
		secret := map[string]bool{}
		remember := func(version string) {
			for _, member := range []string{"password", "token"} {
				if text, ok := r.value(version)[member].(string); ok {
					secret[text] = true
				}
			}
			secret[r.invoker.issued(version)] = true
		}
		version := r.strand()
		remember(r.s.first)
		r.await(t, "the repetition to be through", func() bool { return r.holder(current) == version })
		remember(version)
		r.rest(secretsmanager.Behaviour{Retries: 1})
		// A value that is wrong, and errors that would like to quote it.
		broken := r.value(version)
		const wrong = "canary-of-a-wrong-value"
		for _, member := range []string{"password", "token"} {
			if broken[member] != nil {
				broken[member] = wrong
			}
		}
		secret[wrong] = true
		r.store(uuid.NewString(), broken)
		if r.service != nil {
			r.service.forget(r.value(version)["token"].(string))
		}
		next := r.strand()
		var answers strings.Builder
		for _, step := range allSteps {
			if f := r.step(step, next); f != nil {
				answers.WriteString(f.Type + ": " + f.Message + "\n")
			}
		}
		if answers.Len() == 0 {
			t.Error("no step failed, so nothing was shown")
		}
		delete(secret, "")
		for text := range secret {
			for where, all := range map[string]string{"the logs": r.logs.text(), "the answers": answers.String()} {
				if strings.Contains(all, text) {
					t.Errorf("%s hold a secret value or a RotationToken", where)
				}
			}
		}
	})
}

func TestC1_4_TheRotationTokenIsPassedOnUnchangedOrNotAtAll(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		version := r.strand()
		r.must("createSecret", version)
		if got := r.put()["RotationToken"]; got != r.invoker.issued(version) {
			t.Error("another RotationToken was passed on")
		}
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		// AWS's events had none before June 2024.
		each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
			if f := r.invoke(event{Step: "createSecret", SecretID: r.s.arn, Version: r.strand()}); f != nil {
				t.Fatal(f.Message)
			}
			if got, ok := r.put()["RotationToken"]; ok {
				t.Errorf("a RotationToken was made up: %v", got)
			}
		})
	})
}

// put is the one PutSecretValue of the function since the calls were forgotten.
func (r *rig) put() map[string]any {
	r.t.Helper()
	puts := r.calls.of("PutSecretValue")
	if len(puts) != 1 {
		r.t.Fatalf("%d calls of PutSecretValue", len(puts))
	}
	return puts[0].In
}

func TestC3_1_ASecretWithoutAValueDoesNotRotate(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(_ *testing.T, r *rig) {
		version := r.strand()
		// As Secrets Manager answers for a secret that was made without a value.
		r.calls.refusing(func(c request) error {
			if c.Action == "GetSecretValue" && c.In["VersionId"] != version {
				return notFound
			}
			return nil
		})
		if f := r.step("createSecret", version); f == nil {
			r.t.Error("createSecret made a value out of nothing")
		}
		r.unchanged("createSecret")
	})
}

func TestC3_2_CreateMakesOneValueHoweverOftenItIsCalled(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		version := r.strand()
		r.must("createSecret", version)
		value := r.value(version)
		for range 3 {
			r.calls.forget()
			r.must("createSecret", version)
			r.unchanged("a repeated createSecret")
		}
		if diff := cmp.Diff(value, r.value(version)); diff != "" {
			t.Error("a repeated createSecret has made another value")
		}
	})
}

func TestC3_3_OnlyNotFoundMeansGenerate(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		version := r.strand()
		for _, failure := range []error{throttled, decryption, internal} {
			r.calls.refusing(func(c request) error {
				if c.Action == "GetSecretValue" && c.In["VersionId"] == version {
					return failure
				}
				return nil
			})
			f := r.step("createSecret", version)
			r.calls.refusing(nil)
			if f == nil {
				t.Errorf("%v: createSecret succeeded", failure)
			}
			r.unchanged(failure.Error())
		}
		r.must("createSecret", version)
	})
}

func TestC3_5_TheValueThatIsStoredWins(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		version := r.strand()
		done := make(chan *failure, 4)
		for range cap(done) {
			go func() { done <- r.step("createSecret", version) }()
		}
		for range cap(done) {
			// Whoever comes second may find the value stored already and fail: the next attempt reads it.
			if f := <-done; f != nil {
				t.Logf("one of several at once: %s", f.Type)
			}
		}
		value := r.value(version)
		for _, step := range allSteps {
			r.must(step, version)
		}
		if diff := cmp.Diff(value, r.value(version)); diff != "" {
			t.Error("the value has changed after it was stored")
		}
		text, err := r.s.get("", "")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.works(t.Context(), text); err != nil {
			t.Errorf("the stored value: %v", err)
		}
	})
}

func TestC3_6_StagesAreAlwaysSent(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		version := r.strand()
		r.must("createSecret", version)
		in := r.put()
		stages, _ := in["VersionStages"].([]any)
		if !slices.Contains(stages, any(pending)) || slices.Contains(stages, any(current)) || in["ClientRequestToken"] != version {
			t.Errorf("PutSecretValue for version %v with stages %v", in["ClientRequestToken"], stages)
		}
		if got := r.holder(current); got != r.s.first {
			t.Errorf("AWSCURRENT is on %s", got)
		}
	})
}

func TestC3_7_EveryFieldButTheCredentialIsKept(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		version := r.strand()
		r.must("createSecret", version)
		before, after := r.value(r.s.first), r.value(version)
		for _, rotated := range []string{"username", "password", "token"} {
			if before[rotated] != nil && rotated != "username" && before[rotated] == after[rotated] {
				t.Errorf("%s was not rotated", rotated)
			}
			delete(before, rotated)
			delete(after, rotated)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("kept fields (-before +after):\n%s", diff)
		}
	})
}

func TestC6_2_FinishMovesCurrentByOneCall(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		version := r.strand()
		for _, step := range allSteps[:3] {
			r.must(step, version)
			if got := r.holder(current); got != r.s.first {
				t.Fatalf("%s moved AWSCURRENT", step)
			}
		}
		r.calls.forget()
		r.must("finishSecret", version)
		var moves []map[string]any
		for _, c := range r.calls.of("UpdateSecretVersionStage") {
			if c.In["VersionStage"] == current {
				moves = append(moves, c.In)
			}
		}
		want := []map[string]any{{"SecretId": r.s.arn, "VersionStage": current, "MoveToVersionId": version, "RemoveFromVersionId": r.s.first}}
		if diff := cmp.Diff(want, moves); diff != "" {
			t.Errorf("moves of AWSCURRENT (-want +got):\n%s", diff)
		}
		if labels := r.s.labels(); labels[current] != version || labels[previous] != r.s.first {
			t.Errorf("labels %v", labels)
		}
	})
}

func TestC6_3_TheFunctionLeavesPendingToSecretsManager(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		version := r.strand()
		for _, step := range append(slices.Clone(allSteps), "finishSecret") {
			r.must(step, version)
		}
		for _, c := range r.calls.of("UpdateSecretVersionStage") {
			if c.In["VersionStage"] == pending {
				t.Errorf("the function moved AWSPENDING: %v", c.In)
			}
		}
		if got := r.holder(pending); got != version {
			t.Errorf("AWSPENDING is on %q before Secrets Manager has cleaned up", got)
		}
	})
}

func TestC6_5_FinishDoesNotWaitForConsumers(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		old, err := r.s.get(r.s.first, "")
		if err != nil {
			t.Fatal(err)
		}
		version := r.strand()
		for _, step := range allSteps {
			r.must(step, version) // nobody has followed
		}
		if got := r.holder(current); got != version {
			t.Errorf("AWSCURRENT is on %s", got)
		}
		if err := r.works(t.Context(), old); err != nil {
			t.Errorf("the old credential after finishSecret: %v", err)
		}
	})
}

func TestC1_6_NoOtherFunctionRotates(t *testing.T) {
	t.Parallel()
	r := newKeyturn(t, secretsmanager.Behaviour{})
	version := r.strand()
	for _, step := range allSteps[:3] {
		r.must(step, version)
	}
	for _, other := range []string{"createSecret", "setSecret", "testSecret", "finishSecret"} {
		if s, ok := r.local.Lambda.Stats(other); !ok || s.Invocations > 0 {
			t.Errorf("%s was invoked %d times", other, s.Invocations)
		}
	}
}

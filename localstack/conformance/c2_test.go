package conformance_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

// The guard stands before every step of a rotation function (C2): these tests
// call the steps themselves, as Secrets Manager does, and in states in which it
// wouldn't.

// unchanged fails the test if the function has called anything that changes the
// secret since the calls were last forgotten.
func (r *rig) unchanged(what string) {
	r.t.Helper()
	for _, c := range r.calls.of("") {
		if !slices.Contains([]string{"DescribeSecret", "GetSecretValue"}, c.Action) {
			r.t.Errorf("%s: the function called %s", what, c.Action)
		}
	}
	r.calls.forget()
}

// refuses calls every step and wants each to fail without having read a value.
func (r *rig) refuses(what, version string) {
	r.t.Helper()
	for _, step := range allSteps {
		if f := r.step(step, version); f == nil {
			r.t.Errorf("%s: %s succeeded", what, step)
		}
		if n := len(r.calls.of("GetSecretValue")); n > 0 {
			r.t.Errorf("%s: %s read %d values", what, step, n)
		}
		r.unchanged(what + ": " + step)
	}
}

func TestC1_1_AStepThatIsNoneOfTheFourIsAnError(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		version := r.strand()
		for _, step := range []string{"", "rotateSecret", "CreateSecret", "createSecret "} {
			if f := r.step(step, version); f == nil {
				t.Errorf("step %q succeeded", step)
			}
			r.unchanged("step " + step)
		}
	})
}

func TestC1_2_AnEventWithoutARNOrVersionIsAnError(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		version := r.strand()
		for _, e := range []event{
			{Step: "createSecret", Version: version},
			{Step: "createSecret", SecretID: r.s.arn},
			{Step: "createSecret", SecretID: r.s.arn, Version: "short"},
			{Step: "createSecret", SecretID: r.s.arn, Version: strings.Repeat("x", 65)},
			{Step: "createSecret", SecretID: r.s.name, Version: version},
		} {
			if f := r.invoke(e); f == nil {
				t.Errorf("secret %q, version %q: succeeded", e.SecretID, e.Version)
			}
			r.unchanged("secret " + e.SecretID)
		}
	})
}

func TestC2_1_EveryStepDescribesTheSecretFirst(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		version := r.strand()
		for _, step := range allSteps {
			r.must(step, version)
			if calls := r.calls.of(""); calls[0].Action != "DescribeSecret" || calls[0].In["SecretId"] != r.s.arn {
				t.Errorf("%s begins with %s", step, calls[0].Action)
			}
			r.calls.forget()
		}
	})
}

func TestC2_2_RotationSwitchedOffIsAnErrorAndUnsaidIsNot(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		// A pending version of a secret that rotation was never configured for.
		byHand := uuid.NewString()
		value := r.value(r.s.first)
		r.store(byHand, value, "MINE")
		if err := r.s.move(pending, byHand, ""); err != nil {
			t.Fatal(err)
		}
		if f := r.step("createSecret", byHand); f != nil {
			t.Errorf("RotationEnabled isn't there: %s", f.Message)
		}
		if err := r.s.move(pending, "", byHand); err != nil {
			t.Fatal(err)
		}
		version := r.strand()
		if _, err := r.secrets.CancelRotateSecret(t.Context(), &sm.CancelRotateSecretInput{SecretId: &r.s.arn}); err != nil {
			t.Fatal(err)
		}
		r.refuses("RotationEnabled is false", version)
	})
}

func TestC2_3_AVersionWithoutStagesIsAnError(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(_ *testing.T, r *rig) {
		r.strand()
		r.refuses("a version that isn't there", uuid.NewString())
	})
}

func TestC2_4_AVersionThatIsCurrentIsASuccessWithoutAnAct(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		version := r.strand()
		for _, step := range allSteps {
			r.must(step, version)
		}
		labels, value := r.s.labels(), r.value(version)
		r.calls.forget()
		// Late repetitions of steps, in any order.
		for _, step := range slices.Backward(allSteps) {
			r.must(step, version)
			r.unchanged("a late " + step)
		}
		r.s.wantLabels(labels)
		if again := r.value(version); again["token"] != value["token"] || again["password"] != value["password"] {
			t.Error("a late step has changed the value")
		}
	})
}

func TestC2_5_AVersionThatIsNotPendingIsAnError(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(_ *testing.T, r *rig) {
		other := uuid.NewString()
		r.store(other, r.value(r.s.first), "MINE")
		r.strand()
		r.refuses("a version with another label", other)
	})
}

func TestC2_6_SecretsThatAreNotOursAreRefused(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		version := r.strand()
		if _, err := r.secrets.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: &r.s.arn, RecoveryWindowInDays: aws.Int64(7)}); err != nil {
			t.Fatal(err)
		}
		r.refuses("marked for deletion", version)
	})
	// The Python function looks at them itself; Keyturn's refuses secrets that aren't in its policy
	// before it looks, and its guard is shown by rotation's own tests.
	t.Run("by the function", func(t *testing.T) {
		t.Parallel()
		r := newPython(t, secretsmanager.Behaviour{})
		for name, seed := range map[string]secretsmanager.Seed{
			"a replica":            {PrimaryRegion: "eu-west-1"},
			"managed by a service": {OwningService: "rds"},
		} {
			seed.Name, seed.Value = "seeded", `{"token":"first"}`
			arn := r.local.SecretsManager.Seed(seed)
			for _, step := range allSteps {
				if f := r.invoke(event{Step: step, SecretID: arn, Version: uuid.NewString()}); f == nil || !strings.Contains(f.Message, "isn't ours") {
					t.Errorf("%s: %s: %+v", name, step, f)
				}
			}
			r.unchanged(name)
		}
	})
	// What nobody can make by a call: the guard is the same code for all secrets.
	t.Run("by others", func(t *testing.T) {
		t.Parallel()
		for name, seed := range map[string]secretsmanager.Seed{
			"a replica":            {PrimaryRegion: "eu-west-1"},
			"managed by a service": {OwningService: "rds"},
		} {
			a := embedded(t, secretsmanager.Behaviour{})
			seed.Name, seed.Value = "seeded", `{"token":"first"}`
			arn := a.local.SecretsManager.Seed(seed)
			in := (&secret{account: a, arn: arn}).rotation(a.function)
			_, err := a.secrets.RotateSecret(t.Context(), in)
			wantCode(t, err, "InvalidRequestException", "")
			_, err = a.secrets.PutSecretValue(t.Context(), &sm.PutSecretValueInput{SecretId: &arn, SecretString: aws.String("x")})
			wantCode(t, err, "InvalidRequestException", "")
			if d, err := a.secrets.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: &arn}); err != nil ||
				aws.ToString(d.PrimaryRegion) != seed.PrimaryRegion || aws.ToString(d.OwningService) != seed.OwningService {
				t.Errorf("%s: %+v, %v", name, d, err)
			}
		}
	})
}

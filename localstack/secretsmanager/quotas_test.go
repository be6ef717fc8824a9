package secretsmanager_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

// labelled makes a secret with this many labels on two versions: AWSCURRENT and
// those that it returns, all but one of them on the second version.
func (f *fixture) labelled(n int) (v1, v2 string, labels []string) {
	f.t.Helper()
	_, v1 = f.create("s", "one")
	for i := range n - 1 {
		labels = append(labels, fmt.Sprintf("LABEL_%02d", i))
	}
	v2 = f.mustPut("s", "two", labels[1:]...)
	if err := f.move("s", labels[0], v1, ""); err != nil {
		f.t.Fatal(err)
	}
	return v1, v2, labels
}

// User guide, "Secrets Manager quotas": 20 staging labels attached across all
// versions of a secret.
func TestC7_8_TwentyLabelsAcrossAllVersions(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	v1, v2, labels := f.labelled(20)
	before := f.describe("s").VersionIdsToStages
	for name, call := range map[string]func() error{
		"one label more":          func() error { return f.move("s", "ONE_MORE", v1, "") },
		"a version with one more": func() error { return f.put("s", uuid.NewString(), "three", "ONE_MORE") },
		"AWSPREVIOUS by a move":   func() error { return f.move("s", "AWSCURRENT", v2, v1) },
		"AWSPREVIOUS by a put":    func() error { return f.put("s", uuid.NewString(), "three") },
		"AWSPENDING of a rotation": func() error {
			_, err := f.RotateSecret(f.ctx, rotateInput("s", uuid.NewString()))
			return err
		},
	} {
		wantError(t, call(), "LimitExceededException", "staging labels")
		if diff := cmp.Diff(before, f.describe("s").VersionIdsToStages); diff != "" {
			t.Errorf("%s (-before +after):\n%s", name, diff)
		}
	}
	wantError(t, f.put("s", uuid.NewString(), "three", append(labels, "a", "b")...), "ValidationException", "20")
	// What takes no more room is done.
	if err := f.move("s", labels[0], v1, ""); err != nil {
		t.Errorf("a label that is there already: %v", err)
	}
	if err := f.move("s", labels[1], v1, v2); err != nil {
		t.Errorf("a label that moves: %v", err)
	}
	v3 := f.mustPut("s", "three", labels[1:3]...)
	if err := f.move("s", labels[1], "", v3); err != nil {
		t.Fatal(err)
	}
	if err := f.move("s", "AWSCURRENT", v2, v1); err != nil {
		t.Errorf("the place of a label that was taken off: %v", err)
	}
}

func TestC7_8_UnlabelledVersionsGoBeyondAHundredButNotWithinADay(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{NoQuotas: true})
	_, kept := f.create("s", "kept")
	if err := f.move("s", "KEYTURN_RETIRING", kept, ""); err != nil {
		t.Fatal(err)
	}
	var later []string
	for range 99 {
		later = append(later, f.mustPut("s", "value"))
	}
	const full = "100 versions"
	wantError(t, f.put("s", uuid.NewString(), "one too many"), "LimitExceededException", full)
	_, err := f.RotateSecret(f.ctx, rotateInput("s", uuid.NewString()))
	wantError(t, err, "LimitExceededException", full)
	f.clock.Advance(23 * time.Hour)
	wantError(t, f.put("s", uuid.NewString(), "one too many"), "LimitExceededException", full)
	f.clock.Advance(2 * time.Hour)
	f.mustPut("s", "value")
	_, err = f.get("s", later[0], "")
	wantError(t, err, "ResourceNotFoundException", later[0])
	if _, err := f.get("s", later[1], ""); err != nil {
		t.Errorf("a later version went first: %v", err)
	}
	if got, err := f.get("s", kept, "KEYTURN_RETIRING"); got != "kept" {
		t.Errorf("a labelled version was purged: %v", err)
	}
	out, err := f.ListSecretVersionIds(f.ctx, &sm.ListSecretVersionIdsInput{SecretId: aws.String("s"), IncludeDeprecated: aws.Bool(true)})
	if err != nil || len(out.Versions) != 100 {
		t.Errorf("%d versions, error %v; want 100", len(out.Versions), err)
	}
	labelled, err := f.ListSecretVersionIds(f.ctx, &sm.ListSecretVersionIdsInput{SecretId: aws.String("s")})
	if err != nil || len(labelled.Versions) != 3 {
		t.Errorf("%d labelled versions, error %v; want current, previous and retiring", len(labelled.Versions), err)
	}
	if diff := cmp.Diff([]string{"StartSecretVersionDelete", "EndSecretVersionDelete"}, f.serviceEvents()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// User guide, "Secrets Manager quotas": 50 a second for writes of values and
// labels together, and 50 for starting and cancelling rotations together.
func TestC7_9_FiftyWritesAndFiftyRotationsASecond(t *testing.T) {
	t.Parallel()
	const writes, rotations, free = "writes", "rotations", ""
	actions := map[string]string{
		"PutSecretValue": writes, "UpdateSecret": writes, "UpdateSecretVersionStage": writes,
		"RotateSecret": rotations, "CancelRotateSecret": rotations,
		"GetSecretValue": free, "DescribeSecret": free, "ListSecretVersionIds": free, "TagResource": free, "CreateSecret": free,
	}
	for emptied, in := range map[string]string{"UpdateSecretVersionStage": writes, "CancelRotateSecret": rotations} {
		f := start(t, secretsmanager.Behaviour{})
		// Calls in process, so that the bucket, which refills by the clock, empties.
		throttled := func(action string) bool {
			_, err := f.service.Call(f.ctx, action, []byte(`{"SecretId":"there is no such secret"}`))
			return err != nil && slices.Contains([]string{"ThrottlingException: Rate exceeded"}, err.Error())
		}
		n, begin := 0, f.clock.Now()
		for !throttled(emptied) {
			if n++; n > 5000 {
				t.Fatalf("5000 calls of %s at once were all accepted", emptied)
			}
		}
		if n < 50 {
			t.Errorf("%s: only %d calls were accepted", emptied, n)
		}
		if most := 52 + 50*f.clock.Now().Sub(begin).Seconds(); float64(n) > most {
			t.Errorf("%s: %d calls were accepted, want at most %.0f", emptied, n, most)
		}
		for action, bucket := range actions {
			for range 5000 { // whatever has come back since then
				if throttled(action) || bucket != in {
					break
				}
			}
			if got := throttled(action); got != (bucket == in) {
				t.Errorf("%s after too many %s: throttled %v", action, in, got)
			}
		}
		f.clock.Advance(time.Second)
		if throttled(emptied) {
			t.Errorf("%s is refused after a second of the clock", emptied)
		}
		f.service.SetBehaviour(secretsmanager.Behaviour{NoQuotas: true})
		for range 5000 {
			if throttled(emptied) {
				t.Fatalf("%s is refused though quotas are off", emptied)
			}
		}
	}
}

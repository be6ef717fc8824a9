package lambdaentry_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/rotation"
)

const (
	planted = "77777777-7777-4777-8777-777777777777"
	next    = "88888888-8888-4888-8888-888888888888"
)

// A secret that the policy doesn't list may say the same as one that it lists,
// and let Secrets Manager call the same function: nothing of it is even read.
func TestASecretThatIsntListedIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	if failure := s.rotate(s.unlisted, next, ""); !strings.Contains(failure, string(fault.NotManaged)) {
		t.Errorf("the function answered %q", failure)
	}
	for name, do := range map[string]func(context.Context, rotation.Request) (rotation.Result, error){
		"Adopt": s.rotator.Adopt, "Drain": s.rotator.Drain, "Disable": s.rotator.Disable, "Revoke": s.rotator.Revoke, "Rollback": s.rotator.Rollback,
	} {
		for _, secret := range []string{s.unlisted, "app", s.managed[:len(s.managed)-1], strings.ToUpper(s.managed), s.adminARN, ""} {
			if out, err := s.step(do, secret, next, rotation.Forward); !fault.Is(err, fault.NotManaged) && !fault.Is(err, fault.InvalidInput) {
				t.Errorf("%s of %q: %s, %v", name, secret, out, err)
			}
		}
	}
	event := fmt.Sprintf(`{"detail":{"additionalEventData":{"SecretId":%q}}}`, s.unlisted)
	if out, err := lambdaentry.Watch(s.rotator)(t.Context(), []byte(event)); err != nil || fmt.Sprint(out) != "{0 [] []}" {
		t.Errorf("the watchdog: %v, %v", out, err)
	}
	if about := s.called(s.unlisted); len(about) > 0 {
		t.Errorf("the unlisted secret: %v", about)
	}
	s.unharmed("an unlisted secret")
}

// Whoever may write the secret stores what he likes, under the labels that he
// likes: as what is current, what comes, or what goes.
func TestAPlantedVersionLeadsNowhere(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	evil := s.value("host", s.trap.Host, "port", s.trap.Port)

	s.put(s.managed, planted, evil, "AWSCURRENT")
	if failure := s.rotate(s.managed, next, ""); !strings.Contains(failure, string(fault.PolicyViolation)) {
		t.Errorf("the function answered %q", failure)
	}
	s.unharmed("a planted current version")

	labels := []string{"KEYTURN_RETIRING", "KEYTURN_LIVE_" + planted, "KEYTURN_DISABLED", "AWSPREVIOUS"}
	out, err := s.attack.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: &s.managed})
	if err != nil {
		t.Fatal(err)
	}
	var first string
	for id, stages := range out.VersionIdsToStages {
		if id != planted && id != next && len(stages) > 0 {
			first = id
		}
	}
	move := func(label, to, from string) {
		t.Helper()
		in := &secretsmanager.UpdateSecretVersionStageInput{SecretId: &s.managed, VersionStage: &label}
		if to != "" {
			in.MoveToVersionId = &to
		}
		if from != "" {
			in.RemoveFromVersionId = &from
		}
		if _, err := s.attack.UpdateSecretVersionStage(t.Context(), in); err != nil {
			t.Fatalf("%s to %s: %v", label, to, err)
		}
	}
	move("AWSCURRENT", first, planted) // AWSPREVIOUS follows to the planted one
	for _, label := range labels[:3] {
		move(label, planted, "")
	}
	if _, err := lambdaentry.Watch(s.rotator)(t.Context(), []byte(`{}`)); err != nil {
		t.Logf("the watchdog: %v", err)
	}
	for name, do := range map[string]func(context.Context, rotation.Request) (rotation.Result, error){
		"Drain": s.rotator.Drain, "Disable": s.rotator.Disable, "Revoke": s.rotator.Revoke,
	} {
		if out, err := s.step(do, s.managed, first, rotation.Forward); !fault.Is(err, fault.PolicyViolation) {
			t.Errorf("%s: %s, %v", name, out, err)
		}
	}
	s.unharmed("a planted version that goes")

	move("KEYTURN_REJECTED", first, "")
	for name, do := range map[string]func(context.Context, rotation.Request) (rotation.Result, error){
		"Rollback": s.rotator.Rollback, "Drain": s.rotator.Drain, "Disable": s.rotator.Disable,
	} {
		if out, err := s.step(do, s.managed, first, rotation.Back); err == nil {
			t.Errorf("%s: %s", name, out)
		}
	}
	s.unharmed("a planted version to go back to")
}

// Tags only narrow: one stops new rotations, and no other says anything.
func TestTagsOnlyNarrow(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	tag := func(pairs ...string) {
		t.Helper()
		in := &secretsmanager.TagResourceInput{SecretId: &s.managed}
		for i := 0; i < len(pairs); i += 2 {
			in.Tags = append(in.Tags, types.Tag{Key: &pairs[i], Value: &pairs[i+1]})
		}
		if _, err := s.attack.TagResource(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	tag("keyturn:pause", "false")
	if failure := s.rotate(s.managed, next, ""); !strings.Contains(failure, string(fault.RotationDisabled)) {
		t.Errorf("the function answered %q", failure)
	}
	s.unharmed("a paused secret")
	if _, err := s.attack.UntagResource(t.Context(), &secretsmanager.UntagResourceInput{SecretId: &s.managed, TagKeys: []string{"keyturn:pause"}}); err != nil {
		t.Fatal(err)
	}
	tag("keyturn:drain", "0s", "keyturn:window", "0s", "keyturn:hosts", s.trap.Address(), "keyturn:admin", s.unlisted,
		"keyturn:on_timeout", "terminate", "keyturn:allow_plaintext", "true", "keyturn:quiet_polls", "0", "KEYTURN:PAUSE", "true")
	if failure := s.rotate(s.managed, next, "keyturn:pause"); failure != "" {
		t.Fatalf("the function answered %q", failure)
	}
	out, err := s.step(s.rotator.Drain, s.managed, next, rotation.Forward)
	if err != nil || strings.Contains(out, `"outcome":"done"`) || !strings.Contains(out, "the least is 1h0m0s") {
		t.Errorf("the drain: %s, %v", out, err)
	}
	if n, sent := s.trap.Visits(); n > 0 {
		t.Errorf("the attacker's server got %d connections and %q", n, sent)
	}
	if s.adminLogins() == 0 || len(s.called(s.adminARN)) == 0 {
		t.Error("a rotation that is right shows no admin: this test would see nothing")
	}
}

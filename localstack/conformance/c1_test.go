package conformance_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

var allSteps = []string{"createSecret", "setSecret", "testSecret", "finishSecret"}

func TestC1_1_TheFourStepsAreCalledInOrder(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	version := s.rotate()
	s.rotated(version)
	if diff := cmp.Diff(allSteps, s.steps()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

func TestC1_2_EventsNameTheARNAndTheNewVersion(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	in := s.rotation(s.function)
	in.SecretId = &s.name // whatever the caller says, the event has the ARN
	if _, err := s.secrets.RotateSecret(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	s.rotated(*in.ClientRequestToken)
	for _, c := range s.calls() {
		if c.SecretID != "arn" || c.Version != *in.ClientRequestToken {
			t.Errorf("%s was called with the secret's %s and version %s", c.Step, c.SecretID, c.Version)
		}
	}
	for _, token := range []string{"short", strings.Repeat("x", 31), strings.Repeat("x", 65)} {
		in.ClientRequestToken = &token
		_, err := s.secrets.RotateSecret(t.Context(), in)
		if c := code(err); c != "InvalidParameterException" && c != "ValidationException" {
			t.Errorf("a token of %d characters: %v", len(token), err)
		}
	}
}

func TestC1_4_OneRotationTokenForAllStepsAndNoOtherIsTaken(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	s.tell("hold", "createSecret")
	version := s.rotate()
	s.reached("createSecret")
	made := uuid.NewString()
	_, err := s.secrets.PutSecretValue(t.Context(), &sm.PutSecretValueInput{
		SecretId: &s.arn, ClientRequestToken: &version, SecretString: &made, VersionStages: []string{pending}, RotationToken: &made,
	})
	if c := code(err); c != "AccessDeniedException" && c != "InvalidParameterException" {
		t.Errorf("a RotationToken that nobody issued: %v", err)
	}
	s.takeBack("hold")
	s.rotated(version)
	calls := s.calls()
	for _, c := range calls {
		if c.RotationToken == "none" || c.RotationToken != calls[0].RotationToken {
			t.Errorf("RotationToken of %s has the digest %s, of the first step %s", c.Step, c.RotationToken, calls[0].RotationToken)
		}
	}
}

func TestC1_5_AnErrorEndsTheAttemptAndLeavesTheLabels(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	s.tell("fail", "setSecret")
	version := s.rotate()
	s.hasFailed("setSecret")
	s.wantLabels(map[string]string{current: s.first, pending: version})
	if steps := s.steps(); slices.Contains(steps, "testSecret") || slices.Contains(steps, "finishSecret") {
		t.Errorf("steps after a failed one: %v", steps)
	}
	if s.describe().LastRotatedDate != nil {
		t.Error("a failed attempt has set LastRotatedDate")
	}
	// The whole process runs again, from createSecret, and the value made stays.
	value, err := s.get(version, pending)
	if err != nil {
		t.Fatal(err)
	}
	failed := len(s.steps())
	s.takeBack("fail")
	in := s.rotation(s.function)
	in.ClientRequestToken = &version
	s.eventually("the repetition to be through", func() bool {
		_, err := s.secrets.RotateSecret(t.Context(), in)
		if err != nil {
			wantCode(t, err, "InvalidRequestException", "A previous rotation isn't complete")
		}
		return s.labels()[current] == version
	})
	if got := s.steps()[failed:]; len(got) < 4 || !slices.Equal(got[len(got)-4:], allSteps) {
		t.Errorf("steps of the repetition: %v", got)
	}
	if again, err := s.get(version, ""); err != nil || again != value {
		t.Errorf("the repetition has made another value (%v)", err)
	}
}

func TestC1_6_OnlyALambdaFunctionRotates(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	in := s.rotation("arn:aws:states:" + s.region + ":" + s.id + ":stateMachine:rotation")
	if _, err := s.secrets.RotateSecret(t.Context(), in); code(err) == "" {
		t.Errorf("a state machine was accepted as a rotation function: %v", err)
	}
	s.wantLabels(map[string]string{current: s.first})
}

func TestC1_7_AFunctionThatCannotBeInvokedIsRefused(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	for _, function := range s.uninvocable(t) {
		_, err := s.secrets.RotateSecret(t.Context(), s.rotation(function))
		wantCode(t, err, "AccessDeniedException", "secretsmanager.amazonaws.com")
	}
	s.wantLabels(map[string]string{current: s.first})
	if d := s.describe(); d.RotationLambdaARN != nil || d.RotationEnabled != nil && *d.RotationEnabled {
		t.Errorf("the refused function was kept: %v", d.RotationLambdaARN)
	}
}

// uninvocable are functions that Secrets Manager may not invoke: one that isn't
// there and, in a real account, one whose policy doesn't name Secrets Manager.
func (a *account) uninvocable(t *testing.T) []string {
	t.Helper()
	missing := a.function[:strings.LastIndex(a.function, ":")+1] + "keyturn-there-is-no-such-function"
	if a.real == nil {
		return []string{missing}
	}
	return a.real.withoutPermission(t, missing)
}

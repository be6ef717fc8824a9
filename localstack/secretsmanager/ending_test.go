package secretsmanager_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

// failing is a Lambda service that can't be reached; it counts who tries.
type failing struct{ tried atomic.Int32 }

func (i *failing) Invoke(context.Context, string, []byte) (host.Invocation, error) {
	i.tried.Add(1)
	return host.Invocation{}, errors.New("no route")
}

func TestC1_5_AnInvocationThatFailsEndsTheAttempt(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	_, v1 := f.create("s", "one")
	lambda := &failing{}
	f.service.SetInvoker(lambda)
	token := f.rotate("s")
	f.waitFor("RotationFailed", 1)
	if n := lambda.tried.Load(); n != 1 {
		t.Errorf("%d steps after the first one couldn't be invoked", n-1)
	}
	f.wantLabels("s", map[string][]string{v1: {"AWSCURRENT"}, token: {"AWSPENDING"}})
	if diff := cmp.Diff([]string{"RotationStarted", "RotationFailed"}, f.serviceEvents()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestC1_5_ThePauseBeforeARetryIsOnTheClock(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{Retries: 1, RetryAfter: time.Hour})
	f.create("s", "one")
	f.create("other", "one")
	f.fn.fail("setSecret", 1)
	f.rotate("s")
	f.waitFor("RotationFailed", 1)
	f.rotate("other")
	f.waitFor("RotationSucceeded", 1)
	want := []string{"RotationStarted", "RotationFailed", "RotationStarted", "RotationSucceeded"}
	if diff := cmp.Diff(want, f.serviceEvents()); diff != "" {
		t.Errorf("a whole rotation of another secret later (-want +got):\n%s", diff)
	}
	f.clock.Advance(2 * time.Hour)
	f.waitFor("RotationSucceeded", 2)
}

// A label that is taken away from the version of a rotation ends that rotation,
// under way or not.
func TestC7_5_AVersionThatLosesAWSPENDINGIsAbandoned(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"PutSecretValue", "UpdateSecretVersionStage"} {
		f := start(t, secretsmanager.Behaviour{})
		f.create("s", "one")
		f.fn.fail("setSecret", 1)
		token := f.rotate("s")
		f.waitFor("RotationFailed", 1)
		var mine string
		if how == "PutSecretValue" {
			mine = f.mustPut("s", "mine", "AWSPENDING")
		} else {
			mine = f.mustPut("s", "mine", "MINE")
			if err := f.move("s", "AWSPENDING", mine, token); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Contains(f.serviceEvents(), "RotationAbandoned") {
			t.Errorf("%s: events %v", how, f.serviceEvents())
		}
		if got := f.describe("s").VersionIdsToStages; got[token] != nil || !slices.Contains(got[mine], "AWSPENDING") {
			t.Errorf("%s: labels %v", how, got)
		}
	}
}

func TestC7_5_TakingAWSPENDINGOffEndsTheRotation(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{Retries: 3})
	_, v1 := f.create("s", "one")
	reached, release := f.fn.holdAt("setSecret")
	token := f.rotate("s")
	reached()
	if err := f.move("s", "AWSPENDING", "", token); err != nil {
		t.Fatal(err)
	}
	release()
	f.waitFor("RotationAbandoned", 1)
	f.wantLabels("s", map[string][]string{v1: {"AWSCURRENT"}})
	f.service.Close()
	if diff := cmp.Diff(allSteps[:2], f.fn.steps()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

// A test of the function takes its version away again: it must not be one that
// somebody else has made.
func TestC5_2_ATestNeedsAVersionOfItsOwn(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	_, v1 := f.create("s", "one")
	mine := f.mustPut("s", "mine", "MINE")
	in := rotateInput("s", mine)
	in.RotateImmediately = aws.Bool(false)
	_, err := f.RotateSecret(f.ctx, in)
	wantError(t, err, "InvalidRequestException", mine)
	f.service.Close()
	f.wantLabels("s", map[string][]string{v1: {"AWSCURRENT"}, mine: {"MINE"}})
	if got, err := f.get("s", mine, ""); got != "mine" {
		t.Errorf("the version holds %q, %v", got, err)
	}
}

package secretsmanager_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

var allSteps = []string{"createSecret", "setSecret", "testSecret", "finishSecret"}

func TestC1_EventsCarryStepARNTokenAndRotationToken(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	arn, _ := f.create("s", "one")
	token := f.rotate("s")
	f.waitFor("RotationSucceeded", 1)
	f.fn.mu.Lock()
	defer f.fn.mu.Unlock()
	var steps []string
	for _, e := range f.fn.events {
		steps = append(steps, e.Step)
		if e.SecretID != arn || e.ClientRequestToken != token || e.RotationToken == "" || e.RotationToken != f.fn.events[0].RotationToken {
			t.Errorf("event %+v", e)
		}
	}
	if diff := cmp.Diff(allSteps, steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

func TestC1_4_RotationTokenIsValidated(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	reached, release := f.fn.holdAt("createSecret")
	token := f.rotate("s")
	reached()
	put := func(version, rotationToken string) error {
		_, err := f.PutSecretValue(f.ctx, &sm.PutSecretValueInput{
			SecretId: aws.String("s"), ClientRequestToken: &version, SecretString: aws.String("value of " + version),
			VersionStages: []string{"AWSPENDING"}, RotationToken: &rotationToken,
		})
		return err
	}
	f.fn.mu.Lock()
	issued := f.fn.events[0].RotationToken
	f.fn.mu.Unlock()
	wantError(t, put(token, uuid.NewString()), "AccessDeniedException", "RotationToken")
	wantError(t, put(token, strings.Repeat("!", 40)), "InvalidParameterException", "36-256")
	wantError(t, put(uuid.NewString(), issued), "AccessDeniedException", "RotationToken")
	if err := put(token, issued); err != nil {
		t.Errorf("the issued token: %v", err)
	}
	release()
	f.waitFor("RotationSucceeded", 1)
}

func TestC1_5_FirstErrorStopsAndTheWholeProcessIsRetried(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		retries int
		fails   int
		steps   []string
		events  []string
	}{
		{"no retry", 0, 1, allSteps[:2], []string{"RotationStarted", "RotationFailed"}},
		{"second attempt succeeds", 2, 1, append(slices.Clone(allSteps[:2]), allSteps...),
			[]string{"RotationStarted", "RotationFailed", "RotationStarted", "RotationSucceeded"}},
		{"all attempts fail", 1, 9, append(slices.Clone(allSteps[:2]), allSteps[:2]...),
			[]string{"RotationStarted", "RotationFailed", "RotationStarted", "RotationFailed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t, secretsmanager.Behaviour{Retries: tt.retries, RetryAfter: time.Hour})
			_, v1 := f.create("s", "one")
			f.fn.fail("setSecret", tt.fails)
			token := f.rotate("s")
			for n := range tt.retries {
				if n < tt.fails {
					f.waitFor("RotationFailed", n+1)
					f.clock.Advance(2 * time.Hour)
				}
			}
			eventually(t, "the last event", func() bool { return len(f.serviceEvents()) >= len(tt.events) })
			if diff := cmp.Diff(tt.events, f.serviceEvents()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.steps, f.fn.steps()); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if tt.events[len(tt.events)-1] == "RotationFailed" {
				f.wantLabels("s", map[string][]string{v1: {"AWSCURRENT"}, token: {"AWSPENDING"}})
				if d := f.describe("s"); d.LastRotatedDate != nil || !aws.ToBool(d.RotationEnabled) {
					t.Errorf("LastRotatedDate %v, RotationEnabled %v", d.LastRotatedDate, d.RotationEnabled)
				}
			}
		})
	}
}

func TestC3_3_PendingVersionIsEmptyAndNotFound(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	_, v1 := f.create("s", "one")
	reached, release := f.fn.holdAt("createSecret")
	token := f.rotate("s")
	reached()
	f.wantLabels("s", map[string][]string{v1: {"AWSCURRENT"}, token: {"AWSPENDING"}})
	_, err := f.get("s", token, "AWSPENDING")
	wantError(t, err, "ResourceNotFoundException", "Secrets Manager can't find the specified secret value for VersionId: "+token)
	_, err = f.get("s", "", "AWSPENDING")
	wantError(t, err, "ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: AWSPENDING")
	_, err = f.get("s", v1, "AWSPENDING")
	wantError(t, err, "InvalidRequestException", "not associated")
	release()
	f.waitFor("RotationSucceeded", 1)
	if got, _ := f.get("s", token, "AWSCURRENT"); got != "value of "+token {
		t.Errorf("new value %q", got)
	}
}

func TestC5_RotateImmediatelyFalseRunsOnlyTestSecret(t *testing.T) {
	t.Parallel()
	for _, empty := range []bool{false, true} {
		for _, fails := range []int{0, 1} {
			f := start(t, secretsmanager.Behaviour{EmptyTestVersion: empty, Retries: 3})
			_, v1 := f.create("s", "one")
			f.fn.fail("testSecret", fails)
			reached, release := f.fn.holdAt("testSecret")
			in := rotateInput("s", uuid.NewString())
			in.RotateImmediately = aws.Bool(false)
			if _, err := f.RotateSecret(f.ctx, in); err != nil {
				t.Fatal(err)
			}
			reached()
			token := *in.ClientRequestToken
			f.wantLabels("s", map[string][]string{v1: {"AWSCURRENT"}, token: {"AWSPENDING"}})
			got, err := f.get("s", token, "AWSPENDING")
			if empty {
				wantError(t, err, "ResourceNotFoundException", token)
			} else if got != "one" {
				t.Errorf("the test version holds %q, %v; want a copy", got, err)
			}
			release()
			end := []string{"TestRotationSucceeded", "TestRotationFailed"}[fails]
			f.waitFor(end, 1)
			f.wantLabels("s", map[string][]string{v1: {"AWSCURRENT"}})
			if _, err := f.get("s", token, ""); code(err) != "ResourceNotFoundException" {
				t.Errorf("the test's version is still there: %v", err)
			}
			if diff := cmp.Diff([]string{"testSecret"}, f.fn.steps()); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"TestRotationStarted", end}, f.serviceEvents()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if d := f.describe("s"); d.LastRotatedDate != nil || !aws.ToBool(d.RotationEnabled) {
				t.Errorf("LastRotatedDate %v, RotationEnabled %v", d.LastRotatedDate, d.RotationEnabled)
			}
		}
	}
}

func TestC6_4_PendingIsRemovedOrStaysAfterSuccess(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		f := start(t, secretsmanager.Behaviour{KeepPending: keep})
		_, v1 := f.create("s", "one")
		first := f.rotate("s")
		f.waitFor("RotationSucceeded", 1)
		want := map[string][]string{v1: {"AWSPREVIOUS"}, first: {"AWSCURRENT"}}
		if keep {
			want[first] = []string{"AWSCURRENT", "AWSPENDING"}
		}
		f.wantLabels("s", want)
		if d := f.describe("s"); d.LastRotatedDate == nil {
			t.Error("no LastRotatedDate")
		}
		// AWSPENDING on AWSCURRENT's own version is no rotation in progress.
		second := f.rotate("s")
		f.waitFor("RotationSucceeded", 2)
		if got, _ := f.get("s", "", ""); got != "value of "+second {
			t.Errorf("keep %v: second rotation left %q", keep, got)
		}
	}
}

func TestC1_5_StepsThatReturnWithoutMovingCurrentAreAFailure(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	_, v1 := f.create("s", "one")
	f.fn.lazy = true
	token := f.rotate("s")
	f.waitFor("RotationFailed", 1)
	f.wantLabels("s", map[string][]string{v1: {"AWSCURRENT"}, token: {"AWSPENDING"}})
}

func TestC7_1_RotateSecretIsAsynchronous(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	reached, _ := f.fn.holdAt("createSecret")
	token := uuid.NewString()
	out, err := f.RotateSecret(f.ctx, rotateInput("s", token)) // returns while the function waits
	if err != nil || aws.ToString(out.VersionId) != token {
		t.Fatalf("RotateSecret: %v, %v", out, err)
	}
	reached()
	if got, _ := f.get("s", "", ""); got != "one" {
		t.Errorf("current is %q before the rotation is over", got)
	}
}

func TestC7_2_PendingElsewhereIsRefusedAndReattempted(t *testing.T) {
	t.Parallel()
	for _, retries := range []int{0, 5} { // given up, or pausing before the next attempt
		f := start(t, secretsmanager.Behaviour{Retries: retries, RetryAfter: 1000 * time.Hour})
		f.create("s", "one")
		f.fn.fail("setSecret", 1)
		stranded := f.rotate("s")
		f.waitFor("RotationFailed", 1)
		in := rotateInput("s", uuid.NewString())
		eventually(t, "the stranded rotation to be reattempted", func() bool {
			_, err := f.RotateSecret(f.ctx, in)
			if err == nil {
				return true // the reattempt is through
			}
			wantError(t, err, "InvalidRequestException", "A previous rotation isn't complete. That rotation will be reattempted.")
			return slices.Contains(f.serviceEvents(), "RotationSucceeded")
		})
		v, err := f.get("s", stranded, "")
		if v != "value of "+stranded {
			t.Errorf("retries %d: the stranded version holds %q, %v", retries, v, err)
		}
		if d := f.describe("s"); d.LastRotatedDate == nil {
			t.Errorf("retries %d: no LastRotatedDate", retries)
		}
	}
}

func TestC7_3_RemovingAStrandedPendingUnblocks(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	_, v1 := f.create("s", "one")
	f.fn.fail("setSecret", 1)
	stranded := f.rotate("s")
	f.waitFor("RotationFailed", 1)
	if err := f.move("s", "AWSPENDING", "", stranded); err != nil {
		t.Fatal(err)
	}
	f.wantLabels("s", map[string][]string{v1: {"AWSCURRENT"}})
	f.rotate("s")
	f.waitFor("RotationSucceeded", 1)
}

func TestC7_4_CancelDisablesAndLeavesLabels(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{Retries: 3})
	_, v1 := f.create("s", "one")
	reached, release := f.fn.holdAt("setSecret")
	token := f.rotate("s")
	reached()
	out, err := f.CancelRotateSecret(f.ctx, &sm.CancelRotateSecretInput{SecretId: aws.String("s")})
	if err != nil || aws.ToString(out.VersionId) != token {
		t.Fatalf("CancelRotateSecret: %v, %v", out, err)
	}
	release()
	f.service.Close() // returns when the running step has
	f.wantLabels("s", map[string][]string{v1: {"AWSCURRENT"}, token: {"AWSPENDING"}})
	d := f.describe("s")
	if aws.ToBool(d.RotationEnabled) || d.RotationEnabled == nil || d.NextRotationDate != nil {
		t.Errorf("RotationEnabled %v, NextRotationDate %v", d.RotationEnabled, d.NextRotationDate)
	}
	if diff := cmp.Diff(allSteps[:2], f.fn.steps()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"RotationStarted"}, f.serviceEvents()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestC7_5_AManualChangeOfCurrentAbandonsTheRotation(t *testing.T) {
	t.Parallel()
	changes := map[string]func(f *fixture, old string) error{
		"PutSecretValue": func(f *fixture, _ string) error { return f.put("s", uuid.NewString(), "by hand") },
		"UpdateSecret": func(f *fixture, _ string) error {
			_, err := f.UpdateSecret(f.ctx, &sm.UpdateSecretInput{SecretId: aws.String("s"), SecretString: aws.String("by hand")})
			return err
		},
		"UpdateSecretVersionStage": func(f *fixture, old string) error {
			for id, labels := range f.describe("s").VersionIdsToStages {
				if slices.Contains(labels, "AWSCURRENT") {
					return f.move("s", "AWSCURRENT", old, id)
				}
			}
			return nil
		},
	}
	for name, change := range changes {
		for _, stranded := range []bool{false, true} {
			f := start(t, secretsmanager.Behaviour{})
			_, old := f.create("s", "one")
			f.mustPut("s", "two")
			reached, release := f.fn.holdAt("setSecret")
			f.fn.fail("setSecret", 1)
			token := f.rotate("s")
			reached()
			if stranded {
				release()
				f.waitFor("RotationFailed", 1)
			}
			if err := change(f, old); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			release()
			f.waitFor("RotationAbandoned", 1)
			for _, labels := range f.describe("s").VersionIdsToStages {
				if slices.Contains(labels, "AWSPENDING") {
					t.Errorf("%s: AWSPENDING is still there", name)
				}
			}
			f.rotate("s") // nothing blocks the next one
			f.waitFor("RotationSucceeded", 1)
			for _, e := range f.fn.events[2:] {
				if e.ClientRequestToken == token {
					t.Errorf("%s: step %s ran after the rotation was abandoned", name, e.Step)
				}
			}
			if slices.Contains(f.serviceEvents()[2:], "RotationFailed") && !stranded {
				t.Errorf("%s: %v", name, f.serviceEvents())
			}
		}
	}
}

func TestC7_5_FinishingARotationIsNoManualChange(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{KeepPending: true})
	f.create("s", "one")
	f.rotate("s")
	f.waitFor("RotationSucceeded", 1)
	f.mustPut("s", "by hand, after a rotation that left AWSPENDING")
	if diff := cmp.Diff([]string{"RotationStarted", "RotationSucceeded"}, f.serviceEvents()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestC4_1_ARotationUnderReadLagSucceedsOnARetry(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{ReadLag: time.Minute, Retries: 1, RetryAfter: 10 * time.Minute})
	f.create("s", "one")
	token := f.rotate("s")
	f.waitFor("RotationFailed", 1) // the function didn't see its pending version yet
	f.clock.Advance(11 * time.Minute)
	f.waitFor("RotationSucceeded", 1)
	f.clock.Advance(2 * time.Minute)
	if got, _ := f.get("s", "", ""); got != "value of "+token {
		t.Errorf("current is %q", got)
	}
}

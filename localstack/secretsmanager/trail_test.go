package secretsmanager_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

func TestC8_ServiceEventsNameTheSecret(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	arn, _ := f.create("s", "one")
	f.rotate("s")
	f.waitFor("RotationSucceeded", 1)
	if _, err := f.DeleteSecret(f.ctx, &sm.DeleteSecretInput{SecretId: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.RestoreSecret(f.ctx, &sm.RestoreSecretInput{SecretId: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	want := []string{"RotationStarted", "RotationSucceeded", "StartSecretVersionDelete", "CancelSecretVersionDelete"}
	if diff := cmp.Diff(want, f.serviceEvents()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	for _, d := range f.bus.details(t, "AWS Service Event via CloudTrail") {
		if d.AdditionalEventData.SecretID != arn || d.EventType != "AwsServiceEvent" || d.EventSource != "secretsmanager.amazonaws.com" {
			t.Errorf("event %+v", d)
		}
	}
}

func TestC8_EveryServiceEventIsSent(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	test := func() {
		t.Helper()
		in := rotateInput("s", uuid.NewString())
		in.RotateImmediately = aws.Bool(false)
		if _, err := f.RotateSecret(f.ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	test()
	f.waitFor("TestRotationSucceeded", 1)
	f.fn.fail("testSecret", 1)
	test()
	f.waitFor("TestRotationFailed", 1)
	f.rotate("s")
	f.waitFor("RotationSucceeded", 1)
	f.fn.fail("setSecret", 1)
	f.rotate("s")
	f.waitFor("RotationFailed", 1)
	f.mustPut("s", "by hand")
	f.waitFor("RotationAbandoned", 1)
	remove := func() {
		t.Helper()
		if _, err := f.DeleteSecret(f.ctx, &sm.DeleteSecretInput{SecretId: aws.String("s"), RecoveryWindowInDays: aws.Int64(7)}); err != nil {
			t.Fatal(err)
		}
	}
	remove()
	if _, err := f.RestoreSecret(f.ctx, &sm.RestoreSecretInput{SecretId: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	remove()
	f.clock.Advance(8 * 24 * time.Hour)
	_, err := f.get("s", "", "")
	wantError(t, err, "ResourceNotFoundException", "")
	want := []string{
		"TestRotationStarted", "TestRotationSucceeded", "TestRotationStarted", "TestRotationFailed",
		"RotationStarted", "RotationSucceeded", "RotationStarted", "RotationFailed", "RotationAbandoned",
		"StartSecretVersionDelete", "CancelSecretVersionDelete", "StartSecretVersionDelete", "EndSecretVersionDelete",
	}
	if diff := cmp.Diff(want, f.serviceEvents()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestC8_EveryCallIsAnEventWithoutValues(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	const canary = "canary-value"
	arn, _ := f.create("s", canary)
	token := f.mustPut("s", canary+"-2", "MINE")
	binary := []byte("canary, but binary")
	if err := f.move("s", "MINE", "", token); err != nil {
		t.Fatal(err)
	}
	wantError(t, f.move("s", "MINE", "", token), "InvalidParameterException", "")
	if _, err := f.get("s", "", ""); err != nil {
		t.Fatal(err)
	}
	in := rotateInput("s", uuid.NewString())
	if _, err := f.RotateSecret(f.ctx, in); err != nil {
		t.Fatal(err)
	}
	f.waitFor("RotationSucceeded", 1)

	type call struct {
		Name, Error string
		ReadOnly    bool
	}
	var got []call
	if _, err := f.UpdateSecret(f.ctx, &sm.UpdateSecretInput{SecretId: aws.String("s"), SecretBinary: binary}); err != nil {
		t.Fatal(err)
	}
	f.describe("s")
	for _, d := range f.bus.details(t, "AWS API Call via CloudTrail") {
		if d.EventName == "DescribeSecret" && !d.ReadOnly {
			t.Error("DescribeSecret isn't read-only")
		}
	}
	for _, d := range f.bus.details(t, "AWS API Call via CloudTrail")[:6] {
		if d.ReadOnly && d.ResponseElements != nil {
			t.Errorf("the event of %s has what was read: %v", d.EventName, d.ResponseElements)
		}
		got = append(got, call{d.EventName, d.ErrorCode, d.ReadOnly})
		if d.UserIdentity.Arn != "arn:aws:iam::000000000000:user/AKIATEST" || d.EventType != "AwsApiCall" {
			t.Errorf("%s by %s", d.EventName, d.UserIdentity.Arn)
		}
		if d.EventName == "PutSecretValue" {
			want := map[string]any{"secretId": "s", "clientRequestToken": token, "versionStages": []any{"MINE"}}
			if diff := cmp.Diff(want, d.RequestParameters); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			if d.ResponseElements["arn"] != arn {
				t.Errorf("response %v", d.ResponseElements)
			}
		}
	}
	want := []call{
		{"CreateSecret", "", false}, {"PutSecretValue", "", false}, {"UpdateSecretVersionStage", "", false},
		{"UpdateSecretVersionStage", "InvalidParameterException", false}, {"GetSecretValue", "", true}, {"RotateSecret", "", false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	f.fn.mu.Lock()
	rotationToken := f.fn.events[0].RotationToken
	f.fn.mu.Unlock()
	f.bus.mu.Lock()
	defer f.bus.mu.Unlock()
	for _, e := range f.bus.events {
		if e.Source != "aws.secretsmanager" {
			t.Errorf("source %s", e.Source)
		}
		for _, secret := range []string{canary, base64.StdEncoding.EncodeToString(binary), "value of ", rotationToken} {
			if strings.Contains(string(e.Detail), secret) {
				t.Errorf("an event holds a value or a rotation token: %s", e.DetailType)
			}
		}
	}
}

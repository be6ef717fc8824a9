package secretsmanager_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

func days(n int64) *types.RotationRulesType {
	return &types.RotationRulesType{AutomaticallyAfterDays: &n}
}

func by(expression string) *types.RotationRulesType {
	return &types.RotationRulesType{ScheduleExpression: &expression}
}

func (f *fixture) cancel(id string) *sm.CancelRotateSecretOutput {
	f.t.Helper()
	out, err := f.CancelRotateSecret(f.ctx, &sm.CancelRotateSecretInput{SecretId: &id})
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// again asks for a rotation and says nothing about how.
func (f *fixture) again(id string) (string, error) {
	token := uuid.NewString()
	_, err := f.RotateSecret(f.ctx, &sm.RotateSecretInput{SecretId: &id, ClientRequestToken: &token})
	return token, err
}

// API reference, RotateSecret: without configuration parameters the rotation
// starts with the values that are stored already.
func TestC7_1_RotateSecretKeepsWhatItIsNotTold(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	if err := f.rotateBy("s", days(7), true); err != nil {
		t.Fatal(err)
	}
	f.waitFor("RotationSucceeded", 1)
	if _, err := f.again("s"); err != nil {
		t.Fatal(err)
	}
	f.waitFor("RotationSucceeded", 2)
	d := f.describe("s")
	if aws.ToString(d.RotationLambdaARN) != functionARN || cmp.Diff(days(7).AutomaticallyAfterDays, d.RotationRules.AutomaticallyAfterDays) != "" {
		t.Errorf("function %v, rules %+v", d.RotationLambdaARN, d.RotationRules)
	}
}

// API reference, DescribeSecret: once rotation is switched off, there is neither a
// last nor a next date, and the schedule and the function are still shown.
func TestC7_4_CancelledRotationKeepsItsConfiguration(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	if err := f.rotateBy("s", days(7), true); err != nil {
		t.Fatal(err)
	}
	f.waitFor("RotationSucceeded", 1)
	if d := f.describe("s"); d.LastRotatedDate == nil || d.NextRotationDate == nil {
		t.Fatalf("before: last %v, next %v", d.LastRotatedDate, d.NextRotationDate)
	}
	f.cancel("s")
	d := f.describe("s")
	if d.LastRotatedDate != nil || d.NextRotationDate != nil || aws.ToString(d.RotationLambdaARN) != functionARN ||
		d.RotationRules == nil || aws.ToInt64(d.RotationRules.AutomaticallyAfterDays) != 7 {
		t.Errorf("after: last %v, next %v, function %v, rules %+v", d.LastRotatedDate, d.NextRotationDate, d.RotationLambdaARN, d.RotationRules)
	}
	list, err := f.ListSecrets(f.ctx, &sm.ListSecretsInput{})
	if err != nil || list.SecretList[0].LastRotatedDate != nil {
		t.Errorf("ListSecrets: %+v, %v", list, err)
	}
	// "To turn on automatic rotation again, call RotateSecret."
	if err := f.rotateBy("s", nil, false); err != nil {
		t.Fatal(err)
	}
	f.waitFor("TestRotationSucceeded", 1)
	if d := f.describe("s"); !aws.ToBool(d.RotationEnabled) || d.NextRotationDate == nil || d.NextRotationDate.Before(f.clock.Now()) {
		t.Errorf("switched on again: enabled %v, next %v", d.RotationEnabled, d.NextRotationDate)
	}
}

// API reference, CancelRotateSecret: what a cancelled rotation has left blocks
// those that follow.
func TestC7_4_WhatACancelledRotationLeavesBlocksTheNext(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	f.create("other", "one")
	reached, release := f.fn.holdAt("setSecret")
	token := f.rotate("s")
	reached()
	f.cancel("s")
	release()
	for range 2 {
		_, err := f.again("s")
		wantError(t, err, "InvalidRequestException", "A previous rotation isn't complete.")
	}
	// A whole rotation later no further step has run.
	f.rotate("other")
	f.waitFor("RotationSucceeded", 1)
	var steps []string
	f.fn.mu.Lock()
	for _, e := range f.fn.events {
		if e.ClientRequestToken == token {
			steps = append(steps, e.Step)
		}
	}
	f.fn.mu.Unlock()
	if diff := cmp.Diff(allSteps[:2], steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if err := f.move("s", "AWSPENDING", "", token); err != nil {
		t.Fatal(err)
	}
	if _, err := f.again("s"); err != nil {
		t.Fatal(err)
	}
	f.waitFor("RotationSucceeded", 2)
}

// What a replaced schedule has left goes with the rest when rotation is switched off.
func TestC7_4_NothingFiresAfterACancelledRotation(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{OldRateFires: true})
	f.create("s", "one")
	if err := f.rotateBy("s", by("rate(2 days)"), true); err != nil {
		t.Fatal(err)
	}
	f.waitFor("RotationSucceeded", 1)
	if err := f.rotateBy("s", by("rate(30 days)"), false); err != nil {
		t.Fatal(err)
	}
	f.waitFor("TestRotationSucceeded", 1)
	f.cancel("s")
	if n := f.dueAfter(40 * 24 * time.Hour); n != 0 {
		t.Errorf("%d rotations while rotation was off", n)
	}
	if err := f.rotateBy("s", by("rate(30 days)"), false); err != nil {
		t.Fatal(err)
	}
	f.waitFor("TestRotationSucceeded", 2)
	if n := f.dueAfter(4 * 24 * time.Hour); n != 0 {
		t.Errorf("%d rotations by a schedule that had been switched off", n)
	}
}

// API reference, DescribeSecret, GetSecretValue and ListSecretVersionIds.
func TestC7_7_ReadsShowLabelsDaysAndTheSchedule(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	_, v1 := f.create("s", "one")
	if d := f.describe("s"); d.LastAccessedDate != nil || d.RotationRules != nil || d.RotationEnabled != nil {
		t.Errorf("a new secret: %+v", d)
	}
	out, err := f.GetSecretValue(f.ctx, &sm.GetSecretValueInput{SecretId: aws.String("s")})
	if err != nil || !slices.Equal(out.VersionStages, []string{"AWSCURRENT"}) || aws.ToString(out.VersionId) != v1 || out.CreatedDate == nil {
		t.Errorf("GetSecretValue: %+v, %v", out, err)
	}
	midnight := f.clock.Now().Truncate(24 * time.Hour)
	if d := f.describe("s"); d.LastAccessedDate == nil || !d.LastAccessedDate.Equal(midnight) {
		t.Errorf("LastAccessedDate %v, want the day", d.LastAccessedDate)
	}
	versions, err := f.ListSecretVersionIds(f.ctx, &sm.ListSecretVersionIdsInput{SecretId: aws.String("s")})
	if err != nil || len(versions.Versions) != 1 || !aws.ToTime(versions.Versions[0].LastAccessedDate).Equal(midnight) {
		t.Errorf("ListSecretVersionIds: %+v, %v", versions, err)
	}
	if err := f.rotateBy("s", by("rate(10 days)"), true); err != nil {
		t.Fatal(err)
	}
	f.waitFor("RotationSucceeded", 1)
	rules := f.describe("s").RotationRules
	// The days are calculated from the schedule after every success.
	if rules == nil || aws.ToString(rules.ScheduleExpression) != "rate(10 days)" || aws.ToInt64(rules.AutomaticallyAfterDays) != 10 && aws.ToInt64(rules.AutomaticallyAfterDays) != 11 {
		t.Errorf("RotationRules %+v", rules)
	}
}

func TestC1_7_RotateSecretRefuses(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	f.service.Seed(secretsmanager.Seed{Name: "replica", Value: "v", PrimaryRegion: "eu-west-1"})
	f.service.Seed(secretsmanager.Seed{Name: "rds!cluster-1", Value: "v", OwningService: "rds"})
	tests := []struct {
		name      string
		change    func(*sm.RotateSecretInput)
		code, msg string
	}{
		{"no function", func(in *sm.RotateSecretInput) { in.RotationLambdaARN = nil }, "InvalidRequestException", "No Lambda rotation function ARN"},
		{"a name for an ARN", func(in *sm.RotateSecretInput) { in.RotationLambdaARN = aws.String("rotate") }, "InvalidParameterException", "RotationLambdaARN"},
		{"a state machine", func(in *sm.RotateSecretInput) {
			in.RotationLambdaARN = aws.String("arn:aws:states:us-east-1:000000000000:stateMachine:rotation")
		}, "InvalidParameterException", "RotationLambdaARN"},
		{"a function that isn't there", func(in *sm.RotateSecretInput) { in.RotationLambdaARN = aws.String(functionARN + "2") }, "AccessDeniedException", "secretsmanager.amazonaws.com"},
		{"a short token", func(in *sm.RotateSecretInput) { in.ClientRequestToken = aws.String("short") }, "InvalidParameterException", "32-64"},
		{"no such secret", func(in *sm.RotateSecretInput) { in.SecretId = aws.String("nothing") }, "ResourceNotFoundException", "can't find the specified secret"},
		{"a replica", func(in *sm.RotateSecretInput) { in.SecretId = aws.String("replica") }, "InvalidRequestException", "replica"},
		{"managed by a service", func(in *sm.RotateSecretInput) { in.SecretId = aws.String("rds!cluster-1") }, "InvalidRequestException", "managed by another service"},
	}
	for _, tt := range tests {
		in := rotateInput("s", uuid.NewString())
		tt.change(in)
		_, err := f.RotateSecret(f.ctx, in)
		wantError(t, err, tt.code, tt.msg)
	}
	if d := f.describe("s"); d.RotationEnabled != nil || len(d.VersionIdsToStages) != 1 {
		t.Errorf("a refused call changed something: %v, %v", d.RotationEnabled, d.VersionIdsToStages)
	}
}

func TestC7_1_ADoneTokenRotatesNothing(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	token := f.rotate("s")
	f.waitFor("RotationSucceeded", 1)
	out, err := f.RotateSecret(f.ctx, rotateInput("s", token))
	if err != nil || *out.VersionId != token {
		t.Fatalf("RotateSecret: %v, %v", out, err)
	}
	f.service.Close()
	if diff := cmp.Diff(allSteps, f.fn.steps()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

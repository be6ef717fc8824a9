package conformance_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestC7_1_RotateSecretReturnsBeforeTheStepsAndStartsThemAtOnce(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	s.tell("hold", "createSecret")
	in := s.rotation(s.function) // RotateImmediately is left out: true
	out, err := s.secrets.RotateSecret(t.Context(), in)
	if err != nil || aws.ToString(out.VersionId) != *in.ClientRequestToken || aws.ToString(out.ARN) != s.arn {
		t.Fatalf("RotateSecret: %v, %v", out, err)
	}
	s.reached("createSecret")
	if got, err := s.get("", ""); err != nil || got != `{"token":"first"}` {
		t.Errorf("current changed while the first step waits: %v", err)
	}
	s.takeBack("hold")
	s.rotated(*in.ClientRequestToken)
}

func TestC7_2_PendingElsewhereIsARotationInProgress(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	s.tell("hold", "setSecret")
	version := s.rotate()
	s.reached("setSecret")
	_, err := s.secrets.RotateSecret(t.Context(), s.rotation(s.function))
	wantCode(t, err, "InvalidRequestException", "A previous rotation isn't complete. That rotation will be reattempted.")
	s.wantLabels(map[string]string{current: s.first, pending: version})
	s.takeBack("hold")
	s.rotated(version)
}

func TestC7_3_TakingPendingOffLetsTheNextRotationStart(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	s.tell("fail", "setSecret")
	stranded := s.rotate()
	s.hasFailed("setSecret")
	// Cancelled first, so that no retry is under way.
	if _, err := s.secrets.CancelRotateSecret(t.Context(), &sm.CancelRotateSecretInput{SecretId: &s.arn}); err != nil {
		t.Fatal(err)
	}
	if err := s.move(pending, "", stranded); err != nil {
		t.Fatal(err)
	}
	s.wantLabels(map[string]string{current: s.first})
	s.takeBack("fail")
	version := s.rotate()
	s.rotated(version)
}

func TestC7_4_CancelSwitchesOffAndLeavesTheLabels(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	s.tell("hold", "setSecret")
	version := s.rotate()
	s.reached("setSecret")
	if _, err := s.secrets.CancelRotateSecret(t.Context(), &sm.CancelRotateSecretInput{SecretId: &s.arn}); err != nil {
		t.Fatal(err)
	}
	d := s.describe()
	if d.RotationEnabled == nil || *d.RotationEnabled || d.NextRotationDate != nil {
		t.Errorf("RotationEnabled %v, NextRotationDate %v", d.RotationEnabled, d.NextRotationDate)
	}
	s.wantLabels(map[string]string{current: s.first, pending: version})
	// The step that runs is not recalled, and no other one follows it.
	s.takeBack("hold")
	s.hasEnded("setSecret")
	time.Sleep(s.patience / 200)
	if diff := cmp.Diff([]string{"createSecret", "setSecret"}, s.steps()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	s.wantLabels(map[string]string{current: s.first, pending: version})
}

func TestC7_5_AValueSetByHandEndsTheRotation(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	s.tell("hold", "setSecret")
	version := s.rotate()
	s.reached("setSecret")
	byHand := s.mustPut(`{"token":"by hand"}`)
	s.takeBack("hold")
	s.eventually("AWSPENDING to be taken off the abandoned version", func() bool { return s.labels()[pending] != version })
	if got := s.labels()[current]; got != byHand {
		t.Errorf("AWSCURRENT is on %s, want what was set by hand", got)
	}
	next := s.rotate()
	s.rotated(next)
}

func TestC7_6_SchedulesThatAWSRefuses(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	days := func(n int64) *smtypes.RotationRulesType {
		return &smtypes.RotationRulesType{AutomaticallyAfterDays: &n}
	}
	expression := func(e, duration string) *smtypes.RotationRulesType {
		r := &smtypes.RotationRulesType{ScheduleExpression: &e}
		if duration != "" {
			r.Duration = &duration
		}
		return r
	}
	both := expression("rate(10 days)", "")
	both.AutomaticallyAfterDays = aws.Int64(10)
	for name, rules := range map[string]*smtypes.RotationRulesType{
		"more than 1000 days":               days(1001),
		"days and an expression":            both,
		"oftener than every 4 hours":        expression("rate(3 hours)", ""),
		"minutes":                           expression("rate(300 minutes)", ""),
		"a cron with minutes":               expression("cron(30 8 * * ? *)", ""),
		"a cron with years":                 expression("cron(0 8 * * ? 2099)", ""),
		"a cron oftener than every 4 hours": expression("cron(0 */2 * * ? *)", ""),
		"a window into the next day":        expression("cron(0 20 * * ? *)", "6h"),
		"a window in minutes":               expression("rate(1 day)", "30m"),
		"no expression":                     expression("every day", ""),
	} {
		in := s.rotation(s.function)
		in.RotationRules, in.RotateImmediately = rules, aws.Bool(false)
		_, err := s.secrets.RotateSecret(t.Context(), in)
		if c := code(err); c != "InvalidParameterException" && c != "ValidationException" {
			t.Errorf("%s: %v", name, err)
		}
	}
	in := s.rotation(s.function)
	in.RotationRules = expression("cron(0 8 ? * 2#1 *)", "3h")
	if _, err := s.secrets.RotateSecret(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	s.rotated(*in.ClientRequestToken)
	// The first Monday of a month; the date is the end of the window's day or the window itself.
	next := aws.ToTime(s.describe().NextRotationDate).UTC()
	if next.Weekday() != time.Monday || next.Day() > 7 || next.Before(time.Now()) {
		t.Errorf("NextRotationDate is %s", next)
	}
}

func TestC7_7_DescribeSecretShowsTheWholeRotation(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	if d := s.describe(); d.RotationEnabled != nil && *d.RotationEnabled || d.LastRotatedDate != nil {
		t.Errorf("before: RotationEnabled %v, LastRotatedDate %v", d.RotationEnabled, d.LastRotatedDate)
	}
	s.tell("hold", "finishSecret")
	version := s.rotate()
	s.reached("finishSecret")
	s.wantLabels(map[string]string{current: s.first, pending: version})
	d := s.describe()
	if !aws.ToBool(d.RotationEnabled) || aws.ToString(d.RotationLambdaARN) != s.function || d.LastRotatedDate != nil ||
		d.RotationRules == nil || aws.ToInt64(d.RotationRules.AutomaticallyAfterDays) != 30 {
		t.Errorf("during: RotationEnabled %v, function %v, rules %+v, LastRotatedDate %v",
			d.RotationEnabled, aws.ToString(d.RotationLambdaARN), d.RotationRules, d.LastRotatedDate)
	}
	s.takeBack("hold")
	s.rotated(version)
	if next := s.describe().NextRotationDate; next == nil || time.Until(*next) < 28*24*time.Hour {
		t.Errorf("after: NextRotationDate %v", next)
	}
}

func TestC7_8_ACustomLabelKeepsAVersionThroughRotations(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	const label = "KEYTURN_CONFORMANCE"
	if err := s.move(label, s.first, ""); err != nil {
		t.Fatal(err)
	}
	var versions []string
	for range 2 {
		versions = append(versions, s.rotate())
		s.rotated(versions[len(versions)-1])
	}
	labels := s.labels()
	if labels[label] != s.first || labels[previous] != versions[0] || labels[current] != versions[1] {
		t.Errorf("labels %v", labels)
	}
	if got, err := s.get("", label); err != nil || got != `{"token":"first"}` {
		t.Errorf("the labelled version: %v", err)
	}
	// Without RemoveFromVersionId a label is set only where nobody holds it.
	wantCode(t, s.move(label, versions[1], ""), "InvalidParameterException", "RemoveFromVersionId")
	wantCode(t, s.move(label, versions[1], versions[0]), "InvalidParameterException", "")
	// Which of its documented errors AWS takes for an unknown version isn't said.
	if c := code(s.move(label, uuid.NewString(), s.first)); c != "ResourceNotFoundException" && c != "InvalidParameterException" {
		t.Errorf("moving to a version that isn't there: %q", c)
	}
	if err := s.move(label, "", s.first); err != nil {
		t.Fatal(err)
	}
	if labels := s.labels(); labels[label] != "" {
		t.Errorf("labels %v", labels)
	}
}

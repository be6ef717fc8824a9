package secretsmanager_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

func (f *fixture) rotateBy(id string, rules *types.RotationRulesType, immediately bool) error {
	in := rotateInput(id, uuid.NewString())
	in.RotationRules, in.RotateImmediately = rules, &immediately
	_, err := f.RotateSecret(f.ctx, in)
	return err
}

func TestC7_6_RotationRules(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{NoQuotas: true})
	tests := []struct {
		name     string
		days     int64
		schedule string
		duration string
		refused  string
	}{
		{"one day", 1, "", "", ""},
		{"1000 days", 1000, "", "", ""},
		{"1001 days", 1001, "", "", "1 to 1000"},
		{"neither", 0, "", "3h", "not both"},
		{"both", 7, "rate(7 days)", "", "not both"},
		{"four hours", 0, "rate(4 hours)", "", ""},
		{"three hours", 0, "rate(3 hours)", "", "4 hours"},
		{"minutes", 0, "rate(300 minutes)", "", "hours or days"},
		{"999 days", 0, "rate(999 days)", "", ""},
		{"too rare", 0, "rate(1000 days)", "", "999 days"},
		{"no schedule", 0, "weekly", "", "write rate"},
		{"cron", 0, "cron(0 16 1,15 * ? *)", "2h", ""},
		{"not whole", 0, "rate(4.5 hours)", "", "whole number"},
		{"cron every four hours", 0, "cron(0 0/4 * * ? *)", "", ""},
		{"cron every three hours", 0, "cron(0 0/3 * * ? *)", "", "4 hours apart"},
		{"cron with minutes", 0, "cron(30 4 * * ? *)", "", "minute 0"},
		{"cron with a year", 0, "cron(0 4 * * ? 2030)", "", "year *"},
		{"cron with the nearest weekday", 0, "cron(0 4 3W * ? *)", "", "day-of-month"},
		{"cron on Wednesdays", 0, "cron(0 4 ? * WED *)", "", ""},
		{"cron on the last day", 0, "cron(0 4 L * ? *)", "", ""},
		{"cron that never fires", 0, "cron(0 4 31 2 ? *)", "", "never fires"},
		{"window into the next day", 0, "cron(0 22 * * ? *)", "3h", "next day"},
		{"window as long as the period", 0, "rate(4 hours)", "4h", ""},
		{"window of a whole day", 0, "rate(2 days)", "24h", ""},
		{"window of more than a day", 0, "rate(2 days)", "25h", "Duration"},
		{"window to the end of the day", 0, "cron(0 22 * * ? *)", "2h", ""},
		{"window into the next window", 0, "rate(4 hours)", "5h", "next one"},
		{"windows that overlap", 0, "cron(0 0/4 * * ? *)", "5h", "overlap"},
		{"window in minutes", 0, "rate(1 day)", "30m", "Duration"},
		{"window of few minutes", 0, "rate(1 day)", "3m", "Duration"},
		{"window of no hours", 0, "rate(1 day)", "0h", "Duration"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, _ := f.create("s"+uuid.NewString(), "one")
			rules := &types.RotationRulesType{}
			if tt.days > 0 {
				rules.AutomaticallyAfterDays = &tt.days
			}
			if tt.schedule != "" {
				rules.ScheduleExpression = &tt.schedule
			}
			if tt.duration != "" {
				rules.Duration = &tt.duration
			}
			err := f.rotateBy(id, rules, false)
			d := f.describe(id)
			if tt.refused != "" {
				wantError(t, err, "InvalidParameterException", tt.refused)
				if d.RotationEnabled != nil {
					t.Error("refused rules switched rotation on")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d.NextRotationDate == nil || !d.NextRotationDate.After(f.clock.Now()) {
				t.Errorf("NextRotationDate = %v", d.NextRotationDate)
			}
		})
	}
}

func TestC7_6_NextRotationDateIsTheLastSecondOfTheWindow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		rules types.RotationRulesType
		want  func(now time.Time) time.Time
	}{
		{types.RotationRulesType{AutomaticallyAfterDays: aws.Int64(7)}, func(now time.Time) time.Time {
			return now.Truncate(24*time.Hour).AddDate(0, 0, 8)
		}},
		{types.RotationRulesType{AutomaticallyAfterDays: aws.Int64(7), Duration: aws.String("3h")}, func(now time.Time) time.Time {
			return now.Truncate(24*time.Hour).AddDate(0, 0, 7).Add(3 * time.Hour)
		}},
		{types.RotationRulesType{ScheduleExpression: aws.String("rate(12 hours)")}, func(now time.Time) time.Time {
			return now.Truncate(12 * time.Hour).Add(13 * time.Hour)
		}},
		{types.RotationRulesType{ScheduleExpression: aws.String("rate(10 days)")}, func(now time.Time) time.Time {
			return now.Truncate(24*time.Hour).AddDate(0, 0, 11)
		}},
		{types.RotationRulesType{ScheduleExpression: aws.String("rate(10 days)"), Duration: aws.String("3h")}, func(now time.Time) time.Time {
			return now.Truncate(24*time.Hour).AddDate(0, 0, 10).Add(3 * time.Hour)
		}},
		{types.RotationRulesType{ScheduleExpression: aws.String("cron(0 0/8 * * ? *)")}, func(now time.Time) time.Time {
			return now.Truncate(24 * time.Hour).Add(17 * time.Hour) // hours: the window is one hour
		}},
		{types.RotationRulesType{ScheduleExpression: aws.String("cron(0 16 * * ? *)")}, func(now time.Time) time.Time {
			return now.Truncate(24 * time.Hour).Add(24 * time.Hour)
		}},
		{types.RotationRulesType{ScheduleExpression: aws.String("cron(0 16 * * ? *)"), Duration: aws.String("2h")}, func(now time.Time) time.Time {
			at := now.Truncate(24 * time.Hour).Add(18 * time.Hour)
			if now.Add(2 * time.Hour).Before(at) {
				return at
			}
			return at.AddDate(0, 0, 1)
		}},
	}
	for _, tt := range tests {
		f := start(t, secretsmanager.Behaviour{})
		f.create("s", "one")
		// Two minutes past noon, so that no border is near however slow the machine is.
		now := f.clock.Now()
		f.clock.Advance(now.Truncate(24 * time.Hour).Add(36*time.Hour + 2*time.Minute).Sub(now))
		if err := f.rotateBy("s", &tt.rules, false); err != nil {
			t.Fatal(err)
		}
		want := tt.want(f.clock.Now()).Add(-time.Second)
		if got := f.describe("s").NextRotationDate; !got.Equal(want) {
			t.Errorf("%+v: NextRotationDate %v, want %v", tt.rules, got, want)
		}
	}
}

func TestC7_6_ScheduledRotationStartsWhenItsDateComes(t *testing.T) {
	t.Parallel()
	for _, rules := range []types.RotationRulesType{
		{AutomaticallyAfterDays: aws.Int64(7)},
		{ScheduleExpression: aws.String("rate(4 hours)")},
		{ScheduleExpression: aws.String("cron(0 16 1,15 * ? *)"), Duration: aws.String("2h")},
	} {
		f := start(t, secretsmanager.Behaviour{})
		f.create("s", "one")
		if err := f.rotateBy("s", &rules, true); err != nil {
			t.Fatal(err)
		}
		for n := range 3 {
			f.waitFor("RotationSucceeded", n+1)
			d := f.describe("s")
			f.clock.Advance(d.NextRotationDate.Sub(f.clock.Now()))
			f.waitFor("RotationStarted", n+2)
			f.waitFor("RotationSucceeded", n+2)
			after := f.describe("s")
			if !after.NextRotationDate.After(*d.NextRotationDate) || !after.LastRotatedDate.After(*d.LastRotatedDate) {
				t.Errorf("next %v after %v, last %v after %v",
					after.NextRotationDate, d.NextRotationDate, after.LastRotatedDate, d.LastRotatedDate)
			}
		}
	}
}

func TestC7_6_NoDriftOverManySevenDayPeriods(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	if err := f.rotateBy("s", &types.RotationRulesType{AutomaticallyAfterDays: aws.Int64(7)}, true); err != nil {
		t.Fatal(err)
	}
	f.waitFor("RotationSucceeded", 1)
	first := *f.describe("s").NextRotationDate
	for n := range 4 {
		next := *f.describe("s").NextRotationDate
		if want := first.AddDate(0, 0, 7*n); !next.Equal(want) {
			t.Errorf("rotation %d at %v, want %v", n, next, want)
		}
		f.clock.Advance(next.Sub(f.clock.Now()))
		f.waitFor("RotationSucceeded", n+2)
	}
}

func TestC7_6_ScheduledRotationOverAStrandedPending(t *testing.T) {
	t.Parallel()
	for _, reuse := range []bool{false, true} {
		f := start(t, secretsmanager.Behaviour{ReuseStranded: reuse})
		f.create("s", "one")
		f.fn.fail("setSecret", 1)
		if err := f.rotateBy("s", &types.RotationRulesType{AutomaticallyAfterDays: aws.Int64(1)}, true); err != nil {
			t.Fatal(err)
		}
		f.waitFor("RotationFailed", 1)
		stranded := f.fn.events[0].ClientRequestToken
		f.clock.Advance(48 * time.Hour)
		f.waitFor("RotationSucceeded", 1)
		value, err := f.get("s", "", "")
		if err != nil {
			t.Fatal(err)
		}
		if reused := value == "value of "+stranded; reused != reuse {
			t.Errorf("reuse %v: current is %q", reuse, value)
		}
		if abandoned := slices.Contains(f.serviceEvents(), "RotationAbandoned"); abandoned == reuse {
			t.Errorf("reuse %v: events %v", reuse, f.serviceEvents())
		}
	}
}

// API reference, RotateSecret: the rotation of a rate() or of a number of days may
// still occur after another schedule took its place; that of a cron() can't.
func TestC7_6_AReplacedRateMayFireOnceMore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		old    *types.RotationRulesType
		leaves bool // the switch
		fires  bool
	}{
		{by("rate(2 days)"), false, false},
		{by("rate(2 days)"), true, true},
		{days(2), true, true},
		{by("cron(0 4 * * ? *)"), true, false},
	} {
		f := start(t, secretsmanager.Behaviour{OldRateFires: tt.leaves})
		f.create("s", "one")
		if err := f.rotateBy("s", tt.old, true); err != nil {
			t.Fatal(err)
		}
		f.waitFor("RotationSucceeded", 1)
		before := *f.describe("s").NextRotationDate
		if err := f.rotateBy("s", by("rate(30 days)"), false); err != nil {
			t.Fatal(err)
		}
		f.waitFor("TestRotationSucceeded", 1)
		if next := *f.describe("s").NextRotationDate; !next.After(before.AddDate(0, 0, 20)) {
			t.Errorf("%+v: NextRotationDate is %v, as before the change", tt.old, next)
		}
		rotations := 0
		for range 5 { // each of another secret, and what is due beside it
			rotations += f.dueAfter(4 * 24 * time.Hour)
		}
		if want := map[bool]int{true: 1}[tt.fires]; rotations != want {
			t.Errorf("%+v, switch %v: %d rotations in 20 days, want %d", tt.old, tt.leaves, rotations, want)
		}
		if rotations = f.dueAfter(20 * 24 * time.Hour); rotations != 1 {
			t.Errorf("%+v: %d rotations by the new schedule", tt.old, rotations)
		}
	}
}

// dueAfter moves the clock and returns how many rotations of other secrets have
// ended before one that is due by then, too, and comes last.
func (f *fixture) dueAfter(d time.Duration) int {
	f.t.Helper()
	id := "last-" + uuid.NewString()
	f.create(id, "one")
	if err := f.rotateBy(id, by("rate(1 day)"), true); err != nil {
		f.t.Fatal(err)
	}
	succeeded := func() (all int, last bool) {
		arn := *f.describe(id).ARN
		for _, d := range f.bus.details(f.t, "AWS Service Event via CloudTrail") {
			if d.EventName == "RotationSucceeded" {
				all++
				last = d.AdditionalEventData.SecretID == arn
			}
		}
		return all, last
	}
	before := 0
	eventually(f.t, "the first rotation of another secret", func() (last bool) {
		before, last = succeeded()
		return last
	})
	f.clock.Advance(d)
	f.waitFor("RotationSucceeded", before+1)
	arn := *f.describe(id).ARN
	eventually(f.t, "every rotation that is due", func() bool {
		started, ended, mine := 0, 0, 0
		for _, d := range f.bus.details(f.t, "AWS Service Event via CloudTrail") {
			switch d.EventName {
			case "RotationStarted":
				started++
			case "RotationSucceeded", "RotationFailed", "RotationAbandoned":
				ended++
				if d.AdditionalEventData.SecretID == arn {
					mine++
				}
			}
		}
		return mine == 2 && started == ended
	})
	f.cancel(id)
	after, _ := succeeded()
	return after - before - 1
}

func TestC7_5_AValueSetByHandMovesTheSchedule(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	if err := f.rotateBy("s", &types.RotationRulesType{AutomaticallyAfterDays: aws.Int64(10)}, true); err != nil {
		t.Fatal(err)
	}
	f.waitFor("RotationSucceeded", 1)
	before := *f.describe("s").NextRotationDate
	f.clock.Advance(3 * 24 * time.Hour)
	f.mustPut("s", "by hand")
	if got, want := *f.describe("s").NextRotationDate, before.AddDate(0, 0, 3); !got.Equal(want) {
		t.Errorf("NextRotationDate %v, want %v", got, want)
	}
}

func TestC7_6_OneRotationHoweverManyDatesHavePassed(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	if err := f.rotateBy("s", by("rate(4 hours)"), true); err != nil {
		t.Fatal(err)
	}
	f.waitFor("RotationSucceeded", 1)
	if n := f.dueAfter(40 * 24 * time.Hour); n != 1 {
		t.Errorf("%d rotations, want one", n)
	}
	// A rotation that is under way isn't begun again.
	reached, release := f.fn.holdAt("setSecret")
	f.clock.Advance(24 * time.Hour)
	reached()
	held := f.fn.events[len(f.fn.events)-1].ClientRequestToken
	f.clock.Advance(24 * time.Hour)
	f.create("last", "one")
	f.rotate("last")
	eventually(t, "another secret's rotation", func() bool { return slices.Contains(f.serviceEvents()[len(f.serviceEvents())-1:], "RotationSucceeded") })
	release()
	eventually(t, "the end of the rotation", func() bool {
		return slices.Contains(f.describe("s").VersionIdsToStages[held], "AWSCURRENT")
	})
	if events := f.serviceEvents(); slices.Contains(events, "RotationAbandoned") {
		t.Errorf("events %v", events)
	}
}

// A finishSecret that has moved AWSCURRENT is still a rotation under way.
func TestC7_6_ADateThatComesWhileARotationFinishesStartsNone(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	_, first := f.create("s", "one")
	f.create("last", "one")
	reached, release := f.fn.holdAt("finishSecret")
	if err := f.rotateBy("s", by("rate(4 hours)"), true); err != nil {
		t.Fatal(err)
	}
	reached()
	if err := f.move("s", "AWSCURRENT", f.fn.events[0].ClientRequestToken, first); err != nil {
		t.Fatal(err)
	}
	f.clock.Advance(24 * time.Hour)
	f.rotate("last") // the alarm has gone off by the time that this one is through
	f.waitFor("RotationSucceeded", 1)
	release()
	f.waitFor("RotationSucceeded", 2)
	if started := slices.DeleteFunc(f.serviceEvents(), func(e string) bool { return e != "RotationStarted" }); len(started) != 2 {
		t.Errorf("%d rotations were started, want one for each secret", len(started))
	}
}

func TestC7_6_DeletedSecretsDoNotRotate(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	f.create("s", "one")
	if err := f.rotateBy("s", days(1), true); err != nil {
		t.Fatal(err)
	}
	f.waitFor("RotationSucceeded", 1)
	if _, err := f.DeleteSecret(f.ctx, &sm.DeleteSecretInput{SecretId: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	if n := f.dueAfter(5 * 24 * time.Hour); n != 0 || len(f.fn.steps()) != 12 {
		t.Errorf("%d rotations and the steps %v while the secret was marked for deletion", n, f.fn.steps())
	}
	if _, err := f.RestoreSecret(f.ctx, &sm.RestoreSecretInput{SecretId: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	f.waitFor("RotationSucceeded", 4) // overdue, so at once
}

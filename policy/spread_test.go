package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/policy"
)

func TestSpreadGivesEachSecretItsOwnTime(t *testing.T) {
	t.Parallel()
	const asked = "cron(0 H(1-4) H * ? *)"
	hours, days := map[string]int{}, map[string]int{}
	for i := range 400 {
		seed := fmt.Sprintf("shop/db-%d", i)
		got, err := policy.Spread(asked, seed)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := policy.Spread(asked, seed); again != got {
			t.Fatalf("%s moves from %s to %s", seed, got, again)
		}
		if _, _, err := policy.ParseSchedule(got); err != nil {
			t.Errorf("%s: %v", got, err)
		}
		fields := strings.Fields(got)
		hours[fields[1]]++
		days[fields[2]]++
	}
	if len(hours) != 4 || hours["0"]+hours["5"] > 0 || len(days) != 28 {
		t.Errorf("hours %v, days %v", hours, days)
	}
	for hour, n := range hours {
		if n < 50 { // of 100 on average
			t.Errorf("%d of 400 rotate at %s o'clock", n, hour)
		}
	}
}

func TestSpreadLeavesTheRestAlone(t *testing.T) {
	t.Parallel()
	for _, expression := range []string{"rate(30 days)", "cron(0 16 1 * ? *)", "", "H", "cron(0 H)", "cron(0 16 ? * THU *)"} {
		if got, err := policy.Spread(expression, "s"); err != nil || got != expression {
			t.Errorf("%q became %q, %v", expression, got, err)
		}
	}
	for _, expression := range []string{
		"cron(H 1 1 * ? *)", "cron(0 1 1 * ? H)", "cron(0 H(1) 1 * ? *)", "cron(0 H(5-2) 1 * ? *)", "cron(0 H(0-24) 1 * ? *)",
		"cron(0 H1-2 1 * ? *)", "cron(0 1 H(1-29) * ? *)", "cron(0 H(a-b) 1 * ? *)",
	} {
		if got, err := policy.Spread(expression, "s"); err == nil {
			t.Errorf("%q became %q", expression, got)
		}
	}
}

func TestAWindowStaysWithinItsDay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		expression string
		window     time.Duration
		wrong      string // part of what is said; empty: nothing
	}{
		{"rate(30 days)", 4 * time.Hour, ""},
		{"rate(30 days)", 24 * time.Hour, ""},
		{"rate(30 days)", 25 * time.Hour, "whole hours"},
		{"rate(30 days)", 90 * time.Minute, "whole hours"},
		{"rate(30 days)", 0, "whole hours"},
		{"rate(4 hours)", 4 * time.Hour, ""},
		{"rate(4 hours)", 5 * time.Hour, "next window"},
		{"cron(0 20 1 * ? *)", 4 * time.Hour, ""},
		{"cron(0 20 1 * ? *)", 5 * time.Hour, "next day"},
		{"cron(0 0/8 * * ? *)", 8 * time.Hour, ""},
		{"cron(0 0/8 * * ? *)", 9 * time.Hour, "next window"},
	} {
		got := policy.CheckWindow(tt.expression, tt.window)
		if (got == "") != (tt.wrong == "") || !strings.Contains(got, tt.wrong) {
			t.Errorf("%s for %s: %q, want %q", tt.expression, tt.window, got, tt.wrong)
		}
	}
}

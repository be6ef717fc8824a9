package schedule_test

import (
	"testing"
	"time"

	"github.com/keyturn/keyturn/localstack/events/schedule"
)

func TestNext(t *testing.T) {
	t.Parallel()
	tests := []struct{ expression, after, want string }{
		{"rate(4 hours)", "2026-03-01T10:30:00Z", "2026-03-01T14:30:00Z"},
		{"rate(1 day)", "2026-03-01T10:30:00Z", "2026-03-02T10:30:00Z"},
		{"cron(0 16 1,15 * ? *)", "2026-03-01T16:00:00Z", "2026-03-15T16:00:00Z"},
		{"cron(0 16 1,15 * ? *)", "2026-03-01T15:59:59Z", "2026-03-01T16:00:00Z"},
		{"cron(0 8/8 * * ? *)", "2026-03-01T09:00:00Z", "2026-03-01T16:00:00Z"},
		{"cron(0 8/8 * * ? *)", "2026-03-01T16:00:00Z", "2026-03-02T08:00:00Z"},
		{"cron(0 4 L * ? *)", "2026-02-01T00:00:00Z", "2026-02-28T04:00:00Z"},
		{"cron(0 1 ? * SUN *)", "2026-03-02T00:00:00Z", "2026-03-08T01:00:00Z"},
		{"cron(0 1 ? * 2L *)", "2026-03-01T00:00:00Z", "2026-03-30T01:00:00Z"},
		{"cron(0 1 ? * 2#3 *)", "2026-03-01T00:00:00Z", "2026-03-16T01:00:00Z"},
		{"cron(15 12 3W * ? *)", "2026-05-01T00:00:00Z", "2026-05-04T12:15:00Z"},
		{"cron(0 0 29 FEB ? *)", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"cron(0 9 1W * ? *)", "2026-07-31T10:00:00Z", "2026-08-03T09:00:00Z"},  // the 1st is a Saturday, and the month isn't left
		{"cron(0 9 15W * ? *)", "2026-08-01T00:00:00Z", "2026-08-14T09:00:00Z"}, // a Saturday: the Friday before
		{"cron(0 9 31W * ? *)", "2026-05-01T00:00:00Z", "2026-05-29T09:00:00Z"}, // the last day is a Sunday
		{"cron(0 9 ? * L *)", "2026-03-01T00:00:00Z", "2026-03-07T09:00:00Z"},   // a bare L is Saturday
		{"cron(0 9 ? * 1#1 *)", "2026-03-01T00:00:00Z", "2026-03-01T09:00:00Z"}, // on the 1st itself
		{"cron(0 9 ? * 7#1 *)", "2026-03-01T00:00:00Z", "2026-03-07T09:00:00Z"}, // the 7th is in the first week
		{"cron(0 9 ? * 3L *)", "2026-03-01T00:00:00Z", "2026-03-31T09:00:00Z"},
		{"cron(0 9 ? * 7L *)", "2026-02-01T00:00:00Z", "2026-02-28T09:00:00Z"}, // not the one a week before
		{"cron(5 9 * * ? *)", "2026-03-01T09:05:00Z", "2026-03-02T09:05:00Z"},
		{"cron(5 9 * * ? *)", "2026-03-01T09:04:30Z", "2026-03-01T09:05:00Z"},
		{"cron(0/15 * * * ? 2027)", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"cron(0 0 31 2 ? *)", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z"},
	}
	for _, tt := range tests {
		e, err := schedule.Parse(tt.expression)
		if err != nil {
			t.Errorf("Parse(%s): %v", tt.expression, err)
			continue
		}
		after, err := time.Parse(time.RFC3339, tt.after)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Next(after).Format(time.RFC3339); got != tt.want {
			t.Errorf("%s after %s = %s, want %s", tt.expression, tt.after, got, tt.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "every day", "rate(0 days)", "rate(5 weeks)", "rate(1.5 hours)", "cron(0 0 * * *)",
		"cron(0 0 * * * *)", "cron(0 0 ? * ? *)", "cron(60 0 * * ? *)", "cron(0 24 * * ? *)",
		"cron(0 0 32 * ? *)", "cron(0 0 ? * 8 *)", "cron(0 0 * 13 ? *)", "cron(0 0/0 * * ? *)", "at(2026-01-01T00:00:00)",
	} {
		if e, err := schedule.Parse(text); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", text, e)
		}
	}
}

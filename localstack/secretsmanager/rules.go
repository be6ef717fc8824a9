package secretsmanager

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/events/schedule"
)

const (
	day        = 24 * time.Hour
	minimumGap = 4 * time.Hour // published: as often as every four hours
	maxDays    = 1000
	maxRate    = 999 * day
)

// rotationRules is RotationRulesType of the API model.
type rotationRules struct {
	AutomaticallyAfterDays int    `json:",omitempty"`
	Duration               string `json:",omitempty"`
	ScheduleExpression     string `json:",omitempty"`
}

var durationPattern = regexp.MustCompile(`^([0-9]{1,2})h$`)

// check validates the rules (user guide, "Rotation schedules").
func (r rotationRules) check() error {
	if (r.AutomaticallyAfterDays != 0) == (r.ScheduleExpression != "") {
		return badRules("set either AutomaticallyAfterDays or ScheduleExpression, not both")
	}
	window, err := r.window()
	if err != nil {
		return err
	}
	if r.ScheduleExpression == "" {
		if r.AutomaticallyAfterDays < 1 || r.AutomaticallyAfterDays > maxDays {
			return badRules("AutomaticallyAfterDays is 1 to %d", maxDays)
		}
		return nil
	}
	e, err := schedule.Parse(r.ScheduleExpression)
	if err != nil {
		return badRules("%v", err)
	}
	if period, days, ok := e.Rate(); ok {
		switch {
		case strings.Contains(r.ScheduleExpression, "minute") || period < minimumGap || period > maxRate:
			return badRules("a rate is in hours or days, from 4 hours to 999 days")
		case !days && window > period:
			return badRules("the window of %s reaches into the next one", window)
		}
		return nil
	}
	return checkCron(e, window)
}

// checkCron looks at two years of windows; the widest pattern of a cron is one
// year, and leap days add one.
func checkCron(e schedule.Expression, window time.Duration) error {
	if strings.Contains(strings.Fields(strings.TrimPrefix(e.String(), "cron("))[2], "W") {
		return badRules("a cron's day-of-month knows , - * ? / and L")
	}
	if !e.OnTheHour() {
		return badRules("a cron has minute 0 and year *")
	}
	t := time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC).Add(-time.Minute)
	end := t.AddDate(2, 0, 0)
	for last := e.Next(t); ; {
		if last.IsZero() {
			return badRules("this schedule never fires")
		}
		if last.Hour()+int(window/time.Hour) > 24 {
			return badRules("a window from %d:00 of %s reaches into the next day", last.Hour(), window)
		}
		next := e.Next(last)
		if next.IsZero() || next.After(end) {
			return nil
		}
		if gap := next.Sub(last); gap < minimumGap || window > gap {
			return badRules("rotations are at least 4 hours apart and windows don't overlap")
		}
		last = next
	}
}

// window is the Duration, or zero for the default.
func (r rotationRules) window() (time.Duration, error) {
	if r.Duration == "" {
		return 0, nil
	}
	m := durationPattern.FindStringSubmatch(r.Duration)
	if m == nil {
		return 0, badRules("Duration is hours, such as 3h")
	}
	hours, _ := strconv.Atoi(m[1]) // two digits
	if hours < 1 || hours > 24 {
		return 0, badRules("Duration is 1h to 24h")
	}
	return time.Duration(hours) * time.Hour, nil
}

func badRules(format string, args ...any) error {
	return awsproto.Errorf("InvalidParameterException", "RotationRules: "+format, args...)
}

// isCron is true for the one kind of schedule whose windows don't depend on the
// rotation before.
func (r rotationRules) isCron() bool {
	e, err := schedule.Parse(r.ScheduleExpression)
	if err != nil {
		return false
	}
	_, _, rated := e.Rate()
	return !rated
}

// next returns the NextRotationDate: the last second of the first window after
// base that isn't over at now. Windows begin at midnight for days, on the hour
// otherwise, and by default last to the end of the day, or one hour for a rate in hours.
func (r rotationRules) next(base, now time.Time) time.Time {
	window, err := r.window()
	if err != nil || r == (rotationRules{}) {
		return time.Time{}
	}
	step := func(t time.Time) time.Time {
		return t.Truncate(day).AddDate(0, 0, r.AutomaticallyAfterDays)
	}
	hourly := false
	if r.ScheduleExpression != "" {
		e, err := schedule.Parse(r.ScheduleExpression)
		if err != nil {
			return time.Time{}
		}
		period, days, rated := e.Rate()
		hourly = rated && !days || !rated && e.Next(e.Next(base)).Sub(e.Next(base)) < day
		switch {
		case days:
			step = func(t time.Time) time.Time { return t.Truncate(day).Add(period) }
		case rated: // a fixed grid that includes midnight
			step = func(t time.Time) time.Time { return t.Truncate(period).Add(period) }
		default:
			step = e.Next
		}
	}
	for opens := step(base); !opens.IsZero(); opens = step(opens) {
		closes := opens.Truncate(day).Add(day)
		switch {
		case window > 0:
			closes = opens.Add(window)
		case hourly:
			closes = opens.Add(time.Hour)
		}
		if last := closes.Add(-time.Second); last.After(now) {
			return last
		}
	}
	return time.Time{}
}

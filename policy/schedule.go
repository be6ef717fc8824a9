package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// minPeriod is the shortest that Secrets Manager schedules.
const minPeriod = 4 * time.Hour

// ParseSchedule reads a schedule expression of Secrets Manager (user guide,
// "schedule expressions": rate in hours or days; cron in UTC with minute 0 and
// any year). It returns the shortest time between two of its starts, and the
// window in which Secrets Manager begins a rotation when none is configured: an
// hour where the schedule counts hours, else the rest of the UTC day.
func ParseSchedule(expression string) (period, window time.Duration, err error) {
	switch {
	case strings.HasPrefix(expression, "rate("):
		return parseRate(expression)
	case strings.HasPrefix(expression, "cron(") && strings.HasSuffix(expression, ")"):
		return parseCron(strings.Fields(expression[len("cron(") : len(expression)-1]))
	}
	return 0, 0, fmt.Errorf("%q is no schedule expression", expression)
}

func parseRate(expression string) (period, window time.Duration, err error) {
	rate := strings.TrimPrefix(expression, "rate(")
	count, unit, ok := strings.Cut(rate, " ")
	if count == "" || len(count) > 5 || !consists(count, digits) {
		ok = false
	}
	switch unit {
	case "hour)", "hours)":
		period, window = time.Hour, time.Hour
	case "day)", "days)":
		period, window = 24*time.Hour, 24*time.Hour
	default:
		ok = false
	}
	if !ok {
		return 0, 0, fmt.Errorf("%q is no rate in hours or days", expression)
	}
	n, _ := strconv.Atoi(count) // at most five digits
	period *= time.Duration(n)
	if period < minPeriod || period > 1000*24*time.Hour {
		return 0, 0, fmt.Errorf("%q is out of Secrets Manager's range of 4 hours to 1000 days", expression)
	}
	return period, window, nil
}

var (
	monthNames = names("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC")
	dayNames   = names("SUN MON TUE WED THU FRI SAT")
)

// names numbers the words of a list from 1.
func names(list string) map[string]int {
	m := map[string]int{}
	for i, name := range strings.Fields(list) {
		m[name] = i + 1
	}
	return m
}

// cron is a schedule of whole hours.
type cron struct {
	hours, months map[int]bool
	days          func(time.Time) bool
}

// parseCron reads minutes, hours, day of month, month, day of week and year.
func parseCron(fields []string) (period, window time.Duration, err error) {
	if len(fields) != 6 {
		return 0, 0, errors.New("cron takes six fields: minutes, hours, day of month, month, day of week, year")
	}
	if fields[0] != "0" || fields[5] != "*" {
		return 0, 0, errors.New("Secrets Manager's cron has 0 for minutes and * for the year")
	}
	if (fields[2] == "?") == (fields[4] == "?") {
		return 0, 0, errors.New("cron has ? for either the day of month or the day of week")
	}
	var c cron
	var errs [3]error
	c.hours, errs[0] = parseSet(fields[1], 0, 23, nil)
	c.months, errs[1] = parseSet(fields[3], 1, 12, monthNames)
	if fields[2] != "?" {
		c.days, errs[2] = parseMonthDays(fields[2])
	} else {
		c.days, errs[2] = parseWeekDays(fields[4])
	}
	if err := errors.Join(errs[:]...); err != nil {
		return 0, 0, err
	}
	window = 24 * time.Hour
	if len(c.hours) > 1 {
		window = time.Hour
	}
	if period, err = c.shortest(); err != nil {
		return 0, 0, err
	}
	return period, window, nil
}

// shortest goes through nine years, in which each date falls on several days of
// the week and a leap day comes twice.
func (c cron) shortest() (time.Duration, error) {
	from := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	shortest, starts, last := MaxDuration, 0, time.Time{}
	for day := from; day.Year() < from.Year()+9; day = day.AddDate(0, 0, 1) {
		if !c.months[int(day.Month())] || !c.days(day) {
			continue
		}
		for hour := range 24 {
			if !c.hours[hour] {
				continue
			}
			at := day.Add(time.Duration(hour) * time.Hour)
			if starts++; starts > 1 {
				shortest = min(shortest, at.Sub(last))
			}
			last = at
		}
	}
	if starts == 0 {
		return 0, errors.New("this cron never starts anything")
	}
	if shortest < minPeriod {
		return 0, fmt.Errorf("it starts every %s; Secrets Manager's shortest is 4h", Duration(shortest))
	}
	return shortest, nil
}

// parseSet reads a list of numbers, ranges and steps.
func parseSet(field string, low, high int, names map[string]int) (map[int]bool, error) {
	set := map[int]bool{}
	for part := range strings.SplitSeq(field, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		step := 1
		if stepped {
			n, err := strconv.Atoi(stepText)
			if err != nil || n < 1 {
				return nil, fmt.Errorf("step %q of cron field %q is no number", stepText, field)
			}
			step = n
		}
		from, to, ranged := strings.Cut(span, "-")
		first, okFirst := number(from, names)
		last, okLast := number(to, names)
		switch {
		case span == "*":
			first, last = low, high
		case ranged && okFirst && okLast:
		case !ranged && okFirst && stepped:
			last = high
		case !ranged && okFirst:
			last = first
		default:
			return nil, fmt.Errorf("cron field %q isn't understood", field)
		}
		if first < low || last > high || first > last {
			return nil, fmt.Errorf("cron field %q is out of %d to %d", field, low, high)
		}
		for n := first; n <= last; n += step {
			set[n] = true
		}
	}
	return set, nil
}

func number(text string, names map[string]int) (int, bool) {
	if n, ok := names[strings.ToUpper(text)]; ok {
		return n, true
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}

// parseMonthDays reads a day of month; L is the last one and 15W the weekday
// nearest to the 15th, within its month.
func parseMonthDays(field string) (func(time.Time) bool, error) {
	if field == "L" {
		return func(t time.Time) bool { return t.AddDate(0, 0, 1).Day() == 1 }, nil
	}
	if text, ok := strings.CutSuffix(field, "W"); ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 31 {
			return nil, fmt.Errorf("cron field %q is no day of month", field)
		}
		return func(t time.Time) bool { return t.Day() == nearestWeekday(t, n) }, nil
	}
	set, err := parseSet(field, 1, 31, nil)
	return func(t time.Time) bool { return set[t.Day()] }, err
}

// nearestWeekday is the day of t's month that stands for the n-th; 0 if the
// month has no such day.
func nearestWeekday(t time.Time, n int) int {
	day := time.Date(t.Year(), t.Month(), n, 0, 0, 0, 0, time.UTC)
	if day.Month() != t.Month() {
		return 0
	}
	last := time.Date(t.Year(), t.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
	switch {
	case day.Weekday() == time.Saturday && n > 1:
		return n - 1
	case day.Weekday() == time.Saturday:
		return n + 2
	case day.Weekday() == time.Sunday && n < last:
		return n + 1
	case day.Weekday() == time.Sunday:
		return n - 2
	}
	return n
}

// parseWeekDays reads a day of week, 1 is Sunday; 6L is the last Friday of the
// month and 6#3 its third.
func parseWeekDays(field string) (func(time.Time) bool, error) {
	day, nth, isNth := strings.Cut(field, "#")
	last, isLast := strings.CutSuffix(field, "L")
	switch {
	case field == "L":
		return func(t time.Time) bool { return t.Weekday() == time.Saturday }, nil
	case isNth:
		d, okDay := number(day, dayNames)
		n, okNth := number(nth, nil)
		if !okDay || !okNth || d < 1 || d > 7 || n < 1 || n > 5 {
			return nil, fmt.Errorf("cron field %q is no n-th day of a month", field)
		}
		return func(t time.Time) bool { return int(t.Weekday())+1 == d && (t.Day()-1)/7+1 == n }, nil
	case isLast:
		d, ok := number(last, dayNames)
		if !ok || d < 1 || d > 7 {
			return nil, fmt.Errorf("cron field %q is no last day of a month", field)
		}
		return func(t time.Time) bool {
			return int(t.Weekday())+1 == d && t.AddDate(0, 0, 7).Month() != t.Month()
		}, nil
	}
	set, err := parseSet(field, 1, 7, dayNames)
	return func(t time.Time) bool { return set[int(t.Weekday())+1] }, err
}

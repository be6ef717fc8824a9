package schedule

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cron is the six fields as sets; dayOfMonth and dayOfWeek exclude each other.
type cron struct {
	minute, hour, month, year set
	minutes, years            string // as written
	dayOfMonth, dayOfWeek     string // as written: they depend on the month
}

type set map[int]bool

var (
	monthNames = []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
	dayNames   = []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}
)

const firstYear, lastYear = 1970, 2199

func parseCron(body string) (cron, error) {
	f := strings.Fields(body)
	if len(f) != 6 {
		return cron{}, fmt.Errorf("cron has six fields, this has %d", len(f))
	}
	c := cron{minutes: f[0], years: f[5], dayOfMonth: f[2], dayOfWeek: f[4]}
	if (c.dayOfMonth == "?") == (c.dayOfWeek == "?") {
		return c, errors.New("exactly one of day-of-month and day-of-week is ?")
	}
	var err error
	parse := func(name, text string, low, high int, names []string) set {
		s, e := parseField(text, low, high, names)
		if e != nil && err == nil {
			err = fmt.Errorf("%s: %w", name, e)
		}
		return s
	}
	c.minute = parse("minutes", f[0], 0, 59, nil)
	c.hour = parse("hours", f[1], 0, 23, nil)
	c.month = parse("month", f[3], 1, 12, monthNames)
	c.year = parse("year", f[5], firstYear, lastYear, nil)
	if err != nil {
		return c, err
	}
	if c.dayOfMonth != "?" {
		_, err = c.daysOfMonth(2024, time.January)
	} else {
		_, err = c.daysByWeek(2024, time.January)
	}
	return c, err
}

// parseField reads a list of *, values, ranges and steps.
func parseField(text string, low, high int, names []string) (set, error) {
	out := set{}
	for part := range strings.SplitSeq(text, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		step := 1
		if stepped {
			n, err := strconv.Atoi(stepText)
			if err != nil || n < 1 {
				return nil, fmt.Errorf("step %q is no number of at least 1", stepText)
			}
			step = n
		}
		from, to := low, high
		if span != "*" {
			a, b, ranged := strings.Cut(span, "-")
			n, err := value(a, low, high, names)
			if err != nil {
				return nil, err
			}
			from = n
			switch {
			case ranged:
				if to, err = value(b, low, high, names); err != nil {
					return nil, err
				}
			case !stepped:
				to = n
			}
		}
		for n := from; n <= to; n += step {
			out[n] = true
		}
	}
	return out, nil
}

func value(text string, low, high int, names []string) (int, error) {
	if i := slices.Index(names, strings.ToUpper(text)); i >= 0 {
		return i + 1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%q is not between %d and %d", text, low, high)
	}
	return n, nil
}

// daysOfMonth knows L (the last day) and nW (the weekday nearest to day n).
func (c cron) daysOfMonth(year int, month time.Month) (set, error) {
	last := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
	switch {
	case c.dayOfMonth == "L":
		return set{last: true}, nil
	case strings.HasSuffix(c.dayOfMonth, "W"):
		n, err := value(strings.TrimSuffix(c.dayOfMonth, "W"), 1, 31, nil)
		if err != nil || n > last {
			return nil, err
		}
		return set{nearestWeekday(year, month, n, last): true}, nil
	}
	s, err := parseField(c.dayOfMonth, 1, 31, nil)
	if err != nil {
		return nil, fmt.Errorf("day-of-month: %w", err)
	}
	return s, nil
}

func nearestWeekday(year int, month time.Month, n, last int) int {
	switch time.Date(year, month, n, 0, 0, 0, 0, time.UTC).Weekday() {
	case time.Saturday:
		if n == 1 {
			return 3
		}
		return n - 1
	case time.Sunday:
		if n == last {
			return n - 2
		}
		return n + 1
	}
	return n
}

// daysByWeek knows nL (the last such day of the month) and n#k (the k-th).
func (c cron) daysByWeek(year int, month time.Month) (set, error) {
	last := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
	text, nth := c.dayOfWeek, 0
	if day, k, ok := strings.Cut(text, "#"); ok {
		n, err := value(k, 1, 5, nil)
		if err != nil {
			return nil, fmt.Errorf("day-of-week: %w", err)
		}
		text, nth = day, n
	} else if day, ok := strings.CutSuffix(text, "L"); ok {
		text, nth = day, -1
		if day == "" {
			text, nth = "7", 0 // a bare L is Saturday
		}
	}
	week, err := parseField(text, 1, 7, dayNames)
	if err != nil {
		return nil, fmt.Errorf("day-of-week: %w", err)
	}
	out := set{}
	for d := 1; d <= last; d++ {
		if !week[int(time.Date(year, month, d, 0, 0, 0, 0, time.UTC).Weekday())+1] {
			continue
		}
		if nth == 0 || (nth > 0 && (d+6)/7 == nth) || (nth < 0 && d+7 > last) {
			out[d] = true
		}
	}
	return out, nil
}

// next looks month by month, so that a rare date costs little.
func (c cron) next(after time.Time) time.Time {
	t := after.Truncate(time.Minute).Add(time.Minute)
	first := time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	// The longest gap of a valid date is eight years (29 February over a century).
	for m := range 12 * 9 {
		month := first.AddDate(0, m, 0)
		if !c.year[month.Year()] || !c.month[int(month.Month())] {
			continue
		}
		if found := c.inMonth(month, t); !found.IsZero() {
			return found
		}
	}
	return time.Time{}
}

func (c cron) inMonth(month, from time.Time) time.Time {
	days, err := c.daysByWeek(month.Year(), month.Month())
	if c.dayOfMonth != "?" {
		days, err = c.daysOfMonth(month.Year(), month.Month())
	}
	if err != nil {
		return time.Time{}
	}
	last := month.AddDate(0, 1, -1).Day()
	for d := 1; d <= last; d++ {
		day := month.AddDate(0, 0, d-1)
		if !days[d] || day.AddDate(0, 0, 1).Before(from) {
			continue
		}
		for at := max(0, int(from.Sub(day)/time.Minute)); at < 24*60; at++ {
			if c.hour[at/60] && c.minute[at%60] {
				return day.Add(time.Duration(at) * time.Minute)
			}
		}
	}
	return time.Time{}
}

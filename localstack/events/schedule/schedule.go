// Package schedule answers: when does a rate() or cron() expression of AWS fire
// next?
//
// Syntax and limits are EventBridge's (user guide, "Schedule expressions"); a
// service that allows less, such as Secrets Manager, checks that itself. All
// times are UTC.
package schedule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Expression is one parsed schedule.
type Expression struct {
	text   string
	period time.Duration // of a rate(); zero for a cron()
	days   bool          // the rate is in days
	cron   cron
}

// Parse reads rate(n unit) or cron(minutes hours day-of-month month day-of-week year).
func Parse(text string) (Expression, error) {
	e := Expression{text: text}
	kind, body, ok := strings.Cut(text, "(")
	body, closed := strings.CutSuffix(body, ")")
	if !ok || !closed {
		return e, fmt.Errorf("schedule %q: write rate(value unit) or cron(fields)", text)
	}
	var err error
	switch kind {
	case "rate":
		e.period, e.days, err = parseRate(body)
	case "cron":
		e.cron, err = parseCron(body)
	default:
		err = errors.New("only rate() and cron() exist")
	}
	if err != nil {
		return e, fmt.Errorf("schedule %q: %w", text, err)
	}
	return e, nil
}

func parseRate(body string) (period time.Duration, days bool, err error) {
	value, unit, _ := strings.Cut(body, " ")
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return 0, false, errors.New("a rate's value is a whole number of at least 1")
	}
	units := map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}
	length, ok := units[strings.TrimSuffix(unit, "s")]
	if !ok {
		return 0, false, errors.New("a rate's unit is minute(s), hour(s) or day(s)")
	}
	return time.Duration(n) * length, length == 24*time.Hour, nil
}

// String returns the expression as it was written.
func (e Expression) String() string { return e.text }

// Rate returns the period of a rate(), and whether it was given in days.
func (e Expression) Rate() (period time.Duration, days, ok bool) {
	return e.period, e.days, e.period > 0
}

// Next returns the first time after t: for a rate t plus the period. It is zero
// when the expression never fires again.
func (e Expression) Next(t time.Time) time.Time {
	if e.period > 0 {
		return t.Add(e.period)
	}
	return e.cron.next(t.UTC())
}

// OnTheHour reports whether a cron() can only fire at minute 0 and in any year,
// which is what Secrets Manager demands.
func (e Expression) OnTheHour() bool {
	return e.period == 0 && e.cron.minutes == "0" && e.cron.years == "*"
}

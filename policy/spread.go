package policy

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cronRanges are what H stands for in each of cron's fields. The last days of a
// month aren't in every month.
var cronRanges = [6]struct{ low, high int }{{-1, -1}, {0, 23}, {1, 28}, {1, 12}, {1, 7}, {-1, -1}}

// Spread resolves the H of a cron expression, as in cron(0 H H(1-7) * ? *): a
// number of the field's range, or of the one in brackets, that follows from the
// seed, so that the rotations of many secrets don't begin at one moment and each
// keeps its own. An expression without H is returned as it is.
func Spread(expression, seed string) (string, error) {
	body, isCron := strings.CutPrefix(expression, "cron(")
	if !isCron || !strings.Contains(body, "H") {
		return expression, nil
	}
	fields := strings.Fields(strings.TrimSuffix(body, ")"))
	if len(fields) != len(cronRanges) {
		return expression, nil // ParseSchedule says what is wrong
	}
	for i, f := range fields {
		span, ours := strings.CutPrefix(f, "H")
		if !ours {
			continue
		}
		low, high := cronRanges[i].low, cronRanges[i].high
		if low < 0 {
			return "", errors.New("minutes and year can't be H: Secrets Manager's cron has 0 and * there")
		}
		if span != "" {
			from, to, err := parseSpan(span, low, high)
			if err != nil {
				return "", fmt.Errorf("cron field %q: %w", f, err)
			}
			low, high = from, to
		}
		h := fnv.New32a()
		_, _ = fmt.Fprintf(h, "%s/%d", seed, i) // never fails
		fields[i] = strconv.Itoa(low + int(h.Sum32())%(high-low+1))
	}
	return "cron(" + strings.Join(fields, " ") + ")", nil
}

// parseSpan reads what stands behind an H: "(1-7)".
func parseSpan(span string, low, high int) (from, to int, err error) {
	inside, opened := strings.CutPrefix(span, "(")
	inside, closed := strings.CutSuffix(inside, ")")
	first, last, ranged := strings.Cut(inside, "-")
	from, okFrom := number(first, nil)
	to, okTo := number(last, nil)
	if !opened || !closed || !ranged || !okFrom || !okTo || from < low || to > high || from > to {
		return 0, 0, fmt.Errorf("write H, or H with a range from %d to %d, as in H(%d-%d)", low, high, low, min(low+6, high))
	}
	return from, to, nil
}

// CheckWindow says what is wrong with the length of a schedule's window, or "":
// Secrets Manager takes whole hours that reach neither into the next window nor
// into the next UTC day (API reference, RotationRulesType).
func CheckWindow(expression string, window time.Duration) string {
	if window < time.Hour || window > 24*time.Hour || window%time.Hour != 0 {
		return fmt.Sprintf("%s isn't a number of whole hours from 1h to 24h", Duration(window))
	}
	period, _, err := ParseSchedule(expression)
	if err != nil {
		return ""
	}
	if window > period {
		return fmt.Sprintf("%s reaches into the next window, which may begin %s later", Duration(window), Duration(period))
	}
	fields := strings.Fields(strings.TrimPrefix(expression, "cron("))
	if !strings.HasPrefix(expression, "cron(") {
		return ""
	}
	hours, err := parseSet(fields[1], 0, 23, nil)
	if err != nil {
		return ""
	}
	latest := slices.Max(slices.Collect(maps.Keys(hours)))
	if time.Duration(latest)*time.Hour+window > 24*time.Hour {
		return fmt.Sprintf("%s from %d o'clock reaches into the next day (UTC)", Duration(window), latest)
	}
	return ""
}

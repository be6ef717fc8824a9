package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MaxDuration is the longest that a document may say: ten years.
const MaxDuration = 3650 * 24 * time.Hour

// Duration is a length of time in whole seconds, written as "90s", "15m", "1h",
// "7d" or, largest unit first, "1h30m". A day is 24 hours.
type Duration time.Duration

var units = []struct {
	name string
	size time.Duration
}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}

var errDuration = errors.New(`not a duration: write whole numbers with units, as in "90s", "15m", "1h30m" or "7d"`)

// ParseDuration reads a Duration.
func ParseDuration(text string) (Duration, error) {
	rest, total := text, time.Duration(0)
	for _, unit := range units {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		if digits == 0 || !strings.HasPrefix(rest[digits:], unit.name) {
			continue
		}
		n, err := strconv.Atoi(rest[:digits])
		if err != nil || time.Duration(n) > (MaxDuration-total)/unit.size {
			return 0, fmt.Errorf("longer than %s", Duration(MaxDuration))
		}
		total += time.Duration(n) * unit.size
		rest = rest[digits+len(unit.name):]
	}
	if text == "" || rest != "" {
		return 0, errDuration
	}
	return Duration(total), nil
}

// String writes the duration so that ParseDuration reads the same; what is less
// than a second is cut off.
func (d Duration) String() string {
	var b strings.Builder
	rest := time.Duration(d)
	for _, unit := range units {
		if n := rest / unit.size; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit.name)
			rest -= n * unit.size
		}
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) {
	if d < 0 || time.Duration(d)%time.Second != 0 {
		return nil, fmt.Errorf("%s isn't a number of whole seconds", time.Duration(d))
	}
	return json.Marshal(d.String())
}

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return errDuration
	}
	parsed, err := ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is %w", text, err)
	}
	*d = parsed
	return nil
}

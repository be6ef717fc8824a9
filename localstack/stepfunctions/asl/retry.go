package asl

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

type retrier struct {
	errors   []string
	interval time.Duration
	attempts int
	rate     float64
	cap      time.Duration // zero: none
	jitter   bool
}

type catcher struct {
	errors []string
	next   string
	result place
}

// maxDelay is the largest MaxDelaySeconds (states language, "Retrying after
// error": less than 31622400).
const maxDelay = 31_622_399

func (p *parser) retriers(o *object) []retrier {
	list := o.list("Retry")
	out := make([]retrier, 0, len(list))
	for i, v := range list {
		r := p.object(v, fmt.Sprintf("%s/Retry[%d]", o.at, i))
		interval := r.whole("IntervalSeconds", 1, 1, maxSeconds)
		limit := r.whole("MaxDelaySeconds", 0, 1, maxDelay)
		if limit != 0 && limit <= interval {
			r.fail("MaxDelaySeconds", "it must be more than IntervalSeconds (%d)", interval)
		}
		out = append(out, retrier{
			errors:   p.errorNames(r, i == len(list)-1),
			interval: time.Duration(interval) * time.Second,
			cap:      time.Duration(limit) * time.Second,
			attempts: int(r.whole("MaxAttempts", 3, 0, maxSeconds)),
			rate:     r.number("BackoffRate", 2, 1),
			jitter:   r.oneOf("JitterStrategy", "NONE", "FULL", "NONE") == "FULL",
		})
		r.closed()
	}
	return out
}

func (p *parser) catchers(o *object) []catcher {
	list := o.list("Catch")
	out := make([]catcher, 0, len(list))
	for i, v := range list {
		c := p.object(v, fmt.Sprintf("%s/Catch[%d]", o.at, i))
		out = append(out, catcher{
			errors: p.errorNames(c, i == len(list)-1),
			next:   c.requiredText("Next"),
			result: p.resultPath(c),
		})
		c.closed()
	}
	return out
}

// reserved are the names with the States prefix that ErrorEquals may hold.
var reserved = []string{
	All, TaskFailed, Timeout, HeartbeatTimeout, Runtime, DataLimitExceeded, ResultPathMatchFailure,
	NoChoiceMatched, IntrinsicFailure, ParameterPathFailure, BranchFailed, Permissions,
}

func (p *parser) errorNames(o *object, last bool) []string {
	list := o.list("ErrorEquals")
	if len(list) == 0 {
		o.fail("ErrorEquals", "at least one error name is required")
	}
	var names []string
	for _, v := range list {
		name, ok := v.(string)
		switch {
		case !ok || name == "":
			o.fail("ErrorEquals", "an error name is text that isn't empty")
		case strings.HasPrefix(name, "States.") && !slices.Contains(reserved, name):
			o.fail("ErrorEquals", "there is no error name %q; names of one's own don't begin with States.", name)
		case slices.Contains(names, name):
			o.fail("ErrorEquals", "%q stands twice", name)
		}
		names = append(names, name)
	}
	if slices.Contains(names, All) && (len(names) > 1 || !last) {
		o.fail("ErrorEquals", "States.ALL must stand alone and last")
	}
	return names
}

// matches says whether one of the names stands for the error. States.Runtime is
// matched by nothing, States.DataLimitExceeded by its own name and, where the
// environment says so, by the wildcards.
func (e *Error) matches(names []string, wildcardsTakeDataLimit bool) bool {
	if e.Name == Runtime {
		return false
	}
	wild := e.Name != DataLimitExceeded || wildcardsTakeDataLimit
	for _, n := range names {
		switch {
		case n == e.Name, e.alias != "" && n == e.alias, n == All && wild,
			n == TaskFailed && wild && e.Name != Timeout:
			return true
		}
	}
	return false
}

// delay is how long to wait before retry n (counted from 0).
func (r retrier) delay(n int, random func() float64) time.Duration {
	seconds := r.interval.Seconds() * math.Pow(r.rate, float64(n))
	d := time.Duration(math.MaxInt64)
	if seconds < d.Seconds() {
		d = time.Duration(seconds * float64(time.Second))
	}
	if r.cap > 0 {
		d = min(d, r.cap)
	}
	if r.jitter {
		d = time.Duration(random() * float64(d))
	}
	return d
}

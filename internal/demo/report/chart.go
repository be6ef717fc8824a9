package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// The charts are drawn in a box of 1000 × 100 that the page stretches; their
// texts are HTML beside it, so that they stay readable at any width.
const (
	boxWidth  = 1000.0
	boxHeight = 100.0
)

// axis maps values to a share of 0 to 1.
type axis func(float64) float64

func linear(most float64) axis {
	return func(v float64) float64 { return clamp(v / most) }
}

// logarithmic maps least to 0 and most to 1.
func logarithmic(least, most float64) axis {
	span := math.Log(most / least)
	return func(v float64) float64 { return clamp(math.Log(max(v, least)/least) / span) }
}

func clamp(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return min(max(v, 0), 1)
}

type point struct{ x, y float64 } // shares

// line is an SVG path through points.
func line(points []point) string {
	var b strings.Builder
	for i, p := range points {
		verb := "L"
		if i == 0 {
			verb = "M"
		}
		fmt.Fprintf(&b, "%s%.1f %.2f", verb, p.x*boxWidth, (1-p.y)*boxHeight)
	}
	return b.String()
}

// area is an SVG path around what lies between two lines of the same length.
func area(upper, lower []point) string {
	if len(upper) == 0 {
		return ""
	}
	back := slices.Clone(lower)
	slices.Reverse(back)
	return line(upper) + "L" + strings.TrimPrefix(line(back), "M") + "Z"
}

// tick is a label on an axis, at a share of its length in percent.
type tick struct {
	At    float64
	Label string
}

// timeline maps moments of the run.
type timeline struct {
	start time.Time
	span  time.Duration
}

func (t timeline) share(at time.Time) float64 {
	return clamp(float64(at.Sub(t.start)) / float64(t.span))
}

func (t timeline) percent(at time.Time) float64 { return round(100 * t.share(at)) }

func round(v float64) float64 { return math.Round(v*1000) / 1000 }

// timeSteps are the distances of ticks on a timeline, in seconds.
var timeSteps = []float64{0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600}

// ticks divides the time by a round number of seconds, into at most 8 parts.
func (t timeline) ticks() []tick {
	seconds := t.span.Seconds()
	i, _ := slices.BinarySearch(timeSteps, seconds/8)
	step := max(timeSteps[min(i, len(timeSteps)-1)], niceStep(seconds/100))
	var ticks []tick
	for s := 0.0; s < seconds*0.97; s += step {
		label := fmt.Sprintf("%g s", s)
		if step >= 60 {
			label = fmt.Sprintf("%g min", s/60)
		}
		ticks = append(ticks, tick{round(100 * s / seconds), label})
	}
	return ticks
}

// niceStep rounds up to 1, 2 or 5 times a power of ten.
func niceStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	magnitude := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5, 10} {
		if v <= m*magnitude {
			return m * magnitude
		}
	}
	return 10 * magnitude
}

// layer is one coloured shape of a chart.
type layer struct {
	Name  string
	Class string
	Path  string
}

// chart is what the template draws.
type chart struct {
	Title  string
	Note   string
	Layers []layer
	Ticks  []tick // of the vertical axis, from below
	Legend []layer
}

// loginOrder lists logins by when they first had connections.
func loginOrder(series []Second) []string {
	first := make(map[string]int)
	for i, s := range series {
		for login, n := range s.Logins {
			if _, seen := first[login]; !seen && n > 0 {
				first[login] = i
			}
		}
	}
	return slices.SortedFunc(maps.Keys(first), func(a, b string) int {
		return cmp.Or(cmp.Compare(first[a], first[b]), cmp.Compare(a, b))
	})
}

const (
	loginColours = 6
	// mostKeys is how many logins a legend names.
	mostKeys = 8
)

// connections stacks the connections of each login.
func connections(t timeline, series []Second) chart {
	var seen []Second // a point that couldn't be counted is a gap, not zero
	most := 1.0
	for _, s := range series {
		if s.Logins == nil {
			continue
		}
		seen = append(seen, s)
		sum := 0
		for _, n := range s.Logins {
			sum += n
		}
		most = max(most, float64(sum))
	}
	step := niceStep(most / 2)
	scale := linear(math.Ceil(most/step) * step * 1.05)
	c := chart{Title: "Connections by login", Note: "counted by the server each second"}
	lower := make([]point, len(seen))
	sums := make([]float64, len(seen))
	for i, s := range seen {
		lower[i] = point{t.share(s.At), 0}
	}
	for i, login := range loginOrder(seen) {
		upper := make([]point, len(seen))
		from, to := len(seen), 0 // where it has connections
		for j, s := range seen {
			sums[j] += float64(s.Logins[login])
			upper[j] = point{lower[j].x, scale(sums[j])}
			if s.Logins[login] > 0 {
				from, to = min(from, j), j
			}
		}
		from, to = max(from-1, 0), min(to+2, len(seen))
		l := layer{Name: login, Class: fmt.Sprintf("login%d", i%loginColours), Path: area(upper[from:to], lower[from:to])}
		c.Layers = append(c.Layers, l)
		lower = upper
	}
	c.Legend = c.Layers
	if n := len(c.Layers); n > mostKeys {
		between := layer{Name: fmt.Sprintf("… %d more …", n-mostKeys), Class: "none"}
		c.Legend = slices.Concat(c.Layers[:mostKeys/2], []layer{between}, c.Layers[n-mostKeys/2:])
	}
	for v := step; scale(v) < 1; v += step {
		c.Ticks = append(c.Ticks, tick{round(100 * scale(v)), fmt.Sprintf("%.4g", v)})
	}
	return c
}

// requests draws the rate, and failures as bars that can't be overlooked.
func requests(t timeline, series []Second) chart {
	rates := make([]float64, len(series))
	most := 1.0
	before := t.start
	for i, s := range series {
		seconds := s.At.Sub(before).Seconds()
		if seconds <= 0 {
			seconds = 1
		}
		rates[i] = float64(s.Requests) / seconds
		most = max(most, rates[i])
		before = s.At
	}
	step := niceStep(most / 2)
	scale := linear(math.Ceil(most/step) * step * 1.05)
	c := chart{Title: "Requests per second", Note: "open loop: asked for by a schedule, whatever the answers"}
	upper, lower := make([]point, len(series)), make([]point, len(series))
	var bars strings.Builder
	for i, s := range series {
		x := t.share(s.At)
		upper[i], lower[i] = point{x, scale(rates[i])}, point{x, 0}
		if s.Failed > 0 {
			share := max(0.2, clamp(float64(s.Failed)/float64(max(s.Requests, 1))))
			bars.WriteString(line([]point{{x, 0}, {x, share}}))
		}
	}
	c.Layers = []layer{{Name: "requests", Class: "rate", Path: area(upper, lower)}, {Name: "failed", Class: "failed", Path: bars.String()}}
	c.Legend = []layer{{Name: "answered", Class: "rate"}, {Name: "failed", Class: "failed"}}
	for v := step; scale(v) < 1; v += step {
		c.Ticks = append(c.Ticks, tick{round(100 * scale(v)), thousands(int64(v))})
	}
	return c
}

const leastLatency = 100 * time.Microsecond

// latencyScale reaches from 0.1 ms to beyond the deadline and the slowest.
func latencyScale(deadline, slowest time.Duration) (axis, []tick) {
	most := max(deadline, slowest, 10*leastLatency) * 3 / 2
	scale := logarithmic(float64(leastLatency), float64(most))
	var ticks []tick
	for d := 10 * leastLatency; d < most; d *= 10 {
		ticks = append(ticks, tick{round(100 * scale(float64(d))), scaleLabel(d)})
	}
	return scale, ticks
}

// latencies draws percentiles over time, on a logarithmic scale.
func latencies(t timeline, series []Second, deadline time.Duration) chart {
	slowest := time.Duration(0)
	for _, s := range series {
		slowest = max(slowest, s.Max)
	}
	scale, ticks := latencyScale(deadline, slowest)
	c := chart{Title: "Latency", Note: "from the moment that a request was due, logarithmic", Ticks: ticks}
	for _, l := range []struct {
		name, class string
		of          func(Second) time.Duration
	}{
		{"slowest", "slowest", func(s Second) time.Duration { return s.Max }},
		{"p99", "p99", func(s Second) time.Duration { return s.P99 }},
		{"median", "median", func(s Second) time.Duration { return s.P50 }},
	} {
		var points []point
		for _, s := range series {
			if s.Requests > 0 {
				points = append(points, point{t.share(s.At), scale(float64(l.of(s)))})
			}
		}
		c.Layers = append(c.Layers, layer{l.name, l.class, line(points)})
	}
	c.Legend = slices.Clone(c.Layers)
	if deadline > 0 {
		y := scale(float64(deadline))
		limit := layer{"deadline " + scaleLabel(deadline), "deadline", line([]point{{0, y}, {1, y}})}
		c.Layers, c.Legend = append(c.Layers, limit), append(c.Legend, limit)
	}
	return c
}

// tails draws which share of requests is slower than a latency: two runs that
// behave alike lie on one another.
func tails(with, without Latency, deadline time.Duration) (c chart, across []tick) {
	scale, across := latencyScale(deadline, max(with.Max, without.Max))
	const least = 1e-5
	share := logarithmic(least, 1)
	c = chart{Title: "Share of requests slower than …"}
	for _, l := range []struct {
		name, class string
		Latency
	}{{"without rotation", "without", without}, {"while rotating", "with", with}} {
		path := layer{l.name, l.class, tail(l.Latency, scale, share)}
		c.Layers, c.Legend = append(c.Layers, path), append(c.Legend, path)
	}
	if deadline > 0 {
		x := scale(float64(deadline))
		limit := layer{"deadline " + scaleLabel(deadline), "deadline", line([]point{{x, 0}, {x, 1}})}
		c.Layers, c.Legend = append(c.Layers, limit), append(c.Legend, limit)
	}
	for _, t := range []struct {
		v     float64
		label string
	}{{0.5, "50 %"}, {0.01, "1 %"}, {0.001, "0.1 %"}, {0.0001, "0.01 %"}} {
		c.Ticks = append(c.Ticks, tick{round(100 * share(t.v)), t.label})
	}
	return c, across
}

func tail(l Latency, scale, share axis) string {
	var total int64
	for _, b := range l.Bars {
		total += b.Requests
	}
	if total == 0 {
		return ""
	}
	slower := total
	points := []point{{0, 1}}
	for _, b := range l.Bars {
		slower -= b.Requests
		x := scale(float64(min(b.UpTo, l.Max)))
		if slower == 0 {
			points = append(points, point{x, points[len(points)-1].y}, point{x, 0})
			break
		}
		points = append(points, point{x, share(float64(slower) / float64(total))})
	}
	return line(points)
}

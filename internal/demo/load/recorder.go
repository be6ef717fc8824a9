package load

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Totals are the counts of one or more intervals, or of the whole run.
type Totals struct {
	// Requests is how many were answered or failed; Failed is how many of them
	// failed: an error, or an answer after the deadline.
	Requests int64
	Failed   int64
	// Reasons counts failures by reason class.
	Reasons map[string]int64
	// FailedDetail holds the first 20 failures.
	FailedDetail []Failure
	// Stolen counts those of FailedDetail that were only late, while the
	// hypervisor had taken a processor away for at least half the deadline: they
	// say something of the machine, and nothing of the rotation.
	Stolen int64
	// P50 … Max are latencies from the due time. A failed request counts as at
	// least the deadline, and a long transaction's own length isn't in them.
	P50, P99, P999, Max time.Duration
	// Latency is their distribution.
	Latency []Bar
	// AuthRetries is how often the library tried a refused login again.
	AuthRetries int64
	// Reconnects is how many connections broke and had to be made anew; the
	// planned replacement after a version change isn't in it.
	Reconnects int64
	// Terminated is how many requests failed because the server ended their
	// connection (57P01).
	Terminated int64
	// Elapsed is how long the intervals took.
	Elapsed time.Duration
}

// Failure is one failed request. It holds no text of the server's.
type Failure struct {
	At       time.Time
	Consumer string
	Reason   string
	Latency  time.Duration
	// Stolen is for how long the hypervisor had taken a processor away meanwhile.
	Stolen time.Duration
}

// Second is one point of the series.
type Second struct {
	At            time.Time // its end
	Requests      int64
	Failed        int64
	P50, P99, Max time.Duration
	// Logins counts the consumers' connections by login at the end; nil if they
	// couldn't be counted.
	Logins map[string]int
}

const keptFailures = 20

// keptSeconds bounds the series: beyond it, neighbours are put together.
const keptSeconds = 3600

// answer is the end of one request; reason is empty for a success.
type answer struct {
	at       time.Time
	consumer string
	latency  time.Duration
	reason   string
	where    string // of a late one
}

// interval is a named part of the run. Requests belong to the interval in which
// they were due.
type interval struct {
	name       string
	latency    histogram
	failed     int64
	terminated int64
	reasons    map[string]int64
	failures   []Failure
	since      time.Time // zero while another interval is the current one
	elapsed    time.Duration
	counted    counters // in earlier stretches
	base       counters // when the current stretch began
}

type recorder struct {
	deadline time.Duration
	counters func() counters
	lost     func(from, to time.Time) time.Duration

	mu      sync.Mutex
	order   []*interval
	now     *interval
	second  histogram
	failed  int64 // in this second
	series  []Second
	latest  Second
	pending int // neighbours that make a point of the series
	partial []Second
}

func newRecorder(deadline time.Duration, count func() counters, lost func(from, to time.Time) time.Duration) *recorder {
	r := &recorder{deadline: deadline, counters: count, lost: lost, pending: 1}
	r.mark("start", time.Now())
	return r
}

func (r *recorder) current() *interval {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *recorder) mark(name string, at time.Time) {
	count := r.counters()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closeLocked(at, count)
	i := slices.IndexFunc(r.order, func(i *interval) bool { return i.name == name })
	if i < 0 {
		r.order = append(r.order, &interval{name: name, reasons: make(map[string]int64)})
		i = len(r.order) - 1
	}
	r.now = r.order[i]
	r.now.since, r.now.base = at, count
}

func (r *recorder) closeLocked(at time.Time, count counters) {
	if r.now == nil || r.now.since.IsZero() {
		return
	}
	r.now.elapsed += at.Sub(r.now.since)
	r.now.since = time.Time{}
	r.now.counted.authRetries += count.authRetries - r.now.base.authRetries
	r.now.counted.reconnects += count.reconnects - r.now.base.reconnects
}

// end closes the last interval.
func (r *recorder) end(at time.Time) {
	count := r.counters()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closeLocked(at, count)
}

func (r *recorder) record(i *interval, a answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.reason != "" {
		// A fast error mustn't make the percentiles look better.
		a.latency = max(a.latency, r.deadline)
		i.failed++
		r.failed++
		i.reasons[a.reason]++
		if a.reason == reasonTerminated {
			i.terminated++
		}
		if len(i.failures) < keptFailures {
			i.failures = append(i.failures, Failure{At: a.at, Consumer: a.consumer, Reason: a.reason + a.where, Latency: a.latency})
		}
	}
	i.latency.add(a.latency)
	r.second.add(a.latency)
}

func (r *recorder) totals(names ...string) Totals {
	count := r.counters()
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	t := Totals{Reasons: make(map[string]int64)}
	var all histogram
	for _, i := range r.order {
		if len(names) > 0 && !slices.Contains(names, i.name) {
			continue
		}
		all.merge(&i.latency)
		t.Failed += i.failed
		t.Terminated += i.terminated
		for reason, n := range i.reasons {
			t.Reasons[reason] += n
		}
		t.FailedDetail = append(t.FailedDetail, i.failures...)
		t.AuthRetries += i.counted.authRetries
		t.Reconnects += i.counted.reconnects
		t.Elapsed += i.elapsed
		if !i.since.IsZero() {
			t.AuthRetries += count.authRetries - i.base.authRetries
			t.Reconnects += count.reconnects - i.base.reconnects
			t.Elapsed += now.Sub(i.since)
		}
	}
	slices.SortStableFunc(t.FailedDetail, func(a, b Failure) int { return a.At.Compare(b.At) })
	t.FailedDetail = t.FailedDetail[:min(len(t.FailedDetail), keptFailures)]
	for i := range t.FailedDetail {
		f := &t.FailedDetail[i]
		f.Stolen = r.lost(f.At.Add(-f.Latency), f.At)
		if strings.HasPrefix(f.Reason, reasonLate) && f.Stolen >= r.deadline/2 {
			t.Stolen++
		}
	}
	t.Requests, t.Max, t.Latency = all.n, all.max, all.bars()
	t.P50, t.P99, t.P999 = all.quantile(0.5), all.quantile(0.99), all.quantile(0.999)
	return t
}

// roll ends a second of the series.
func (r *recorder) roll(at time.Time, logins map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest = Second{
		At: at, Requests: r.second.n, Failed: r.failed, Logins: logins,
		P50: r.second.quantile(0.5), P99: r.second.quantile(0.99), Max: r.second.max,
	}
	r.second, r.failed = histogram{}, 0
	r.partial = append(r.partial, r.latest)
	if len(r.partial) < r.pending {
		return
	}
	r.series = append(r.series, join(r.partial))
	r.partial = r.partial[:0]
	if len(r.series) >= keptSeconds {
		for i := range len(r.series) / 2 {
			r.series[i] = join(r.series[2*i : 2*i+2])
		}
		r.series = slices.Clip(r.series[:len(r.series)/2])
		r.pending *= 2
	}
}

// join makes one point of neighbours: sums of the counts, the worst latencies.
func join(points []Second) Second {
	sum := points[0]
	for _, p := range points[1:] {
		sum.At, sum.Logins = p.At, p.Logins
		sum.Requests += p.Requests
		sum.Failed += p.Failed
		sum.P50, sum.P99, sum.Max = max(sum.P50, p.P50), max(sum.P99, p.P99), max(sum.Max, p.Max)
	}
	return sum
}

func (r *recorder) seconds() []Second {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.series)
}

func (r *recorder) last() (name string, second Second) {
	r.mu.Lock()
	defer r.mu.Unlock()
	second = r.latest
	second.Logins = maps.Clone(second.Logins)
	return r.now.name, second
}

package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"
)

func TestQuantilesErrUpwardsAndByLittle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(0, int64(2*time.Hour)), 1, 200).Draw(t, "values")
		var h, a, b histogram
		for i, v := range values {
			h.add(time.Duration(v))
			if i%2 == 0 {
				a.add(time.Duration(v))
			} else {
				b.add(time.Duration(v))
			}
		}
		a.merge(&b)
		if a != h {
			t.Fatal("two halves merged differ from the whole")
		}
		slices.Sort(values)
		for _, q := range []float64{0.01, 0.5, 0.99, 0.999, 1} {
			exact := time.Duration(values[int(math.Ceil(q*float64(len(values))))-1])
			got := h.quantile(q)
			tooMuch := exact + exact/60 + time.Microsecond
			if bounded := min(exact, histogramLimit); got < bounded || (exact < histogramLimit && got > tooMuch) {
				t.Fatalf("q%v: got %v, exact %v", q, got, exact)
			}
		}
		if h.max != time.Duration(values[len(values)-1]) || h.n != int64(len(values)) {
			t.Fatalf("got max %v and count %d", h.max, h.n)
		}
		sum := int64(0)
		for _, bar := range h.bars() {
			sum += bar.Requests
		}
		if sum != h.n {
			t.Fatalf("the bars hold %d of %d", sum, h.n)
		}
	})
}

func TestBucketsAreInOrder(t *testing.T) {
	t.Parallel()
	for i := range histogramBuckets - 1 {
		if upperEdge(i) >= upperEdge(i+1) {
			t.Fatalf("bucket %d ends at %v, the next at %v", i, upperEdge(i), upperEdge(i+1))
		}
		if bucketOf(upperEdge(i)) != i && upperEdge(i) <= histogramLimit {
			t.Fatalf("the upper edge %v of bucket %d falls into %d", upperEdge(i), i, bucketOf(upperEdge(i)))
		}
	}
}

func TestDistribute(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		consumers int
		mix       map[Habit]float64
		want      map[Habit]int
	}{
		"none":                {0, DefaultMix(), map[Habit]int{}},
		"fewer than habits":   {2, DefaultMix(), map[Habit]int{Bursty: 1, Environ: 1}},
		"one of each":         {5, DefaultMix(), map[Habit]int{Bursty: 1, Environ: 1, PerConnect: 1, Nightly: 1, LongTx: 1}},
		"fifty":               {50, DefaultMix(), map[Habit]int{Bursty: 22, Environ: 22, PerConnect: 3, Nightly: 1, LongTx: 2}},
		"one habit":           {7, map[Habit]float64{LongTx: 1}, map[Habit]int{LongTx: 7}},
		"weight zero is none": {4, map[Habit]float64{Bursty: 1, Nightly: 0}, map[Habit]int{Bursty: 4}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, distribute(tt.consumers, tt.mix)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPlannedRate(t *testing.T) {
	t.Parallel()
	for _, consumers := range []int{5, 10, 50, 100} {
		cfg, err := Config{Host: "h", Database: "d", Secrets: noSecrets{}, SecretID: "s", Consumers: consumers, Rate: 1000}.complete()
		if err != nil {
			t.Fatal(err)
		}
		r := &Run{cfg: cfg}
		total := 0.0
		for _, c := range r.plan() {
			if c.habit == Bursty {
				total += c.perVisit / c.every.Seconds()
				continue
			}
			total += 1 / c.every.Seconds()
		}
		if math.Abs(total-1000) > 1 {
			t.Errorf("%d consumers make %.1f requests a second, want 1000", consumers, total)
		}
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	answer := func(code string) error {
		return fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code, Message: "canary"})
	}
	tests := map[string]struct {
		err  error
		late bool
		want string
	}{
		"success":            {nil, false, ""},
		"late success":       {nil, true, "late"},
		"deadline":           {context.DeadlineExceeded, false, "late"},
		"terminated":         {answer("57P01"), false, "terminated 57P01"},
		"terminated, late":   {answer("57P01"), true, "terminated 57P01"},
		"wrong password":     {answer("28P01"), false, "login refused 28P01"},
		"no login":           {answer("28000"), false, "login refused 28000"},
		"other server error": {answer("53300"), false, "server error 53300"},
		"no server":          {&pgconn.ConnectError{}, false, "no connection"},
		"broken":             {errors.New("unexpected EOF"), false, "connection broken"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := reasonOf(tt.err, tt.late); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// undisturbed is a machine that nobody took a processor from.
func undisturbed(time.Time, time.Time) time.Duration { return 0 }

func TestIntervalsAddUp(t *testing.T) {
	t.Parallel()
	count := counters{}
	r := newRecorder(100*time.Millisecond, func() counters { return count }, undisturbed)
	at := time.Now()
	r.mark("baseline", at)
	first := r.current()
	r.record(first, answer{at: at, latency: time.Millisecond})
	count.authRetries = 2
	r.mark("rotation", at.Add(time.Second))
	r.record(r.current(), answer{at: at, latency: 2 * time.Millisecond, reason: reasonLogin + "28P01", consumer: "c"})
	r.record(r.current(), answer{at: at, latency: 300 * time.Millisecond, reason: reasonTerminated})
	r.record(first, answer{at: at, latency: 5 * time.Millisecond}) // due in the baseline, answered now
	count.authRetries, count.reconnects = 5, 1
	r.mark("baseline", at.Add(2*time.Second))
	r.end(at.Add(4 * time.Second))

	baseline, during, all := r.totals("baseline"), r.totals("rotation"), r.totals()
	if baseline.Requests != 2 || baseline.Failed != 0 || baseline.AuthRetries != 2 || baseline.Elapsed != 3*time.Second {
		t.Errorf("baseline: %+v", baseline)
	}
	if during.Requests != 2 || during.Failed != 2 || during.Terminated != 1 || during.AuthRetries != 3 || during.Reconnects != 1 {
		t.Errorf("rotation: %+v", during)
	}
	if during.P50 < 100*time.Millisecond {
		t.Errorf("a fast error brought the median down to %v", during.P50)
	}
	if all.Requests != 4 || all.Failed != 2 || len(all.FailedDetail) != 2 {
		t.Errorf("all: %+v", all)
	}
}

func TestSeriesStaysBounded(t *testing.T) {
	t.Parallel()
	r := newRecorder(time.Second, func() counters { return counters{} }, undisturbed)
	at := time.Now()
	const seconds = 3 * keptSeconds
	for i := range seconds {
		r.record(r.current(), answer{latency: time.Duration(i)})
		r.roll(at.Add(time.Duration(i)*time.Second), map[string]int{"app": i})
	}
	series := r.seconds()
	if len(series) >= keptSeconds {
		t.Errorf("%d points are kept", len(series))
	}
	sum := int64(0)
	for i, p := range series {
		sum += p.Requests
		if i > 0 && !p.At.After(series[i-1].At) {
			t.Fatal("the series isn't in order")
		}
	}
	if missing := seconds - sum; missing < 0 || missing >= 8 {
		t.Errorf("%d of %d requests are in the series", sum, seconds)
	}
}

func TestFailureDetailIsBounded(t *testing.T) {
	t.Parallel()
	r := newRecorder(time.Second, func() counters { return counters{} }, undisturbed)
	for range 100 {
		r.record(r.current(), answer{reason: reasonLate})
	}
	if got := r.totals(); len(got.FailedDetail) != keptFailures || got.Reasons[reasonLate] != 100 {
		t.Errorf("got %d details, %v", len(got.FailedDetail), got.Reasons)
	}
}

// Only lateness is laid on the machine, and only if it has lost half the deadline.
func TestLateOnStolenTime(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	lost := func(from, to time.Time) time.Duration {
		if at.Before(from) || at.After(to) {
			return 0
		}
		return 130 * time.Millisecond
	}
	tests := map[string]struct {
		deadline time.Duration
		a        answer
		want     int64
	}{
		"late then":             {250 * time.Millisecond, answer{at: at.Add(10 * time.Millisecond), reason: reasonLate, where: where(nil)}, 1},
		"late at another time":  {250 * time.Millisecond, answer{at: at.Add(time.Second), reason: reasonLate}, 0},
		"a longer deadline":     {300 * time.Millisecond, answer{at: at, reason: reasonLate}, 0},
		"refused then":          {250 * time.Millisecond, answer{at: at, reason: reasonLogin + "28P01"}, 0},
		"terminated then":       {250 * time.Millisecond, answer{at: at, reason: reasonTerminated}, 0},
		"no connection then":    {250 * time.Millisecond, answer{at: at, reason: reasonConnect}, 0},
		"a success is no fault": {250 * time.Millisecond, answer{at: at}, 0},
	}
	for name, tt := range tests {
		r := newRecorder(tt.deadline, func() counters { return counters{} }, lost)
		r.record(r.current(), tt.a)
		if got := r.totals().Stolen; got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

func TestWhereALateRequestWas(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		", answered":                 nil,
		", logging in":               errors.Join(errNoConnection, &pgconn.ConnectError{}),
		", waiting for a connection": errors.Join(errNoConnection, context.DeadlineExceeded),
		", in a statement":           context.DeadlineExceeded,
	} {
		if got := where(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

func TestUsesAreBounded(t *testing.T) {
	t.Parallel()
	c := &consumer{name: "c", byLogin: make(map[string]*Use)}
	at := time.Now()
	for i := range 3 * keptUses {
		c.used(fmt.Sprint("login", i), at.Add(time.Duration(i)))
	}
	uses := c.uses()
	if len(uses) != keptUses || uses[keptUses-1].Login != fmt.Sprint("login", 3*keptUses-1) {
		t.Errorf("kept %d, the last is %+v", len(uses), uses[len(uses)-1])
	}
}

type noSecrets struct{}

func (noSecrets) GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	return nil, errors.New("nothing here")
}

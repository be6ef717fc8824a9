package load

import (
	"math"
	"math/bits"
	"time"
)

// A histogram counts durations in constant memory: to the microsecond below
// 128 µs, to better than 1.6 % above, up to an hour. Maximum and count are exact.
type histogram struct {
	counts [histogramBuckets]uint32
	n      int64
	max    time.Duration
}

const (
	exactBelow       = 128 // µs
	perDoubling      = exactBelow / 2
	histogramLimit   = time.Hour
	histogramBuckets = exactBelow + 25*perDoubling // 2^32 µs is more than an hour
)

func bucketOf(d time.Duration) int {
	us := uint64(max(0, min(d, histogramLimit)).Microseconds()) //nolint:gosec // it isn't negative
	if us < exactBelow {
		return int(us)
	}
	shift := bits.Len64(us) - 7
	return exactBelow + (shift-1)*perDoubling + int(us>>shift) - perDoubling //nolint:gosec // below 128
}

// upperEdge is the longest duration that falls into a bucket.
func upperEdge(bucket int) time.Duration {
	if bucket < exactBelow {
		return time.Duration(bucket+1)*time.Microsecond - 1
	}
	shift := (bucket-exactBelow)/perDoubling + 1
	us := (bucket-exactBelow)%perDoubling + perDoubling + 1
	return time.Duration(us<<shift)*time.Microsecond - 1
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.n++
	h.max = max(h.max, d)
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.n += other.n
	h.max = max(h.max, other.max)
}

// quantile returns a duration that a share q of all doesn't exceed; it errs
// upwards, never beyond the maximum.
func (h *histogram) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := int64(math.Ceil(q * float64(h.n)))
	seen := int64(0)
	for i, n := range h.counts {
		seen += int64(n)
		if n > 0 && seen >= rank {
			return min(upperEdge(i), h.max)
		}
	}
	return h.max
}

// Bar is one bar of a latency distribution.
type Bar struct {
	UpTo     time.Duration // inclusive
	Requests int64
}

// bars folds the histogram to four bars for each doubling, without empty ends.
func (h *histogram) bars() []Bar {
	var bars []Bar
	const fold = perDoubling / 4
	for i := 0; i < histogramBuckets; i += fold {
		sum := int64(0)
		for _, n := range h.counts[i : i+fold] {
			sum += int64(n)
		}
		if sum > 0 || len(bars) > 0 {
			bars = append(bars, Bar{UpTo: upperEdge(i + fold - 1), Requests: sum})
		}
	}
	for len(bars) > 0 && bars[len(bars)-1].Requests == 0 {
		bars = bars[:len(bars)-1]
	}
	return bars
}

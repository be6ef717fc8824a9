// Package witness answers: was a processor taken away from this machine while
// something was measured?
//
// Linux counts, for each processor, the time that the hypervisor gave to others
// ("steal", proc_stat(5)). A load of our own doesn't add to it. Where nothing is
// counted, nothing is seen.
package witness

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	statFile = "/proc/stat"
	// tick is the unit of proc_stat(5): USER_HZ is 100 on every Linux.
	tick = 10 * time.Millisecond
	// every is how often the counters are read.
	every = 50 * time.Millisecond
	// kept bounds what is remembered: an hour and more of a busy neighbour.
	kept = 100_000
)

// theft is what one processor lost between two looks.
type theft struct {
	cpu      int
	from, to time.Time
	lost     time.Duration
}

// Witness looks until it is stopped.
type Witness struct {
	read func() ([]byte, error)
	stop chan struct{}
	once sync.Once
	work sync.WaitGroup

	mu     sync.Mutex
	at     time.Time
	stolen map[int]time.Duration // by processor
	thefts []theft
}

// Start begins to look.
func Start() *Witness {
	w := &Witness{read: func() ([]byte, error) { return os.ReadFile(statFile) }, stop: make(chan struct{})}
	w.look(time.Now())
	w.work.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-w.stop:
				return
			case <-ticker.C:
				w.look(time.Now())
			}
		}
	})
	return w
}

// Stop ends it; what was seen stays. A second call does nothing.
func (w *Witness) Stop() {
	w.once.Do(func() { close(w.stop) })
	w.work.Wait()
}

// Lost is for how long the processor that lost most was taken away between two
// moments. A look that is partly outside counts in proportion.
func (w *Witness) Lost(from, to time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	sums := map[int]time.Duration{}
	var most time.Duration
	for _, t := range w.thefts {
		begin, end := t.from, t.to
		if begin.Before(from) {
			begin = from
		}
		if end.After(to) {
			end = to
		}
		if end.After(begin) {
			sums[t.cpu] += time.Duration(float64(t.lost) * float64(end.Sub(begin)) / float64(t.to.Sub(t.from)))
			most = max(most, sums[t.cpu])
		}
	}
	return most
}

// look compares the counters with those of the last look.
func (w *Witness) look(now time.Time) {
	text, err := w.read()
	if err != nil {
		return // not Linux
	}
	stolen := parse(string(text))
	w.mu.Lock()
	defer w.mu.Unlock()
	for cpu, sum := range stolen {
		if before, known := w.stolen[cpu]; known && sum > before {
			w.thefts = append(w.thefts, theft{cpu: cpu, from: w.at, to: now, lost: sum - before})
		}
	}
	w.at, w.stolen = now, stolen
	if len(w.thefts) > kept {
		w.thefts = append([]theft(nil), w.thefts[len(w.thefts)-kept/2:]...)
	}
}

// parse reads the steal of each processor: the eighth number of its line. It
// keeps nothing of the text alive.
func parse(text string) map[int]time.Duration {
	const steal = 8
	all := map[int]time.Duration{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		number, of := "", false
		if len(fields) > steal {
			number, of = strings.CutPrefix(fields[0], "cpu")
		}
		cpu, err := strconv.Atoi(number)
		if !of || err != nil {
			continue // "cpu" itself is the sum
		}
		if n, err := strconv.ParseInt(fields[steal], 10, 64); err == nil {
			all[cpu] = time.Duration(n) * tick
		}
	}
	return all
}

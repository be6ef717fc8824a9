// Package chaos answers: is anything lost when a call goes wrong, whichever it
// is and however it does?
//
// It walks: a clean rotation is recorded, and every call that it made (Secrets
// Manager, Step Functions, Lambda, the audit trail, every exchange with
// PostgreSQL) is a point at which a process can crash, an answer can be lost, a
// service can refuse or lie. Each such fault is then played in a rotation of its
// own, and the invariants of the design are checked at every change and at the
// end. The step code and the server are the real ones; only processes and time
// are not: functions run in this process, and the clock moves while nobody works.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options bound a run.
type Options struct {
	// Budget is how long walks with faults may be started; 0 means until all are done.
	Budget time.Duration
	// Workers walk side by side; 0 means one a processor, and one more.
	Workers int
	// Scene, if set, is how the scenes begin that are walked, as "RotateSecret, fresh"
	// or "emergency".
	Scene string
	// Match, if set, is what a fault's text has to contain.
	Match string
	// Round, if set, plays one fault and one pair a point, the next round others.
	Round int
	// Journal, if set, is a file: walks that it names are left out, and those that
	// break nothing are added.
	Journal  string
	Progress io.Writer // never nil
}

// Totals are what a run has found.
type Totals struct {
	Scenes []SceneTotals
	Broken []string // one text an invariant that didn't hold
	Logins int      // attempts in the name of consumers
	Took   time.Duration
}

// SceneTotals are those of one entry in one mode.
type SceneTotals struct {
	Name    string
	Points  int // calls of the clean run at which something can go wrong
	Faults  int // what can go wrong at them, pairs included
	Before  int // walks that the journal has from earlier runs
	Walked  int // rotations that were played with faults
	Reached int // faults that happened; in a few walks the call doesn't come
	Ends    map[string]int
	Stuck   int // walks in which a person had to resume a run
}

// Reached counts the faults of all scenes that happened.
func (t Totals) Reached() int {
	n := 0
	for _, s := range t.Scenes {
		n += s.Reached
	}
	return n
}

// Run walks. An error means that it couldn't; what it finds is in the Totals.
func Run(ctx context.Context, o Options) (Totals, error) {
	j, err := openJournal(o.Journal)
	if err != nil {
		return Totals{}, err
	}
	totals, err := runWith(ctx, o, j)
	return totals, errors.Join(err, j.close())
}

func runWith(ctx context.Context, o Options, j *journal) (Totals, error) {
	began := time.Now()
	st, err := newStage(ctx)
	if err != nil {
		return Totals{}, err
	}
	defer st.close()
	if o.Workers == 0 {
		o.Workers = runtime.NumCPU() + 1
	}
	r := &run{options: o, stage: st, journal: j}
	if err := r.record(ctx); err != nil {
		return Totals{}, err
	}
	err = r.walkAll(ctx, time.Now())
	r.totals.Took = time.Since(began)
	return r.totals, err
}

type run struct {
	options Options
	stage   *stage
	journal *journal
	scenes  []scene
	faults  [][][]Fault // by scene: what each walk plays

	mu     sync.Mutex
	totals Totals
	next   []int // by scene
	turn   int
}

// record plays every scene without faults and lists what can go wrong.
func (r *run) record(ctx context.Context) error {
	w, err := r.stage.newWorker(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	for _, sc := range scenes() {
		if !strings.HasPrefix(sc.String(), r.options.Scene) {
			continue
		}
		res, err := w.walk(ctx, sc, nil)
		if err != nil {
			return fmt.Errorf("%s without faults: %w", sc, err)
		}
		if want := sc.entry.end(); res.End != want || len(res.Broken) > 0 {
			return fmt.Errorf("%s without faults: it ended %s, want %s; broken: %s", sc, res.End, want, strings.Join(res.Broken, "; "))
		}
		points := after(res.Points, sc.entry.back != "")
		all := order(points)
		if r.options.Round > 0 {
			all = round(points, r.options.Round)
		}
		if r.options.Match != "" {
			all = matching(all, r.options.Match)
		}
		total := SceneTotals{Name: sc.String(), Points: len(points), Faults: len(all), Ends: map[string]int{}}
		all = slices.DeleteFunc(all, func(f []Fault) bool { return r.journal.has(total.Name, f) })
		total.Before = total.Faults - len(all)
		r.scenes, r.faults, r.next = append(r.scenes, sc), append(r.faults, all), append(r.next, 0)
		r.totals.Scenes = append(r.totals.Scenes, total)
		fmt.Fprintf(r.options.Progress, "%-24s %4d points, %5d faults, %5d walked before, %4d ms without\n",
			sc, total.Points, total.Faults, total.Before, res.Took.Milliseconds())
	}
	if len(r.scenes) == 0 {
		return fmt.Errorf("no scene begins with %q", r.options.Scene)
	}
	return nil
}

// walkAll lets the workers take walks in turns from each scene.
func (r *run) walkAll(ctx context.Context, began time.Time) error {
	errs := make(chan error, r.options.Workers)
	for range r.options.Workers {
		go func() { errs <- r.worker(ctx, began) }()
	}
	var first error
	for range r.options.Workers {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (r *run) worker(ctx context.Context, began time.Time) error {
	w, err := r.stage.newWorker(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	for ctx.Err() == nil && (r.options.Budget == 0 || time.Since(began) < r.options.Budget) {
		i, faults := r.take()
		if faults == nil {
			return nil
		}
		res, err := w.walk(ctx, r.scenes[i], faults)
		if err != nil {
			return fmt.Errorf("%s with %v: %w", r.scenes[i], faults, err)
		}
		if err := r.note(i, faults, res); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (r *run) take() (int, []Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range r.scenes {
		i := r.turn % len(r.scenes)
		r.turn++
		if r.next[i] < len(r.faults[i]) {
			r.next[i]++
			return i, r.faults[i][r.next[i]-1]
		}
	}
	return 0, nil
}

func (r *run) note(i int, faults []Fault, res Result) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.totals.Scenes[i]
	s.Walked++
	s.Reached += res.Reached
	s.Ends[res.End]++
	if res.Stuck > 0 {
		s.Stuck++
		fmt.Fprintf(r.options.Progress, "resumed: %s with %v ended %s\n", s.Name, faults, res.End)
	}
	r.totals.Logins += res.Logins
	for _, b := range res.Broken {
		text := fmt.Sprintf("%s with %v, ended %s: %s", s.Name, faults, res.End, b)
		r.totals.Broken = append(r.totals.Broken, text)
		fmt.Fprintln(r.options.Progress, "broken:", text)
	}
	if len(res.Broken) > 0 {
		return nil
	}
	return r.journal.add(s.Name, faults)
}

// Write prints the totals; the last line is the verdict.
func (t Totals) Write(w io.Writer) {
	fmt.Fprintf(w, "\n%-24s %7s %7s %7s %7s %8s %8s  %s\n", "entry, mode", "points", "faults", "before", "walked", "happened", "resumed", "ends")
	for _, s := range t.Scenes {
		fmt.Fprintf(w, "%-24s %7d %7d %7d %7d %8d %8d  %v\n", s.Name, s.Points, s.Faults, s.Before, s.Walked, s.Reached, s.Stuck, s.Ends)
	}
	fmt.Fprintf(w, "%d logins of consumers tried, %s\n", t.Logins, t.Took.Round(time.Second))
	fmt.Fprintf(w, "faults %d, invariants broken %d\n", t.Reached(), len(t.Broken))
}

package witness

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// stat is /proc/stat of two processors that have lost this many ticks.
func stat(first, second int) []byte {
	return fmt.Appendf(nil, "cpu  9 0 9 9 9 0 9 %d 0 0\ncpu0 9 0 9 9 9 0 9 %d 0 0\ncpu1 9 0 9 9 9 0 9 %d 0 0\nintr 5 5 5 5 5 5 5 5 5 5\nctxt 5\n",
		first+second, first, second)
}

func TestTheProcessorThatLostMost(t *testing.T) {
	t.Parallel()
	began := time.Unix(1000, 0)
	at := func(looks float64) time.Time { return began.Add(time.Duration(looks * float64(every))) }
	w := &Witness{}
	for i, answer := range [][]byte{stat(100, 200), stat(101, 204), stat(101, 208), stat(104, 208)} {
		w.read = func() ([]byte, error) { return answer, nil }
		w.look(at(float64(i)))
	}
	tests := map[string]struct {
		from, to float64
		want     time.Duration
	}{
		"all of it":      {-1, 9, 80 * time.Millisecond},
		"one look":       {1, 2, 40 * time.Millisecond},
		"half a look":    {0.5, 1, 20 * time.Millisecond},
		"within a look":  {1.25, 1.75, 20 * time.Millisecond},
		"the other's":    {2, 3, 30 * time.Millisecond},
		"before":         {-5, 0, 0},
		"after":          {3, 5, 0},
		"an empty space": {1, 1, 0},
	}
	for name, tt := range tests {
		if got := w.Lost(at(tt.from), at(tt.to)); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	t.Parallel()
	w := &Witness{}
	for i := range kept + 10 {
		w.thefts = append(w.thefts, theft{cpu: 0, from: time.Unix(int64(i), 0), to: time.Unix(int64(i)+1, 0), lost: tick})
	}
	for i, sum := range []int{0, 7} {
		w.read = func() ([]byte, error) { return stat(sum, 0), nil }
		w.look(time.Unix(int64(kept+20+i), 0))
	}
	if len(w.thefts) != kept/2+1 || w.Lost(time.Unix(kept+20, 0), time.Unix(kept+21, 0)) != 7*tick {
		t.Errorf("%d thefts are kept", len(w.thefts))
	}
}

func TestNothingIsSeenWhereNothingIsCounted(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]func() ([]byte, error){
		"no file":    func() ([]byte, error) { return nil, errors.New("no such file") },
		"no steal":   func() ([]byte, error) { return []byte("cpu0 1 2 3 4\n"), nil },
		"no numbers": func() ([]byte, error) { return []byte("cpu0 1 2 3 4 5 6 7 x 9\n"), nil },
	} {
		w := &Witness{read: read}
		w.look(time.Unix(1, 0))
		w.look(time.Unix(2, 0))
		if lost := w.Lost(time.Time{}, time.Unix(9, 0)); lost != 0 {
			t.Errorf("%s: %v", name, lost)
		}
	}
}

func TestStartAndStop(t *testing.T) {
	t.Parallel()
	w := Start()
	w.Stop()
	w.Stop()
}

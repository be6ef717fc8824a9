package lambda

import (
	"testing"
	"time"
)

func TestFiguresAreOfTheLatestEnvironments(t *testing.T) {
	t.Parallel()
	var s Stats
	const started = 3 * keptFigures
	for i := range started {
		s.add(&environment{coldStart: time.Duration(i + 1), peak: int64(i + 1)})
	}
	last := len(s.ColdStarts) - 1
	if last != keptFigures-1 || len(s.PeakMemory) != keptFigures || s.ColdStarts[last] != started || s.PeakMemory[0] != started-keptFigures+1 {
		t.Errorf("%d figures from %d to %d", len(s.ColdStarts), s.PeakMemory[0], s.ColdStarts[last])
	}
}

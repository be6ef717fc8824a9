package clock_test

import (
	"testing"
	"time"

	"github.com/keyturn/keyturn/localstack/clock"
)

func TestAClockMayBeginInThePast(t *testing.T) {
	t.Parallel()
	begin := time.Now().Add(-1000 * time.Hour)
	c := clock.At(begin)
	if got := c.Now(); got.Before(begin) || got.After(time.Now().Add(-900*time.Hour)) {
		t.Errorf("it shows %s, want %s and a little", got, begin)
	}
	c.Advance(24 * time.Hour)
	if got := c.Now(); got.Before(begin.Add(24*time.Hour)) || got.After(time.Now()) {
		t.Errorf("after a day it shows %s", got)
	}
}

package clock_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/localstack/clock"
)

func TestAlarm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		c := clock.New()
		start := c.Now()
		var a clock.Alarm
		var looks []time.Duration
		next := start.Add(time.Hour) // read and written only while Run sleeps
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.Run(ctx, c, func() time.Time {
				now := c.Now()
				looks = append(looks, now.Sub(start))
				switch {
				case next.IsZero():
				case len(looks) == 4:
					next = time.Time{}
					a.Reset() // while it looks: seen all the same
				case !now.Before(next):
					next = now.Add(time.Hour)
				}
				return next
			})
		}()
		synctest.Wait()
		time.Sleep(time.Hour) // real time goes on too
		synctest.Wait()
		c.Advance(5 * time.Hour) // over several dates
		synctest.Wait()
		next = c.Now().Add(time.Minute)
		a.Reset()
		synctest.Wait()
		time.Sleep(24 * time.Hour) // no date is left
		synctest.Wait()
		stop()
		<-done
		want := []time.Duration{0, time.Hour, 6 * time.Hour, 6 * time.Hour, 6 * time.Hour}
		if len(looks) != len(want) {
			t.Fatalf("looked at %v, want %v", looks, want)
		}
		for i := range want {
			if looks[i] != want[i] {
				t.Errorf("look %d at %s, want %s", i, looks[i], want[i])
			}
		}
	})
}

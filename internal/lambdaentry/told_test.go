package lambdaentry_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/internal/metrics"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

// A finding is told once an hour, and not every minute; what an event says about
// one secret only when it is new.
func TestTheWatchdogDoesntRepeatItselfEveryMinute(t *testing.T) {
	t.Parallel()
	off := false
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	bus, told := &heard{}, 0
	r, _, store := rotator(t)
	store.Edit(managed, func(d *rotation.Description) { d.RotationEnabled = &off })
	var lines bytes.Buffer
	watch := lambdaentry.WatchAndTell(r, lambdaentry.Told{Bus: bus, Metrics: metrics.Writer{To: &lines, Deployment: "d"}})
	for minute := range 180 {
		r.Now = func() time.Time { return start.Add(time.Duration(minute) * time.Minute) }
		bus.findings = nil
		if _, err := watch(t.Context(), []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		told += len(bus.findings)
		if _, err := watch(t.Context(), []byte(`{"detail":{"additionalEventData":{"SecretId":"`+managed+`"}}}`)); err != nil {
			t.Fatal(err)
		}
		if len(bus.findings) > 1 {
			t.Errorf("minute %d: %+v", minute, bus.findings)
		}
	}
	if told != 3 {
		t.Errorf("told %d times in three hours", told)
	}
	if n := strings.Count(lines.String(), `"Findings":1`); n != 180 {
		t.Errorf("%d of 180 looks were measured with a finding", n)
	}
	for _, want := range []string{`"Rotating":1,"State":"stable"`, `"Rotating":0,"State":"stolen"`, `"Stuck":0`} {
		if !strings.Contains(lines.String(), want) {
			t.Errorf("no line has %s: %s", want, lines.String()[:500])
		}
	}
}

func TestAFindingThatCouldntBeToldFailsTheLook(t *testing.T) {
	t.Parallel()
	off := false
	r, _, store := rotator(t)
	store.Edit(managed, func(d *rotation.Description) { d.RotationEnabled = &off })
	watch := lambdaentry.WatchAndTell(r, lambdaentry.Told{Bus: &heard{err: errors.New("down")}})
	failed := 0
	for minute := range 60 {
		r.Now = func() time.Time { return time.Date(2026, 3, 1, 12, minute, 0, 0, time.UTC) }
		answer, err := watch(t.Context(), []byte(`{}`))
		if err != nil {
			failed++
			if !fault.Is(err, fault.Unavailable) {
				t.Errorf("%v", err)
			}
		}
		if answer == nil {
			t.Error("the look itself is lost")
		}
	}
	if failed != 1 {
		t.Errorf("%d of 60 looks failed", failed)
	}
}

// What the alarm on an old rotation reads comes from the list.
func TestTheLongestTimeWithoutARotationIsMeasured(t *testing.T) {
	t.Parallel()
	r, _, store := rotator(t)
	now := time.Date(2026, 3, 11, 0, 0, 0, 0, time.UTC)
	r.Now = func() time.Time { return now }
	store.Edit(managed, func(d *rotation.Description) { d.Every, d.LastRotated = 30*24*time.Hour, now.AddDate(0, 0, -10) })
	r.Store = listing{store}
	var lines bytes.Buffer
	watch := lambdaentry.WatchAndTell(r, lambdaentry.Told{Metrics: metrics.Writer{To: &lines, Deployment: "d"}})
	if _, err := watch(t.Context(), []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(lines.String(), `"DaysSinceSuccess":10`) {
		t.Errorf("measured %s", lines.String())
	}
}

// listing shows its secret in a list.
type listing struct{ *rotationtest.Store }

func (l listing) List(ctx context.Context, more func([]rotation.Description) bool) error {
	d, err := l.Describe(ctx, managed)
	more([]rotation.Description{d})
	return err
}

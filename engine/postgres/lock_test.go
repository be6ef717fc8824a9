package postgres_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
)

func TestEventuallyLooksSoonAtFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		var looks []int64
		ready, err := postgres.Eventually(t.Context(), func(context.Context) (bool, error) {
			looks = append(looks, time.Since(begun).Milliseconds())
			return len(looks) == 8, nil
		})
		if !ready || err != nil {
			t.Errorf("ready %v, %v", ready, err)
		}
		if diff := cmp.Diff([]int64{0, 2, 6, 14, 30, 55, 80, 105}, looks); diff != "" {
			t.Errorf("looks in ms (-want +got):\n%s", diff)
		}
	})
}

func TestEventuallyEnds(t *testing.T) {
	t.Parallel()
	never := func(context.Context) (bool, error) { return false, nil }
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		ready, err := postgres.Eventually(t.Context(), never)
		if took := time.Since(begun); ready || err != nil || took < 2*time.Second || took > 2100*time.Millisecond {
			t.Errorf("ready %v, %v after %s", ready, err, took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if ready, err := postgres.Eventually(ctx, never); ready || !fault.Is(err, fault.Unavailable) {
			t.Errorf("ready %v, %v", ready, err)
		}
	})
	broken := errors.New("broken")
	if ready, err := postgres.Eventually(t.Context(), func(context.Context) (bool, error) { return false, broken }); ready || !errors.Is(err, broken) {
		t.Errorf("ready %v, %v", ready, err)
	}
}

package demo

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/rotation"
)

// stopIn stops the executions of a rotation, each in the next one of these
// states. The watchdog has to bring the next execution.
func (s *stage) stopIn(t *testing.T, token string, states ...string) {
	t.Helper()
	var mu sync.Mutex
	left := states
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entered = func(execution, state string) {
		mu.Lock()
		due := len(left) > 0 && left[0] == state && strings.Contains(execution, token)
		if due {
			left = left[1:]
		}
		mu.Unlock()
		if !due {
			return
		}
		ctx := context.WithoutCancel(t.Context())
		go func() {
			in := &sfn.StopExecutionInput{ExecutionArn: &execution, Error: aws.String("Test.Stopped")}
			if _, err := s.sfn.StopExecution(ctx, in); err != nil {
				t.Errorf("stopping in %s: %v", state, err)
			}
		}()
		// The call comes back when the execution has ended, which waits for this.
		time.Sleep(500 * time.Millisecond)
	}
}

// served checks that no consumer was refused; how fast it was isn't the question.
func (s *stage) served(t *testing.T) {
	t.Helper()
	totals := s.load.Stop()
	if refused := totals.Failed - totals.Reasons["late"]; totals.Requests == 0 || refused > 0 || totals.AuthRetries > 0 {
		t.Errorf("%d requests, %d failed, %d logins tried again: %v", totals.Requests, refused, totals.AuthRetries, totals.Reasons)
	}
}

// Each execution is stopped in another state, on the way forward and on the way
// back. Nobody but the watchdog starts the next one.
func TestTheWatchdogEndsWhatIsStoppedInAnyState(t *testing.T) {
	s := newStage(t)
	before, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	forth := uuid.NewString()
	forward := []string{"CreateWait", "Adopt", "DrainWait", "Hold"}
	s.stopIn(t, forth, forward...)
	if _, err := s.rotator.StartHead(t.Context(), s.appARN, forth); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "the first is stable", stable(forth))
	s.over(t)
	kept, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	back := s.rotateSecret(t)
	s.eventually(t, "the second is current", current(back))
	made, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	backward := []string{"Rollback", "Drain", "Disable", "Revoke"}
	s.stopIn(t, back, backward...)
	if _, err := s.rotator.RequestRollback(t.Context(), s.appARN); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "the second is turned back", func(v rotation.Versions) bool {
		return v.Has(forth, rotation.Current) && v.Has(back, rotation.Rejected) && v.Holder(rotation.Retiring) == "" && len(v.Displaced()) == 0
	})
	stopped := 0
	for name, end := range s.over(t) {
		switch end {
		case "SUCCEEDED":
		case "ABORTED", "Test.Stopped":
			stopped++
		default:
			t.Errorf("%s ended %s", name, end)
		}
	}
	if want := len(forward) + len(backward); stopped != want {
		t.Errorf("%d executions were stopped, want %d", stopped, want)
	}
	s.served(t)
	s.works(t, kept, before, made)
	if n, err := s.orphans(t.Context()); err != nil || n != 1 { // the current one
		t.Errorf("%d logins are left: %v", n, err)
	}
	found, err := s.rotator.Findings(t.Context(), s.appARN)
	if err != nil || len(found) > 0 {
		t.Errorf("found %+v, %v", found, err)
	}
}

// cancelled begins a rotation that is cancelled when its login was made and not
// proven everywhere.
func (s *stage) cancelled(t *testing.T) string {
	t.Helper()
	s.replica(t, "SELECT pg_wal_replay_pause()") // it never sees the new login: the test step can't be done
	token := s.rotateSecret(t)
	s.eventually(t, "the new login is made", func(rotation.Versions) bool {
		value, err := s.rotator.Store.Value(t.Context(), s.appARN, token)
		if err != nil {
			return false
		}
		class, _ := s.try(t.Context(), s.cluster.Primary, s.remember(value))
		return class == ""
	})
	if _, err := s.secrets.CancelRotateSecret(t.Context(), &secretsmanager.CancelRotateSecretInput{SecretId: &s.appARN}); err != nil {
		t.Fatal(err)
	}
	s.replica(t, "SELECT pg_wal_replay_resume()")
	return token
}

// An operator cancels a rotation in its middle. What the watchdog does once an
// hour is done here at once: what works decides.
func TestACancelledRotationIsEndedByWhatWorks(t *testing.T) {
	s := newStage(t)
	before, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	retry := func() {
		if _, err := s.rotator.Watch(t.Context(), s.appARN, rotation.EnsureOptions{Retry: true}); err != nil {
			t.Fatal(err)
		}
	}
	discarded := s.cancelled(t)
	retry()
	s.eventually(t, "the new login is discarded", func(v rotation.Versions) bool {
		return v.Has(discarded, rotation.Rejected) && v.Holder(rotation.Retiring) == "" && v.Holder(rotation.Pending) == ""
	})
	if got := s.over(t)[discarded+"-h-g1"]; got != "RotationAborted" {
		t.Errorf("the head ended %s", got)
	}
	s.served(t)
	s.works(t, before)
	if n, err := s.orphans(t.Context()); err != nil || n != 0 {
		t.Errorf("%d logins are left over: %v", n, err)
	}

	if err := s.switchRotationOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	promoted := s.cancelled(t)
	s.mustExec(t, "ALTER ROLE shop NOLOGIN") // somebody locks the current login
	retry()
	s.eventually(t, "the only login that works is current", current(promoted))
	after, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.works(t, after, before)
}

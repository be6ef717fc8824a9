package rotation_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// What a person did is in the trail, whatever came of it.
func TestAPersonsActIsRecorded(t *testing.T) {
	t.Parallel()
	refused := fault.New(fault.PermissionDenied, "no right to tag")
	for _, want := range []error{nil, refused} {
		w := newWorld(t, rotation.DriverMachine)
		before := len(w.journal.records)
		err := w.Acted(t.Context(), arn, v3, rotation.StepPause, func() ([]string, error) {
			if n := len(w.journal.records) - before; n != 1 || w.journal.records[before].Phase != audit.Intent {
				t.Errorf("%d records before the act", n)
			}
			return []string{"the tag is on"}, want
		})
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		outcome := map[error]string{nil: "done", refused: "Keyturn.PermissionDenied"}[want]
		r := w.journal.records[len(w.journal.records)-1]
		if r.Phase != audit.ResultPhase || r.Step != "pause" || r.RotationID != v3 || r.SecretID != arn || r.Outcome != outcome || !slices.Equal(r.Notes, []string{"the tag is on"}) {
			t.Errorf("recorded %+v", r)
		}
	}
}

func TestAnActOnASecretThatIsntManagedIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rotation.DriverMachine)
	err := w.Acted(t.Context(), arn+"x", v3, rotation.StepPause, func() ([]string, error) { t.Error("it was done"); return nil, nil })
	if !fault.Is(err, fault.NotManaged) {
		t.Errorf("got %v", err)
	}
}

package detect_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/detect"
	"github.com/keyturn/keyturn/rotation"
)

// Minutes after the promotion: 60 the refusal begins, 61 it is proven.
func TestWhoseTryItWas(t *testing.T) {
	t.Parallel()
	zero := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	minute := func(m float64) time.Time { return zero.Add(time.Duration(m * float64(time.Minute))) }
	intent := func(m float64, step rotation.Step) audit.Record {
		return audit.Record{Time: minute(m), RotationID: "r", Step: string(step), From: "old", To: "new", Phase: audit.Intent}
	}
	result := func(m float64, step rotation.Step, outcome string, notes ...string) audit.Record {
		return audit.Record{
			Time: minute(m), RotationID: "r", Step: string(step), From: "old", To: "new", Phase: audit.ResultPhase, Outcome: outcome, Notes: notes,
		}
	}
	begun := []audit.Record{result(0, rotation.StepFinish, "done"), intent(1, rotation.StepDrain), result(59, rotation.StepDrain, "done"), intent(60, rotation.StepDisable)}
	refused := slices.Concat(begun, []audit.Record{result(61, rotation.StepDisable, "done")})
	with := func(more ...audit.Record) []audit.Record { return slices.Concat(refused, more) }
	known := func(r audit.Record) audit.Record {
		r.Notes = append(r.Notes, "log event 1")
		return r
	}
	for name, tt := range map[string]struct {
		records []audit.Record
		at      float64
		want    detect.Whose
	}{
		"nothing is recorded":                      {nil, 70, detect.Untold},
		"the refusal isn't proven":                 {begun, 60.5, detect.Untold},
		"the refusal is repeated":                  {with(intent(70, rotation.StepDisable)), 80, detect.Untold},
		"it was repeated":                          {with(intent(70, rotation.StepDisable), result(71, rotation.StepDisable, "done")), 70.5, detect.Ours},
		"while it was proven":                      {refused, 60.5, detect.Ours},
		"at its end":                               {refused, 61.05, detect.Ours},
		"before it":                                {refused, 30, detect.Ours},
		"during the hold":                          {refused, 62, detect.Others},
		"after its undoing":                        {with(intent(70, rotation.StepDisable), result(71, rotation.StepDisable, "reopened")), 80, detect.Untold},
		"its revoke has begun":                     {with(intent(120, rotation.StepRevoke)), 119, detect.TooLate},
		"a revoke went back, refused anew":         {with(intent(120, rotation.StepRevoke), result(120, rotation.StepRevoke, "reopened"), intent(180, rotation.StepDisable), result(181, rotation.StepDisable, "done")), 190, detect.Others},
		"while another was let in":                 {with(intent(70, rotation.StepReopen), result(70.2, rotation.StepReopen, "Keyturn.Unavailable")), 70.1, detect.Ours},
		"after that failed":                        {with(intent(70, rotation.StepReopen), result(70.2, rotation.StepReopen, "Keyturn.Unavailable")), 70.4, detect.Others},
		"after that died":                          {with(intent(70, rotation.StepReopen)), 72, detect.Others},
		"while that may be at work":                {with(intent(70, rotation.StepReopen)), 70.5, detect.Ours},
		"the same once more, done":                 {with(intent(70, rotation.StepReopen), known(result(70.2, rotation.StepReopen, "done"))), 69, detect.Settled},
		"the same once more, died":                 {with(known(intent(70, rotation.StepReopen))), 69.99, detect.Others},
		"a rollback looks whether it works":        {with(intent(70, rotation.StepRollback), result(70.5, rotation.StepRollback, "Keyturn.Unavailable")), 70.3, detect.Ours},
		"a rollback waits, which isn't an end yet": {with(intent(70, rotation.StepRollback), result(70.1, rotation.StepRollback, "wait")), 70.6, detect.Ours},
	} {
		try := rotation.LateTry{Version: "old", Login: "app", At: minute(tt.at), ID: "1"}
		got := detect.Late(rotation.Policy{FunctionLimit: time.Minute}, tt.records, try, minute(200))
		if got.Whose != tt.want || got.Why == "" {
			t.Errorf("%s: %s (%s), want %s", name, got.Whose, got.Why, tt.want)
		}
		if len(tt.records) > 0 && !got.Since.Equal(zero) {
			t.Errorf("%s: since %s", name, got.Since)
		}
		if got.Reported {
			t.Errorf("%s: nothing was reported within the hour", name)
		}
	}
	stays := with(result(150, rotation.StepReopen, "Keyturn.TooLate", "log event 0"))
	if got := detect.Late(rotation.Policy{}, stays, rotation.LateTry{Version: "old", At: minute(160), ID: "1"}, minute(160)); !got.Reported {
		t.Errorf("it was reported ten minutes ago: %+v", got)
	}
	other := detect.Late(rotation.Policy{}, refused, rotation.LateTry{Version: "older", At: minute(70), ID: "1"}, minute(70))
	if other.Whose != detect.Untold || !strings.Contains(other.Why, "no refusal") {
		t.Errorf("another version's: %+v", other)
	}
}

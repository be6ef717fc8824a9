package rotation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/audittest"
	"github.com/keyturn/keyturn/audit/detect"
	"github.com/keyturn/keyturn/rotation"
)

// Whatever an emergency finds under way, people are told of it once, by what it records.
func TestAnEmergencyIsToldOnce(t *testing.T) {
	t.Parallel()
	for name, begin := range emergencies() {
		for _, cut := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, cut %v", name, cut), func(t *testing.T) {
				t.Parallel()
				h := newHouse(newWorld(t, rotation.DriverMachine))
				begin(h)
				h.emergency(v4, cut)
				ledger := &audittest.Memory{}
				j := &audit.Journal{Ledger: ledger, Actor: "a function", ActorType: audit.Controller}
				for _, r := range h.journal.records {
					h.must(j.Record(t.Context(), r))
				}
				all, err := audit.Records(t.Context(), ledger, arn)
				h.must(err)
				var told []string
				for _, r := range all {
					judged, err := detect.Record(t.Context(), ledger, h.policy(), r)
					h.must(err)
					for _, f := range judged.Findings {
						if f.Name == detect.HumanAction {
							told = append(told, f.Saw)
						}
					}
				}
				if len(told) != 1 || !strings.Contains(told[0], " stolen by a function") {
					t.Errorf("told %q", told)
				}
			})
		}
	}
}

package demo

import (
	"testing"

	"github.com/keyturn/keyturn/internal/demo/report"
)

func TestOnlyAnUnluckyRunIsVoid(t *testing.T) {
	t.Parallel()
	unlucky := Outcome{
		Result:           report.Result{FailedRequests: 3, OldLoginResult: report.Rejected, AuditOK: true},
		LateOnStolenTime: 3,
	}
	if !unlucky.void() {
		t.Errorf("failures: %v", unlucky.Failures())
	}
	for name, change := range map[string]func(*Outcome){
		"nothing failed":             func(o *Outcome) { o.FailedRequests, o.LateOnStolenTime = 0, 0 },
		"one more failed":            func(o *Outcome) { o.FailedRequests++ },
		"the old login lives":        func(o *Outcome) { o.OldLoginResult = "accepted" },
		"a login was refused":        func(o *Outcome) { o.ServerRejections = 1 },
		"a role is left over":        func(o *Outcome) { o.OrphanRoles = 1 },
		"the trail doesn't verify":   func(o *Outcome) { o.AuditOK = false },
		"it is the negative control": func(o *Outcome) { o.naive = true },
	} {
		o := unlucky
		if change(&o); o.void() {
			t.Errorf("%s, and the run is void", name)
		}
	}
}

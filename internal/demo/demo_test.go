package demo

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// play plays a demo, and again if others had the machine's processors meanwhile.
func play(t *testing.T, o Options) Outcome {
	t.Helper()
	o.Progress, o.Baseline = t.Output(), 3*time.Second
	for tries := 1; ; tries++ {
		outcome, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if !outcome.Void || tries == 3 {
			return outcome
		}
		t.Logf("play %d is void: %v", tries, outcome.FirstFailures)
	}
}

func TestNobodyNoticesARotation(t *testing.T) {
	report := filepath.Join(t.TempDir(), "report.html")
	o := play(t, Options{Consumers: 12, Rate: 80, Rotations: 2, Report: report})
	for _, f := range o.Failures() {
		t.Error(f)
	}
	if o.Requests == 0 || o.Terminated != 0 || len(o.States) != 2 {
		t.Errorf("%+v", o.Result)
	}
	for _, states := range o.States {
		if got := strings.Join(states, " "); got != "create set test finish adopt drain disable hold revoke stable" {
			t.Errorf("states %s", got)
		}
	}
	page, err := os.ReadFile(report)
	if err != nil || !strings.Contains(string(page), "<svg") {
		t.Errorf("the report: %v", err)
	}
}

func TestARollbackEndsOnTheOldLogin(t *testing.T) {
	o := play(t, Options{Consumers: 10, Rate: 60, Rotations: 1, Rollback: true})
	for _, f := range o.Failures() {
		t.Error(f)
	}
	if o.FailedAfterReverse == nil || *o.FailedAfterReverse != 0 {
		t.Errorf("failed after the reverse: %v", o.FailedAfterReverse)
	}
	last := o.States[0][len(o.States[0])-1]
	if last != "rolled back" {
		t.Errorf("states %v", o.States)
	}
}

func TestTheNegativeControlShowsFailures(t *testing.T) {
	o := play(t, Options{Consumers: 10, Rate: 60, Rotations: 1, Naive: true})
	if o.FailedRequests == 0 || o.ServerRejections == 0 {
		t.Errorf("a password changed in place cost %d requests, the server counts %d", o.FailedRequests, o.ServerRejections)
	}
}

func TestBadFlags(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{Consumers: 1, Rate: 10, Rotations: 1},
		{Consumers: 10, Rate: 0, Rotations: 1},
		{Consumers: 10, Rate: math.NaN(), Rotations: 1},
		{Consumers: 10, Rate: 10},
		{Consumers: 10, Rate: 10, Rotations: 1, Baseline: -time.Second},
		{Consumers: 10, Rate: 10, Rotations: 1, Version: "../15"},
		{Consumers: 10, Rate: 10, Rotations: 1, Report: filepath.Join(t.TempDir(), "nowhere", "report.html")},
		{Consumers: 10, Rate: 10, Rotations: 1, Report: t.TempDir()},
		{Consumers: 10, Rate: 10, Rotations: 1, Naive: true, Rollback: true},
	} {
		if o.Baseline == 0 {
			o.Baseline = time.Second
		}
		if _, err := Run(t.Context(), o); !fault.Is(err, fault.InvalidInput) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

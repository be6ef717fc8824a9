package audit_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/audittest"
)

func TestNoteWithADeadLedgerIsReconciled(t *testing.T) {
	t.Parallel()
	down := true
	ledger := &audittest.Memory{}
	ledger.Before = func(context.Context, string, string) error {
		if down {
			return errors.New("no route to host")
		}
		return nil
	}
	var lines bytes.Buffer
	j := &audit.Journal{Ledger: ledger, Lines: &lines, Log: quiet}
	down = false
	write(t, j, secret, "one", "create")
	down = true
	disable := record(secret, "one", "disable", audit.Intent, 10)
	j.Note(t.Context(), disable)
	down = false
	done := disable
	done.Phase, done.Outcome = audit.ResultPhase, "done"
	j.Note(t.Context(), done)

	if !strings.Contains(lines.String(), `"unchained":true`) {
		t.Fatalf("no line is marked:\n%s", &lines)
	}
	if s := verify(t, ledger); len(s.Open) != 1 {
		t.Errorf("open steps %v; want the result whose intent isn't chained", s.Open)
	}
	log := "not a record\n" + lines.String() + `{"unchained":true,"secret_id":"torn`
	for i, want := range []int{1, 0} {
		got, err := (&audit.Journal{Ledger: ledger}).Reconcile(t.Context(), strings.NewReader(log))
		if err != nil || got != want {
			t.Errorf("round %d chained %d, %v; want %d", i, got, err, want)
		}
	}
	if s := verify(t, ledger); s.Records != 4 {
		t.Errorf("%d records; want 4", s.Records)
	}
}

// A ledger that hangs, and doesn't even listen to its context, holds a Note up
// for NoteTimeout and no longer; its late success isn't chained twice.
func TestNoteDoesNotWaitForAHungLedger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		ledger := &audittest.Memory{}
		ledger.Before = func(_ context.Context, op, _ string) error {
			if op == "put" {
				<-free
			}
			return nil
		}
		var lines bytes.Buffer
		j := &audit.Journal{Ledger: ledger, Lines: &lines, Log: quiet}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // the step's time is up; the note is made all the same
		before := now()
		j.Note(ctx, record(secret, "one", "disable", audit.Intent, 1))
		if waited := now().Sub(before); waited != audit.NoteTimeout {
			t.Errorf("waited %s, want %s", waited, audit.NoteTimeout)
		}
		if !strings.Contains(lines.String(), `"unchained":true`) {
			t.Errorf("the line isn't marked: %s", &lines)
		}
		close(free)
		synctest.Wait()
		ledger.Before = nil
		n, err := j.Reconcile(t.Context(), bytes.NewReader(lines.Bytes()))
		if err != nil || n > 1 {
			t.Errorf("reconciled %d, %v", n, err)
		}
		if s := verify(t, ledger); s.Records != 1 {
			t.Errorf("%d records of one act", s.Records)
		}
	})
}

func TestNoteNeverFails(t *testing.T) {
	t.Parallel()
	var lines bytes.Buffer
	j := &audit.Journal{Lines: &lines, Log: quiet}
	j.Note(t.Context(), audit.Record{Step: "disable", Evidence: []byte("{")})
	if !strings.Contains(lines.String(), `"step":"disable"`) {
		t.Errorf("a malformed note left no line: %q", &lines)
	}
	(&audit.Journal{Lines: brokenWriter{}, Log: quiet}).Note(t.Context(), record(secret, "one", "disable", audit.Intent, 1))
	(&audit.Journal{Log: quiet}).Note(t.Context(), record(secret, "one", "disable", audit.Intent, 1))
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

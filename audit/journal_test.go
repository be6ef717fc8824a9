package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/audittest"
	"github.com/keyturn/keyturn/fault"
)

func TestRecordChainsRotations(t *testing.T) {
	t.Parallel()
	ledger := &audittest.Memory{}
	var lines bytes.Buffer
	j := &audit.Journal{Ledger: ledger, Lines: &lines, Log: quiet}
	write(t, j, secret, "one", "create", "set")
	write(t, j, secret, "two", "create")
	write(t, j, other, "three", "create")
	write(t, j, secret, "one", "revoke") // the first one's tail, late

	s := verify(t, ledger)
	var rotations []string
	for _, c := range s.Chains {
		rotations = append(rotations, c.RotationID)
	}
	if diff := cmp.Diff([]string{"one", "two"}, rotations); diff != "" {
		t.Errorf("order of chains (-want +got):\n%s", diff)
	}
	if s.Records != 8 || len(s.Open) != 0 {
		t.Errorf("records %d, open %v; want 8 and none", s.Records, s.Open)
	}
	var first, last audit.Record
	decode(t, ledger.Body(key(secret, "two", 1)), &first)
	decode(t, ledger.Body(key(secret, "one", 4)), &last)
	if first.PrevHash == "" || first.PrevHash != last.Hash {
		t.Errorf("the second rotation carries %q, the first ended with %q", first.PrevHash, last.Hash)
	}
	if n := strings.Count(lines.String(), "\n"); n != 10 {
		t.Errorf("%d lines for 10 records", n)
	}
	var line audit.Record
	decode(t, []byte(strings.SplitN(lines.String(), "\n", 2)[0]), &line)
	if line.Seq != 1 || line.Hash == "" {
		t.Errorf("a line carries no place in the chain: %+v", line)
	}
}

func TestRecordFillsInActorAndTime(t *testing.T) {
	t.Parallel()
	ledger := &audittest.Memory{}
	j := &audit.Journal{Ledger: ledger, Actor: "nightly", ActorType: audit.Schedule}
	r := audit.Record{SecretID: secret, RotationID: "one", Step: "create", Phase: audit.Intent}
	if err := j.Record(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	var got audit.Record
	decode(t, ledger.Body(key(secret, "one", 1)), &got)
	if got.Actor != "nightly" || got.ActorType != audit.Schedule || got.Time.IsZero() {
		t.Errorf("recorded %+v", got)
	}
}

func TestRecordTwiceIsOnce(t *testing.T) {
	t.Parallel()
	ledger := &audittest.Memory{}
	r := record(secret, "one", "create", audit.Intent, 1)
	for range 3 { // the third by a journal that remembers nothing
		j := &audit.Journal{Ledger: ledger}
		for range 2 {
			if err := j.Record(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s := verify(t, ledger); s.Records != 1 {
		t.Errorf("%d records of one act", s.Records)
	}
}

// The documented hash, computed from a stored record without this package's sealing.
func TestHashIsOfTheRecordWithoutIt(t *testing.T) {
	t.Parallel()
	ledger := &audittest.Memory{}
	write(t, &audit.Journal{Ledger: ledger}, secret, "one", "create")
	for _, k := range []string{index(1), key(secret, "one", 1), key(secret, "one", 2)} {
		body := ledger.Body(k)
		if again, err := audit.Canonical(body); err != nil || string(again) != string(body) {
			t.Errorf("%s isn't canonical: %s, %v", k, body, err)
		}
		var members map[string]any
		decode(t, body, &members)
		claimed := members["hash"]
		delete(members, "hash")
		bare, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		if bare, err = audit.Canonical(bare); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%x", sha256.Sum256(bare)); claimed != want {
			t.Errorf("%s: hash %s, want %s", k, claimed, want)
		}
	}
}

// A record that differs from the one before in a single member is another one.
func TestRecordsThatDifferAreAllKept(t *testing.T) {
	t.Parallel()
	first := record(secret, "one", "create", audit.ResultPhase, 1)
	changes := []func(*audit.Record){
		func(r *audit.Record) { r.Time = r.Time.Add(time.Nanosecond) },
		func(r *audit.Record) { r.Step = "set" },
		func(r *audit.Record) { r.Phase = audit.Intent },
		func(r *audit.Record) { r.Outcome = "wait" },
		func(r *audit.Record) { r.From = "v0" },
		func(r *audit.Record) { r.Actor = "somebody" },
		func(r *audit.Record) { r.ActorType = audit.Human },
		func(r *audit.Record) { r.Missing = []string{"app"} },
		func(r *audit.Record) { r.Notes = []string{"note"} },
		func(r *audit.Record) { r.Evidence = []byte(`[1]`) },
		func(r *audit.Record) { r.PolicyHash = "q" },
	}
	for i, change := range changes {
		ledger := &audittest.Memory{}
		second := first
		change(&second)
		for _, r := range []audit.Record{first, first, second, second} {
			// A journal that remembers nothing reads the record before.
			if err := (&audit.Journal{Ledger: ledger}).Record(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		if s := verify(t, ledger); s.Records != 2 {
			t.Errorf("change %d: %d records; want 2", i, s.Records)
		}
	}
}

func TestRecordFindsItsOwnBytesAfterALostAnswer(t *testing.T) {
	t.Parallel()
	ledger := &audittest.Memory{}
	lost := true
	ledger.After = func(_ context.Context, key string) error {
		if strings.HasPrefix(key, "records/") && lost {
			lost = false
			return errors.New("connection reset")
		}
		return nil
	}
	j := &audit.Journal{Ledger: ledger}
	write(t, j, secret, "one", "create")
	if s := verify(t, ledger); s.Records != 2 {
		t.Errorf("%d records; want 2", s.Records)
	}
}

func TestRecordRefuses(t *testing.T) {
	t.Parallel()
	down := &audittest.Memory{Before: func(context.Context, string, string) error { return errors.New("no route to host") }}
	good := record(secret, "one", "create", audit.Intent, 1)
	tests := map[string]struct {
		ledger audit.Ledger
		mend   func(*audit.Record)
		want   fault.Name
	}{
		"ledger down":   {down, func(*audit.Record) {}, fault.AuditUnavailable},
		"no ledger":     {nil, func(*audit.Record) {}, fault.AuditUnavailable},
		"no secret":     {&audittest.Memory{}, func(r *audit.Record) { r.SecretID = "" }, fault.InvalidInput},
		"no rotation":   {&audittest.Memory{}, func(r *audit.Record) { r.RotationID = "" }, fault.InvalidInput},
		"no phase":      {&audittest.Memory{}, func(r *audit.Record) { r.Phase = "" }, fault.InvalidInput},
		"evidence torn": {&audittest.Memory{}, func(r *audit.Record) { r.Evidence = []byte(`[{`) }, fault.InvalidInput},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var lines bytes.Buffer
			r := good
			test.mend(&r)
			j := &audit.Journal{Ledger: test.ledger, Lines: &lines}
			if err := j.Record(t.Context(), r); !fault.Is(err, test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if lines.Len() != 0 {
				t.Errorf("a record that isn't kept was printed: %s", &lines)
			}
		})
	}
}

func TestCrashBetweenIndexAndFirstRecord(t *testing.T) {
	t.Parallel()
	ledger := &audittest.Memory{}
	j := &audit.Journal{Ledger: ledger}
	write(t, j, secret, "one", "create")
	ledger.Before = func(_ context.Context, op, key string) error {
		if op == "put" && strings.HasPrefix(key, "records/") {
			return errors.New("killed")
		}
		return nil
	}
	if err := j.Record(t.Context(), record(secret, "two", "create", audit.Intent, 1)); err == nil {
		t.Fatal("recorded by a ledger that takes nothing")
	}
	ledger.Before = nil
	verify(t, ledger)
	write(t, j, secret, "three", "create") // queues behind the empty chain
	verify(t, ledger)
	write(t, &audit.Journal{Ledger: ledger}, secret, "two", "create") // and that one goes on after all
	s := verify(t, ledger)
	if len(s.Chains) != 3 || only(ledger.Keys(), "heads/") != 3 {
		t.Errorf("three rotations became chains %v", s.Chains)
	}
	var one, two, three audit.Record
	decode(t, ledger.Body(key(secret, "one", 2)), &one)
	decode(t, ledger.Body(key(secret, "two", 1)), &two)
	decode(t, ledger.Body(key(secret, "three", 1)), &three)
	if two.PrevHash != one.Hash || three.PrevHash != one.Hash {
		t.Errorf("links: one %s, two carries %s, three carries %s", one.Hash, two.PrevHash, three.PrevHash)
	}
}

func TestRecordGoesOnBehindDamage(t *testing.T) {
	t.Parallel()
	ledger := &audittest.Memory{}
	write(t, &audit.Journal{Ledger: ledger}, secret, "one", "create")
	ledger.Tamper(key(secret, "one", 2), []byte("{not json"))
	ledger.Tamper(index(1), []byte("{nor this"))
	j := &audit.Journal{Ledger: ledger}
	write(t, j, secret, "one", "set")
	write(t, j, secret, "two", "create")
	_, err := audit.Verify(t.Context(), ledger, secret)
	var found *audit.FindingsError
	if !errors.As(err, &found) {
		t.Fatalf("got %v, want findings", err)
	}
	for _, f := range found.Findings {
		if f.Kind == audit.Unlinked {
			t.Errorf("what was linked to the damage is reported: %s", f)
		}
	}
}

func TestConcurrentJournals(t *testing.T) {
	t.Parallel()
	ledger := audit.Dir{Root: t.TempDir()}
	var all sync.WaitGroup
	for w := range 4 {
		j := &audit.Journal{Ledger: ledger}
		for _, rotation := range []string{"one", "two"} {
			all.Go(func() {
				for i := range 5 {
					r := record(secret, rotation, "drain", audit.Intent, i)
					r.Actor = string(rune('a' + w))
					if err := j.Record(context.Background(), r); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	all.Wait()
	s := verify(t, ledger)
	if s.Records != 40 || len(s.Chains) != 2 {
		t.Errorf("%d records in %d chains; want 40 in 2", s.Records, len(s.Chains))
	}
	if n := count(t, ledger, "heads/"); n != 2 {
		t.Errorf("%d index entries for 2 rotations", n)
	}
}

func decode(t testing.TB, body []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
}

// What is missing is often the text of an error of others.
func TestRecordsAreRedacted(t *testing.T) {
	t.Parallel()
	ledger, lines := &audittest.Memory{}, &bytes.Buffer{}
	j := &audit.Journal{Ledger: ledger, Lines: lines, Log: quiet, Redact: func(text string) string { return strings.ReplaceAll(text, "hunter2", "[redacted]") }}
	r := record(secret, "one", "drain", audit.ResultPhase, 0)
	r.Missing, r.Notes = []string{"node a: password=hunter2"}, []string{"hunter2", "plain"}
	if err := j.Record(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	j.Note(t.Context(), r)
	if text := string(ledger.Body(key(secret, "one", 1))) + lines.String(); strings.Contains(text, "hunter2") || !strings.Contains(text, "plain") {
		t.Errorf("the record says %s", text)
	}
	if r.Missing[0] != "node a: password=hunter2" {
		t.Error("the caller's own record was changed")
	}
	if n := len(ledger.Keys()); n != 2 {
		t.Errorf("%d documents: the same record was kept twice", n)
	}
}

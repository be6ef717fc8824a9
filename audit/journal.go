package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/keyturn/keyturn/fault"
)

const (
	// NoteTimeout is the longest that a Note waits for the ledger.
	NoteTimeout = 2 * time.Second
	// RecordTimeout is the longest that a Record waits for it.
	RecordTimeout = 10 * time.Second
	// rememberedChains bounds the ends of chains that a Journal keeps in mind.
	rememberedChains = 64
)

// Journal writes the audit trail: each record into its rotation's chain in the
// Ledger, and as one JSON line to Lines. It is safe for concurrent use, and any
// number of journals in any number of processes may write to one ledger. Don't
// copy it after its first use.
type Journal struct {
	Ledger Ledger           // must be set
	Lines  io.Writer        // one Write a line; nil means no lines
	Now    func() time.Time // stamps records that carry no time; nil means time.Now
	// Actor and ActorType go into records that name none.
	Actor     string
	ActorType ActorType
	// Redact takes secrets out of a record's notes and of what is missing, which
	// may be texts of errors; nil leaves them as they are. Redacting twice is
	// redacting once.
	Redact func(text string) string
	Log    *slog.Logger // nil means slog.Default

	mu   sync.Mutex // guards ends
	ends map[string]place
	line sync.Mutex // keeps lines whole
}

// Record chains one record, and returns when it is kept. Recording the same
// content twice in a row keeps it once. A malformed record is
// fault.InvalidInput; a ledger that can't be reached, or doesn't answer within
// RecordTimeout, is fault.AuditUnavailable: then don't act.
func (j *Journal) Record(ctx context.Context, r Record) error {
	r, err := j.complete(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, RecordTimeout)
	defer cancel()
	body, err := j.chain(ctx, r)
	if err != nil {
		return unavailable(err, r)
	}
	j.print(body)
	return nil
}

// Note records what must not wait for the audit trail: a disable, an enable, a
// rollback, a result. It never fails. When the ledger doesn't take the record
// within NoteTimeout, even if ctx has ended, the line is written with
// "unchained": true, for Reconcile to chain it later.
func (j *Journal) Note(ctx context.Context, r Record) {
	r, err := j.complete(r)
	if err != nil {
		j.log().ErrorContext(ctx, "audit record is malformed and not chained", "error", err)
		j.printUnchained(r)
		return
	}
	// The act has happened, or will: a step whose time is up must still note it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), NoteTimeout)
	defer cancel()
	type answer struct {
		body []byte
		err  error
	}
	done := make(chan answer, 1) // buffered: a ledger deaf to its context ends by itself
	go func() {
		body, err := j.chain(ctx, r)
		done <- answer{body, err}
	}()
	var a answer
	select {
	case a = <-done:
	case <-ctx.Done():
		a.err = ctx.Err()
	}
	if a.err != nil {
		j.log().ErrorContext(ctx, "audit record not chained; its line is marked for reconciling",
			"secret", r.SecretID, "rotation", r.RotationID, "step", r.Step, "error", a.err)
		j.printUnchained(r)
		return
	}
	j.print(a.body)
}

func (j *Journal) redacted(texts []string) []string {
	if j.Redact == nil {
		return texts
	}
	out := slices.Clone(texts)
	for i, text := range out {
		out[i] = j.Redact(text)
	}
	return out
}

// complete fills in what the caller left out, makes the evidence canonical, and
// refuses what can't be chained.
func (j *Journal) complete(r Record) (Record, error) {
	if r.Time.IsZero() {
		r.Time = j.now()
	}
	r.Time = r.Time.UTC().Round(0)
	if r.Actor == "" {
		r.Actor = j.Actor
	}
	if r.ActorType == "" {
		r.ActorType = j.ActorType
	}
	r.Seq, r.PrevHash, r.Hash = 0, "", ""
	r.Missing, r.Notes = j.redacted(r.Missing), j.redacted(r.Notes)
	if len(r.Evidence) > 0 {
		evidence, err := Canonical(r.Evidence)
		r.Evidence = evidence // nothing, if that failed, so that the rest of it can still be printed
		if err != nil {
			return r, fault.Wrap(fault.InvalidInput, err, "reading the evidence of step %q", r.Step)
		}
	}
	if r.SecretID == "" || r.RotationID == "" {
		return r, fault.New(fault.InvalidInput, "audit record of step %q names no secret or no rotation", r.Step)
	}
	if r.Phase != Intent && r.Phase != ResultPhase {
		return r, fault.New(fault.InvalidInput, "audit record of step %q has phase %q", r.Step, r.Phase)
	}
	return r, nil
}

// chain appends a complete record to its rotation's chain. It goes forward from
// the last known end: whoever finds a number taken reads what is there, and is
// done if that is its own record, or else links to it and tries the next.
func (j *Journal) chain(ctx context.Context, r Record) ([]byte, error) {
	if j.Ledger == nil {
		return nil, errors.New("the journal has no ledger")
	}
	end, err := j.end(ctx, r)
	if err != nil {
		return nil, err
	}
	if says(end.body, r) {
		return end.body, nil
	}
	for {
		r.Seq, r.PrevHash = end.Seq+1, end.Hash
		key := recordKey(r.SecretID, r.RotationID, r.Seq)
		body, hash, err := sealMembers(r)
		if err != nil {
			return nil, err
		}
		putErr := j.Ledger.Put(ctx, key, body)
		if putErr == nil {
			j.remember(r, place{Head: Head{r.RotationID, r.Seq, hash}, body: body})
			return body, nil
		}
		// Taken, or sent without an answer: what is there now decides.
		there, err := j.Ledger.Get(ctx, key)
		if errors.Is(err, ErrNotFound) {
			return nil, putErr
		}
		if err != nil {
			return nil, errors.Join(putErr, err)
		}
		hash, _ = examine(there)
		end = place{Head: Head{r.RotationID, r.Seq, hash}, body: there}
		j.remember(r, end)
		if says(there, r) {
			return there, nil
		}
	}
}

// end finds where a record's chain ends, and announces a chain that has no record.
func (j *Journal) end(ctx context.Context, r Record) (place, error) {
	j.mu.Lock()
	end, known := j.ends[chainPrefix(r.SecretID, r.RotationID)]
	j.mu.Unlock()
	if known {
		return end, nil
	}
	end, err := tip(ctx, j.Ledger, r.SecretID, r.RotationID)
	if err == nil && end.Seq == 0 {
		end.Hash, err = announce(ctx, j.Ledger, r.SecretID, r.RotationID)
	}
	return end, err
}

// says reports whether a stored body is a record with the content of r. One that
// lacks its time isn't even parsed: nearly every record does.
func says(body []byte, r Record) bool {
	at, err := r.Time.MarshalJSON()
	if err != nil || !bytes.Contains(body, at) {
		return false
	}
	var there Record
	if _, intact := examine(body); !intact || json.Unmarshal(body, &there) != nil {
		return false
	}
	own, err := content(r)
	theirs, err2 := content(there)
	return err == nil && err2 == nil && theirs == own
}

func (j *Journal) remember(r Record, end place) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ends == nil || len(j.ends) >= rememberedChains {
		j.ends = map[string]place{}
	}
	key := chainPrefix(r.SecretID, r.RotationID)
	if j.ends[key].Seq < end.Seq {
		j.ends[key] = end
	}
}

// unchained is a line that the ledger didn't take.
type unchained struct {
	Record
	Unchained bool `json:"unchained"`
}

func (j *Journal) printUnchained(r Record) {
	body, err := json.Marshal(unchained{Record: r, Unchained: true})
	if err != nil {
		j.log().Error("audit record can't be printed", "secret", r.SecretID, "step", r.Step, "error", err)
		return
	}
	j.print(body)
}

// print writes one line. The record is in the ledger, or marked, by then: a log
// that can't be written is told to the operator and stops nobody.
func (j *Journal) print(body []byte) {
	if j.Lines == nil {
		return
	}
	j.line.Lock()
	defer j.line.Unlock()
	if _, err := j.Lines.Write(append(body[:len(body):len(body)], '\n')); err != nil {
		j.log().Error("audit line not written", "error", err)
	}
}

func (j *Journal) now() time.Time {
	if j.Now == nil {
		return time.Now()
	}
	return j.Now()
}

func (j *Journal) log() *slog.Logger {
	if j.Log == nil {
		return slog.Default()
	}
	return j.Log
}

func unavailable(err error, r Record) error {
	f := fault.New(fault.AuditUnavailable, "recording step %s of rotation %s", r.Step, r.RotationID).
		WithHint("nothing was done; see that the audit ledger can be written, then run the step again")
	f.Err = err
	return f
}

package lambdaentry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

const logGroup = "/aws/rds/instance/orders/postgresql"

var refusedAt = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// door is an engine whose logins are named as their versions are, and that can let
// one in again.
type door struct {
	rotation.Engine // nil: nothing else is asked of it

	opened []string
	err    error
}

func (*door) Identity(_ context.Context, _, version string) (string, error) {
	return "login-of " + version, nil
}

func (d *door) Enable(_ context.Context, c rotation.Change) (rotation.Result, error) {
	if d.err != nil {
		return rotation.Result{}, d.err
	}
	d.opened = append(d.opened, c.From)
	return rotation.Result{Outcome: rotation.Done}, nil
}

func (d *door) engine(string) (rotation.Engine, error) { return d, nil }

type engines func(string) (rotation.Engine, error)

func (e engines) Engine(kind string) (rotation.Engine, error) { return e(kind) }

// held is a secret whose old version is refused and held, as its trail says.
type held struct {
	*testing.T
	parts    lambdaentry.Lateness
	door     *door
	store    *rotationtest.Store
	ledger   audit.Dir
	evidence audit.EvidenceDir
}

func newHeld(t *testing.T) *held {
	t.Helper()
	r, _, store := rotator(t)
	h := &held{T: t, door: &door{}, store: store, ledger: audit.Dir{Root: t.TempDir()}, evidence: audit.EvidenceDir{Dir: t.TempDir()}}
	store.PutByHand(managed, token, "w")
	for _, l := range []rotation.Label{rotation.Retiring, rotation.Disabled, rotation.Live(first)} {
		if err := store.Attach(t.Context(), managed, l, first); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Attach(t.Context(), managed, rotation.Live(token), token); err != nil {
		t.Fatal(err)
	}
	r.Engines = engines(h.door.engine)
	r.Journal = &audit.Journal{Ledger: h.ledger, Actor: "lateLogin", ActorType: audit.Controller, Log: slog.New(slog.DiscardHandler)}
	r.Now = func() time.Time { return refusedAt.Add(time.Hour) }
	h.parts = lambdaentry.Lateness{
		Rotator: r, Ledger: h.ledger, Evidence: h.evidence,
		Secrets: func(group string) []string {
			if group != logGroup {
				return nil
			}
			return []string{managed}
		},
		Refused: func(line string) (login, address string, at time.Time, ok bool) {
			login, ok = strings.CutPrefix(line, "refused ")
			return login, "192.0.2.7", time.Time{}, ok
		},
		Login: func(identity string) string { return strings.TrimPrefix(identity, "login-of ") },
		Now:   r.Now, Log: slog.New(slog.DiscardHandler),
	}
	return h
}

// refused records that the old version was promoted over, and refused.
func (h *held) refused() *held {
	h.Helper()
	h.record(rotation.StepFinish, audit.Intent, -2*time.Hour)
	h.record(rotation.StepFinish, audit.ResultPhase, -2*time.Hour)
	h.record(rotation.StepDisable, audit.Intent, -time.Second)
	h.record(rotation.StepDisable, audit.ResultPhase, 0)
	return h
}

func (h *held) record(step rotation.Step, phase audit.Phase, after time.Duration) {
	h.Helper()
	j := audit.Journal{Ledger: h.ledger, Actor: "function", ActorType: audit.Controller}
	r := audit.Record{SecretID: managed, RotationID: token, Step: string(step), Phase: phase, From: first, To: token, Time: refusedAt.Add(after)}
	if phase == audit.ResultPhase {
		r.Outcome = string(rotation.Done)
	}
	if err := j.Record(h.Context(), r); err != nil {
		h.Fatal(err)
	}
}

// tells sends lines of the log group, written so long after the refusal.
func (h *held) tells(group string, after time.Duration, lines ...string) (string, error) {
	h.Helper()
	batch := map[string]any{"messageType": "DATA_MESSAGE", "owner": "111122223333", "logGroup": group, "logStream": "s", "subscriptionFilters": []string{"f"}}
	events := []map[string]any{}
	for i, line := range lines {
		events = append(events, map[string]any{"id": fmt.Sprint(i), "timestamp": refusedAt.Add(after).UnixMilli(), "message": line})
	}
	batch["logEvents"] = events
	text, err := json.Marshal(batch)
	if err != nil {
		h.Fatal(err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(text); err != nil {
		h.Fatal(err)
	}
	if err := z.Close(); err != nil {
		h.Fatal(err)
	}
	answer, err := lambdaentry.LateLogin(h.parts)(h.Context(), fmt.Appendf(nil, `{"awslogs":{"data":%q}}`, base64.StdEncoding.EncodeToString(packed.Bytes())))
	said, _ := json.Marshal(answer)
	return string(said), err
}

// untouched fails if the login was let in, or a label has changed.
func (h *held) untouched() {
	h.Helper()
	if v := h.store.Labels(managed); len(h.door.opened) > 0 || !v.Has(first, rotation.Disabled) || !v.Has(first, rotation.Retiring) {
		h.Errorf("opened %v; the labels are %v", h.door.opened, v)
	}
}

func TestAHeldLoginThatIsTriedIsLetInAgain(t *testing.T) {
	t.Parallel()
	h := newHeld(t).refused()
	said, err := h.tells(logGroup, 30*time.Minute, "starting", "refused "+first, "refused somebody")
	if err != nil || !strings.Contains(said, `"lines":2`) || !strings.Contains(said, `"version":"`+first+`","whose":"others","outcome":"done"`) {
		t.Fatalf("%s, %v", said, err)
	}
	if v := h.store.Labels(managed); len(h.door.opened) != 1 || v.Has(first, rotation.Disabled) || !v.Has(first, rotation.Retiring) {
		t.Errorf("opened %v; the labels are %v", h.door.opened, v)
	}
	seen, err := h.evidence.Seen(t.Context(), managed, first)
	if err != nil || len(seen) != 1 || !seen[0].Expires.Equal(refusedAt.Add(30*time.Minute+150*time.Minute)) {
		t.Errorf("kept as evidence: %+v, %v; want one for as long as the consumer stayed away", seen, err)
	}
	// Lambda may bring the same event again.
	if said, err := h.tells(logGroup, 30*time.Minute, "starting", "refused "+first, "refused somebody"); err != nil || len(h.door.opened) != 1 {
		t.Errorf("again: %s, %v, opened %v", said, err, h.door.opened)
	}
}

func TestLinesThatLetNobodyIn(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		group, line string
		after       time.Duration
		want        string
	}{
		"of another group":           {"/aws/rds/instance/other/postgresql", "refused " + first, time.Minute, `{"lines":1,"tries":[]}`},
		"of no refusal":              {logGroup, "connection received", time.Minute, `{"lines":0,"tries":[]}`},
		"of another login":           {logGroup, "refused " + token, time.Minute, `{"lines":1,"tries":[]}`},
		"of our own proof":           {logGroup, "refused " + first, -100 * time.Millisecond, `"whose":"ours"`},
		"by a clock that runs ahead": {logGroup, "refused " + first, 2 * time.Second, `"whose":"ours"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHeld(t).refused()
			said, err := h.tells(tt.group, tt.after, tt.line)
			if err != nil || !strings.Contains(said, tt.want) {
				t.Errorf("%s, %v; want %s", said, err, tt.want)
			}
			h.untouched()
		})
	}
}

func TestATryThatCantBeToldYetComesAgain(t *testing.T) {
	t.Parallel()
	h := newHeld(t)
	h.record(rotation.StepDisable, audit.Intent, 0)
	if said, err := h.tells(logGroup, time.Minute, "refused "+first); !fault.Is(err, fault.Unavailable) || fault.HintOf(err) == "" {
		t.Errorf("%s, %v; want %s with a hint", said, err, fault.Unavailable)
	}
	h.untouched()
}

func TestATryDuringRevokeIsReportedOnce(t *testing.T) {
	t.Parallel()
	h := newHeld(t).refused()
	h.record(rotation.StepRevoke, audit.Intent, time.Minute)
	for range 2 {
		if said, err := h.tells(logGroup, 2*time.Minute, "refused "+first); err != nil || !strings.Contains(said, `"whose":"too late"`) {
			t.Fatalf("%s, %v", said, err)
		}
	}
	h.untouched()
	records, err := audit.Records(t.Context(), h.ledger, managed)
	told := 0
	for _, r := range records {
		if r.Step == string(rotation.StepReopen) && r.Outcome == string(fault.TooLate) {
			told++
		}
	}
	if err != nil || told != 1 {
		t.Errorf("reported %d times, %v: %+v", told, err, records)
	}
}

func TestALoginThatCantBeLetInYetComesAgain(t *testing.T) {
	t.Parallel()
	h := newHeld(t).refused()
	h.door.err = fault.New(fault.Unavailable, "no route")
	if said, err := h.tells(logGroup, time.Minute, "refused "+first); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%s, %v", said, err)
	}
	h.untouched()
	h.door.err = nil
	if said, err := h.tells(logGroup, time.Minute, "refused "+first); err != nil || len(h.door.opened) != 1 {
		t.Errorf("again: %s, %v, opened %v", said, err, h.door.opened)
	}
}

// Without the trail nobody can tell whose try it was.
func TestATrailThatCantBeReadLetsNobodyIn(t *testing.T) {
	t.Parallel()
	h := newHeld(t).refused()
	h.parts.Ledger = unreadable{h.ledger}
	if said, err := h.tells(logGroup, time.Minute, "refused "+first); !fault.Is(err, fault.AuditUnavailable) {
		t.Errorf("%s, %v", said, err)
	}
	h.untouched()
}

type unreadable struct{ audit.Dir }

func (unreadable) List(context.Context, string) ([]string, error) {
	return nil, errors.New("no such bucket")
}

func TestLateEventsThatAreNoSubscriptions(t *testing.T) {
	t.Parallel()
	h := newHeld(t).refused()
	for _, event := range []string{``, `{}`, `not json`, `{"awslogs":{"data":"not base64"}}`, `{"awslogs":{"data":"bm90IGd6aXA="}}`} {
		if _, err := lambdaentry.LateLogin(h.parts)(t.Context(), []byte(event)); !fault.Is(err, fault.InvalidInput) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v (%s)", event, err, fault.NameOf(err))
		}
	}
	h.untouched()
}

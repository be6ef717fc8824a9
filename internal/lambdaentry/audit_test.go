package lambdaentry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/audittest"
	"github.com/keyturn/keyturn/audit/detect"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/internal/metrics"
	"github.com/keyturn/keyturn/rotation"
)

// heard is a bus that remembers.
type heard struct {
	findings []rotation.Finding
	records  []audit.Record
	err      error
}

func (h *heard) Findings(_ context.Context, f []rotation.Finding) error {
	h.findings = append(h.findings, f...)
	return h.err
}

func (h *heard) Records(_ context.Context, r []audit.Record) error {
	h.records = append(h.records, r...)
	return h.err
}

type signer struct{}

func (signer) Sign(context.Context, []byte) (string, []byte, error) {
	return "key", []byte("signature"), nil
}

// auditor has a world of its own: one managed secret, and an empty trail.
type auditor struct {
	lambdaentry.Auditor
	ledger  *audittest.Memory
	bus     *heard
	metrics *bytes.Buffer
	lines   *bytes.Buffer
}

func newAuditor(t *testing.T) *auditor {
	t.Helper()
	r, _, store := rotator(t)
	a := &auditor{ledger: &audittest.Memory{}, bus: &heard{}, metrics: &bytes.Buffer{}, lines: &bytes.Buffer{}}
	a.Auditor = lambdaentry.Auditor{
		Ledger: a.ledger, Signer: signer{}, Bus: a.bus, Policies: r.Policies, Secrets: store,
		Metrics: metrics.Writer{To: a.metrics, Deployment: "d"}, Now: time.Now, Log: slog.New(slog.NewJSONHandler(a.lines, nil)),
	}
	return a
}

func (a *auditor) handle(t *testing.T, source, kind, detail string) (string, error) {
	t.Helper()
	event := fmt.Sprintf(`{"version":"0","source":%q,"detail-type":%q,"detail":%s,"resources":["arn:r"],"account":"000000000000"}`, source, kind, detail)
	answer, err := lambdaentry.Audit(a.Auditor)(t.Context(), []byte(event))
	text, marshalErr := json.Marshal(answer)
	if marshalErr != nil {
		t.Fatal(marshalErr)
	}
	return string(text), err
}

// found checks that one finding was logged, told and answered.
func (a *auditor) found(t *testing.T, answer string, name rotation.FindingName, saw string) {
	t.Helper()
	if len(a.bus.findings) != 1 || a.bus.findings[0].Name != name || !strings.Contains(a.bus.findings[0].Saw, saw) || a.bus.findings[0].Do == "" {
		t.Errorf("told %+v, want %s: …%s…", a.bus.findings, name, saw)
	}
	if !strings.Contains(answer, `"finding":"`+string(name)+`"`) || !strings.Contains(a.lines.String(), `"finding":"`+string(name)+`"`) {
		t.Errorf("answered %s, logged %s", answer, a.lines)
	}
}

// keep records what happened, and returns where the last record lies.
func (a *auditor) keep(t *testing.T, records ...audit.Record) (key string) {
	t.Helper()
	var line bytes.Buffer
	j := audit.Journal{Ledger: a.ledger, Lines: &line, Actor: "a", ActorType: audit.Controller}
	for _, r := range records {
		r.SecretID, r.RotationID = managed, token
		line.Reset()
		if err := j.Record(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range a.ledger.Keys() {
		if strings.HasPrefix(k, "records/") && string(a.ledger.Body(k))+"\n" == line.String() {
			key = k
		}
	}
	return key
}

func created(key string) string {
	return fmt.Sprintf(`{"bucket":{"name":"b"},"object":{"key":%q}}`, key)
}

const (
	calls   = "AWS API Call via CloudTrail"
	objects = "Object Created"
)

func TestARecordIsPassedOnAndJudged(t *testing.T) {
	t.Parallel()
	a := newAuditor(t)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	step := func(s rotation.Step, minute int, phase audit.Phase, outcome string) audit.Record {
		return audit.Record{Time: at.Add(time.Duration(minute) * time.Minute), Step: string(s), From: "v1", To: "v2", Phase: phase, Outcome: outcome}
	}
	key := a.keep(t,
		step(rotation.StepFinish, 0, audit.Intent, ""), step(rotation.StepFinish, 0, audit.ResultPhase, "done"),
		step(rotation.StepDisable, 9000, audit.Intent, ""), step(rotation.StepDisable, 9001, audit.ResultPhase, "done"),
	)
	answer, err := a.handle(t, "aws.s3", objects, created(key))
	if err != nil {
		t.Fatal(err)
	}
	a.found(t, answer, detect.PropagatingTooLong, "the old credential was refused after 150h1m0s")
	if len(a.bus.records) != 1 || a.bus.records[0].Step != "disable" || a.bus.records[0].Hash == "" {
		t.Errorf("passed on: %+v", a.bus.records)
	}
	for _, want := range []string{`"Phase":"disable"`, `"PhaseSeconds":60`, `"OldCredentialSeconds":540060`} {
		if !strings.Contains(a.metrics.String(), want) {
			t.Errorf("metrics lack %s: %s", want, a.metrics)
		}
	}
}

func TestWhatIsNoRecord(t *testing.T) {
	t.Parallel()
	a := newAuditor(t)
	good := a.keep(t, audit.Record{Step: "create", Phase: audit.Intent})
	parts := strings.Split(good, "/")
	moved := "records/0123456789abcdef/" + parts[2] + "/" + parts[3]
	for key, saw := range map[string]string{moved: "is no record", good + ".bak": "is no record", "records/x": "is no record", strings.Replace(good, "1.json", "9.json", 1): "is gone again"} {
		a := newAuditor(t)
		if !strings.HasSuffix(key, "9.json") {
			if err := a.ledger.Put(t.Context(), key, []byte(`{"secret_id":"`+managed+`"}`)); err != nil {
				t.Fatal(err)
			}
		}
		answer, err := a.handle(t, "aws.s3", objects, created(key))
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
		a.found(t, answer, detect.TrailBroken, saw)
	}
}

func TestAnotherOnesCallIsReported(t *testing.T) {
	t.Parallel()
	call := func(name, secret, more string) string {
		return fmt.Sprintf(`{"eventName":%q,"sourceIPAddress":"203.0.113.7","userIdentity":{"type":"IAMUser","arn":"arn:aws:iam::1:user/eve"},"requestParameters":{"secretId":%q}%s}`, name, secret, more)
	}
	a := newAuditor(t)
	answer, err := a.handle(t, "aws.secretsmanager", calls, call("PutSecretValue", managed, ""))
	if err != nil {
		t.Fatal(err)
	}
	a.found(t, answer, detect.ForeignCall, "arn:aws:iam::1:user/eve called PutSecretValue from 203.0.113.7")

	refused := newAuditor(t)
	answer, err = refused.handle(t, "aws.secretsmanager", calls, call("DeleteSecret", managed, `,"errorCode":"AccessDenied"`))
	if err != nil {
		t.Fatal(err)
	}
	refused.found(t, answer, detect.ForeignCall, "called DeleteSecret from 203.0.113.7, which was refused: AccessDenied")

	for name, detail := range map[string]string{
		"another secret": call("PutSecretValue", "arn:aws:secretsmanager:us-east-1:000000000000:secret:other-AbCdEf", ""),
		"none":           `{"eventName":"ListSecrets","requestParameters":null}`,
	} {
		a := newAuditor(t)
		if _, err := a.handle(t, "aws.secretsmanager", calls, detail); err != nil || len(a.bus.findings) > 0 {
			t.Errorf("%s: %v, %+v", name, err, a.bus.findings)
		}
	}
}

func TestTheDailyManifest(t *testing.T) {
	t.Parallel()
	a := newAuditor(t)
	a.keep(t, audit.Record{Step: "create", Phase: audit.Intent}, audit.Record{Step: "create", Phase: audit.ResultPhase, Outcome: "done"})
	const daily = "Scheduled Event"
	answer, err := a.handle(t, "aws.events", daily, `{}`)
	if day := time.Now().UTC().Format("2006-01-02"); err != nil || !strings.Contains(answer, day) || len(a.bus.findings) > 0 {
		t.Fatalf("%s, %v, %+v", answer, err, a.bus.findings)
	}
	// Somebody takes the last record away, which the chain alone wouldn't show.
	for _, key := range a.ledger.Keys() {
		if strings.HasSuffix(key, "00000002.json") && strings.HasPrefix(key, "records/") {
			a.ledger.Tamper(key, nil)
		}
	}
	answer, err = a.handle(t, "aws.events", daily, `{}`)
	if err != nil {
		t.Fatal(err)
	}
	a.found(t, answer, detect.TrailBroken, "truncated")
}

func TestNewMaterialOfAKeyIsReported(t *testing.T) {
	t.Parallel()
	a := newAuditor(t)
	answer, err := a.handle(t, "aws.kms", "KMS CMK Rotation", `{"key-id":"k1","rotation-type":"ON_DEMAND"}`)
	if err != nil {
		t.Fatal(err)
	}
	a.found(t, answer, detect.KeyRotated, "KMS key k1 has new material (ON_DEMAND)")
}

func TestAnEventThatIsntAudited(t *testing.T) {
	t.Parallel()
	for source, kind := range map[string]string{"aws.s3": calls, "aws.ec2": "Instance State", "": ""} {
		a := newAuditor(t)
		if _, err := a.handle(t, source, kind, `{}`); !fault.Is(err, fault.InvalidInput) || fault.HintOf(err) == "" {
			t.Errorf("%s %s: %v", source, kind, err)
		}
	}
	for _, detail := range []string{`"x"`, `[]`, `{"object":7}`} {
		if _, err := newAuditor(t).handle(t, "aws.s3", objects, detail); !fault.Is(err, fault.InvalidInput) {
			t.Errorf("%s: %v", detail, err)
		}
	}
}

// What couldn't be told, or read, fails the call: EventBridge sends the event again.
func TestWhatCouldntBeToldIsTriedAgain(t *testing.T) {
	t.Parallel()
	a := newAuditor(t)
	key := a.keep(t, audit.Record{Step: "create", Phase: audit.Intent})
	a.bus.err = errors.New("down")
	if _, err := a.handle(t, "aws.s3", objects, created(key)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the bus is down: %v", err)
	}
	if _, err := a.handle(t, "aws.kms", "KMS CMK Rotation", `{}`); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the bus is down: %v", err)
	}
	a.bus.err = nil
	a.ledger.Before = func(context.Context, string, string) error { return errors.New("down") }
	if _, err := a.handle(t, "aws.s3", objects, created(key)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the ledger is down: %v", err)
	}
	if _, err := a.handle(t, "aws.events", "Scheduled Event", `{}`); !fault.Is(err, fault.AuditUnavailable) {
		t.Errorf("the ledger is down: %v", err)
	}
}

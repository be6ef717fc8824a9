package lambdaentry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/detect"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/metrics"
	"github.com/keyturn/keyturn/internal/strictjson"
	"github.com/keyturn/keyturn/rotation"
)

// Auditor is what the audit function is made of.
type Auditor struct {
	Ledger   audit.Ledger
	Signer   audit.Signer
	Bus      Bus
	Policies rotation.Policies
	Secrets  Describer
	Metrics  metrics.Writer
	Now      func() time.Time
	Log      *slog.Logger
}

// Bus tells others.
type Bus interface {
	Findings(context.Context, []rotation.Finding) error
	Records(context.Context, []audit.Record) error
}

// Describer resolves the name of a secret to its ARN.
type Describer interface {
	Describe(ctx context.Context, secret string) (rotation.Description, error)
}

// auditEvent is any of EventBridge's that a rule sends here.
type auditEvent struct {
	Source     string          `json:"source"`
	DetailType string          `json:"detail-type"`
	Detail     json.RawMessage `json:"detail"`
	Resources  []string        `json:"resources"`
}

// auditAnswer is what an event came to.
type auditAnswer struct {
	Findings []rotation.Finding `json:"findings"`
	Manifest string             `json:"manifest,omitempty"` // the day of the one that was published
}

// Audit judges records as they are kept, calls of others as CloudTrail reports
// them, and once a day the whole trail, of which it publishes a signed manifest.
// What it finds is a line of the log, an event, and its answer.
func Audit(a Auditor) Handler {
	kinds := map[string]func(context.Context, auditEvent) (auditAnswer, error){
		"aws.s3/Object Created":                          a.record,
		"aws.secretsmanager/AWS API Call via CloudTrail": a.call,
		"aws.kms/KMS CMK Rotation":                       a.keyRotated,
		"aws.events/Scheduled Event":                     a.daily,
	}
	return func(ctx context.Context, event []byte) (any, error) {
		var e auditEvent
		if err := strictjson.DecodeKnown(event, &e); err != nil {
			return nil, fault.New(fault.InvalidInput, "the event can't be read: %s", err).
				WithHint("EventBridge's rules call this function")
		}
		do, ok := kinds[e.Source+"/"+e.DetailType]
		if !ok {
			return nil, fault.New(fault.InvalidInput, "the event is a %q of %q, which is nothing to audit", e.DetailType, e.Source).
				WithHint("deploy the function and the rules from one release")
		}
		answer, err := do(ctx, e)
		if err != nil {
			return nil, err
		}
		answer.Findings = raise(ctx, a.Log, answer.Findings)
		if len(answer.Findings) > 0 {
			if err := a.Bus.Findings(ctx, answer.Findings); err != nil {
				return nil, fault.Wrap(fault.Unavailable, err, "telling what was found")
			}
		}
		return answer, nil
	}
}

// recordKey is where a record lies: its secret's key and its rotation's segment.
var recordKey = regexp.MustCompile(`^records/([0-9a-f]{16})/[^/]+/[0-9]{8}\.json$`)

// record judges a record that has just been kept, and passes it on.
func (a Auditor) record(ctx context.Context, e auditEvent) (auditAnswer, error) {
	var detail struct {
		Object struct {
			Key string `json:"key"`
		} `json:"object"`
	}
	if err := strictjson.DecodeKnown(e.Detail, &detail); err != nil {
		return auditAnswer{}, fault.New(fault.InvalidInput, "the event's detail can't be read: %s", err)
	}
	body, err := a.Ledger.Get(ctx, cmp.Or(detail.Object.Key, "none"))
	if errors.Is(err, audit.ErrNotFound) {
		return auditAnswer{Findings: []rotation.Finding{a.broken("", "the record "+detail.Object.Key+" is gone again")}}, nil
	}
	if err != nil {
		return auditAnswer{}, fault.Wrap(fault.Unavailable, err, "reading the record")
	}
	r, ours := readRecord(detail.Object.Key, body)
	if !ours {
		return auditAnswer{Findings: []rotation.Finding{a.broken(r.SecretID, detail.Object.Key+" is no record that Keyturn wrote")}}, nil
	}
	if err := a.Bus.Records(ctx, []audit.Record{r}); err != nil {
		return auditAnswer{}, fault.Wrap(fault.Unavailable, err, "passing the record on")
	}
	policy, err := a.Policies.Policy(r.SecretID)
	if fault.Is(err, fault.NotManaged) {
		return auditAnswer{}, nil // it was when the record was made
	}
	if err != nil {
		return auditAnswer{}, err
	}
	j, err := detect.Record(ctx, a.Ledger, policy, r)
	if err != nil {
		return auditAnswer{}, fault.Wrap(fault.Unavailable, err, "judging the record")
	}
	a.measure(ctx, j)
	return auditAnswer{Findings: j.Findings}, nil
}

// readRecord reports whether a body is a record of the secret whose key it lies under.
func readRecord(key string, body []byte) (r audit.Record, ours bool) {
	at := recordKey.FindStringSubmatch(key)
	err := json.Unmarshal(body, &r)
	return r, err == nil && at != nil && audit.SecretKey(r.SecretID) == at[1]
}

func (a Auditor) measure(ctx context.Context, j detect.Judgement) {
	var values []metrics.Value
	if j.Phase != nil {
		values = append(values, metrics.Value{Metric: metrics.PhaseSeconds, Of: j.Phase.Step, Value: j.Phase.Took.Seconds()})
	}
	if j.OldCredential > 0 {
		values = append(values, metrics.Value{Metric: metrics.OldCredentialSeconds, Value: j.OldCredential.Seconds()})
	}
	if err := a.Metrics.Write(a.Now(), values...); err != nil {
		a.Log.WarnContext(ctx, "metrics not written", "error", err)
	}
}

// call reports a change of a managed secret. The rule leaves out our own roles.
func (a Auditor) call(ctx context.Context, e auditEvent) (auditAnswer, error) {
	var c detect.Call
	if err := strictjson.DecodeKnown(e.Detail, &c); err != nil {
		return auditAnswer{}, fault.New(fault.InvalidInput, "the event's detail can't be read: %s", err)
	}
	arn, err := a.managed(ctx, c.Secret())
	if arn == "" || err != nil {
		return auditAnswer{}, err
	}
	policy, err := a.Policies.Policy(arn)
	if err != nil {
		return auditAnswer{}, err
	}
	policy.Secret = arn
	if f := detect.Foreign(c, policy, a.Now()); f != nil {
		return auditAnswer{Findings: []rotation.Finding{*f}}, nil
	}
	return auditAnswer{}, nil
}

// managed resolves what a call named: a name, an ARN, or an ARN without its last
// six characters. Empty: it isn't managed.
func (a Auditor) managed(ctx context.Context, secret string) (string, error) {
	if secret == "" {
		return "", nil
	}
	if _, err := a.Policies.Policy(secret); err == nil {
		return secret, nil
	}
	d, err := a.Secrets.Describe(ctx, secret)
	if fault.Is(err, fault.InvalidInput) || fault.Is(err, fault.PermissionDenied) {
		return "", nil // it doesn't exist, or isn't one that we may look at
	}
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "looking up which secret was called")
	}
	if _, err := a.Policies.Policy(d.ARN); fault.Is(err, fault.NotManaged) {
		return "", nil
	}
	return d.ARN, nil
}

// keyRotated reports new key material. KMS decrypts with the old one on its own.
func (a Auditor) keyRotated(_ context.Context, e auditEvent) (auditAnswer, error) {
	var detail struct {
		KeyID string `json:"key-id"`
		Kind  string `json:"rotation-type"`
	}
	if err := strictjson.DecodeKnown(e.Detail, &detail); err != nil {
		return auditAnswer{}, fault.New(fault.InvalidInput, "the event's detail can't be read: %s", err)
	}
	return auditAnswer{Findings: []rotation.Finding{{
		Name: detect.KeyRotated, Secret: strings.Join(e.Resources, " "), Since: a.Now().UTC(),
		Saw: fmt.Sprintf("KMS key %s has new material (%s)", detail.KeyID, cmp.Or(detail.Kind, "of unknown occasion")),
		Do:  "nothing, unless data must not stay wrapped under old material",
	}}}, nil
}

// daily verifies every trail against the manifest before, and publishes today's.
func (a Auditor) daily(ctx context.Context, _ auditEvent) (auditAnswer, error) {
	before, err := audit.Manifests(ctx, a.Ledger)
	if err != nil {
		return auditAnswer{}, err
	}
	var answer auditAnswer
	var secrets []string
	for _, listed := range a.Policies.Secrets() {
		arn, err := a.managed(ctx, listed)
		if err != nil {
			return answer, err
		}
		if arn == "" {
			continue // the watchdog tells that it is missing
		}
		secrets = append(secrets, arn)
		var known []audit.Head
		for _, m := range before {
			known = append(known, m.Of(arn)...)
		}
		_, err = audit.Verify(ctx, a.Ledger, arn, known...)
		var broken *audit.FindingsError
		switch {
		case errors.As(err, &broken):
			answer.Findings = append(answer.Findings, a.broken(arn, broken.Error()))
		case err != nil:
			return answer, err
		}
	}
	m, err := audit.Publish(ctx, a.Ledger, a.Signer, secrets, a.Now())
	answer.Manifest = m.Day
	return answer, err
}

func (a Auditor) broken(secret, saw string) rotation.Finding {
	return rotation.Finding{
		Name: detect.TrailBroken, Secret: secret, Since: a.Now().UTC(), Saw: saw,
		Do: "keyturn audit verify lists what is wrong; find out who could write to the bucket",
	}
}

package rotation

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// FindingName names a finding; it is wire format, like a fault's name.
type FindingName string

// What the watchdog finds and can't repair. docs/findings.md says what to do.
const (
	// SecretMissing: the policy lists a secret that doesn't exist.
	SecretMissing FindingName = "SecretMissing"
	// SecretUnfit: it is deleted, a replica, or another service's.
	SecretUnfit FindingName = "SecretUnfit"
	// CurrentMissing: no version is AWSCURRENT.
	CurrentMissing FindingName = "CurrentMissing"
	// TwoDrivers: the policy says machine, and Secrets Manager rotates it too.
	TwoDrivers FindingName = "TwoDrivers"
	// RotationOff: Secrets Manager is to rotate it, and its rotation is off.
	RotationOff FindingName = "RotationOff"
	// RotationOverdue: its schedule has passed and nothing was rotated.
	RotationOverdue FindingName = "RotationOverdue"
	// Paused: keyturn:pause keeps the watchdog from what the labels ask for.
	Paused FindingName = "Paused"
	// PendingLeftOver: AWSPENDING stays on a version that was current before.
	PendingLeftOver FindingName = "PendingLeftOver"
	// DisabledLeftOver: a version is disabled and nothing is retiring it.
	DisabledLeftOver FindingName = "DisabledLeftOver"
	// RunStuck: the run ended by a fault that no other run will mend.
	RunStuck FindingName = "RunStuck"
	// HeadTooLong: a new credential isn't current for longer than it should take.
	HeadTooLong FindingName = "HeadTooLong"
	// TailTooLong: the old credential is alive for longer than it should be.
	TailTooLong FindingName = "TailTooLong"
)

// FindingNames lists every finding in the order of this file.
func FindingNames() []FindingName {
	return []FindingName{
		SecretMissing, SecretUnfit, CurrentMissing, TwoDrivers, RotationOff, RotationOverdue,
		Paused, PendingLeftOver, DisabledLeftOver, RunStuck, HeadTooLong, TailTooLong,
	}
}

// Finding is what a person should know of a secret, because the watchdog can't
// repair it or has tried for too long. It holds identifiers only.
type Finding struct {
	Name    FindingName `json:"finding"`
	Secret  string      `json:"secret"`
	Version string      `json:"version,omitempty"`
	Since   time.Time   `json:"since,omitzero"` // zero where it isn't known
	Saw     string      `json:"saw"`
	Do      string      `json:"do"`
}

// Watched is what one look of the watchdog came to.
type Watched struct {
	Ensured
	Findings []Finding
}

// Watch starts what the labels of a secret ask for, and tells what it can't
// repair. The secret may be named as the policy lists it. One that carries the
// tag keyturn:pause isn't touched.
func (r *Rotator) Watch(ctx context.Context, secret string, o EnsureOptions) (Watched, error) {
	return r.watch(ctx, secret, func(d Description, p Policy) (Ensured, error) {
		fit := rotatable(d) == nil && d.Versions.Holder(Current) != ""
		if !fit || d.Paused {
			return Ensured{}, nil
		}
		if s := Read(d.Versions, p.Driver); s.Need == NeedNothing && !d.Versions.anyStolen() {
			return Ensured{Situation: s}, nil
		}
		err := r.finishMarking(ctx, d, p)
		ensured, again := r.EnsureRun(ctx, d.ARN, o)
		return ensured, errors.Join(err, again)
	})
}

// Findings is Watch by reading only.
func (r *Rotator) Findings(ctx context.Context, secret string) ([]Finding, error) {
	w, err := r.watch(ctx, secret, func(Description, Policy) (Ensured, error) { return Ensured{}, nil })
	return w.Findings, err
}

func (r *Rotator) watch(ctx context.Context, secret string, repair func(Description, Policy) (Ensured, error)) (Watched, error) {
	desc, err := r.Store.Describe(ctx, secret)
	if fault.Is(err, fault.InvalidInput) {
		return Watched{Findings: []Finding{missingSecret(secret, err)}}, nil
	}
	if err != nil {
		return Watched{}, fault.Wrap(fault.Unavailable, err, "describing %s", secret)
	}
	policy, err := r.Policies.Policy(desc.ARN)
	if err != nil {
		return Watched{}, err
	}
	var w Watched
	w.Ensured, err = repair(desc, policy)
	l := look{p: policy, d: desc, s: Read(desc.Versions, policy.Driver), now: r.Now()}
	again := r.lookUp(ctx, &l)
	w.Findings = l.findings()
	return w, errors.Join(err, again)
}

func missingSecret(secret string, err error) Finding {
	return Finding{
		Name: SecretMissing, Secret: secret, Saw: err.Error(), Do: "create the secret, or take it out of keyturn.yaml and deploy",
	}
}

// look is everything that findings are drawn from.
type look struct {
	p     Policy
	d     Description
	s     Situation
	now   time.Time
	run   Run       // the last of those that drive what the labels ask for
	since time.Time // when they began
}

// lookUp finds the runs. A generation that begins before a function of the one
// before can have ended was handed over to, or takes up what didn't succeed: all
// of them are one go. After a success that is longer ago another go begins.
func (r *Rotator) lookUp(ctx context.Context, l *look) error {
	direction := l.s.Direction
	switch l.s.Need {
	case NeedNothing:
		return nil
	case NeedStore:
		direction = Head
	case NeedReplace:
		s, last, _, err := r.attempt(ctx, l.d, l.s)
		if err != nil {
			return err
		}
		l.s, l.run, l.since = s, last, last.Started
	}
	name := RunName(l.d.ARN, l.s.Token, direction)
	for generation := 1; ; generation++ {
		run, err := r.describeRun(ctx, l.d.ARN, name, generation)
		if err != nil || run.Status == RunAbsent {
			return err
		}
		over := l.run.Status == RunSucceeded && run.Started.Sub(l.run.Stopped) >= l.p.FunctionLimit
		if generation == 1 || over {
			l.since = run.Started
		}
		l.run = run
	}
}

func (l *look) found(name FindingName, version, saw, do string) Finding {
	return Finding{Name: name, Secret: l.d.ARN, Version: version, Saw: saw, Do: do}
}

func (l *look) findings() []Finding {
	if err := rotatable(l.d); err != nil {
		return []Finding{l.found(SecretUnfit, "", err.Error(), fault.HintOf(err))}
	}
	return append(append(l.configured(), l.labelled()...), l.delayed()...)
}

// configured is what is wrong with who rotates it, and when.
func (l *look) configured() (all []Finding) {
	enabled := l.d.RotationEnabled != nil && *l.d.RotationEnabled
	switch {
	case l.p.Driver == DriverMachine && enabled:
		all = append(all, l.found(TwoDrivers, "", "keyturn.yaml says driver: machine, and Secrets Manager rotates it too",
			"aws secretsmanager cancel-rotate-secret, or set driver: secretsmanager and deploy"))
	case l.p.Driver == DriverSecretsManager && !enabled && l.d.Versions.isStolen(l.d.Versions.Holder(Current)):
		err := cantReplace(l.d, l.p)
		all = append(all, l.found(RotationOff, "", err.Error(), fault.HintOf(err)))
	case l.p.Driver == DriverSecretsManager && !enabled:
		all = append(all, l.found(RotationOff, "", "Secrets Manager's rotation of it isn't switched on",
			"configure it with aws secretsmanager rotate-secret --rotation-lambda-arn … --rotation-rules …, or take it out of keyturn.yaml"))
	}
	if due, late := l.overdue(); late {
		f := l.found(RotationOverdue, "", "it was to be rotated by "+due.UTC().Format(time.RFC3339),
			"the log of the rotateSecret function says which step fails; mend that, then keyturn rotate")
		f.Since = due.UTC()
		all = append(all, f)
	}
	return all
}

// overdue says by when it had to be rotated. A schedule begins somewhere in its
// window, which is a day at most. A value stored by hand counts as a rotation for
// the schedule but not for LastRotated, so that this one gets twice the time.
func (l *look) overdue() (due time.Time, is bool) {
	late := func(due time.Time) bool { return l.now.After(due.Add(l.p.Limits().Head)) }
	if due = l.d.NextRotation; !due.IsZero() && late(due) {
		return due, true
	}
	if l.d.Every == 0 || l.d.LastRotated.IsZero() {
		return due, false
	}
	due = l.d.LastRotated.Add(2*l.d.Every + 24*time.Hour)
	return due, late(due)
}

// labelled is what the labels say that no run can mend.
func (l *look) labelled() (all []Finding) {
	v := l.d.Versions
	current, pending, disabled := v.Holder(Current), v.Holder(Pending), v.Holder(Disabled)
	if current == "" {
		all = append(all, l.found(CurrentMissing, "", "no version is AWSCURRENT",
			"label the version that works with aws secretsmanager update-secret-version-stage, or store one with put-secret-value"))
	}
	if pending != "" && pending != current && !v.pending(pending) && !v.Has(pending, Live(pending)) {
		all = append(all, l.found(PendingLeftOver, pending, "it was current before, and AWSPENDING keeps every rotation from beginning",
			"aws secretsmanager update-secret-version-stage --version-stage AWSPENDING --remove-from-version-id "+pending))
	}
	if disabled != "" && disabled != current && !v.Has(disabled, Retiring) && !v.Has(disabled, Live(disabled)) {
		all = append(all, l.found(DisabledLeftOver, disabled, "it is disabled at its target, and nothing retires it",
			"if its login exists still: aws secretsmanager update-secret-version-stage --version-stage "+string(Live(disabled))+
				" --move-to-version-id "+disabled+", and the watchdog retires it; else remove KEYTURN_DISABLED from it"))
	}
	return all
}

// delayed is what doesn't get on.
func (l *look) delayed() (all []Finding) {
	if l.s.Need == NeedNothing {
		return nil
	}
	version := cmp.Or(l.s.Displaced, l.s.Token)
	if retiring := l.d.Versions.Holder(Retiring); l.tail() && retiring != "" {
		version = retiring
	}
	if l.d.Paused {
		all = append(all, l.found(Paused, version, "it is paused in the middle of a rotation: "+l.phase(),
			"remove the tag keyturn:pause, and the watchdog goes on"))
	}
	if l.run.Status == RunFailed && !l.s.worthAnother(l.run) {
		do := "mend that (docs/operating.md, RotationStuck), then keyturn resume or keyturn rollback"
		if l.s.Need == NeedReplace {
			do = "mend that (docs/operating.md, RotationStuck), then keyturn emergency: a stolen credential is current"
		}
		f := l.found(RunStuck, version, "run "+l.run.Name+" ended in "+l.run.Error+" by "+causeText(l.run), do)
		f.Since = l.run.Stopped.UTC()
		all = append(all, f)
	}
	if limit := l.limit(); !l.since.IsZero() && l.now.Sub(l.since) > limit {
		name := HeadTooLong
		if l.tail() {
			name = TailTooLong
		}
		f := l.found(name, version, fmt.Sprintf("%s for longer than %s", l.phase(), limit),
			"keyturn status says what it waits for; keyturn rollback turns it back")
		f.Since = l.since.UTC()
		all = append(all, f)
	}
	return all
}

func (l *look) tail() bool { return l.s.Need == NeedRun && l.s.Direction != Head }

func (l *look) phase() string {
	switch {
	case l.s.Need == NeedReplace:
		return "a stolen credential is current"
	case !l.tail():
		return "the new credential isn't current"
	case l.d.Versions.Holder(Disabled) != "":
		return "a disabled credential isn't revoked"
	default:
		return "two credentials are alive"
	}
}

// limit is how long the phase may take. What is stolen has no evidence to wait
// for and no hold.
func (l *look) limit() time.Duration {
	limits := l.p.Limits()
	switch {
	case !l.tail():
		return limits.Head
	case l.d.Versions.anyStolen():
		return l.p.Emergency + slack
	case l.d.Versions.Holder(Disabled) != "":
		return limits.Revoke
	default:
		return limits.Drain
	}
}

// causeText is the error that a failed run names, as a person reads it.
func causeText(run Run) string {
	var cause struct{ Error, Cause string } // what a Catch writes
	if json.Unmarshal([]byte(run.Cause), &cause) != nil || cause.Error == "" {
		return cmp.Or(run.Cause, "an unnamed cause")
	}
	var answer struct {
		Message string `json:"errorMessage"` // of a function
	}
	if json.Unmarshal([]byte(cause.Cause), &answer) == nil && answer.Message != "" {
		cause.Cause = answer.Message
	}
	return cause.Error + ": " + cause.Cause
}

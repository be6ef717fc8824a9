// Package detect answers: does what has happened to a credential look as it should?
//
// It judges what has been recorded, independently of whoever recorded it: an
// orchestrator with a defect, or a person with its rights, leaves records too.
package detect

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/rotation"
)

// What the audit function raises beside the watchdog's findings.
// docs/operating.md says what to do.
const (
	// PropagatingTooLong: a credential was, or is, under way for longer than its
	// kind's limit.
	PropagatingTooLong rotation.FindingName = "PropagatingTooLong"
	// RevokedTooEarly: the old one was refused or destroyed sooner than the policy allows.
	RevokedTooEarly rotation.FindingName = "RevokedTooEarly"
	// ForeignCall: somebody who isn't Keyturn changed a managed secret.
	ForeignCall rotation.FindingName = "ForeignCall"
	// HumanAction: a person asked for a rollback, a pause, a resume or an emergency,
	// or had a login made again.
	HumanAction rotation.FindingName = "HumanAction"
	// TrailBroken: the audit trail isn't whole.
	TrailBroken rotation.FindingName = "TrailBroken"
	// KeyRotated: a KMS key got new material.
	KeyRotated rotation.FindingName = "KeyRotated"
	// LateLogin: somebody has tried a credential that is refused already.
	LateLogin rotation.FindingName = "LateLogin"
)

// Names lists every finding of this package, in the order of this file.
func Names() []rotation.FindingName {
	return []rotation.FindingName{PropagatingTooLong, RevokedTooEarly, ForeignCall, HumanAction, TrailBroken, KeyRotated, LateLogin}
}

// Phase is one step of a rotation and how long it took.
type Phase struct {
	Step  string
	Took  time.Duration // from its first intent to its end
	Ended time.Time
}

// Judgement is what one record came to, in the light of those before it.
type Judgement struct {
	Findings []rotation.Finding
	// Phase ended with the record; nil: none did.
	Phase *Phase
	// OldCredential is how long the old one was still accepted after promotion, if
	// its refusal ended with the record; else 0.
	OldCredential time.Duration
}

// Record judges one record of a secret by its policy and the secret's whole trail.
func Record(ctx context.Context, l audit.Ledger, p rotation.Policy, r audit.Record) (Judgement, error) {
	all, err := audit.Records(ctx, l, r.SecretID)
	if err != nil {
		return Judgement{}, fmt.Errorf("reading what came before: %w", err)
	}
	all = slices.DeleteFunc(all, func(o audit.Record) bool { return o.Time.After(r.Time) })
	t := trail{policy: p, all: all, now: r}
	j := Judgement{Phase: t.phase()}
	j.add(t.byAPerson())
	if rotation.Step(r.Step) == rotation.StepReopen && r.Phase == audit.ResultPhase {
		j.add(t.late())
	}
	if ended(r) {
		switch rotation.Step(r.Step) {
		case rotation.StepFinish:
			j.add(t.tooLong("the new credential became current", t.first(r.RotationID), p.Limits().Head))
		case rotation.StepDisable:
			promoted := t.promoted()
			if j.add(t.tooLong("the old credential was refused", promoted, p.Limits().Drain)); !promoted.IsZero() {
				j.OldCredential = r.Time.Sub(promoted)
			}
			j.add(t.tooEarly("refused", "promotion", promoted, p.Window))
		case rotation.StepRevoke:
			j.add(t.tooEarly("destroyed", "its refusal", t.refused(), p.Hold))
		}
	}
	return j, nil
}

func (j *Judgement) add(f *rotation.Finding) {
	if f != nil {
		j.Findings = append(j.Findings, *f)
	}
}

// byAPerson tells what a person did. That a login was made again, or a credential
// declared stolen, is told whoever records it: a function does it for a person, and
// never by itself.
func (t trail) byAPerson() *rotation.Finding {
	r := t.now
	waits := r.Outcome == string(rotation.Wait) || r.Outcome == string(rotation.Unknown)
	recreated := rotation.Step(r.Step) == rotation.StepRecreate
	declared := t.declaredStolen()
	if r.Phase != audit.ResultPhase || waits || (r.ActorType != audit.Human && !recreated && !declared) {
		return nil
	}
	saw := fmt.Sprintf("%s asked for %s, which came to %q", r.Actor, r.Step, r.Outcome)
	who := "see that it was meant; who it was stands in CloudTrail, too"
	switch {
	case declared:
		saw = fmt.Sprintf("somebody declared version %s stolen by %s, which came to %q", r.From, r.Actor, r.Outcome)
		who = "see that it was meant; CloudTrail's StartExecution of the emergency's state machine has who it was"
	case recreated && r.ActorType == audit.Human:
		saw = fmt.Sprintf("%s had the current login made again, which came to %q", r.Actor, r.Outcome)
	case recreated:
		saw = fmt.Sprintf("somebody had the current login made again by %s, which came to %q", r.Actor, r.Outcome)
	}
	for _, note := range r.Notes {
		saw += "; " + note
	}
	return t.finding(HumanAction, saw, who)
}

// declaredStolen reports the record that begins an emergency: the first of its marks
// with that outcome. Those that follow, and the cut, which names no version that comes,
// are part of the same act.
func (t trail) declaredStolen() bool {
	mark := func(r audit.Record) bool {
		return rotation.Step(r.Step) == rotation.StepEmergency && r.Phase == audit.ResultPhase &&
			r.To == r.RotationID && r.RotationID == t.now.RotationID && r.Outcome == t.now.Outcome
	}
	earlier := func(r audit.Record) bool {
		return r.Time.Before(t.now.Time) || (r.Time.Equal(t.now.Time) && r.Seq < t.now.Seq)
	}
	return mark(t.now) && !slices.ContainsFunc(t.all, func(r audit.Record) bool { return mark(r) && earlier(r) })
}

// ended tells the result that is the end of a step.
func ended(r audit.Record) bool {
	return r.Phase == audit.ResultPhase && r.Outcome == string(rotation.Done)
}

// trail is a secret's records up to one.
type trail struct {
	policy rotation.Policy
	all    []audit.Record
	now    audit.Record
}

func (t trail) finding(name rotation.FindingName, saw, do string) *rotation.Finding {
	return &rotation.Finding{Name: name, Secret: t.now.SecretID, Version: t.now.RotationID, Since: t.now.Time, Saw: saw, Do: do}
}

// first is when a rotation's chain began.
func (t trail) first(rotationID string) time.Time {
	for _, r := range t.all {
		if r.RotationID == rotationID {
			return r.Time
		}
	}
	return time.Time{}
}

// phase is the step that the record ends; a step that nobody intended has none.
func (t trail) phase() *Phase {
	if !ended(t.now) {
		return nil
	}
	var began time.Time
	for _, r := range t.all {
		same := r.RotationID == t.now.RotationID && r.Step == t.now.Step && r.From == t.now.From && r.To == t.now.To
		switch {
		case same && r.Phase == audit.Intent && began.IsZero():
			began = r.Time
		case same && ended(r) && r.Time.Before(t.now.Time):
			began = time.Time{} // an earlier go
		}
	}
	if began.IsZero() {
		return nil
	}
	return &Phase{Step: t.now.Step, Took: t.now.Time.Sub(began), Ended: t.now.Time}
}

// promoted is when the version that stays became current for the last time: by a
// finish, or by a rollback, which is recorded from what goes to what stays where it
// is asked for, and the other way round where it is carried out. Zero: nobody has recorded it, as of one that was
// stored by hand, or of one that never was current.
func (t trail) promoted() time.Time {
	var at time.Time
	for _, r := range t.all {
		step := rotation.Step(r.Step)
		to := r.To == t.now.To && (step == rotation.StepFinish || step == rotation.StepRollback)
		back := r.From == t.now.To && r.To == t.now.From && step == rotation.StepRollback
		if ended(r) && (to || back) {
			at = r.Time
		}
	}
	return at
}

// refused is when the version that goes was refused for the last time.
func (t trail) refused() time.Time {
	var at time.Time
	for _, r := range t.all {
		if ended(r) && rotation.Step(r.Step) == rotation.StepDisable && r.From == t.now.From {
			at = r.Time
		}
	}
	return at
}

func (t trail) tooLong(what string, since time.Time, limit time.Duration) *rotation.Finding {
	took := t.now.Time.Sub(since)
	if since.IsZero() || limit <= 0 || took <= limit {
		return nil
	}
	return t.finding(PropagatingTooLong, fmt.Sprintf("%s after %s; the limit is %s", what, round(took), round(limit)),
		"keyturn audit show says what it waited for; raise stuck in keyturn.yaml if that is how long it takes")
}

// tooEarly leaves out what has a reason to be in haste: a credential that was
// stolen, and one that nobody ever had.
func (t trail) tooEarly(what, after string, since time.Time, least time.Duration) *rotation.Finding {
	took := t.now.Time.Sub(since)
	if since.IsZero() || took >= least || t.stolen() || !t.presented() {
		return nil
	}
	return t.finding(RevokedTooEarly, fmt.Sprintf("version %s was %s %s after %s; the policy asks for %s", t.now.From, what, round(took), after, round(least)),
		"look for consumers that fail; keyturn rollback while it is held; find out which release or person did it")
}

func (t trail) stolen() bool {
	return slices.ContainsFunc(t.all, func(r audit.Record) bool {
		return rotation.Step(r.Step) == rotation.StepEmergency && r.From == t.now.From
	})
}

// presented reports whether the version that goes was current at any time, as far
// as is recorded: it was promoted, or another one replaced it.
func (t trail) presented() bool {
	return slices.ContainsFunc(t.all, func(r audit.Record) bool {
		return rotation.Step(r.Step) == rotation.StepFinish && ended(r) && (r.To == t.now.From || r.From == t.now.From)
	})
}

func round(d time.Duration) time.Duration { return d.Round(time.Second) }

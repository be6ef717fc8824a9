package rotation

import (
	"context"
	"encoding/json"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
)

// bestEffort are the acts that must happen even when the audit sink is down:
// they make things safer, or take a harm back.
func bestEffort(step Step) bool {
	return step == StepDisable || step == StepRollback || step == StepEmergency || step == StepReopen
}

// act records the intent, carries out the act and records its result. A step
// that is polled records its intent once a run and an answer only when it is news.
func (r *Rotator) act(ctx context.Context, s scene, c Change, do func(context.Context, Change) (Result, error)) (Result, error) {
	step := s.cursor.step
	if s.cursor.Since.IsZero() {
		s.cursor.Since = r.Now().UTC()
	}
	if !s.cursor.Intent {
		if err := r.record(ctx, s, c, audit.Intent, Result{}, nil); err != nil {
			return Result{}, fault.Wrap(fault.AuditUnavailable, err, "recording the intent to %s %s", step, s.desc.ARN)
		}
		s.cursor.Intent = true
	}
	res, err := do(ctx, c)
	if err != nil {
		r.recordLate(ctx, s, c, Result{}, err)
		return Result{}, err
	}
	if seen := digest(res); seen != s.cursor.Seen {
		r.recordLate(ctx, s, c, res, nil)
		s.cursor.Seen = seen
	}
	s.cursor.Engine = res.Cursor
	res.Cursor = s.cursor.after(res.Outcome)
	return res, nil
}

// recordLate records what has already happened: losing it must not fail the
// step, which would only be repeated.
func (r *Rotator) recordLate(ctx context.Context, s scene, c Change, res Result, err error) {
	r.Journal.Note(ctx, r.entry(s, c, audit.ResultPhase, res, err))
}

func (r *Rotator) record(ctx context.Context, s scene, c Change, phase audit.Phase, res Result, err error) error {
	entry := r.entry(s, c, phase, res, err)
	if bestEffort(s.cursor.step) {
		r.Journal.Note(ctx, entry)
		return nil
	}
	return r.Journal.Record(ctx, entry)
}

func (r *Rotator) entry(s scene, c Change, phase audit.Phase, res Result, err error) audit.Record {
	entry := audit.Record{
		Time: r.Now().UTC(), SecretID: s.desc.ARN, RotationID: s.req.Token,
		Engine: s.policy.Kind, Step: string(s.cursor.step), From: c.From, To: c.To,
		Phase: phase, Missing: res.Missing, Notes: res.Notes, PolicyHash: s.policy.Hash,
	}
	if len(res.Evidence) > 0 {
		entry.Evidence, _ = json.Marshal(res.Evidence)
	}
	if phase == audit.ResultPhase {
		entry.Outcome = string(res.Outcome)
		if err != nil {
			entry.Outcome = string(fault.NameOf(err))
		}
	}
	return entry
}

// told is the outcome of an act that has nothing to say but whether it was done.
func told(err error) string {
	if err != nil {
		return string(fault.NameOf(err))
	}
	return string(Done)
}

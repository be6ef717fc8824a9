package detect

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/rotation"
)

// Whose says who has tried a login that is refused.
type Whose string

const (
	// Others: nobody of Keyturn's was at it then; somebody holds the credential.
	Others Whose = "others"
	// Ours: Keyturn itself may have, which proves each refusal by a try; or it was
	// before the refusal that the trail tells of.
	Ours Whose = "ours"
	// Untold: a step has begun, and its end isn't recorded yet.
	Untold Whose = "untold"
	// Settled: what there was to do about this try is done.
	Settled Whose = "settled"
	// TooLate: the credential is being destroyed already.
	TooLate Whose = "too late"
)

// clocks is by how much the target's clock and ours may differ, beside what a line
// of the log leaves out of its time.
const clocks = 5 * time.Second

// Tried is what a try comes to in the light of what is recorded.
type Tried struct {
	Whose Whose
	Why   string
	// Since is when consumers could begin to follow to the credential that stays;
	// zero: nobody has recorded it.
	Since time.Time
	// Reported: within the last hour the same was recorded and nothing done.
	Reported bool
}

// Late tells whose try it was, from the secret's whole trail. A try counts as
// somebody else's only if a refusal of that version is recorded as proven, and no
// step that had to do with the version was at work then.
func Late(p rotation.Policy, records []audit.Record, try rotation.LateTry, now time.Time) Tried {
	l := lateness{limit: p.FunctionLimit, try: try}
	for _, r := range records {
		if r.From == try.Version || r.To == try.Version {
			l.acts = append(l.acts, r)
		}
	}
	slices.SortStableFunc(l.acts, func(a, b audit.Record) int { return a.Time.Compare(b.Time) })
	t := l.whose()
	t.Since = l.since()
	t.Reported = slices.ContainsFunc(l.acts, func(r audit.Record) bool {
		return reopening(r) && !ended(r) && r.Phase == audit.ResultPhase && now.Sub(r.Time) < time.Hour
	})
	return t
}

type lateness struct {
	limit time.Duration
	try   rotation.LateTry
	acts  []audit.Record // that have to do with the version, by time
}

func reopening(r audit.Record) bool { return rotation.Step(r.Step) == rotation.StepReopen }

func (l lateness) whose() Tried {
	const disable, revoke = string(rotation.StepDisable), string(rotation.StepRevoke)
	refused := l.last(func(r audit.Record) bool { return r.Step == disable && r.From == l.try.Version && ended(r) })
	begun := l.last(func(r audit.Record) bool {
		return r.Step == disable && r.From == l.try.Version && r.Phase == audit.Intent
	})
	known := l.last(func(r audit.Record) bool { return reopening(r) && slices.Contains(r.Notes, l.try.Note()) })
	switch {
	case known >= 0 && ended(l.acts[known]):
		return Tried{Whose: Settled, Why: "the login was let in again"}
	case begun > refused:
		return Tried{Whose: Untold, Why: "a refusal has begun and isn't recorded as proven"}
	case refused < 0:
		return Tried{Whose: Untold, Why: "no refusal of the version is recorded"}
	case l.last(func(r audit.Record) bool { return r.Step == revoke && r.From == l.try.Version }) > refused:
		return Tried{Whose: TooLate, Why: "its revoke has begun"}
	case !l.try.At.After(l.acts[refused].Time.Add(clocks)):
		return Tried{Whose: Ours, Why: "it was tried before its refusal was proven, or as a part of that"}
	case known >= 0:
		return Tried{Whose: Others, Why: "a function that was to let it in again has died"}
	}
	for i, r := range l.acts[refused+1:] {
		if r.Phase != audit.Intent || rotation.Step(r.Step) == rotation.StepDrain || rotation.Step(r.Step) == rotation.StepAdopt {
			continue
		}
		if until := l.end(refused + 1 + i); !l.try.At.Before(r.Time.Add(-clocks)) && !l.try.At.After(until.Add(clocks)) {
			return Tried{Whose: Ours, Why: "it was tried while " + r.Step + " was at work"}
		}
	}
	return Tried{Whose: Others, Why: "nothing of Keyturn's was at work"}
}

// last finds the last record of which something holds; -1: none.
func (l lateness) last(is func(audit.Record) bool) int {
	for i, r := range slices.Backward(l.acts) {
		if is(r) {
			return i
		}
	}
	return -1
}

// end is when what an intent announced was over: its result, or when no function
// can be at it any more.
func (l lateness) end(intent int) time.Time {
	began := l.acts[intent]
	for _, r := range l.acts[intent+1:] {
		waits := r.Outcome == string(rotation.Wait) || r.Outcome == string(rotation.Unknown)
		if r.RotationID == began.RotationID && r.Step == began.Step && r.Phase == audit.ResultPhase && !waits {
			return r.Time
		}
	}
	return began.Time.Add(l.limit)
}

// since is when what replaces the version became current, or the first thing that
// is recorded of its end.
func (l lateness) since() time.Time {
	promoted := l.last(func(r audit.Record) bool {
		step := rotation.Step(r.Step)
		return ended(r) && (step == rotation.StepFinish && r.From == l.try.Version || step == rotation.StepRollback)
	})
	if promoted >= 0 {
		return l.acts[promoted].Time
	}
	for _, r := range l.acts {
		if r.From == l.try.Version && (rotation.Step(r.Step) == rotation.StepAdopt || rotation.Step(r.Step) == rotation.StepDrain) {
			return r.Time
		}
	}
	return time.Time{}
}

// late is the finding of a try that was recorded.
func (t trail) late() *rotation.Finding {
	saw := fmt.Sprintf("version %s was tried while it is refused", t.now.From)
	var evidence []rotation.Evidence
	if json.Unmarshal(t.now.Evidence, &evidence) == nil && len(evidence) > 0 && evidence[0].Party == rotation.LateParty {
		saw = fmt.Sprintf("login %s was tried at %s: %s", evidence[0].Digest, evidence[0].At.UTC().Format(time.RFC3339), evidence[0].By)
	}
	do := "a consumer connects too seldom for a drain to see: let it read the secret each time, and register it in keyturn.yaml with its cadence"
	if t.now.Outcome == string(rotation.Done) {
		saw += "; it was let in again, and the drain begins anew"
	} else {
		saw += "; it stays refused: " + t.now.Outcome
		do = "find out who holds it: " + strings.TrimSpace(do)
	}
	f := t.finding(LateLogin, saw, do)
	f.Version = t.now.From
	return f
}

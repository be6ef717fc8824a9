package rotation

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keyturn/keyturn/fault"
)

// Observation is one look at who still presents From. An engine fills it in;
// [JudgeDrain] decides what it means.
type Observation struct {
	// Subject names what is being drained. A cursor about another subject is
	// started afresh.
	Subject string
	// Unseen is everything that couldn't be looked at, with the reason. One
	// entry is enough to make the whole look worthless.
	Unseen []string
	// Holders present From now, or have done so since the previous look.
	Holders []string
	// Sessions is how many of Holders' are open now; nil: they aren't counted.
	Sessions *int
	// Sighted are parties seen on To at this look.
	Sighted []Evidence
	// Logged says that a complete record of logins, on every node, covers the
	// time since the previous look; what it shows of From is among Holders.
	Logged bool
	// Looked is what the look itself proves; it becomes the evidence of Done.
	Looked []Evidence
	// Unpresented, Back and Emergency are the Change's.
	Unpresented, Back, Emergency bool
	// Mark is the engine's own note for its next look, see [DrainMark].
	Mark string
}

// drainCursor is what looks have to tell each other.
type drainCursor struct {
	Step    string            `json:"step"`
	Subject string            `json:"subject"`
	Started time.Time         `json:"started"`
	Quiet   time.Time         `json:"quiet,omitzero"` // since when every look saw nobody
	Polls   int               `json:"polls,omitempty"`
	Logged  bool              `json:"logged,omitempty"` // the login log covers all of the quiet time
	Sighted map[string]string `json:"sighted,omitempty"`
	Mark    string            `json:"mark,omitempty"`
}

const drainStep = "drain"

func readDrainCursor(text, subject string) drainCursor {
	var c drainCursor
	if json.Unmarshal([]byte(text), &c) != nil || c.Step != drainStep || c.Subject != subject {
		return drainCursor{}
	}
	return c
}

// DrainMark returns the note that the last look at a subject left, or "".
func DrainMark(cursor, subject string) string { return readDrainCursor(cursor, subject).Mark }

// JudgeDrain decides whether nobody presents From any more. It is a pure
// function of the policy, of what earlier looks found (cursor) and of this one.
//
// Done needs all of it: nobody seen in QuietPolls looks in a row, for no less
// than the slowest party's cadence, no sooner after the first look than
// Policy.DrainFloor, and adoption: each registered party seen on To since the
// first look, or a login log that is complete for the quiet time. Without
// either it answers Unknown for ever: zero sessions are no evidence.
//
// Past MaxOverlap the policy decides: Hold fails with fault.DrainExpired,
// Terminate answers Done by "deadline", provided that every node could be looked
// at. An emergency always terminates and has no floor, except where From was
// never current or is turned back: there the function limit has to pass.
func JudgeDrain(p Policy, cursor string, now time.Time, seen Observation) (Result, error) {
	now = now.UTC()
	c := readDrainCursor(cursor, seen.Subject)
	if c.Started.IsZero() || now.Before(c.Started) {
		c = drainCursor{Step: drainStep, Subject: seen.Subject, Started: now}
	}
	c.Mark = seen.Mark
	c.sight(p, now, seen.Sighted)
	c.count(now, seen)

	outcome, missing := c.verdict(p, now, seen)
	if outcome != Done && p.MaxOverlap > 0 && now.Sub(c.Started) >= c.patience(p, seen) {
		return c.expire(p, now, seen, missing)
	}
	res := Result{Outcome: outcome, Missing: missing, Cursor: c.String()}
	if len(seen.Unseen) == 0 {
		res.Sessions = seen.Sessions
	}
	if outcome == Done {
		res.Evidence = append(slices.Clone(seen.Looked), c.adopted(now)...)
	} else {
		res.After = p.Poll
	}
	return res, nil
}

// patience is how long OnTimeout waits. A version that was never current, or is
// turned back, isn't gone from everybody's sight by then, also in an emergency: a
// finish that runs on after its rotation was turned back could still promote it.
func (c *drainCursor) patience(p Policy, seen Observation) time.Duration {
	if seen.Emergency && (seen.Unpresented || seen.Back) {
		return max(p.MaxOverlap, p.FunctionLimit)
	}
	return p.MaxOverlap
}

// sight remembers registered parties that were seen on To since the first look.
func (c *drainCursor) sight(p Policy, now time.Time, sightings []Evidence) {
	for _, e := range sightings {
		registered := slices.ContainsFunc(p.Parties, func(party Party) bool { return party.Name == e.Party })
		stale := (!e.At.IsZero() && e.At.Before(c.Started)) || (!e.Expires.IsZero() && !now.Before(e.Expires))
		if !registered || stale {
			continue
		}
		if c.Sighted == nil {
			c.Sighted = map[string]string{}
		}
		c.Sighted[e.Party] = plain(e.By)
	}
}

// plain makes a text that a party may have written short and free of characters
// that JSON escapes: the cursor travels as JSON in JSON in JSON, where each would
// grow eightfold.
func plain(by string) string {
	const most = 60
	if len(by) > most {
		by = by[:most]
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || strings.ContainsRune(`"\<>&`, r) || !strconv.IsPrint(r) {
			return '_'
		}
		return r
	}, by)
}

// count lengthens or breaks the row of quiet looks.
func (c *drainCursor) count(now time.Time, seen Observation) {
	if len(seen.Unseen) > 0 || len(seen.Holders) > 0 {
		c.Quiet, c.Polls, c.Logged = time.Time{}, 0, false
		return
	}
	if c.Polls == 0 {
		c.Quiet, c.Logged = now, true
	}
	c.Polls++
	c.Logged = c.Logged && seen.Logged
}

// verdict says how far the drain is and what is missing.
func (c *drainCursor) verdict(p Policy, now time.Time, seen Observation) (Outcome, []string) {
	if len(seen.Unseen) > 0 {
		return Unknown, append(slices.Clone(seen.Unseen), seen.Holders...)
	}
	if len(seen.Holders) > 0 {
		return Wait, slices.Clone(seen.Holders)
	}
	floor, cadence := p.DrainFloor(), p.SlowestCadence()
	switch {
	case seen.Unpresented, seen.Emergency && seen.Back:
		floor, cadence = p.FunctionLimit, 0
	case seen.Emergency:
		floor, cadence = 0, 0
	}
	var missing []string
	if c.Polls < p.QuietPolls {
		missing = append(missing, fmt.Sprintf("%d quiet looks in a row of %d", c.Polls, p.QuietPolls))
	}
	if now.Sub(c.Quiet) < cadence {
		missing = append(missing, fmt.Sprintf("quiet since %s, the slowest party stays away for up to %s", c.Quiet.Format(time.RFC3339), cadence))
	}
	if now.Sub(c.Started) < floor {
		missing = append(missing, fmt.Sprintf("draining since %s, the least is %s", c.Started.Format(time.RFC3339), floor))
	}
	if seen.Unpresented || c.Logged {
		return outcomeOf(missing), missing
	}
	if len(p.Parties) == 0 {
		return Unknown, append(missing, "no evidence of adoption: register the consumers in keyturn.yaml, or give a login log")
	}
	for _, party := range p.Parties {
		if _, ok := c.Sighted[party.Name]; !ok {
			missing = append(missing, party.Name+" not seen on the new credential yet")
		}
	}
	return outcomeOf(missing), missing
}

func outcomeOf(missing []string) Outcome {
	if len(missing) > 0 {
		return Wait
	}
	return Done
}

// expire carries out what the policy says about the longest overlap.
func (c *drainCursor) expire(p Policy, now time.Time, seen Observation, missing []string) (Result, error) {
	if !seen.Emergency && (p.OnTimeout != Terminate || len(seen.Unseen) > 0) {
		return Result{}, fault.New(fault.DrainExpired, "after %s the old credential isn't proven unused: %s", p.MaxOverlap, list(missing)).
			WithHint("both credentials work; find out who is behind (keyturn status), then resume, or roll back")
	}
	return Result{
		Outcome: Done, Cursor: c.String(), Notes: missing,
		Evidence: append(c.adopted(now), Evidence{Party: seen.Subject, By: "deadline", Proof: Elapsed, At: now}),
	}, nil
}

// adopted is the evidence about parties.
func (c *drainCursor) adopted(now time.Time) []Evidence {
	var evidence []Evidence
	for _, party := range slices.Sorted(maps.Keys(c.Sighted)) {
		evidence = append(evidence, Evidence{Party: party, By: c.Sighted[party], Proof: Behaved, At: now})
	}
	return evidence
}

func list(items []string) string {
	const most = 5
	text := ""
	for i, item := range items {
		if i == most {
			return fmt.Sprintf("%s and %d more", text, len(items)-most)
		}
		if i > 0 {
			text += "; "
		}
		text += item
	}
	return text
}

func (c *drainCursor) String() string {
	text, err := json.Marshal(c)
	if err != nil {
		return ""
	}
	return string(text)
}

package main

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/rotation"
)

// passage is one rotation, as the audit trail tells it.
type passage struct {
	Rotation string    `json:"rotation"`
	From     string    `json:"from"` // version ids
	To       string    `json:"to"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended,omitzero"` // zero: it isn't over
	Steps    []stretch `json:"steps"`
	// Waits is who the last look found behind.
	Waits []string `json:"waits_for,omitempty"`
}

// stretch is one step, from its first record to its last.
type stretch struct {
	Step    string    `json:"step"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Outcome string    `json:"outcome,omitempty"` // of its last result
	Records int       `json:"records"`
}

// passages reads rotations from records, which are in order, as audit.Records
// returns them: the oldest rotation first. A pause is none.
func passages(records []audit.Record) []passage {
	var all []*passage
	byID := map[string]*passage{}
	for _, rec := range records {
		if step := rotation.Step(rec.Step); step == rotation.StepPause || step == rotation.StepResume {
			continue // a person's act, of no rotation
		}
		p := byID[rec.RotationID]
		if p == nil {
			p = &passage{Rotation: rec.RotationID, From: rec.From, To: rec.To, Began: rec.Time}
			byID[rec.RotationID] = p
			all = append(all, p)
		}
		p.add(rec)
	}
	out := make([]passage, 0, len(all))
	for _, p := range all {
		p.close()
		out = append(out, *p)
	}
	slices.SortStableFunc(out, func(a, b passage) int { return a.Began.Compare(b.Began) })
	return out
}

func (p *passage) add(rec audit.Record) {
	n := len(p.Steps)
	if n == 0 || p.Steps[n-1].Step != rec.Step {
		p.Steps = append(p.Steps, stretch{Step: rec.Step, From: rec.Time, To: rec.Time})
		n++
	}
	s := &p.Steps[n-1]
	s.Records++
	if rec.Time.After(s.To) {
		s.To = rec.Time
	}
	if rec.Phase == audit.ResultPhase {
		s.Outcome, p.Waits = rec.Outcome, rec.Missing
	}
}

// close tells whether it is over: the last act of every rotation is to revoke. To
// make a login again is an act of its own.
func (p *passage) close() {
	last := p.Steps[len(p.Steps)-1]
	if (last.Step == string(rotation.StepRevoke) || last.Step == string(rotation.StepRecreate)) && last.Outcome == string(rotation.Done) {
		p.Ended, p.Waits = last.To, nil
	}
}

// back reports a rotation that was turned back.
func (p *passage) back() bool {
	return slices.ContainsFunc(p.Steps, func(s stretch) bool { return s.Step == string(rotation.StepRollback) })
}

const barColumns = 40

// picture draws a rotation in lines: a bar for each step, in the rotation's time.
func (p *passage) picture(now time.Time) []string {
	end := p.Ended
	if end.IsZero() {
		end = now
	}
	whole := max(end.Sub(p.Began), time.Second)
	title := "rotation " + p.Rotation + "  " + clock(p.Began)
	if p.Ended.IsZero() {
		title += "  for " + span(whole) + " now"
	} else {
		title += "  over in " + span(whole)
	}
	lines := []string{title}
	for i, s := range p.Steps {
		until := s.To
		if i+1 < len(p.Steps) {
			until = p.Steps[i+1].From // a wait between two steps belongs to the one before
		} else if p.Ended.IsZero() {
			until = end
		}
		at := func(t time.Time) int { return int(int64(barColumns) * int64(t.Sub(p.Began)) / int64(whole)) }
		left := min(max(at(s.From), 0), barColumns-1)
		width := min(max(at(until)-left, 1), barColumns-left)
		bar := strings.Repeat("·", left) + strings.Repeat("█", width) + strings.Repeat("·", barColumns-left-width)
		lines = append(lines, "  "+pad(s.Step, 9)+" "+bar+" "+pad(span(until.Sub(s.From)), 7)+" "+s.Outcome)
	}
	for _, who := range p.Waits {
		lines = append(lines, "  waits for "+printable(who))
	}
	return lines
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-len(text)))
}

// printable drops what could steer a terminal: others wrote some of these texts.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return -1
		}
		return r
	}, text)
}

// evidenceOf is what a record has as proof; what can't be read is none.
func evidenceOf(rec audit.Record) []rotation.Evidence {
	var seen []rotation.Evidence
	if len(rec.Evidence) > 0 && json.Unmarshal(rec.Evidence, &seen) != nil {
		return nil
	}
	return seen
}

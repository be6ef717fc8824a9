package report

import (
	_ "embed"
	"fmt"
	"io"
	"time"
)

// Trail is what the page of a secret's rotations shows, which the audit trail
// tells. Secret values have no place in it.
type Trail struct {
	Secret    string // ARN
	Place     string // where the trail lies
	Chains    int
	Findings  []string // what of it isn't whole; none: it is
	Manifests []string // what vouches for the ends of its chains
	Rotations []Passage
}

// Passage is one rotation.
type Passage struct {
	ID, From, To string    // From and To are versions
	Began, Ended time.Time // Ended is zero of one that isn't over
	Back         bool      // it was turned back
	Steps        []Step
	Waits        []string // whom the last look found behind
	Seen         []Sighting
	Records      []AuditRecord
}

// Step is one step, until the next one began.
type Step struct {
	Name     string
	Kind     Kind
	From, To time.Time
	Outcome  string
}

// Sighting is something that was seen of somebody.
type Sighting struct {
	At                     time.Time
	Step, Party, What, How string
}

//go:embed trail.html.tmpl
var trailSource string

var trailTemplate = parse("trail", trailSource)

// WriteTrail writes the page of a secret's rotations, the latest first.
func WriteTrail(w io.Writer, t Trail) error {
	p := trailPage{Trail: t}
	for i := len(t.Rotations) - 1; i >= 0; i-- {
		p.Passages = append(p.Passages, newPassage(t.Rotations[i], i))
	}
	return execute(w, trailTemplate, p)
}

// WriteTrailFile writes it to a file, whole or not at all.
func WriteTrailFile(path string, t Trail) error {
	return writeFile(path, func(w io.Writer) error { return WriteTrail(w, t) })
}

type trailPage struct {
	Trail
	Passages []passageView
}

// passageView is what the template sees of a rotation.
type passageView struct {
	Passage
	Verdict string
	Class   string
	Bands   []band
	Time    []tick
	Chips   []chip
	SeenAt  []seenRow
	Trail   []auditRow
}

type chip struct{ Name, Lasted, Class, Outcome string }

type seenRow struct {
	Sighting
	After string
}

func newPassage(p Passage, index int) passageView {
	end := p.Ended
	v := passageView{Passage: p, Class: "ok"}
	switch {
	case end.IsZero():
		for _, s := range p.Steps {
			if s.To.After(end) {
				end = s.To
			}
		}
		v.Verdict, v.Class = "isn't over: the last record is of "+stamp(end), ""
	case p.Back:
		v.Verdict, v.Class = "was turned back within "+seconds(end.Sub(p.Began)), ""
	default:
		v.Verdict = "took " + seconds(end.Sub(p.Began))
	}
	t := timeline{p.Began, max(end.Sub(p.Began), time.Second)}
	v.Time = t.ticks()
	spans := make([]Span, 0, len(p.Steps))
	for _, s := range p.Steps {
		spans = append(spans, Span{Rotation: index, Name: s.Name, Kind: s.Kind, From: s.From, To: s.To})
		v.Chips = append(v.Chips, chip{s.Name, seconds(s.To.Sub(s.From)), string(s.Kind), s.Outcome})
	}
	v.Bands = bands(t, spans)
	for _, s := range p.Seen {
		v.SeenAt = append(v.SeenAt, seenRow{s, elapsed(p.Began, s.At)})
	}
	for _, r := range p.Records {
		r.Hash, r.From, r.To = short(r.Hash, 12), short(r.From, 8), short(r.To, 8)
		v.Trail = append(v.Trail, auditRow{r, elapsed(p.Began, r.Time)})
	}
	return v
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

// elapsed writes a moment as the time since the rotation began.
func elapsed(began, at time.Time) string {
	if at.IsZero() {
		return "–"
	}
	return fmt.Sprintf("%.1f s", at.Sub(began).Seconds())
}

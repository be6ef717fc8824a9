package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

//go:embed report.html.tmpl
var pageSource string

//go:embed style.html.tmpl
var styleSource string

var pageTemplate = parse("report", pageSource)

// parse makes a page's template, with the style that all of them have.
func parse(name, source string) *template.Template {
	return template.Must(template.Must(template.New(name).Funcs(template.FuncMap{
		"thousands": thousands, "ms": milliseconds,
	}).Parse(styleSource)).Parse(source))
}

// WriteHTML writes the page.
func WriteHTML(w io.Writer, d Data) error {
	return execute(w, pageTemplate, newPage(d))
}

// execute writes nothing of a page that fails half-way.
func execute(w io.Writer, t *template.Template, content any) error {
	var page bytes.Buffer
	if err := t.Execute(&page, content); err != nil {
		return fmt.Errorf("drawing the report: %w", err)
	}
	if _, err := w.Write(page.Bytes()); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// WriteFile writes the page to a file, whole or not at all.
func WriteFile(path string, d Data) error {
	return writeFile(path, func(w io.Writer) error { return WriteHTML(w, d) })
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".report-*.html")
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // after the rename there is none
	err = write(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644) //nolint:gosec // a report is there to be read
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing the report to %s: %w", path, err)
	}
	return nil
}

// page is what the template sees: texts and positions, no more arithmetic.
type page struct {
	Data
	Good     bool
	Headline string
	Deaths   []death
	MoreDead int
	Tiles    []tile
	Time     []tick
	Bands    []band
	Marks    []mark
	Labelled bool
	Charts   []chart
	Tail     chart
	Across   []tick
	Latency  []latencyRow
	Drained  []drained
	Undrawn  int
	Trail    []auditRow
	Failed   []failedRow
	States   []stateRow
	Lasted   string
}

type tile struct{ Value, Name, Note, Class string }

// band is one state in the picture; positions are percent of the width.
type band struct {
	Left, Width float64
	Name, Title string
	Class       string
	Narrow      bool // its name doesn't fit on a phone
}

// mark is a moment across all charts.
type mark struct {
	Left         float64
	Label, Class string
	Low, Flip    bool // second row of labels; to the left of its line
	Crowded      bool // no room for the label on a phone
}

type latencyRow struct{ Name, Without, With string }

type auditRow struct {
	AuditRecord
	After string
}

type failedRow struct{ After, Consumer, Reason, Latency string }

func newPage(d Data) page {
	t := timeline{d.Start, d.End.Sub(d.Start)}
	if t.span <= 0 {
		t.span = time.Second
	}
	p := page{Data: d, Good: d.OK(), Headline: headline(d), Lasted: seconds(d.End.Sub(d.Start))}
	p.Deaths, p.MoreDead = deaths(d)
	p.Tiles = tiles(d)
	p.Time = t.ticks()
	p.Bands = bands(t, d.States)
	p.Marks = marks(t, d.Rotations)
	p.Labelled = slices.ContainsFunc(p.Marks, func(m mark) bool { return m.Label != "" })
	p.Charts = []chart{connections(t, d.Series), requests(t, d.Series), latencies(t, d.Series, d.Deadline)}
	p.Tail, p.Across = tails(d.With, d.Without, d.Deadline)
	p.Latency = latencyRows(d)
	p.Drained, p.Undrawn = drains(d)
	p.States = stateRows(d)
	for _, a := range d.Audit {
		a.Hash = short(a.Hash, 12)
		a.From, a.To = short(a.From, 8), short(a.To, 8)
		p.Trail = append(p.Trail, auditRow{a, after(d, a.Time)})
	}
	for _, f := range d.Failures {
		p.Failed = append(p.Failed, failedRow{after(d, f.At), f.Consumer, f.Reason, milliseconds(f.Latency)})
	}
	return p
}

func short(s string, n int) string {
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n]) + "…"
	}
	return s
}

// after writes a moment as the time since the start.
func after(d Data, at time.Time) string {
	if at.IsZero() {
		return "–"
	}
	return fmt.Sprintf("%.1f s", at.Sub(d.Start).Seconds())
}

func headline(d Data) string {
	r := d.Result
	switch {
	case r.FailedRequests == 0:
		return "No request failed."
	case d.Naive:
		return fmt.Sprintf("%s failed, as expected of a password changed in place.", plural(r.FailedRequests, "request", "requests"))
	default:
		return fmt.Sprintf("%s of %s failed.", thousands(r.FailedRequests), plural(r.Requests, "request", "requests"))
	}
}

// death is the end of one login.
type death struct{ Login, New, Text, Class string }

const shownDeaths = 4

func deaths(d Data) (shown []death, more int) {
	for i, r := range d.Rotations {
		last := time.Time{}
		for _, u := range d.Drains {
			if u.Rotation == i && u.LastOld.After(last) {
				last = u.LastOld
			}
		}
		one := death{Login: r.Old, New: r.New, Class: "good"}
		switch {
		case r.Refused.IsZero():
			one.Text, one.Class = "was never proven to be refused", "bad"
		case last.IsZero():
			one.Text = "is refused since " + after(d, r.Refused)
		case last.After(r.Refused):
			one.Text, one.Class = fmt.Sprintf("was refused at %s, and used until %s", after(d, r.Refused), after(d, last)), "bad"
		default:
			one.Text = fmt.Sprintf("was last used at %s, and is refused since %s", after(d, last), after(d, r.Refused))
		}
		shown = append(shown, one)
	}
	if len(shown) > shownDeaths {
		more = len(shown) - shownDeaths
		shown = shown[more:]
	}
	return shown, more
}

func tiles(d Data) []tile {
	r := d.Result
	grade := func(good bool) string {
		if good {
			return "good"
		}
		return "bad"
	}
	audit := "intact"
	if !r.AuditOK {
		audit = "broken"
	}
	login := r.OldLoginResult
	if login == "" {
		login = "not tested"
	}
	return []tile{
		{thousands(r.Requests), "requests", fmt.Sprintf("in %s", seconds(d.End.Sub(d.Start))), ""},
		{thousands(r.FailedRequests), "failed", "an error, or later than " + milliseconds(d.Deadline), grade(r.FailedRequests == 0)},
		{login, "old login", "tried on every node", grade(r.OldLoginResult == Rejected)},
		{fmt.Sprintf("%.1f s", r.OldAliveAfterLastUse), "old login alive", "after its last use", ""},
		{fmt.Sprintf("%.1f ms", r.P999), "p99.9 while rotating", fmt.Sprintf("%.1f ms without", r.P999WithoutRotation), ""},
		{thousands(r.AuthRetries), "logins retried", plural(r.Reconnects, "connection", "connections") + " broke", grade(r.AuthRetries == 0)},
		{thousands(r.Terminated), "terminated", "requests whose session was ended", ""},
		{thousands(int64(r.LeakedSecretValues)), "secret values leaked", "logs, histories, argv, audit", grade(r.LeakedSecretValues == 0)},
		{thousands(int64(r.OrphanRoles)), "roles left behind", plural(int64(r.Rotations), "rotation", "rotations"), grade(r.OrphanRoles == 0)},
		{audit, "audit chain", plural(int64(len(d.Audit)), "record", "records"), grade(r.AuditOK)},
	}
}

func bands(t timeline, states []Span) []band {
	var all []band
	for _, s := range states {
		left, right := t.percent(s.From), t.percent(s.To)
		b := band{
			Left: left, Width: max(round(right-left), 0.08), Class: string(s.Kind),
			Title: fmt.Sprintf("rotation %d: %s, %s", s.Rotation+1, s.Name, seconds(s.To.Sub(s.From))),
		}
		// A letter is about 0.75 % of a desktop's width and 2.5 % of a phone's.
		if letters := float64(len(s.Name)); b.Width > 0.5+letters*0.75 {
			b.Name, b.Narrow = s.Name, b.Width < 1+letters*2.5
		}
		all = append(all, b)
	}
	return all
}

// labelledMarks is how many rotations get texts, drawnMarks how many get lines:
// with more, the bands say it better.
const (
	labelledMarks = 3
	drawnMarks    = 12
)

func marks(t timeline, rotations []Rotation) []mark {
	var all []mark
	if len(rotations) > drawnMarks {
		return nil
	}
	for _, r := range rotations {
		crowded := len(rotations) > 1
		promoted, refused := mark{Class: "promoted", Crowded: crowded}, mark{Class: "refused", Low: true, Crowded: crowded}
		if len(rotations) <= labelledMarks {
			promoted.Label, refused.Label = r.New+" is current", r.Old+" is refused"
		}
		if !r.Promoted.IsZero() {
			promoted.Left = t.percent(r.Promoted)
			promoted.Flip = promoted.Left > 70
			all = append(all, promoted)
		}
		if !r.Refused.IsZero() {
			refused.Left = t.percent(r.Refused)
			refused.Flip = refused.Left > 70
			all = append(all, refused)
		}
	}
	return all
}

func latencyRows(d Data) []latencyRow {
	a, b := d.Without, d.With
	return []latencyRow{
		{"requests", thousands(a.Requests), thousands(b.Requests)},
		{"failed", thousands(a.Failed), thousands(b.Failed)},
		{"median", milliseconds(a.P50), milliseconds(b.P50)},
		{"p99", milliseconds(a.P99), milliseconds(b.P99)},
		{"p99.9", milliseconds(a.P999), milliseconds(b.P999)},
		{"slowest", milliseconds(a.Max), milliseconds(b.Max)},
	}
}

// stateRow is how long one rotation stayed in each state.
type stateRow struct {
	Rotation string
	States   []stateTime
}

type stateTime struct{ Name, Class, Lasted string }

func stateRows(d Data) []stateRow {
	var rows []stateRow
	for i, r := range d.Rotations {
		row := stateRow{Rotation: r.Name}
		for _, s := range d.States {
			if s.Rotation == i {
				row.States = append(row.States, stateTime{s.Name, string(s.Kind), seconds(s.To.Sub(s.From))})
			}
		}
		if len(row.States) > 0 {
			rows = append(rows, row)
		}
	}
	return rows
}

// drained is who left the old login when, in one rotation.
type drained struct {
	Title    string
	Open     bool
	Old, New string
	Promoted mark
	Refused  mark
	Rows     []drainRow
}

type drainRow struct {
	Consumer, Habit  string
	OldWidth         float64 // percent, from the left
	NewLeft          float64 // percent, to the right
	LastOld          string
	FirstNew         string
	Missing, NeverOn bool
}

// shownDrains is how many rotations are drawn: the first and the last ones.
const shownDrains = 8

func drains(d Data) (all []drained, undrawn int) {
	for i, r := range d.Rotations {
		var of []Drain
		for _, u := range d.Drains {
			if u.Rotation == i {
				of = append(of, u)
			}
		}
		if len(of) == 0 || r.Promoted.IsZero() {
			continue
		}
		if i >= shownDrains/2 && i < len(d.Rotations)-shownDrains/2 {
			undrawn++
			continue
		}
		slices.SortStableFunc(of, func(a, b Drain) int { return b.LastOld.Compare(a.LastOld) })
		one := drained{Title: r.Name, Old: r.Old, New: r.New, Open: len(all) == 0}
		t := drainTime(r, of)
		one.Promoted = mark{Left: t.percent(r.Promoted)}
		if !r.Refused.IsZero() {
			one.Refused = mark{Left: t.percent(r.Refused), Label: since(r, r.Refused)}
		}
		for _, u := range of {
			row := drainRow{
				Consumer: u.Consumer, Habit: u.Habit, LastOld: since(r, u.LastOld), FirstNew: since(r, u.FirstNew),
				NeverOn: u.LastOld.IsZero(), Missing: u.FirstNew.IsZero(), NewLeft: 100,
			}
			if !row.NeverOn {
				row.OldWidth = t.percent(u.LastOld)
			}
			if !row.Missing {
				row.NewLeft = t.percent(u.FirstNew)
			}
			one.Rows = append(one.Rows, row)
		}
		all = append(all, one)
	}
	return all, undrawn
}

// drainTime is the stretch that a rotation's drain picture shows.
func drainTime(r Rotation, of []Drain) timeline {
	end := r.Refused
	for _, u := range of {
		for _, at := range []time.Time{u.LastOld, u.FirstNew} {
			if at.After(end) {
				end = at
			}
		}
	}
	span := max(end.Sub(r.Promoted), time.Second)
	return timeline{r.Promoted.Add(-span / 10), span * 23 / 20}
}

// since writes a moment relative to the promotion.
func since(r Rotation, at time.Time) string {
	if at.IsZero() {
		return "–"
	}
	return fmt.Sprintf("%+.1f s", at.Sub(r.Promoted).Seconds())
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// row is one managed secret.
type row struct {
	Secret string `json:"secret"` // ARN, or what the policy lists if there is none
	Name   string `json:"name"`
	// State is stable, paused, stuck, stolen, waiting (for Secrets Manager), the
	// name of the step that it is at, "back: " and that of a rollback, missing,
	// or unknown.
	State string    `json:"state"`
	Since time.Time `json:"since,omitzero"`
	// Current is the version that consumers read, and since when.
	Current      string             `json:"current,omitempty"`
	CurrentSince time.Time          `json:"current_since,omitzero"`
	Holders      []string           `json:"holders"` // who still holds the old one, as the last look saw it
	Findings     []rotation.Finding `json:"findings"`
	Next         time.Time          `json:"next,omitzero"` // by when the schedule rotates it
	Error        string             `json:"error,omitempty"`
}

// survey looks at every managed secret. The audit trail is read of those that
// aren't stable: of the others the labels say everything.
//
// A secret that Secrets Manager doesn't rotate has no date of its last rotation:
// its trail is read once for each current version, and ages keeps what it says.
func survey(ctx context.Context, r *rotation.Rotator, ledger audit.Ledger, ages map[string]time.Time) []row {
	all := r.SeeAll(ctx)
	rows := make([]row, 0, len(all))
	for _, seen := range all {
		var history []passage
		var failed error
		current := seen.Description.Versions.Holder(rotation.Current)
		at, known := ages[current]
		if current != "" && seen.Err == nil && (seen.Situation.Need != rotation.NeedNothing || (!known && seen.Description.LastRotated.IsZero())) {
			records, err := audit.Records(ctx, ledger, seen.Description.ARN)
			history, failed = passages(records), err
		}
		line := describe(seen, history)
		if known && line.CurrentSince.IsZero() {
			line.CurrentSince = at
			if line.State == "stable" {
				line.Since = at
			}
		}
		if failed == nil {
			ages[current] = line.CurrentSince
		}
		if failed != nil && line.Error == "" {
			line.Error = printable(fault.Wrap(fault.AuditUnavailable, failed, "reading its audit trail").Error())
		}
		rows = append(rows, line)
	}
	return rows
}

// describe puts labels, runs and trail together. The trail says at which step a
// rotation is; what there is to do the labels say.
func describe(seen rotation.Seen, history []passage) row {
	d := seen.Description
	line := row{
		Secret: d.ARN, Name: d.Name, Next: d.NextRotation, Findings: seen.Findings,
		Current: d.Versions.Holder(rotation.Current), CurrentSince: d.LastRotated, Holders: []string{},
	}
	if line.Secret == "" {
		line.Secret, line.Name = seen.Secret, seen.Secret
	}
	if line.Findings == nil {
		line.Findings = []rotation.Finding{}
	}
	for _, p := range history {
		for _, s := range p.Steps {
			if s.Step == string(rotation.StepFinish) && p.To == line.Current && s.Outcome == string(rotation.Done) {
				line.CurrentSince = s.To
			}
		}
	}
	going := underWay(seen, history)
	line.State = state(seen, going)
	line.Since = seen.Since
	if going != nil {
		line.Since = going.Steps[len(going.Steps)-1].From
		line.Holders = append(line.Holders, going.Waits...)
	}
	if seen.Situation.Need == rotation.NeedNothing {
		line.Since = line.CurrentSince
	}
	if seen.Err != nil {
		line.Error = printable(seen.Err.Error())
	}
	return line
}

// underWay is the trail of what the labels ask for; nil: nothing is recorded yet.
func underWay(seen rotation.Seen, history []passage) *passage {
	if seen.Situation.Need == rotation.NeedNothing {
		return nil
	}
	for i := range slices.Backward(history) {
		if history[i].Rotation == seen.Situation.Token {
			return &history[i]
		}
	}
	return nil
}

func state(seen rotation.Seen, going *passage) string {
	found := func(name rotation.FindingName) bool {
		return slices.ContainsFunc(seen.Findings, func(f rotation.Finding) bool { return f.Name == name })
	}
	s, step := seen.Situation, ""
	if going != nil {
		step = going.Steps[len(going.Steps)-1].Step
	}
	switch {
	case seen.Err != nil:
		return "unknown"
	case found(rotation.SecretMissing):
		return "missing"
	case found(rotation.RunStuck):
		return "stuck"
	case s.Need == rotation.NeedReplace:
		return "stolen"
	case seen.Description.Paused:
		return "paused"
	case s.Need == rotation.NeedNothing:
		return "stable"
	case s.Direction == rotation.Back:
		return strings.TrimSuffix("back: "+step, ": ")
	case step != "":
		return step
	case s.Need == rotation.NeedStore:
		return "waiting"
	}
	return map[rotation.Direction]string{rotation.Head: "create", rotation.Forward: "adopt"}[s.Direction]
}

// head is a row's state, as a person reads it.
func (l row) head(now time.Time) string {
	text := l.State
	if !l.Since.IsZero() {
		text += " for " + span(now.Sub(l.Since))
	}
	if !l.CurrentSince.IsZero() {
		text += "; the current credential is " + span(now.Sub(l.CurrentSince)) + " old"
	}
	if !l.Next.IsZero() {
		text += "; the next rotation begins by " + clock(l.Next)
	}
	if len(l.Holders) > 0 {
		text += "; waits for " + printable(strings.Join(l.Holders, ", "))
	}
	return text
}

// remarks is what isn't as it should be, in one column.
func (l row) remarks() string {
	var texts []string
	for _, f := range l.Findings {
		texts = append(texts, string(f.Name))
	}
	if l.Error != "" {
		texts = append(texts, l.Error)
	}
	return strings.Join(texts, ", ")
}

func age(now, at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return span(now.Sub(at))
}

// table is a line for each secret, what is going on first.
func table(rows []row, now time.Time) []string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SECRET\tSTATE\tFOR\tCURRENT FOR\tNEXT BY\tOLD ONE HELD BY\tFINDINGS")
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b row) int { return calm(a) - calm(b) })
	for _, l := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Name, l.State, age(now, l.Since), age(now, l.CurrentSince), clock(l.Next),
			cmp.Or(printable(strings.Join(l.Holders, ", ")), "-"), cmp.Or(l.remarks(), "-"))
	}
	_ = w.Flush() // a strings.Builder takes everything
	lines := strings.Split(strings.TrimRight(text.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

func calm(l row) int {
	if l.State == "stable" && len(l.Findings) == 0 {
		return 1
	}
	return 0
}

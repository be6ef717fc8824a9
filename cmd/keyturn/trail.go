package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/demo/report"
	"github.com/keyturn/keyturn/rotation"
)

// records reads the trail of a secret, which may be named by its ARN alone: the
// trail outlives secrets and policies.
func records(cmd *cobra.Command, t *target, secret, only string) ([]audit.Record, error) {
	ledger, err := t.trail(cmd)
	if err != nil {
		return nil, err
	}
	all, err := audit.Records(cmd.Context(), ledger, secret)
	if err != nil {
		return nil, fault.Wrap(fault.AuditUnavailable, err, "reading the audit trail")
	}
	if len(all) == 0 {
		return nil, errFailed{noRecord(t.place(), secret)}
	}
	if only == "" {
		return all, nil
	}
	var some []audit.Record
	for _, rec := range all {
		if rec.RotationID == only {
			some = append(some, rec)
		}
	}
	if len(some) == 0 {
		return nil, errFailed{fault.New(fault.InvalidInput, "%s holds no record of rotation %s", t.place(), only).
			WithHint("keyturn audit show %s, without --rotation, has the rotations' ids", secret)}
	}
	return some, nil
}

func auditShowCommand() *cobra.Command {
	var t target
	var only string
	cmd := t.trailFlags(&cobra.Command{
		Use: "show SECRET-ARN", Short: "print who did what to a secret, and what came of it", Args: exactly("SECRET-ARN"),
		Long: "With --json each record is printed as it was written, one JSON object a line. Nothing is verified: keyturn\naudit verify does that.",
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := records(cmd, &t, args[0], only)
			if err != nil {
				return err
			}
			if asJSON(cmd) {
				for _, rec := range all {
					if err := printJSON(cmd.OutOrStdout(), rec); err != nil {
						return err
					}
				}
				return nil
			}
			return writeLines(cmd.OutOrStdout(), readable(all))
		},
	})
	cmd.ValidArgsFunction = t.completeARN
	cmd.Flags().StringVar(&only, "rotation", "", "this rotation alone")
	return cmd
}

// readable puts records into lines, under the rotation that they belong to.
func readable(all []audit.Record) []string {
	var lines []string
	last := ""
	for _, rec := range all {
		if rec.RotationID != last {
			last = rec.RotationID
			lines = append(lines, "rotation "+printable(last))
		}
		text := fmt.Sprintf("  %s  %3d  %-9s %-6s", clock(rec.Time), rec.Seq, rec.Step, rec.Phase)
		if rec.Phase == audit.ResultPhase {
			text += " " + rec.Outcome
		}
		text += fmt.Sprintf("  by %s (%s)  %s → %s", rec.Actor, rec.ActorType, brief(rec.From), brief(rec.To))
		lines = append(lines, strings.TrimRight(printable(text), " "))
		for _, who := range rec.Missing {
			lines = append(lines, "         waits for "+printable(who))
		}
		for _, note := range rec.Notes {
			lines = append(lines, "         note: "+printable(note))
		}
		for _, e := range evidenceOf(rec) {
			lines = append(lines, "         seen: "+printable(e.Party+" "+e.Digest+" "+e.By)+", "+clock(e.At))
		}
	}
	return lines
}

func brief(version string) string {
	if len(version) > 8 {
		return version[:8]
	}
	if version == "" {
		return "-"
	}
	return version
}

func reportCommand() *cobra.Command {
	var t target
	var by trust
	var out string
	cmd := t.trailFlags(&cobra.Command{
		Use: "report SECRET-ARN", Short: "write a page that shows a secret's rotations, from the audit trail", Args: exactly("SECRET-ARN"),
		Long: "The page needs nothing else: no script, no font, no network. It says whether the audit chains are whole\n" +
			"and what vouches for them, by the signed manifests as keyturn audit verify; if they aren't it is written\n" +
			"all the same, and report exits with 1.",
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := records(cmd, &t, args[0], "")
			if err != nil {
				return err
			}
			summary, days, err := t.verified(cmd.Context(), t.ledger(), by, args[0])
			var broken *audit.FindingsError
			if err != nil && !errors.As(err, &broken) {
				return err
			}
			history := passages(all)
			if err := report.WriteTrailFile(out, page(args[0], t.place(), all, history, summary, manifestLines(days))); err != nil {
				return fault.Wrap(fault.InvalidInput, err, "writing the report")
			}
			if asJSON(cmd) {
				err = printJSON(cmd.OutOrStdout(), map[string]any{
					"secret": args[0], "file": out, "rotations": len(history), "records": len(all), "whole": broken == nil,
					"manifests": days,
				})
			} else {
				lines := []string{fmt.Sprintf("%s: %d rotations, %d records", out, len(history), len(all))}
				err = writeLines(cmd.OutOrStdout(), append(lines, manifestLines(days)...))
			}
			if err == nil && broken != nil {
				err = errFailed{fault.New(fault.InvalidInput, "the audit trail of %s isn't whole: %d findings", args[0], len(broken.Findings)).
					WithHint("the report shows them; keyturn audit verify too")}
			}
			return err
		},
	})
	cmd.ValidArgsFunction = t.completeARN
	cmd.Flags().StringVarP(&out, "output", "o", "rotations.html", "write here")
	return by.flags(cmd)
}

// page is what the report shows.
func page(secret, place string, all []audit.Record, history []passage, summary audit.Summary, manifests []string) report.Trail {
	d := report.Trail{Secret: secret, Place: place, Chains: len(summary.Chains), Manifests: manifests}
	for _, f := range summary.Findings {
		d.Findings = append(d.Findings, f.String())
	}
	for _, p := range history {
		r := report.Passage{ID: p.Rotation, From: p.From, To: p.To, Began: p.Began, Ended: p.Ended, Back: p.back(), Waits: p.Waits}
		for i, s := range p.Steps {
			until := s.To
			if i+1 < len(p.Steps) {
				until = p.Steps[i+1].From
			}
			r.Steps = append(r.Steps, report.Step{Name: s.Step, Kind: kindOf(s.Step, p.back()), From: s.From, To: until, Outcome: s.Outcome})
		}
		for _, rec := range all {
			if rec.RotationID == p.Rotation {
				r.Records = append(r.Records, report.AuditRecord{
					Time: rec.Time, Rotation: rec.RotationID, Step: rec.Step, Phase: string(rec.Phase), Outcome: rec.Outcome,
					From: rec.From, To: rec.To, Seq: rec.Seq, Hash: rec.Hash,
				})
				for _, e := range evidenceOf(rec) {
					r.Seen = append(r.Seen, report.Sighting{At: e.At, Step: rec.Step, Party: e.Party, What: e.Digest, How: e.By})
				}
			}
		}
		d.Rotations = append(d.Rotations, r)
	}
	return d
}

func kindOf(step string, back bool) report.Kind {
	switch rotation.Step(step) {
	case rotation.StepCreate, rotation.StepSet, rotation.StepTest, rotation.StepFinish:
		return report.Head
	case rotation.StepRollback:
		return report.Back
	}
	if back {
		return report.Back
	}
	return report.Tail
}

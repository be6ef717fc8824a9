package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

func statusCommand() *cobra.Command {
	var t target
	var watch bool
	var every time.Duration
	cmd := t.flags(&cobra.Command{
		Use: "status [SECRET]", Short: "show where every secret stands, or one of them in full", Args: atMostOne("SECRET"),
		Long: "Without SECRET: a line for each managed secret. Stable ones are shown as ListSecrets shows them, which may\n" +
			"be five minutes old; all others are described afresh. With SECRET: its labels, what they ask for, findings,\n" +
			"a picture of its last rotation and the last audit records. Nothing is changed.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if watch {
					return fault.New(fault.InvalidInput, "--watch shows every secret, and got SECRET too").WithHint("leave one of them out")
				}
				return showSecret(cmd, &t, args[0])
			}
			if every < time.Second {
				return fault.New(fault.InvalidInput, "--every is %s", every).WithHint("use 1s or more")
			}
			r, err := t.rotator(cmd)
			if err != nil {
				return err
			}
			if watch {
				return watchSecrets(cmd, &t, r, every)
			}
			rows := survey(cmd.Context(), r, t.ledger(), map[string]time.Time{})
			if asJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), map[string][]row{"secrets": rows})
			}
			return writeLines(cmd.OutOrStdout(), table(rows, r.Now()))
		},
	})
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again and again until interrupted; where there is no terminal, a line for each change")
	cmd.Flags().DurationVar(&every, "every", 5*time.Second, "how often --watch looks")
	return cmd
}

// detail is status SECRET with --json.
type detail struct {
	row
	Versions  map[string][]rotation.Label `json:"versions"`
	AsksFor   string                      `json:"asks_for"`
	Rotations []passage                   `json:"rotations"` // the oldest first
}

func showSecret(cmd *cobra.Command, t *target, name string) error {
	m, err := t.secret(cmd, name)
	if err != nil {
		return err
	}
	seen := m.See(cmd.Context(), m.desc.ARN)
	if seen.Err != nil {
		return seen.Err
	}
	records, err := audit.Records(cmd.Context(), t.ledger(), m.desc.ARN)
	if err != nil {
		return fault.Wrap(fault.AuditUnavailable, err, "reading the audit trail")
	}
	history := passages(records)
	line := describe(seen, history)
	if asJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), detail{row: line, Versions: seen.Description.Versions, AsksFor: asked(seen.Situation), Rotations: history})
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, id := range slices.Sorted(maps.Keys(seen.Description.Versions)) {
		fmt.Fprintf(w, "%s\t%s\n", id, joinLabels(seen.Description.Versions[id]))
	}
	fmt.Fprintf(w, "state\t%s\n", line.head(m.Now()))
	fmt.Fprintf(w, "asks for\t%s\n", asked(seen.Situation))
	for _, f := range seen.Findings {
		printFinding(w, f)
	}
	if len(records) == 0 {
		fmt.Fprintf(w, "audit\tno record of this secret in %s\n", t.place())
	}
	for _, rec := range records[max(0, len(records)-5):] {
		fmt.Fprintf(w, "%s\t%s %s %s %s\n", clock(rec.Time), rec.Step, rec.Phase, rec.Outcome, printable(strings.Join(rec.Missing, "; ")))
	}
	if err := w.Flush(); err != nil || len(history) == 0 {
		return err
	}
	return writeLines(cmd.OutOrStdout(), history[len(history)-1].picture(m.Now()))
}

func writeLines(w io.Writer, lines []string) error {
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return fault.Wrap(fault.Unavailable, err, "printing the answer")
}

func printFinding(w io.Writer, f rotation.Finding) {
	since := ""
	if !f.Since.IsZero() {
		since = ", since " + clock(f.Since)
	}
	fmt.Fprintf(w, "%s\t%s%s\n\tto do: %s\n", f.Name, printable(f.Saw), since, f.Do)
}

func joinLabels(labels []rotation.Label) string {
	var text []string
	for _, l := range labels {
		text = append(text, string(l))
	}
	slices.Sort(text)
	return strings.Join(text, " ")
}

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/keyturn/keyturn/internal/demo/report"
	"github.com/keyturn/keyturn/rotation"
)

// watchSecrets shows the survey until it is interrupted, which is how it ends.
func watchSecrets(cmd *cobra.Command, t *target, r *rotation.Rotator, every time.Duration) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	show := changes(out, asJSON(cmd))
	if !asJSON(cmd) && isTerminal(out) {
		show = redraw(out)
	}
	ages := map[string]time.Time{}
	for {
		rows := survey(ctx, r, t.ledger(), ages)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // to be interrupted is how watching ends
		}
		if err := show(rows, r.Now()); err != nil {
			return err
		}
		if !sleep(ctx, every) {
			return nil
		}
	}
}

// sleep reports whether the time passed before the context ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// redraw shows the table in place of the one before.
func redraw(out io.Writer) func([]row, time.Time) error {
	screen := report.NewScreen(out)
	return func(rows []row, now time.Time) error {
		lines := table(rows, now)
		if file, ok := out.(*os.File); ok {
			if _, height, err := term.GetSize(int(file.Fd())); err == nil && height > 3 && len(lines) > height-2 {
				left := len(lines) - (height - 2)
				lines = append(lines[:height-2], fmt.Sprintf("and %d more, which are stable or don't fit here", left))
			}
		}
		screen.Draw(append(lines, clock(now)+" UTC; interrupt to end"))
		return nil
	}
}

// changes prints a secret when something of it is new: its state, who is behind,
// or a finding. The first look prints all.
func changes(out io.Writer, asObjects bool) func([]row, time.Time) error {
	last := map[string]string{}
	return func(rows []row, now time.Time) error {
		for _, l := range rows {
			news := strings.Join([]string{l.State, strings.Join(l.Holders, ", "), l.remarks()}, "\t")
			if last[l.Secret] == news {
				continue
			}
			last[l.Secret] = news
			if asObjects {
				if err := printJSON(out, l); err != nil {
					return err
				}
				continue
			}
			line := clock(now) + "  " + l.Name + "  " + l.head(now)
			if remarks := l.remarks(); remarks != "" {
				line += "; " + remarks
			}
			if err := writeLines(out, []string{line}); err != nil {
				return err
			}
		}
		return nil
	}
}

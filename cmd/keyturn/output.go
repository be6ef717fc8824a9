package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/keyturn/keyturn/fault"
)

// jsonFlag is every command's; docs/cli.md has the shapes.
const jsonFlag = "json"

func asJSON(cmd *cobra.Command) bool {
	on, err := cmd.Flags().GetBool(jsonFlag)
	return err == nil && on
}

// printJSON writes one object on one line.
func printJSON(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	return fault.Wrap(fault.Unavailable, out.Encode(v), "printing the answer")
}

// consent are the flags and the question of a command that can't be undone.
type consent struct{ yes bool }

func (c *consent) flag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&c.yes, "yes", false, "don't ask")
	return cmd
}

// ask wants a yes. Nobody is asked where nobody can answer: a script that waits
// for an answer for ever would be worse than one that fails.
func (c *consent) ask(cmd *cobra.Command, question string) error {
	if c.yes {
		return nil
	}
	if !isTerminal(cmd.InOrStdin()) {
		return fault.New(fault.InvalidInput, "%s: nobody can be asked, because standard input is no terminal", cmd.CommandPath()).
			WithHint("nothing was done; give --yes where nobody can answer")
	}
	return answered(bufio.NewReader(cmd.InOrStdin()), cmd.ErrOrStderr(), question)
}

func isTerminal(in any) bool {
	file, ok := in.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// answered puts a question and takes nothing but yes.
func answered(in *bufio.Reader, out io.Writer, question string) error {
	fmt.Fprint(out, question+" (yes/no) ")
	answer, err := in.ReadString('\n')
	if err != nil && answer == "" {
		return fault.New(fault.InvalidInput, "nobody answered").WithHint("give --yes where nobody can")
	}
	if strings.TrimSpace(answer) != "yes" {
		return fault.New(fault.InvalidInput, "the answer wasn't yes; nothing was done").WithHint("call it again and answer yes, or give --yes")
	}
	return nil
}

// clock writes a moment, in UTC.
func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// span writes a duration with its two largest units.
func span(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < 0:
		return "0s"
	case d < time.Hour:
		return d.String()
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

func planCommand() *cobra.Command {
	var t target
	var here, via bool
	cmd := t.flags(&cobra.Command{
		Use: "plan SECRET", Short: "say what the next rotation would do and what is in its way, and change nothing", Args: exactly("SECRET"),
		Long: "plan reads the labels, the policy, the secret's value and its target, and changes none of them. It exits\n" +
			"with 1 if a rotation would be refused. Where the settings come from the deployment, its cutSecret function\n" +
			"looks at the target, because this machine mostly can't reach it (--here looks from this machine).",
		RunE: func(cmd *cobra.Command, args []string) error {
			if here && via {
				return fault.New(fault.InvalidInput, "--here and --via-function exclude each other").WithHint("give one of them")
			}
			m, err := t.secret(cmd, args[0])
			if err != nil {
				return err
			}
			look := m.Forecast
			if via || (t.deployed && !here) {
				look = t.forecast
			}
			f, err := look(cmd.Context(), m.desc.ARN)
			if err != nil {
				return err
			}
			return showForecast(cmd, f)
		},
	})
	cmd.Flags().BoolVar(&via, "via-function", false, "let the deployment's cutSecret function, which is in the target's network, look")
	cmd.Flags().BoolVar(&here, "here", false, "look from this machine, also where the settings come from the deployment")
	return cmd
}

// showForecast fails if something is in the way.
func showForecast(cmd *cobra.Command, f rotation.Forecast) error {
	if asJSON(cmd) {
		if err := printJSON(cmd.OutOrStdout(), f); err != nil {
			return err
		}
	} else if err := writeForecast(cmd, f); err != nil {
		return err
	}
	if n := len(f.Blockers); n > 0 {
		return errFailed{fault.New(fault.Blocked, "a rotation of %s would be refused: %d things are in its way", f.Secret, n).
			WithHint("nothing was changed; mend what is listed, and plan again")}
	}
	return nil
}

func writeForecast(cmd *cobra.Command, f rotation.Forecast) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "secret\t%s\n", f.Secret)
	fmt.Fprintf(w, "current\tversion %s, %s, driver %s\n", f.Current, f.Kind, f.Driver)
	switch {
	case !f.Begins.IsZero():
		fmt.Fprintf(w, "begins\tby %s UTC, by its schedule\n", clock(f.Begins))
	default:
		fmt.Fprint(w, "begins\twhen somebody starts it\n")
	}
	for _, list := range []struct {
		name  string
		texts []string
	}{{"takes part", f.Parties}, {"breaks", f.Breaks}, {"note", f.Notes}, {"in the way", f.Blockers}} {
		for _, text := range list.texts {
			fmt.Fprintf(w, "%s\t%s\n", list.name, printable(text))
		}
	}
	if len(f.Breaks) == 0 && len(f.Blockers) == 0 {
		fmt.Fprint(w, "breaks\tnothing that is known\n")
	}
	var least rotation.Seconds
	for _, p := range f.Phases {
		least += p.Least
		fmt.Fprintf(w, "%s\t%s; %s\n", p.Name, bounds(p), p.Why)
	}
	fmt.Fprintf(w, "in all\tat least %s\n", span(time.Duration(least)*time.Second))
	return fault.Wrap(fault.Unavailable, w.Flush(), "printing the plan")
}

// bounds is how long a phase takes, as the policy has it.
func bounds(p rotation.Phase) string {
	least, most := span(time.Duration(p.Least)*time.Second), span(time.Duration(p.Most)*time.Second)
	switch {
	case p.Least > 0 && p.Most > 0:
		return "from " + least + " to " + most
	case p.Most > 0:
		return "at most " + most
	case p.Least > 0:
		return "at least " + least
	default:
		return "seconds"
	}
}

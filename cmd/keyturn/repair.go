package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/rotation"
)

// replay is how long repair waits for replicas that haven't replayed the login yet.
const replay = 2 * time.Minute

func repairCommand() *cobra.Command {
	var t target
	var c consent
	var here, again bool
	cmd := t.flags(&cobra.Command{
		Use: "repair --recreate SECRET", Short: "make the current login again in a database that was restored without it", Args: exactly("SECRET"),
		Long: "A database that was restored from a snapshot has the logins of that time. repair --recreate makes the login\n" +
			"of AWSCURRENT again, with the stored password and the rights that it had, and proves it on every node. No\n" +
			"label is changed. A login that exists and works is left alone. Where the settings come from the deployment,\n" +
			"its cutSecret function does it (--here does it from this machine).",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !again {
				return fault.New(fault.InvalidInput, "repair doesn't know what to repair").WithHint("--recreate makes the current login again")
			}
			m, err := t.secret(cmd, args[0])
			if err != nil {
				return err
			}
			if err := m.free(); err != nil {
				return err
			}
			if err := c.ask(cmd, "make the current login of "+m.desc.ARN+" again in its database, if it isn't there?"); err != nil {
				return err
			}
			do := func(ctx context.Context, token string) (rotation.Outcome, []string, error) {
				res, err := m.Recreate(ctx, rotation.Request{Secret: m.desc.ARN, Token: token, Direction: rotation.Head, Generation: 1})
				return res.Outcome, append(res.Notes, res.Missing...), err
			}
			if t.deployed && !here {
				do = func(ctx context.Context, token string) (rotation.Outcome, []string, error) {
					return t.recreate(ctx, m.desc.ARN, token)
				}
			}
			return repair(cmd, m.desc.ARN, do)
		},
	})
	cmd.Flags().BoolVar(&again, "recreate", false, "make the current login again")
	cmd.Flags().BoolVar(&here, "here", false, "do it from this machine, also where the settings come from the deployment")
	return c.flag(cmd)
}

// recreate lets the function do it that can reach the target.
func (t *target) recreate(ctx context.Context, arn, token string) (rotation.Outcome, []string, error) {
	zone, err := t.policies.Zone(arn)
	if err != nil {
		return "", nil, err
	}
	var answer lambdaentry.Acted
	err = t.call(ctx, t.functionName(zone, "cutSecret"), lambdaentry.RecreateEvent{Act: lambdaentry.ActRecreate, Secret: arn, Token: token}, &answer)
	return answer.Outcome, append(answer.Notes, answer.Missing...), err
}

// repair asks again while nodes are behind.
func repair(cmd *cobra.Command, arn string, do func(context.Context, string) (rotation.Outcome, []string, error)) error {
	token, until := uuid.NewString(), time.Now().Add(replay)
	for {
		outcome, notes, err := do(cmd.Context(), token)
		if err != nil {
			return err
		}
		if outcome == rotation.Done {
			if asJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), map[string]any{"secret": arn, "outcome": outcome, "notes": notes})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", arn, printable(strings.Join(notes, "; ")))
			return nil
		}
		if time.Now().After(until) || !sleep(cmd.Context(), time.Second) {
			return fault.New(fault.Unavailable, "the login isn't proven on every node yet: %s", strings.Join(notes, "; ")).
				WithHint("call it again when these nodes have caught up")
		}
	}
}

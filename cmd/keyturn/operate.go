package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

func rotateCommand() *cobra.Command {
	var t target
	return t.flags(&cobra.Command{
		Use: "rotate SECRET", Short: "start a rotation by the state machine", Args: exactly("SECRET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := t.secret(cmd, args[0])
			if err != nil {
				return err
			}
			if err := m.free(); err != nil {
				return err
			}
			run, err := m.StartHead(cmd.Context(), m.desc.ARN, uuid.NewString())
			if err != nil {
				return err
			}
			if asJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), started{
					Secret: m.desc.ARN, Started: true, Run: run.Name, Status: run.Status, Direction: rotation.Head, Need: rotation.NeedRun,
				})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is %s; keyturn status shows how far it has come\n", run.Name, run.Status)
			return nil
		},
	})
}

// free tells at once what the first step of a rotation would be refused for.
func (m managed) free() error {
	switch s := m.situation; {
	case s.Need == rotation.NeedStore, s.Need == rotation.NeedRun && s.Direction == rotation.Head:
		return fault.New(fault.RotationInProgress, "a rotation of %s isn't over; it is version %s", m.desc.ARN, s.Token).
			WithHint("keyturn status shows how far it has come; keyturn resume goes on with it, keyturn rollback ends it")
	case s.Need == rotation.NeedRun:
		return fault.New(fault.DrainInProgress, "the last rotation of %s isn't over: the labels ask for %s", m.desc.ARN, asked(s)).
			WithHint("nothing was started; keyturn status shows who is behind")
	}
	return nil
}

// started is what a command that asks for a run prints with --json.
type started struct {
	Secret    string             `json:"secret"`
	Started   bool               `json:"started"`
	Run       string             `json:"run,omitempty"`
	Status    rotation.RunStatus `json:"status,omitempty"`
	Direction rotation.Direction `json:"direction,omitempty"`
	Need      rotation.Need      `json:"need"`
	After     int64              `json:"after_seconds,omitempty"` // ask again then
	Cause     string             `json:"cause,omitempty"`
}

// runCommand is a command that asks for a run of one secret and prints what came of it.
func runCommand(use, short string, t *target, before func(*cobra.Command, managed) error,
	ask func(*rotation.Rotator, context.Context, string) (rotation.Ensured, error),
) *cobra.Command {
	return t.flags(&cobra.Command{
		Use: use + " SECRET", Short: short, Args: exactly("SECRET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := t.secret(cmd, args[0])
			if err != nil {
				return err
			}
			if before != nil {
				if err := before(cmd, m); err != nil {
					return err
				}
			}
			e, err := ask(m.Rotator, cmd.Context(), m.desc.ARN)
			if err != nil {
				return err
			}
			return printEnsured(cmd, m.desc.ARN, e)
		},
	})
}

func rollbackCommand() *cobra.Command {
	var t target
	var c consent
	ask := func(cmd *cobra.Command, m managed) error {
		if m.situation.Need == rotation.NeedNothing {
			return nil // it is refused anyway, by its own words
		}
		return c.ask(cmd, "turn the rotation of "+m.desc.ARN+" back?")
	}
	return c.flag(runCommand("rollback", "turn the rotation that is going on back to the old credential", &t, ask, (*rotation.Rotator).RequestRollback))
}

func adoptCommand() *cobra.Command {
	var t target
	return runCommand("adopt", "retire the login that another rotation has left alive beside the current one", &t, nil, (*rotation.Rotator).RetirePrevious)
}

func printEnsured(cmd *cobra.Command, secret string, e rotation.Ensured) error {
	w := cmd.OutOrStdout()
	if asJSON(cmd) {
		return printJSON(w, started{
			Secret: secret, Started: e.Started, Run: e.Run.Name, Status: e.Run.Status, Direction: e.Situation.Direction,
			Need: e.Situation.Need, After: int64(e.After.Seconds()), Cause: e.Run.Cause,
		})
	}
	switch {
	case e.Started:
		fmt.Fprintf(w, "%s started, %s\n", e.Run.Name, e.Situation.Direction)
	case e.After > 0:
		fmt.Fprintf(w, "%s is %s; its functions may still act: ask again in %s\n", e.Run.Name, e.Run.Status, e.After)
	case e.Run.Name != "":
		fmt.Fprintln(w, strings.TrimSpace(fmt.Sprintf("%s is %s %s", e.Run.Name, e.Run.Status, e.Run.Cause)))
	default:
		fmt.Fprintf(w, "no run was started: the labels ask for %s\n", asked(e.Situation))
	}
	return nil
}

// asked puts what the labels ask for into words.
func asked(s rotation.Situation) string {
	switch s.Need {
	case rotation.NeedStore:
		return "Secrets Manager's own rotation, which tries again by itself"
	case rotation.NeedReplace:
		return "a new credential: the current one was declared stolen"
	case rotation.NeedRun:
		return map[rotation.Direction]string{
			rotation.Head:    "a run head: create to finish",
			rotation.Forward: "a run forward: the old credential is drained and revoked",
			rotation.Back:    "a run back: the new credential is drained and revoked",
		}[s.Direction]
	default:
		return "nothing"
	}
}

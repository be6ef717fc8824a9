package main

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/fault"
)

// exactly wants one argument for each name.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		wants := "no argument"
		if len(names) > 0 {
			wants = strings.Join(names, " and ")
		}
		return fault.New(fault.InvalidInput, "%s takes %s, and got %d arguments", cmd.CommandPath(), wants, len(args)).
			WithHint("%s --help shows how it is called", cmd.CommandPath())
	}
}

// atMostOne takes one argument or none.
func atMostOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= 1 {
			return nil
		}
		return exactly(name)(cmd, args)
	}
}

// nothing wants no argument: what comes to a group of commands is the name of a
// command that it doesn't have.
func nothing(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasSubCommands() {
		return exactly()(cmd, args)
	}
	err := fault.New(fault.InvalidInput, "unknown command %q for %q", args[0], cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return err.WithHint("did you mean %s %s?", cmd.CommandPath(), near[0])
	}
	return err.WithHint("%s --help lists its commands", cmd.CommandPath())
}

// badFlag is what cobra calls with its own errors.
func badFlag(cmd *cobra.Command, err error) error {
	return fault.Wrap(fault.InvalidInput, fault.New(fault.InvalidInput, "%s", err).
		WithHint("%s --help lists its flags", cmd.CommandPath()), "reading the flags")
}

// helpCommand refuses a name that there is no command for; cobra's own shows
// the first page instead.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "show what a command does", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if err := nothing(about, rest); err != nil {
				return err
			}
			return about.Help()
		},
	}
}

// hintFor says what to do about an error: what the place nearest to the cause
// says, or what holds for everything of its kind.
func hintFor(err error) string {
	if hint := fault.HintOf(err); hint != "" {
		return hint
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return "check that path: there is nothing of that name"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "the user that runs keyturn has no right to that path; mend its rights, or name another"
	case errors.Is(err, syscall.EISDIR):
		return "that path is a folder; name a file"
	case errors.Is(err, syscall.ENOSPC):
		return "make room on that disk, or point TMPDIR at another"
	}
	if hint, ok := hints[fault.NameOf(err)]; ok {
		return hint
	}
	return hints[fault.Internal]
}

// hints are the first thing to do about each fault; docs/operating.md has the rest.
var hints = map[fault.Name]string{
	fault.Throttled:          "wait a minute and run the command again",
	fault.Unavailable:        "check that the service or server named above can be reached from here, then run the command again",
	fault.Conflict:           "somebody else was faster; look at keyturn status, then run the command again",
	fault.Ambiguous:          "run the command again: it looks before it acts",
	fault.AuditUnavailable:   "nothing was done, because it couldn't be recorded; check --audit-dir, then run the command again",
	fault.InvalidInput:       "mend what is named above, then run the command again",
	fault.InvalidStage:       "keyturn status shows the labels and what they ask for",
	fault.NotManaged:         "list the secret in keyturn.yaml, compile it and deploy",
	fault.PolicyViolation:    "find out who wrote the secret; then change the policy or the secret",
	fault.RotationDisabled:   "switch the secret's rotation on again, or take its pause tag off",
	fault.RotationInProgress: "wait for the rotation that is going on, or turn it back by keyturn rollback",
	fault.DrainInProgress:    "wait: the old credential isn't revoked yet; keyturn status shows what it waits for",
	fault.HeadExpired:        "read the cause in the execution, mend it, then rotate again",
	fault.DrainExpired:       "keyturn status names who still uses the old credential; move it, then keyturn resume or keyturn rollback",
	fault.IdentityInUse:      "give AWSCURRENT a login of its own by aws secretsmanager put-secret-value (a rotation would wait for this drain), then keyturn resume",
	fault.CredentialRejected: "mend the node that refuses it, then keyturn resume",
	fault.PermissionDenied:   "grant the right that is named above, then run the command again",
	fault.Blocked:            "mend everything that is listed above, then run the command again; nothing was changed",
	fault.Fenced:             "a later run owns the target; keyturn status shows it",
	fault.Rejected:           "that version was rolled back; start a new rotation by keyturn rotate",
	fault.Superseded:         "keyturn status shows what the labels ask for now",
	fault.TooLate:            "the old credential is destroyed; go forward by keyturn rotate",
	fault.Internal:           "docs/operating.md has what to do about each fault; report this one if it isn't there",
}

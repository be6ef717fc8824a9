package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/internal/strictjson"
)

func auditCommand() *cobra.Command {
	group := &cobra.Command{Use: "audit", Short: "read, verify and complete the audit trail", Args: nothing, RunE: showHelp}
	group.AddCommand(auditShowCommand(), verifyCommand(), headsCommand(), reconcileCommand())
	return group
}

// checkFolder refuses a folder that isn't there: a mistyped one would be verified
// as empty, or begun anew.
func checkFolder(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fault.Wrap(fault.InvalidInput, fault.New(fault.InvalidInput, "%s", err).
			WithHint("check that path: functions write the trail to their %s; make the folder if none has run yet", deployment.EnvAuditDir), "opening the audit trail")
	case err != nil:
		return fault.Wrap(fault.InvalidInput, err, "opening the audit trail")
	case !info.IsDir():
		return fault.New(fault.InvalidInput, "%s isn't a folder", dir).WithHint("give the folder of the audit trail by --audit-dir")
	}
	return nil
}

func noRecord(place, secret string) error {
	return fault.New(fault.InvalidInput, "%s holds no record of %s", place, secret).
		WithHint("give the secret's full ARN, and the folder that the functions write to")
}

func headsCommand() *cobra.Command {
	var t target
	return t.trailFlags(&cobra.Command{
		Use: "heads SECRET-ARN", Short: "print where each chain ends, to be kept elsewhere for a later verify --heads", Args: exactly("SECRET-ARN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ledger, err := t.trail(cmd)
			if err != nil {
				return err
			}
			heads, err := audit.Heads(cmd.Context(), ledger, args[0])
			if err != nil {
				return err
			}
			if len(heads) == 0 {
				return errFailed{noRecord(t.place(), args[0])}
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			for _, h := range heads {
				if err := out.Encode(h); err != nil {
					return fault.Wrap(fault.Unavailable, err, "printing the heads")
				}
			}
			return nil
		},
	})
}

// readHeads reads one JSON object a line.
func readHeads(file string) ([]audit.Head, error) {
	text, err := os.ReadFile(file) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, fault.Wrap(fault.InvalidInput, err, "reading the heads")
	}
	var heads []audit.Head
	for n, line := range strings.Split(string(text), "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		var h audit.Head
		if err := strictjson.Decode([]byte(line), &h); err != nil || h.RotationID == "" {
			return nil, fault.New(fault.InvalidInput, "line %d of %s is no head of a chain", n+1, file).
				WithHint("keyturn audit heads prints them, one JSON object a line")
		}
		heads = append(heads, h)
	}
	if len(heads) == 0 {
		return nil, fault.New(fault.InvalidInput, "%s holds no heads", file).WithHint("keyturn audit heads prints them, one JSON object a line")
	}
	return heads, nil
}

func reconcileCommand() *cobra.Command {
	var t target
	return t.trailFlags(&cobra.Command{
		Use: "reconcile LOG", Short: "chain the records that a function could only print, because the trail couldn't be reached", Args: exactly("LOG"),
		Long: "LOG holds JSON lines as functions print them; - is standard input. Lines that are no audit records, and\n" +
			"records that are in their chain, are passed over: the same log may be read any number of times.",
		RunE: func(cmd *cobra.Command, args []string) error {
			ledger, err := t.trail(cmd)
			if err != nil {
				return err
			}
			return reconcile(cmd, ledger, args[0])
		},
	})
}

func reconcile(cmd *cobra.Command, ledger audit.Ledger, log string) error {
	in := io.NopCloser(cmd.InOrStdin())
	if log != "-" {
		file, err := os.Open(log) // #nosec G304 -- the operator names the file
		if err != nil {
			return fault.Wrap(fault.InvalidInput, err, "opening the log")
		}
		in = file
	}
	defer func() { _ = in.Close() }() // it was only read
	actor := operator()
	journal := &audit.Journal{
		Ledger: ledger, Actor: actor.Name, ActorType: actor.Type, Redact: lambdaentry.Redact,
		Log: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)),
	}
	n, err := journal.Reconcile(cmd.Context(), in)
	if err != nil {
		return fault.Wrap(fault.AuditUnavailable, err, "reconciling %s, after %d records", log, n)
	}
	if asJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), map[string]int{"chained": n})
	}
	fmt.Fprintf(cmd.OutOrStdout(), "chained %d\n", n)
	return nil
}

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/policy/compile"
)

func policyCommand() *cobra.Command {
	group := &cobra.Command{Use: "policy", Short: "check and compile keyturn.yaml", Args: nothing, RunE: showHelp}
	var out string
	compileCmd := &cobra.Command{
		Use: "compile KEYTURN.YAML", Short: "validate the file and write the policy document that functions read", Args: exactly("KEYTURN.YAML"),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := compile.File(args[0], deployment.Kinds())
			if err != nil {
				return err
			}
			if out == "" {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), string(doc.JSON()))
				return err
			}
			if err := os.WriteFile(out, doc.JSON(), 0o600); err != nil {
				return fault.Wrap(fault.InvalidInput, err, "writing the policy document")
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d secrets, hash %s\n", out, len(doc.Secrets()), doc.Hash())
			return nil
		},
	}
	compileCmd.Flags().StringVarP(&out, "output", "o", "", "write here and not to stdout")
	group.AddCommand(compileCmd)
	return group
}

func auditCommand() *cobra.Command {
	group := &cobra.Command{Use: "audit", Short: "read and verify the audit trail", Args: nothing, RunE: showHelp}
	var dir string
	verify := &cobra.Command{
		Use: "verify SECRET-ARN", Short: "find changed, missing, reordered, truncated and foreign records", Args: exactly("SECRET-ARN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				return fault.New(fault.InvalidInput, "--audit-dir is missing").WithHint("give the folder of the audit trail")
			}
			return verifyTrail(cmd, dir, args[0])
		},
	}
	verify.Flags().StringVar(&dir, "audit-dir", os.Getenv(deployment.EnvAuditDir), "folder of the audit trail ($"+deployment.EnvAuditDir+")")
	group.AddCommand(verify)
	return group
}

// verifyTrail says that a trail is whole only if there is one: a mistyped folder
// or ARN has no wrong record either.
func verifyTrail(cmd *cobra.Command, dir, secret string) error {
	if info, err := os.Stat(dir); err != nil {
		return fault.Wrap(fault.InvalidInput, err, "opening the audit trail")
	} else if !info.IsDir() {
		return fault.New(fault.InvalidInput, "%s isn't a folder", dir).WithHint("give the folder of the audit trail by --audit-dir")
	}
	summary, err := audit.Verify(cmd.Context(), audit.Dir{Root: dir}, secret)
	var findings *audit.FindingsError
	if errors.As(err, &findings) {
		for _, f := range findings.Findings {
			fmt.Fprintln(cmd.OutOrStdout(), f)
		}
		return errFailed{fault.New(fault.InvalidInput, "the audit trail of %s isn't whole: %d findings", secret, len(findings.Findings)).
			WithHint("compare the records above with a copy that was kept elsewhere, and find out who could write to %s", dir)}
	}
	if err != nil {
		return err
	}
	if len(summary.Chains) == 0 {
		return errFailed{fault.New(fault.InvalidInput, "%s holds no record of %s", dir, secret).
			WithHint("give the secret's full ARN, and the folder that the functions write to")}
	}
	for _, chain := range summary.Chains {
		fmt.Fprintf(cmd.OutOrStdout(), "%s  %d records  %s\n", chain.RotationID, chain.Seq, chain.Hash)
	}
	return nil
}

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/policy/compile"
)

func policyCommand() *cobra.Command {
	group := &cobra.Command{Use: "policy", Short: "check and compile keyturn.yaml", Args: cobra.NoArgs, RunE: showHelp}
	var out string
	compileCmd := &cobra.Command{
		Use: "compile KEYTURN.YAML", Short: "validate the file and write the policy document that functions read", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := compile.File(args[0], deployment.Kinds())
			if err != nil {
				return err
			}
			if out == "" {
				_, err = cmd.OutOrStdout().Write(doc.JSON())
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
	group := &cobra.Command{Use: "audit", Short: "read and verify the audit trail", Args: cobra.NoArgs, RunE: showHelp}
	var dir string
	verify := &cobra.Command{
		Use: "verify SECRET-ARN", Short: "find changed, missing, reordered, truncated and foreign records", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				return fault.New(fault.InvalidInput, "--audit-dir is missing").WithHint("give the folder of the audit trail")
			}
			summary, err := audit.Verify(cmd.Context(), audit.Dir{Root: dir}, args[0])
			if err != nil {
				fmt.Fprintln(cmd.OutOrStdout(), err)
				return errFailed{err}
			}
			for _, chain := range summary.Chains {
				fmt.Fprintf(cmd.OutOrStdout(), "%s  %d records  %s\n", chain.RotationID, chain.Seq, chain.Hash)
			}
			return nil
		},
	}
	verify.Flags().StringVar(&dir, "audit-dir", os.Getenv(deployment.EnvAuditDir), "folder of the audit trail ($"+deployment.EnvAuditDir+")")
	group.AddCommand(verify)
	return group
}

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

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
			if asJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), map[string]any{"output": out, "secrets": doc.Secrets(), "hash": doc.Hash()})
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d secrets, hash %s\n", out, len(doc.Secrets()), doc.Hash())
			return nil
		},
	}
	compileCmd.Flags().StringVarP(&out, "output", "o", "", "write here and not to stdout")
	group.AddCommand(compileCmd, &cobra.Command{
		Use: "schema", Short: "print the JSON Schema of keyturn.yaml, for editors", Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(compile.Schema)
			return err
		},
	})
	return group
}

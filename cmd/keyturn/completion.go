package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/policy"
)

func completionCommand() *cobra.Command {
	shells := map[string]func(*cobra.Command, io.Writer) error{
		"bash":       func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh":        (*cobra.Command).GenZshCompletion,
		"fish":       func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
		"powershell": (*cobra.Command).GenPowerShellCompletionWithDesc,
	}
	return &cobra.Command{
		Use: "completion SHELL", Short: "print a script that completes commands, flags and secrets", Args: exactly("SHELL"),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Long: "SHELL is bash, zsh, fish or powershell. For bash: source <(keyturn completion bash). Names of secrets come\n" +
			"from the policy: the file that is set, else the deployment's.",
		RunE: func(cmd *cobra.Command, args []string) error {
			generate := shells[args[0]]
			if generate == nil {
				return fault.New(fault.InvalidInput, "there is no completion for %q", args[0]).WithHint("give bash, zsh, fish or powershell")
			}
			return fault.Wrap(fault.Unavailable, generate(cmd.Root(), cmd.OutOrStdout()), "printing the script")
		},
	}
}

// completeSecret offers what the policy lists. Completion says nothing of errors:
// it runs while somebody types.
func (t *target) completeSecret(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	document, err := t.document(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return document.Secrets(), cobra.ShellCompDirectiveNoFileComp
}

// completeARN offers those that the policy lists by their ARN.
func (t *target) completeARN(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	all, directive := t.completeSecret(cmd, args, typed)
	var arns []string
	for _, secret := range all {
		if policy.IsARN(secret) {
			arns = append(arns, secret)
		}
	}
	return arns, directive
}

// document is the policy, of the file that is set or else of the deployment.
func (t *target) document(cmd *cobra.Command) (policy.Document, error) {
	if t.settings.Policy != "" {
		return policy.Load(t.settings.Policy)
	}
	t.named = true // what else is set doesn't matter
	err := t.resolve(cmd, setting{flags: []string{"policy"}})
	return t.policies, err
}

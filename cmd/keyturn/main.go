// Command keyturn is the operator's tool: it shows a rotation on one machine,
// compiles policies, and starts, watches, turns back and resumes rotations.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/lambdaentry"
)

// Exit codes, documented in docs/operating.md.
const (
	exitFailed = 1 // the command ran, and what it looked at isn't as it should be
	exitError  = 2 // the command couldn't do its work
)

// errFailed says that everything to be said is printed already.
type errFailed struct{ error }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if _, failed := err.(errFailed); failed { //nolint:errorlint // made and read in this package only
		return exitFailed
	}
	fmt.Fprintf(stderr, "keyturn: %s\n", lambdaentry.Redact(err.Error()))
	if hint := fault.HintOf(err); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	return exitError
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "keyturn",
		Short:         "rotate credentials without an outage, and leave no old one alive",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          showHelp,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(demoCommand(), policyCommand(), rotateCommand(), statusCommand(), rollbackCommand(), resumeCommand(),
		adoptCommand(), auditCommand())
	return root
}

// showHelp makes a group of commands refuse a name that it doesn't have: one
// that can't run would print its help and succeed.
func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

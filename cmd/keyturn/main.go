// Command keyturn is the operator's tool: it shows a rotation on one machine,
// compiles policies, and starts, watches, turns back and resumes rotations.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/lambdaentry"
)

// Exit codes, documented in docs/cli.md.
const (
	exitFailed = 1 // the command ran, and what it looked at isn't as it should be
	exitError  = 2 // the command couldn't do its work
)

// patience is how long after an interrupt another one changes nothing: a
// terminal and make may each send one.
const patience = 3 * time.Second

// errFailed ends a command with exitFailed; without an error everything to be
// said is printed already.
type errFailed struct{ error }

func (e errFailed) Unwrap() error { return e.error }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Cleaning up takes less than a second; whoever interrupts again after that
	// ends at once, and leaves folders behind.
	context.AfterFunc(ctx, func() { time.AfterFunc(patience, stop) })
	root := command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code := exitError
	var failed errFailed
	if errors.As(err, &failed) {
		if failed.error == nil {
			return exitFailed
		}
		code = exitFailed
	} else if ctx.Err() != nil {
		err = interrupted(err)
	}
	fmt.Fprintf(stderr, "keyturn: %s\n", lambdaentry.Redact(err.Error()))
	fmt.Fprintf(stderr, "hint: %s\n", hintFor(err))
	return code
}

// interrupted replaces what an interrupt made of whatever was going on.
func interrupted(err error) error {
	hint := fault.HintOf(err)
	if hint == "" {
		hint = "nothing was turned back; keyturn status shows how far it came"
	}
	return fault.New(fault.Unavailable, "interrupted").WithHint("%s", hint)
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "keyturn",
		Short:         "rotate credentials without an outage, and leave no old one alive",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
		Args:          nothing,
		RunE:          showHelp,
	}
	root.SetFlagErrorFunc(badFlag)
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetHelpCommand(helpCommand())
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentFlags().Bool(jsonFlag, false, "print JSON: one object, or a line for each where there are many")
	addGroup(root, "Begin:", demoCommand(), upCommand(), policyCommand(), planCommand(), completionCommand())
	addGroup(root, "Rotate:", rotateCommand(), statusCommand(), adoptCommand(), pauseCommand())
	addGroup(root, "When something is wrong:", rollbackCommand(), resumeCommand(), repairCommand(), emergencyCommand())
	addGroup(root, "Look back:", auditCommand(), reportCommand())
	addGroup(root, "Remove:", uninstallCommand())
	return root
}

// addGroup lists commands under one title.
func addGroup(root *cobra.Command, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, cmd := range commands {
		cmd.GroupID = title
		root.AddCommand(cmd)
	}
}

// showHelp makes a group of commands refuse a name that it doesn't have: one
// that can't run would print its help and succeed.
func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// version is what the Go command wrote into the binary.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}

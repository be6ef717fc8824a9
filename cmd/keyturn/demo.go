package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/demo"
)

func demoCommand() *cobra.Command {
	var o demo.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "rotate a database login under load, on this machine, and show that nobody noticed",
		Long: `demo starts a real PostgreSQL with a replica and the local AWS, lets consumers
of different habits work, rotates their login with the real functions and the
real state machine, and proves that the old login is dead.

It exits with 1 if the run didn't show what a rotation promises.`,
		Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = cmd.ErrOrStderr()
			if !asJSON && o.Report == "" {
				o.Report = "report.html"
			}
			outcome, err := demo.Run(cmd.Context(), o)
			if err != nil && cmd.Context().Err() != nil {
				return fault.New(fault.Unavailable, "interrupted").WithHint("the servers that the demo started have ended; run it again")
			}
			if err != nil && !outcome.Complete() {
				return err
			}
			if err := show(cmd.OutOrStdout(), asJSON, o, outcome); err != nil {
				return fault.Wrap(fault.Internal, err, "writing the result")
			}
			if err != nil {
				return err // the report alone couldn't be written
			}
			if failures := outcome.Failures(); len(failures) > 0 {
				for _, f := range failures {
					fmt.Fprintln(cmd.ErrOrStderr(), "keyturn: not shown:", f)
				}
				fmt.Fprintln(cmd.ErrOrStderr(), hintAfter(outcome))
				return errFailed{}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Consumers, "consumers", 20, "how many consumers, of five habits")
	f.Float64Var(&o.Rate, "rate", 200, "requests a second over all consumers")
	f.IntVar(&o.Rotations, "rotations", 1, "how many rotations, up to 95; every other one is started by the state machine")
	f.BoolVar(&o.KillRandom, "kill-random", false, "kill functions and stop executions at random moments")
	f.BoolVar(&o.Rollback, "rollback", false, "trouble after promotion: go back to the old login")
	f.BoolVar(&o.Naive, "naive", false, "the negative control: change the password in place, and see what fails")
	f.BoolVar(&o.Keep, "keep", false, "keep the folder with the logs (PostgreSQL's too), policy and audit trail; operate.sh in it is for other terminals")
	f.BoolVar(&asJSON, "json", false, "print one JSON object to stdout, progress to stderr")
	f.StringVar(&o.Report, "report", "", "write the HTML report here (default report.html, none with --json)")
	f.StringVar(&o.Version, "postgres", "", "PostgreSQL's major version, 15 or 18 (default: the newest of Debian's)")
	f.StringVar(&o.Functions, "functions", "", "folder of built functions (default: build them)")
	f.DurationVar(&o.Baseline, "baseline", 6*time.Second, "how long the same load runs without rotation first")
	return cmd
}

func hintAfter(o demo.Outcome) string {
	if o.Void {
		return "hint: the run is void, others had this machine's processors; run it again"
	}
	return "hint: the report shows when; run it again with --keep to have the logs, or with a lower --rate if this machine is slow"
}

func show(w io.Writer, asJSON bool, o demo.Options, r demo.Outcome) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	summarize(w, o, r)
	return nil
}

func summarize(w io.Writer, o demo.Options, r demo.Outcome) {
	fmt.Fprintf(w, "\nrequests        %d, %d failed, through %d rotation", r.Requests, r.FailedRequests, r.Rotations)
	if r.Rotations != 1 {
		fmt.Fprint(w, "s")
	}
	fmt.Fprintln(w)
	fmt.Fprintf(w, "latency p99.9   %.1f ms, without rotation %.1f ms\n", r.P999, r.P999WithoutRotation)
	fmt.Fprintf(w, "old login       %s on every node, %.1f s after its last use\n", r.OldLoginResult, r.OldAliveAfterLastUse)
	fmt.Fprintf(w, "secret values   %d found in logs, statements, histories, command lines, audit records\n", r.LeakedSecretValues)
	for _, where := range r.Unread {
		fmt.Fprintf(w, "not looked into %s\n", where)
	}
	fmt.Fprintf(w, "audit trail     %d records, verified: %v\n", r.AuditRecords, r.AuditOK)
	fmt.Fprintf(w, "login roles     %d left over\n", r.OrphanRoles)
	if len(r.States) > 0 {
		fmt.Fprintf(w, "states          %v\n", r.States[0])
	}
	if o.Report != "" {
		fmt.Fprintf(w, "report          %s\n", o.Report)
	}
}

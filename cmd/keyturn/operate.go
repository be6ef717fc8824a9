package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/user"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/rotation"
)

// target are the flags of every command that works on a deployment.
type target struct{ settings deployment.Settings }

func (t *target) flags(cmd *cobra.Command) *cobra.Command {
	f := cmd.Flags()
	f.StringVar(&t.settings.Policy, "policy", os.Getenv(deployment.EnvPolicy), "the compiled policy document ($"+deployment.EnvPolicy+")")
	f.StringVar(&t.settings.StateMachine, "state-machine", os.Getenv(deployment.EnvStateMachine), "ARN of the rotation state machine ($"+deployment.EnvStateMachine+")")
	f.StringVar(&t.settings.AuditDir, "audit-dir", os.Getenv(deployment.EnvAuditDir), "folder of the audit trail ($"+deployment.EnvAuditDir+")")
	return cmd
}

func (t *target) rotator(cmd *cobra.Command) (*rotation.Rotator, error) {
	for _, s := range []struct{ flag, value, env string }{
		{"policy", t.settings.Policy, deployment.EnvPolicy},
		{"state-machine", t.settings.StateMachine, deployment.EnvStateMachine},
		{"audit-dir", t.settings.AuditDir, deployment.EnvAuditDir},
	} {
		if s.value == "" {
			return nil, fault.New(fault.InvalidInput, "--%s is missing", s.flag).
				WithHint("give the flag, or set %s (keyturn %s --help)", s.env, cmd.Name())
		}
	}
	if err := checkMachine("state-machine", t.settings.StateMachine); err != nil {
		return nil, err
	}
	cfg, err := awsConfig(cmd.Context())
	if err != nil {
		return nil, err
	}
	r, err := deployment.Assemble(cfg, t.settings, operator(), slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
	if err != nil {
		return nil, err
	}
	_, err = openTrail(t.settings.AuditDir)
	return r, err
}

// operator is who acts, as the audit trail names it.
func operator() deployment.Actor {
	actor := deployment.Actor{Name: "operator", Type: audit.Human, Lines: io.Discard}
	if u, err := user.Current(); err == nil {
		actor.Name = u.Username
	}
	return actor
}

// managed is a secret that the policy lists, under whatever name it was called.
type managed struct {
	*rotation.Rotator
	desc      rotation.Description
	situation rotation.Situation
}

// secret finds a secret by its name or ARN.
func (t *target) secret(cmd *cobra.Command, name string) (managed, error) {
	r, err := t.rotator(cmd)
	if err != nil {
		return managed{}, err
	}
	desc, err := r.Store.Describe(cmd.Context(), name)
	if err != nil {
		return managed{}, err
	}
	policy, err := r.Policies.Policy(desc.ARN)
	if err != nil {
		return managed{}, err
	}
	return managed{r, desc, rotation.Read(desc.Versions, policy.Driver)}, nil
}

// checkMachine refuses what can't be a state machine's ARN: it is part of the
// names of executions, and status would begin to work without a right one.
func checkMachine(flag, value string) error {
	parts := strings.Split(value, ":")
	if len(parts) == 7 && parts[0] == "arn" && parts[2] == "states" && parts[5] == "stateMachine" && parts[6] != "" {
		return nil
	}
	return fault.New(fault.InvalidInput, "--%s is %q, which is no state machine's ARN", flag, value).
		WithHint("it looks like arn:aws:states:REGION:ACCOUNT:stateMachine:NAME")
}

// awsConfig reads the environment's AWS settings, and tells at once what is
// missing: the first call would tell it in the SDK's words.
func awsConfig(ctx context.Context) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{}))
	if err != nil {
		return cfg, fault.Wrap(fault.InvalidInput, fault.New(fault.InvalidInput, "%s", err).
			WithHint("check AWS_PROFILE and the AWS configuration file"), "reading the AWS settings")
	}
	if cfg.Region == "" {
		return cfg, fault.New(fault.InvalidInput, "no AWS region is set").WithHint("set AWS_REGION, or a profile that has one by AWS_PROFILE")
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return cfg, fault.Wrap(fault.PermissionDenied, fault.New(fault.PermissionDenied, "%s", err).
			WithHint("log in to AWS (aws sso login), or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "looking for AWS credentials")
	}
	return cfg, nil
}

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

// runCommand is a command that asks for a run of one secret and prints what came of it.
func runCommand(use, short string, ask func(*rotation.Rotator, context.Context, string) (rotation.Ensured, error)) *cobra.Command {
	var t target
	return t.flags(&cobra.Command{
		Use: use + " SECRET", Short: short, Args: exactly("SECRET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := t.secret(cmd, args[0])
			if err != nil {
				return err
			}
			e, err := ask(m.Rotator, cmd.Context(), m.desc.ARN)
			if err != nil {
				return err
			}
			printEnsured(cmd.OutOrStdout(), e)
			return nil
		},
	})
}

func rollbackCommand() *cobra.Command {
	return runCommand("rollback", "turn the rotation that is going on back to the old credential", (*rotation.Rotator).RequestRollback)
}

func adoptCommand() *cobra.Command {
	return runCommand("adopt", "retire the login that another rotation has left alive beside the current one", (*rotation.Rotator).RetirePrevious)
}

func resumeCommand() *cobra.Command {
	return runCommand("resume", "start the run that the labels ask for, also after RotationStuck",
		func(r *rotation.Rotator, ctx context.Context, secret string) (rotation.Ensured, error) {
			return r.EnsureRun(ctx, secret, rotation.EnsureOptions{Resume: true, Retry: true})
		})
}

func printEnsured(w io.Writer, e rotation.Ensured) {
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

func statusCommand() *cobra.Command {
	var t target
	return t.flags(&cobra.Command{
		Use: "status SECRET", Short: "show the labels, what they ask for and what was seen last", Args: exactly("SECRET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := t.secret(cmd, args[0])
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, id := range slices.Sorted(maps.Keys(m.desc.Versions)) {
				fmt.Fprintf(w, "%s\t%s\n", id, joinLabels(m.desc.Versions[id]))
			}
			fmt.Fprintf(w, "asks for\t%s\n", asked(m.situation))
			findings, err := m.Findings(cmd.Context(), m.desc.ARN)
			if err != nil {
				return err
			}
			for _, f := range findings {
				printFinding(w, f)
			}
			records, err := audit.Records(cmd.Context(), audit.Dir{Root: t.settings.AuditDir}, m.desc.ARN)
			if err != nil {
				return err
			}
			if len(records) == 0 {
				fmt.Fprintf(w, "audit\tno record of this secret in %s\n", t.settings.AuditDir)
			}
			for _, rec := range records[max(0, len(records)-5):] {
				fmt.Fprintf(w, "%s\t%s %s %s %s\n", rec.Time.Format("2006-01-02 15:04:05"), rec.Step, rec.Phase, rec.Outcome, strings.Join(rec.Missing, "; "))
			}
			return w.Flush()
		},
	})
}

func printFinding(w io.Writer, f rotation.Finding) {
	since := ""
	if !f.Since.IsZero() {
		since = ", since " + f.Since.Format("2006-01-02 15:04:05")
	}
	fmt.Fprintf(w, "%s\t%s%s\n\tto do: %s\n", f.Name, f.Saw, since, f.Do)
}

func joinLabels(labels []rotation.Label) string {
	var text []string
	for _, l := range labels {
		text = append(text, string(l))
	}
	slices.Sort(text)
	return strings.Join(text, " ")
}

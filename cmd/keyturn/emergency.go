package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/smithy-go"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/stepfunctions/awsruns"
)

// emergency is one call of the emergency state machine.
type emergency struct {
	api     *sfn.Client
	machine string
	secret  string
	cut     bool
	out     io.Writer // progress
}

func emergencyCommand() *cobra.Command {
	var e emergency
	var t target
	var c consent
	cmd := t.trailFlags(&cobra.Command{
		Use: "emergency SECRET-ARN", Short: "kill a stolen credential and replace it", Args: exactly("SECRET-ARN"),
		Long: "Every live credential of the secret counts as stolen. A new one is made, consumers get a short while\n" +
			"to follow (emergency in keyturn.yaml), then the stolen ones are refused, their sessions ended, and\n" +
			"they are destroyed. With --cut they are refused first: consumers fail until they have followed.",
		RunE: func(cmd *cobra.Command, args []string) error {
			machine, err := t.emergencyMachine(cmd, args[0])
			if err != nil {
				return err
			}
			e.machine = machine
			e.api, e.secret = sfn.NewFromConfig(t.cfg), args[0]
			e.out = cmd.ErrOrStderr()
			if !c.yes {
				if err := e.foretell(cmd.Context()); err != nil {
					return err
				}
			}
			if err := c.ask(cmd, "kill the credentials of "+e.secret+"?"); err != nil {
				return err
			}
			return e.act(cmd)
		},
	})
	cmd.ValidArgsFunction = t.completeARN
	f := cmd.Flags()
	f.StringVar(&t.settings.Policy, "policy", os.Getenv(deployment.EnvPolicy), "the compiled policy document ($"+deployment.EnvPolicy+")")
	f.StringVar(&t.emergency, "emergency-state-machine", os.Getenv(deployment.EnvEmergencyMachine), "ARN of the emergency state machine ($"+deployment.EnvEmergencyMachine+")")
	f.BoolVar(&e.cut, "cut", false, "refuse the stolen credential at once, before there is a new one")
	c.flag(cmd)
	return cmd
}

// emergencyMachine is the one of the secret's zone.
func (t *target) emergencyMachine(cmd *cobra.Command, secret string) (string, error) {
	if t.emergency != "" {
		if err := checkMachine("emergency-state-machine", t.emergency); err != nil {
			return "", err
		}
	}
	if err := t.resolve(cmd,
		setting{[]string{"emergency-state-machine"}, deployment.EnvEmergencyMachine, t.emergency != ""},
		setting{[]string{"policy"}, deployment.EnvPolicy, t.settings.Policy != ""}); err != nil {
		return "", err
	}
	if t.emergency == "" {
		return "", fault.New(fault.InvalidInput, "the deployment %s has no %s", t.name, deployment.EnvEmergencyMachine).
			WithHint("give --emergency-state-machine, or deploy it again")
	}
	if t.settings.Policy != "" {
		var err error
		if t.policies, err = policy.Load(t.settings.Policy); err != nil {
			return "", err
		}
	}
	zone, err := t.policies.Zone(secret)
	return awsruns.ZoneMachine(t.emergency, zone), err
}

// foretell shows what will break.
func (e *emergency) foretell(ctx context.Context) error {
	out, err := e.run(ctx, "foretell", uuid.NewString())
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "finding out what would break (--yes doesn't ask)")
	}
	var foretold struct{ Missing []string }
	if err := json.Unmarshal([]byte(aws.ToString(out.Output)), &foretold); err != nil {
		return fault.Wrap(fault.Internal, err, "reading what would break")
	}
	if len(foretold.Missing) == 0 {
		fmt.Fprintln(e.out, "nothing is known that would break")
	}
	for _, line := range foretold.Missing {
		fmt.Fprintln(e.out, "breaks:", line)
	}
	return nil
}

// act does it, and says how long the stolen credential lived on.
func (e *emergency) act(cmd *cobra.Command) error {
	began := time.Now()
	if _, err := e.run(cmd.Context(), "act", uuid.NewString()); err != nil {
		return err
	}
	if asJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), map[string]any{"secret": e.secret, "seconds": time.Since(began).Seconds()})
	}
	fmt.Fprintf(cmd.OutOrStdout(), "the stolen credentials of %s are destroyed, %.1f s after the call; a new one is current\n", e.secret, time.Since(began).Seconds())
	return nil
}

// run starts an execution and follows it to its end, showing each new state.
func (e *emergency) run(ctx context.Context, purpose, token string) (*sfn.DescribeExecutionOutput, error) {
	input, err := json.Marshal(map[string]any{"purpose": purpose, "secret": e.secret, "token": token, "cut": e.cut})
	if err != nil {
		return nil, err
	}
	started, err := e.api.StartExecution(ctx, &sfn.StartExecutionInput{
		StateMachineArn: &e.machine, Name: aws.String("emergency-" + purpose + "-" + token), Input: aws.String(string(input)),
	})
	if err != nil {
		return nil, notStarted(err)
	}
	began, shown := time.Now(), ""
	for {
		out, err := e.api.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: started.ExecutionArn})
		if err != nil {
			return nil, fault.Wrap(fault.Unavailable, err, "looking at the emergency's execution %s", aws.ToString(started.ExecutionArn))
		}
		switch out.Status {
		case types.ExecutionStatusRunning:
		case types.ExecutionStatusSucceeded:
			return out, nil
		default:
			hint := "a stolen credential may be alive: mend what the cause says and call keyturn emergency again"
			if purpose == "foretell" {
				hint = "nothing was done: mend what the cause says, or act without asking by --yes"
			}
			return nil, fault.New(fault.Internal, "the emergency ended %s %s: %s", out.Status, aws.ToString(out.Error), plainCause(aws.ToString(out.Cause))).
				WithHint("%s", hint)
		}
		if state := e.state(ctx, started.ExecutionArn); purpose == "act" && state != shown {
			fmt.Fprintf(e.out, "%6.1fs  %s\n", time.Since(began).Seconds(), state)
			shown = state
		}
		select {
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Unavailable, ctx.Err(), "watching the emergency; it goes on as %s", aws.ToString(started.ExecutionArn))
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// notStarted names the fault of a refused StartExecution.
func notStarted(err error) error {
	name, hint := fault.Unavailable, ""
	var absent *types.StateMachineDoesNotExist
	var api smithy.APIError
	switch {
	case errors.As(err, &absent):
		name, hint = fault.InvalidInput, "check --emergency-state-machine ($"+deployment.EnvEmergencyMachine+"), and the region"
	case errors.As(err, &api) && api.ErrorCode() == "AccessDeniedException":
		name, hint = fault.PermissionDenied, "you need states:StartExecution, DescribeExecution and GetExecutionHistory on it"
	}
	return &fault.Error{Name: name, Doing: "starting the emergency state machine", Hint: hint, Err: err}
}

// plainCause unpacks the cause of an execution: a state that fails puts what it
// caught, and Lambda what the function answered, in JSON one inside the other.
func plainCause(cause string) string {
	var inside struct{ Error, Cause, ErrorType, ErrorMessage string }
	if json.Unmarshal([]byte(cause), &inside) != nil {
		return cause
	}
	switch {
	case inside.Cause != "":
		return plainCause(inside.Cause)
	case inside.ErrorMessage != "":
		return inside.ErrorType + ": " + inside.ErrorMessage
	default:
		return cause
	}
}

// state is the last act that was entered; progress isn't worth an error.
func (e *emergency) state(ctx context.Context, execution *string) string {
	out, err := e.api.GetExecutionHistory(ctx, &sfn.GetExecutionHistoryInput{ExecutionArn: execution, ReverseOrder: true, MaxResults: 20})
	if err != nil {
		return ""
	}
	acts := map[string]string{
		"Mark": "marking the stolen credentials", "Cut": "cutting the stolen one off",
		"Replace": "making and promoting a new one", "Bury": "waiting until the stolen ones are destroyed",
	}
	for _, event := range out.Events {
		if d := event.StateEnteredEventDetails; d != nil && acts[aws.ToString(d.Name)] != "" {
			return acts[aws.ToString(d.Name)]
		}
	}
	return ""
}

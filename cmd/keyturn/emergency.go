package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/smithy-go"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/deployment"
)

// emergency is one call of the emergency state machine.
type emergency struct {
	api     *sfn.Client
	machine string
	secret  string
	cut     bool
	in      *bufio.Reader
	out     io.Writer // progress
}

func emergencyCommand() *cobra.Command {
	var e emergency
	var yes bool
	cmd := &cobra.Command{
		Use: "emergency SECRET-ARN", Short: "kill a stolen credential and replace it", Args: exactly("SECRET-ARN"),
		Long: "Every live credential of the secret counts as stolen. A new one is made, consumers get a short while\n" +
			"to follow (emergency in keyturn.yaml), then the stolen ones are refused, their sessions ended, and\n" +
			"they are destroyed. With --cut they are refused first: consumers fail until they have followed.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if e.machine == "" {
				return fault.New(fault.InvalidInput, "--emergency-state-machine is missing").
					WithHint("give the flag, or set %s", deployment.EnvEmergencyMachine)
			}
			if err := checkMachine("emergency-state-machine", e.machine); err != nil {
				return err
			}
			cfg, err := awsConfig(cmd.Context())
			if err != nil {
				return err
			}
			e.api, e.secret = sfn.NewFromConfig(cfg), args[0]
			e.in, e.out = bufio.NewReader(cmd.InOrStdin()), cmd.ErrOrStderr()
			if !yes {
				if err := e.confirm(cmd.Context()); err != nil {
					return err
				}
			}
			return e.act(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&e.machine, "emergency-state-machine", os.Getenv(deployment.EnvEmergencyMachine), "ARN of the emergency state machine ($"+deployment.EnvEmergencyMachine+")")
	f.BoolVar(&e.cut, "cut", false, "refuse the stolen credential at once, before there is a new one")
	f.BoolVar(&yes, "yes", false, "don't show what breaks, and don't ask")
	return cmd
}

// confirm shows what will break, and asks.
func (e *emergency) confirm(ctx context.Context) error {
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
	fmt.Fprint(e.out, "kill the credentials of "+e.secret+"? (yes/no) ")
	answer, err := e.in.ReadString('\n')
	if err != nil && answer == "" {
		return fault.New(fault.InvalidInput, "nobody answered").WithHint("give --yes where nobody can")
	}
	if strings.TrimSpace(answer) != "yes" {
		return fault.New(fault.InvalidInput, "the answer wasn't yes; nothing was done").WithHint("call it again and answer yes, or give --yes")
	}
	return nil
}

// act does it, and says how long the stolen credential lived on.
func (e *emergency) act(ctx context.Context, w io.Writer) error {
	began := time.Now()
	if _, err := e.run(ctx, "act", uuid.NewString()); err != nil {
		return err
	}
	fmt.Fprintf(w, "the stolen credentials of %s are destroyed, %.1f s after the call; a new one is current\n", e.secret, time.Since(began).Seconds())
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

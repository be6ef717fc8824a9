package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/smithy-go"
	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/stepfunctions/awsruns"
)

// unlisted stands for every secret that the policy doesn't list, or lists no more.
const unlisted = ""

// running are the executions that are going on, by the ARN of their secret. The
// labels don't show a run that has just been started, or is about to end.
func (u *uninstall) running(ctx context.Context, arns []string) (map[string][]obstacle, error) {
	going, api := map[string][]obstacle{}, sfn.NewFromConfig(u.t.cfg)
	for _, machine := range u.machines() {
		pages := sfn.NewListExecutionsPaginator(api, &sfn.ListExecutionsInput{StateMachineArn: &machine, StatusFilter: types.ExecutionStatusRunning})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, notListed(err, machine)
			}
			for _, e := range page.Executions {
				name := aws.ToString(e.Name)
				secret, err := owner(ctx, api, e, arns)
				if err != nil {
					return nil, err
				}
				going[secret] = append(going[secret], obstacle{Saw: "run " + name + " is going on", Do: "wait until it has ended", run: true})
			}
		}
	}
	return going, nil
}

// ending is how long a run may go on when the labels of its secret are at rest: its
// function writes a last record, and the machine ends.
const ending = 10 * time.Second

// settled looks at the secrets, and again as long as nothing but such runs is in the
// way: keyturn status says stable as soon as the labels do.
func (u *uninstall) settled(cmd *cobra.Command) ([]resting, error) {
	for began, said := time.Now(), false; ; {
		all, err := u.look(cmd.Context())
		if err != nil || !aboutToEnd(all) || time.Since(began) > ending {
			return all, err
		}
		if !said {
			fmt.Fprintln(cmd.ErrOrStderr(), "waiting for a run that is about to end")
			said = true
		}
		select {
		case <-cmd.Context().Done():
			return nil, fault.Wrap(fault.Unavailable, cmd.Context().Err(), "waiting for a run that is about to end")
		case <-time.After(time.Second):
		}
	}
}

// aboutToEnd tells whether runs are in the way, and nothing else.
func aboutToEnd(all []resting) bool {
	for _, s := range all {
		if slices.ContainsFunc(s.InTheWay, func(o obstacle) bool { return !o.run }) {
			return false
		}
	}
	return busy(all) > 0
}

// machines are those of every zone in which there is a secret.
func (u *uninstall) machines() []string {
	seen := map[string]bool{}
	for _, e := range u.t.policies.Entries() {
		seen[awsruns.ZoneMachine(u.t.settings.StateMachine, e.Zone)] = true
		if u.t.emergency != "" {
			seen[awsruns.ZoneMachine(u.t.emergency, e.Zone)] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// owner is whose run it is: a rotation's name begins with the hash of its secret's
// ARN, and an emergency's input names the secret.
func owner(ctx context.Context, api *sfn.Client, e types.ExecutionListItem, arns []string) (string, error) {
	name := aws.ToString(e.Name)
	for _, arn := range arns {
		prefix, _, _ := strings.Cut(rotation.RunName(arn, "", rotation.Head), "-")
		if strings.HasPrefix(name, prefix+"-") {
			return arn, nil
		}
	}
	out, err := api.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: e.ExecutionArn})
	if err != nil {
		return "", notListed(err, aws.ToString(e.StateMachineArn))
	}
	var input struct{ Secret string }
	if json.Unmarshal([]byte(aws.ToString(out.Input)), &input) == nil && slices.Contains(arns, input.Secret) {
		return input.Secret, nil
	}
	return unlisted, nil
}

// notListed names the fault of a refused look at the executions.
func notListed(err error, machine string) error {
	f := &fault.Error{Name: fault.Unavailable, Doing: "looking which executions of " + machine + " are going on", Err: err}
	var absent *types.StateMachineDoesNotExist
	var api smithy.APIError
	switch {
	case errors.As(err, &absent):
		f.Name, f.Hint = fault.InvalidInput, "is the deployment half destroyed? deploy it again, or check --state-machine"
	case errors.As(err, &api) && strings.HasPrefix(api.ErrorCode(), "AccessDenied"):
		f.Name, f.Hint = fault.PermissionDenied, "you need states:ListExecutions on it, and states:DescribeExecution on its executions"
	}
	return f
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/store/awssm"
)

func pauseCommand() *cobra.Command {
	var t target
	return t.flags(&cobra.Command{
		Use: "pause SECRET", Short: "let nothing new begin on a secret, until keyturn resume", Args: exactly("SECRET"),
		Long: "pause puts the tag " + awssm.PauseTag + " on the secret. Rotations that are asked for are refused, and the watchdog\n" +
			"starts nothing; a run that is going on goes on. An emergency isn't held up.",
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := t.secret(cmd, args[0])
			if err != nil {
				return err
			}
			err = m.Acted(cmd.Context(), m.desc.ARN, uuid.NewString(), rotation.StepPause, func() ([]string, error) {
				_, err := secretsmanager.NewFromConfig(t.cfg).TagResource(cmd.Context(), &secretsmanager.TagResourceInput{
					SecretId: &m.desc.ARN, Tags: []types.Tag{{Key: aws.String(awssm.PauseTag), Value: aws.String("by keyturn pause")}},
				})
				if err != nil {
					return nil, tagging(err, "TagResource")
				}
				return []string{"the tag " + awssm.PauseTag + " is on"}, nil
			})
			if err != nil {
				return err
			}
			if asJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), map[string]any{"secret": m.desc.ARN, "paused": true})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is paused; keyturn resume takes it up again\n", m.desc.ARN)
			if m.situation.Need != rotation.NeedNothing {
				fmt.Fprintf(cmd.OutOrStdout(), "a rotation is under way: its run goes on, and if it fails nothing starts another\n")
			}
			return nil
		},
	})
}

func resumeCommand() *cobra.Command {
	var t target
	var paused bool
	var progress io.Writer
	look := func(cmd *cobra.Command, m managed) error {
		paused, progress = m.desc.Paused, cmd.ErrOrStderr()
		return nil
	}
	ask := func(r *rotation.Rotator, ctx context.Context, secret string) (e rotation.Ensured, err error) {
		err = r.Acted(ctx, secret, uuid.NewString(), rotation.StepResume, func() (notes []string, err error) {
			if paused {
				if err := t.unpause(ctx, secret); err != nil {
					return nil, err
				}
				fmt.Fprintf(progress, "the tag %s is off\n", awssm.PauseTag)
				notes = append(notes, "the tag "+awssm.PauseTag+" is off")
			}
			if e, err = r.EnsureRun(ctx, secret, rotation.EnsureOptions{Resume: true, Retry: true}); e.Started {
				notes = append(notes, e.Run.Name+" started")
			}
			return notes, err
		})
		return e, err
	}
	return runCommand("resume", "take a pause off, and start the run that the labels ask for, also after RotationStuck", &t, look, ask)
}

func (t *target) unpause(ctx context.Context, secret string) error {
	_, err := secretsmanager.NewFromConfig(t.cfg).UntagResource(ctx, &secretsmanager.UntagResourceInput{
		SecretId: &secret, TagKeys: []string{awssm.PauseTag},
	})
	if err != nil {
		return tagging(err, "UntagResource")
	}
	return nil
}

// tagging names the fault of a refused change of tags.
func tagging(err error, action string) error {
	f := &fault.Error{Name: fault.Unavailable, Doing: "calling Secrets Manager " + action, Err: err}
	var api smithy.APIError
	if errors.As(err, &api) && strings.HasPrefix(api.ErrorCode(), "AccessDenied") {
		f.Name, f.Hint = fault.PermissionDenied, "you need secretsmanager:"+action+" on the secret; its resource policy may leave that to a break-glass role"
	}
	return f
}

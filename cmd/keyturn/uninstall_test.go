package main

import (
	"context"
	"os"
	"strconv"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/lambda"
)

var locals sync.Map // *testscript.TestScript → *localstack.AWS, of localaws

// rotating makes Secrets Manager rotate a secret some day, by a function that is
// there and isn't Keyturn's: rotating NAME FUNCTION.
func rotating(ts *testscript.TestScript, _ bool, args []string) {
	local, ok := locals.Load(ts)
	if !ok {
		ts.Fatalf("localaws comes first")
	}
	binary := ts.MkAbs("function")
	ts.Check(os.WriteFile(binary, []byte("#!/bin/sh\nexit 1\n"), 0o700))                              // #nosec G306 -- it has to be executable
	ts.Check(local.(*localstack.AWS).Lambda.Register(lambda.Function{Name: args[1], Binary: binary})) //nolint:forcetypeassert // nothing else is stored
	_, err := secretsmanager.NewFromConfig(scriptConfig(ts)).RotateSecret(context.Background(), &secretsmanager.RotateSecretInput{
		SecretId: &args[0], RotationLambdaARN: aws.String("arn:aws:lambda:" + awsproto.Region + ":" + awsproto.Account + ":function:" + args[1]),
		RotationRules: &types.RotationRulesType{AutomaticallyAfterDays: aws.Int64(30)}, RotateImmediately: aws.Bool(false),
	})
	ts.Check(err)
}

// rotationIs checks whether Secrets Manager rotates a secret: rotation NAME on|off.
func rotationIs(ts *testscript.TestScript, _ bool, args []string) {
	out, err := secretsmanager.NewFromConfig(scriptConfig(ts)).DescribeSecret(context.Background(), &secretsmanager.DescribeSecretInput{SecretId: &args[0]})
	ts.Check(err)
	if on := aws.ToBool(out.RotationEnabled); on != (args[1] == "on") {
		ts.Fatalf("the rotation of %s is on: %v", args[0], on)
	}
}

// running starts an execution for a secret, which ends by itself: running MACHINE
// SECRET SECONDS.
func running(ts *testscript.TestScript, _ bool, args []string) {
	api, cfg := sfn.NewFromConfig(scriptConfig(ts)), scriptConfig(ts)
	desc, err := secretsmanager.NewFromConfig(cfg).DescribeSecret(context.Background(), &secretsmanager.DescribeSecretInput{SecretId: &args[1]})
	ts.Check(err)
	seconds, err := strconv.Atoi(args[2])
	ts.Check(err)
	definition := marshal(ts, map[string]any{"StartAt": "Last", "States": map[string]any{
		"Last": map[string]any{"Type": "Wait", "Seconds": seconds, "End": true},
	}})
	machine := "arn:aws:states:" + awsproto.Region + ":" + awsproto.Account + ":stateMachine:" + args[0]
	_, err = api.UpdateStateMachine(context.Background(), &sfn.UpdateStateMachineInput{StateMachineArn: &machine, Definition: &definition})
	ts.Check(err)
	_, err = api.StartExecution(context.Background(), &sfn.StartExecutionInput{
		StateMachineArn: &machine, Input: aws.String(marshal(ts, map[string]string{"secret": aws.ToString(desc.ARN)})),
	})
	ts.Check(err)
}

// ended stops what runs: ended MACHINE.
func ended(ts *testscript.TestScript, _ bool, args []string) {
	api := sfn.NewFromConfig(scriptConfig(ts))
	machine := "arn:aws:states:" + awsproto.Region + ":" + awsproto.Account + ":stateMachine:" + args[0]
	out, err := api.ListExecutions(context.Background(), &sfn.ListExecutionsInput{StateMachineArn: &machine, StatusFilter: sfntypes.ExecutionStatusRunning})
	ts.Check(err)
	for _, e := range out.Executions {
		_, err := api.StopExecution(context.Background(), &sfn.StopExecutionInput{ExecutionArn: e.ExecutionArn})
		ts.Check(err)
	}
}

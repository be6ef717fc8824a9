package main

import (
	"context"
	"os"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
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

package main

import (
	"context"
	"encoding/json"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/rotation"
)

// localAWS starts a local AWS for the rest of the script: localaws.
func localAWS(ts *testscript.TestScript, _ bool, _ []string) {
	local, err := localstack.Start(context.Background(), localstack.Options{Addr: "127.0.0.1:0", Dir: ts.MkAbs(".")})
	ts.Check(err)
	ts.Defer(func() { _ = local.Close() }) // the script's verdict stands
	useLocal(ts, local)
	locals.Store(ts, local)
	ts.Defer(func() { locals.Delete(ts) })
}

// useLocal sets what a shell would, to work on a local AWS.
func useLocal(ts *testscript.TestScript, local *localstack.AWS) {
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": local.Endpoint, "AWS_REGION": awsproto.Region,
		"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		ts.Setenv(name, value)
	}
}

// secret stores a secret and sets ARN: secret NAME.
func secret(ts *testscript.TestScript, _ bool, args []string) {
	out, err := secretsmanager.NewFromConfig(scriptConfig(ts)).CreateSecret(context.Background(),
		&secretsmanager.CreateSecretInput{Name: &args[0], SecretString: aws.String("{}")})
	ts.Check(err)
	ts.Setenv("ARN", aws.ToString(out.ARN))
}

// draining gives a secret another current version, and leaves the one before it
// to a drain: draining NAME.
func draining(ts *testscript.TestScript, _ bool, args []string) {
	api := secretsmanager.NewFromConfig(scriptConfig(ts))
	before := currentVersion(ts, api, args[0])
	_, err := api.PutSecretValue(context.Background(), &secretsmanager.PutSecretValueInput{SecretId: &args[0], SecretString: aws.String("{}")})
	ts.Check(err)
	label(ts, api, args[0], before, rotation.Live(before), rotation.Retiring)
}

// pending gives a secret a version that isn't current yet: pending NAME.
func pending(ts *testscript.TestScript, _ bool, args []string) {
	api := secretsmanager.NewFromConfig(scriptConfig(ts))
	made, err := api.PutSecretValue(context.Background(), &secretsmanager.PutSecretValueInput{
		SecretId: &args[0], SecretString: aws.String("{}"), VersionStages: []string{string(rotation.Pending)},
	})
	ts.Check(err)
	version := aws.ToString(made.VersionId)
	label(ts, api, args[0], version, rotation.Live(version))
}

// currentVersion is the one that is current.
func currentVersion(ts *testscript.TestScript, api *secretsmanager.Client, name string) string {
	out, err := api.GetSecretValue(context.Background(), &secretsmanager.GetSecretValueInput{SecretId: &name})
	ts.Check(err)
	return aws.ToString(out.VersionId)
}

// label puts labels on a version that no other one has.
func label(ts *testscript.TestScript, api *secretsmanager.Client, name, version string, labels ...rotation.Label) {
	for _, l := range labels {
		_, err := api.UpdateSecretVersionStage(context.Background(), &secretsmanager.UpdateSecretVersionStageInput{
			SecretId: &name, VersionStage: aws.String(string(l)), MoveToVersionId: &version,
		})
		ts.Check(err)
	}
}

// failing makes a state machine whose executions fail as the emergency's do when
// one of its functions refuses: failing NAME.
func failing(ts *testscript.TestScript, _ bool, args []string) {
	answer := marshal(ts, map[string]string{"errorType": "Keyturn.NotManaged", "errorMessage": "not listed"})
	caught := marshal(ts, map[string]string{"Error": "Keyturn.NotManaged", "Cause": answer})
	definition := marshal(ts, map[string]any{"StartAt": "Stuck", "States": map[string]any{
		"Stuck": map[string]string{"Type": "Fail", "Error": "RotationStuck", "Cause": caught},
	}})
	_, err := sfn.NewFromConfig(scriptConfig(ts)).CreateStateMachine(context.Background(), &sfn.CreateStateMachineInput{
		Name: &args[0], Definition: &definition, RoleArn: aws.String("arn:aws:iam::" + awsproto.Account + ":role/test"),
	})
	ts.Check(err)
}

func scriptConfig(ts *testscript.TestScript) aws.Config {
	return aws.Config{
		Region: awsproto.Region, BaseEndpoint: aws.String(ts.Getenv("AWS_ENDPOINT_URL")),
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	}
}

func marshal(ts *testscript.TestScript, v any) string {
	text, err := json.Marshal(v)
	ts.Check(err)
	return string(text)
}

package main

import (
	"context"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/rotation"
)

// stolen starts a local AWS with a secret whose current credential was declared
// stolen, and whose rotation is off: stolen KEYTURN.YAML. The file's SECRET
// becomes the secret's ARN, as does the environment's.
func stolen(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithCancel(context.Background())
	ts.Defer(cancel)
	local, err := localstack.Start(ctx, localstack.Options{Addr: "127.0.0.1:0", Dir: ts.MkAbs("aws")})
	ts.Check(err)
	ts.Defer(func() { _ = local.Close() }) // it is thrown away
	api := secretsmanager.NewFromConfig(aws.Config{
		Region: awsproto.Region, BaseEndpoint: &local.Endpoint, Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
	made, err := api.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: aws.String("app"), SecretString: aws.String("{}")})
	ts.Check(err)
	version := aws.ToString(made.VersionId)
	for _, label := range []rotation.Label{rotation.Live(version), rotation.Stolen(version), rotation.Replace("11111111-1111-4111-8111-111111111111")} {
		_, err := api.UpdateSecretVersionStage(ctx, &secretsmanager.UpdateSecretVersionStageInput{
			SecretId: made.ARN, VersionStage: aws.String(string(label)), MoveToVersionId: &version,
		})
		ts.Check(err)
	}
	file := ts.MkAbs(args[0])
	text := strings.ReplaceAll(ts.ReadFile(args[0]), "SECRET", aws.ToString(made.ARN))
	ts.Check(os.WriteFile(file, []byte(text), 0o600))
	ts.Setenv("SECRET", aws.ToString(made.ARN))
	ts.Setenv("AWS_ENDPOINT_URL", local.Endpoint)
}

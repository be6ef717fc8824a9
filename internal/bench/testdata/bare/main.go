// Command bare answers: how soon is a function ready that has the same libraries
// linked and nothing of ours?
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/jackc/pgx/v5"
)

// event is empty in the benchmark; naming anything uses every library.
type event struct{ DSN, Secret, Execution string }

func main() {
	cfg := aws.Config{
		Region:      os.Getenv("AWS_REGION"),
		Credentials: credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")),
	}
	secrets, executions := secretsmanager.NewFromConfig(cfg), sfn.NewFromConfig(cfg)
	lambda.Start(func(ctx context.Context, e event) (string, error) {
		if e == (event{}) {
			return "nothing", nil
		}
		conn, err := pgx.Connect(ctx, e.DSN)
		if err != nil {
			return "", err
		}
		if _, err := conn.Exec(ctx, "SELECT 1"); err != nil {
			return "", err
		}
		if _, err := secrets.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &e.Secret}); err != nil {
			return "", err
		}
		if _, err := secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &e.Secret}); err != nil {
			return "", err
		}
		if _, err := secrets.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{SecretId: &e.Secret}); err != nil {
			return "", err
		}
		if _, err := secrets.UpdateSecretVersionStage(ctx, &secretsmanager.UpdateSecretVersionStageInput{SecretId: &e.Secret}); err != nil {
			return "", err
		}
		if _, err := executions.StartExecution(ctx, &sfn.StartExecutionInput{Name: &e.Execution}); err != nil {
			return "", err
		}
		_, err = executions.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: &e.Execution})
		return "", err
	})
}

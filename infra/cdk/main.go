// Command cdk is the smallest CDK app that deploys Keyturn: one stack for one
// account and region, from one keyturn.yaml.
//
// It takes, as context (cdk deploy -c yaml=…) or from the environment:
//
//	yaml         KEYTURN_YAML         keyturn.yaml; default keyturn.yaml
//	functions    KEYTURN_FUNCTIONS    where make functions put the functions; default ../../bin/lambda
//	keep-policy  KEYTURN_KEEP_POLICY  secrets, with commas, that keep their resource policy
//	tracing      KEYTURN_TRACING      true switches X-Ray on
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/keyturn/keyturn/infra/cdk/keyturn"
	"github.com/keyturn/keyturn/policy/account"
)

func main() {
	defer jsii.Close()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "keyturn:", err)
		jsii.Close()
		os.Exit(1) //nolint:gocritic // closed by hand
	}
}

func run() error {
	app := awscdk.NewApp(nil)
	file := setting(app, "yaml", "KEYTURN_YAML", "keyturn.yaml")
	compiled, err := keyturn.Load(file)
	if err != nil {
		return err
	}
	stack := awscdk.NewStack(app, jsii.String(compiled.Deploy.Name), &awscdk.StackProps{
		Env: environment(compiled), Description: jsii.String("Keyturn rotates credentials without an outage"),
		TerminationProtection: jsii.Bool(true),
	})
	made, err := keyturn.New(stack, "Keyturn", &keyturn.Props{
		Account: compiled, Folder: filepath.Dir(file), Functions: setting(app, "functions", "KEYTURN_FUNCTIONS", filepath.Join("..", "..", "bin", "lambda")),
		KeepPolicy: list(setting(app, "keep-policy", "KEYTURN_KEEP_POLICY", "")), Tracing: setting(app, "tracing", "KEYTURN_TRACING", "") == "true",
	})
	if err != nil {
		return err
	}
	made.Outputs(stack)
	app.Synth(nil)
	return nil
}

// setting reads a setting from the context, then from the environment.
func setting(app awscdk.App, key, variable, otherwise string) string {
	if v, ok := app.Node().TryGetContext(&key).(string); ok && v != "" {
		return v
	}
	if v := os.Getenv(variable); v != "" {
		return v
	}
	return otherwise
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// environment is where the secrets are, if their ARNs say it; else where the
// credentials of the cdk command point, if it runs this.
func environment(a account.Account) *awscdk.Environment {
	for _, s := range a.Secrets {
		if parts := strings.Split(s.Secret, ":"); len(parts) > 5 {
			return &awscdk.Environment{Region: &parts[3], Account: &parts[4]}
		}
	}
	account, region := os.Getenv("CDK_DEFAULT_ACCOUNT"), os.Getenv("CDK_DEFAULT_REGION")
	if account == "" || region == "" {
		return nil
	}
	return &awscdk.Environment{Region: &region, Account: &account}
}

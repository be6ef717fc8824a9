package conformance_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/uuid"
)

// The environment of a run against a real account.
const (
	// envReal selects the account of the environment's credentials.
	envReal = "KEYTURN_CONFORMANCE_AWS"
	// envConfirm has to be that account's number.
	envConfirm = "KEYTURN_CONFORMANCE_CONFIRM"
	// envFunction is the ARN of a function that runs testdata/python/probe.py, for
	// whoever may not make roles; otherwise one is made, with its role.
	envFunction = "KEYTURN_CONFORMANCE_FUNCTION"
)

const plan = `conformance tests against a real AWS account
  account    %s, region %s
  as         %s
  makes      about 25 secrets named %s…, tagged %s=%[5]s; each rotates a few times
             %s
  removes    all of it at the end, the secrets without recovery, also after failures and an interrupt
  costs      well under 1 USD: secrets are charged by the hour ($0.40 a month), calls $0.05 for 10,000,
             and a few hundred short invocations of Lambda; check the current prices
  if this process is killed, remove what has the tag or the name: aws secretsmanager list-secrets --filters Key=tag-key,Values=%[5]s
`

// realAccount is what was made in an account beside secrets.
type realAccount struct {
	iam     *iam.Client
	lambda  *awslambda.Client
	account *account
	// partition is aws, aws-cn or aws-us-gov, as in the caller's ARN.
	partition string

	name     string // of the role and of the function, and the prefix of everything
	role     string // ARN; "" if the function isn't ours
	retry    time.Duration
	function string // given by the environment

	mu   sync.Mutex
	made []func(context.Context) error // undo, in the order of making
}

// undo notes how something is removed, before it is made: an answer may be lost.
func (r *realAccount) undo(how func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made = append(r.made, how)
}

// gone takes what isn't there for removed.
func gone(err error) error {
	if c := code(err); c == "NoSuchEntity" || c == "ResourceNotFoundException" {
		return nil
	}
	return err
}

// openReal prints what it is going to do, and does nothing without the
// confirmation.
func openReal(ctx context.Context, cfg aws.Config, getenv func(string) string, out io.Writer) (*account, func() error, error) {
	if cfg.Region == "" {
		return nil, nil, errors.New("the environment names no region: set AWS_REGION")
	}
	who, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return nil, nil, fmt.Errorf("asking whose credentials the environment has: %w", err)
	}
	r := &realAccount{
		iam: iam.NewFromConfig(cfg), lambda: awslambda.NewFromConfig(cfg),
		name: "keyturn-conformance-" + uuid.NewString()[:8], function: getenv(envFunction), retry: 5 * time.Second,
	}
	function := "a Lambda function and its IAM role named " + r.name
	if r.function != "" {
		function = "no function: it uses " + r.function
	}
	id := aws.ToString(who.Account)
	_, _ = fmt.Fprintf(out, plan, id, cfg.Region, aws.ToString(who.Arn), r.name, ownerTag, function)
	if getenv(envConfirm) != id {
		return nil, nil, fmt.Errorf("nothing was done: set %s=%s if this is the account and you agree", envConfirm, id)
	}
	a := &account{
		secrets: sm.NewFromConfig(cfg, func(o *sm.Options) { o.RetryMaxAttempts = 8 }),
		id:      id, region: cfg.Region, prefix: r.name + "/", patience: 10 * time.Minute, real: r,
	}
	r.account, r.partition = a, strings.Split(aws.ToString(who.Arn)+":", ":")[1]
	if a.function = r.function; a.function == "" {
		if a.function, err = r.makeFunction(ctx); err != nil {
			return nil, nil, errors.Join(err, r.close())
		}
		if err := r.settle(ctx); err != nil {
			return nil, nil, errors.Join(err, r.close())
		}
	}
	return a, r.close, nil
}

// close removes everything, the latest first. Tests that still run make no more
// secrets from now on.
func (r *realAccount) close() error {
	r.account.making.Lock()
	r.account.closed = true
	r.account.making.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	err := r.removeSecrets(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, undo := range slices.Backward(r.made) {
		err = errors.Join(err, undo(ctx))
	}
	if err != nil {
		return fmt.Errorf("something of %s is left over: %w", r.name, err)
	}
	return nil
}

// removeSecrets removes what the tests knew of, what has our tag, and what has
// our name, such as the one that the AWS CLI's script has made.
func (r *realAccount) removeSecrets(ctx context.Context) error {
	arns := strings.Fields(r.account.made.text())
	var failed error
	for _, filters := range [][]smtypes.Filter{
		{{Key: smtypes.FilterNameStringTypeTagKey, Values: []string{ownerTag}}, {Key: smtypes.FilterNameStringTypeTagValue, Values: []string{r.name}}},
		{{Key: smtypes.FilterNameStringTypeName, Values: []string{r.account.prefix}}},
	} {
		pages := sm.NewListSecretsPaginator(r.account.secrets, &sm.ListSecretsInput{Filters: filters})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				failed = errors.Join(failed, err)
				break
			}
			for _, s := range page.SecretList {
				arns = append(arns, aws.ToString(s.ARN))
			}
		}
	}
	slices.Sort(arns)
	for _, arn := range slices.Compact(arns) {
		if err := r.account.remove(ctx, arn); err != nil {
			failed = errors.Join(failed, fmt.Errorf("removing %s: %w", arn, err))
		}
	}
	return failed
}

// makeFunction makes the role and the function, and lets Secrets Manager invoke it.
func (r *realAccount) makeFunction(ctx context.Context) (string, error) {
	if err := r.makeRole(ctx); err != nil {
		return "", err
	}
	arn, err := r.deploy(ctx, r.name)
	if err != nil {
		return "", err
	}
	_, err = r.lambda.AddPermission(ctx, &awslambda.AddPermissionInput{
		FunctionName: &r.name, StatementId: aws.String("SecretsManager"), Action: aws.String("lambda:InvokeFunction"),
		Principal: aws.String("secretsmanager.amazonaws.com"), SourceAccount: &r.account.id,
	})
	if err != nil {
		return "", fmt.Errorf("letting Secrets Manager invoke %s: %w", r.name, err)
	}
	return arn, nil
}

// settle rotates a secret, until it is seen that Secrets Manager may invoke the
// function and the function may do its work: what was just allowed isn't for some
// seconds (IAM user guide, "Changes that I make are not always immediately visible").
func (r *realAccount) settle(ctx context.Context) error {
	name, version := r.account.prefix+"settled", uuid.NewString()
	out, err := r.account.make(ctx, &sm.CreateSecretInput{
		Name: &name, SecretString: aws.String(`{"token":"first"}`), Tags: []smtypes.Tag{{Key: aws.String(ownerTag), Value: &r.name}},
	})
	if err != nil {
		return fmt.Errorf("making secret %s: %w", name, err)
	}
	in := (&secret{account: r.account, arn: aws.ToString(out.ARN)}).rotation(r.account.function)
	in.ClientRequestToken = &version
	const looks = 60 // between two requests; an attempt that failed is the last one until somebody asks again
	for i := range 8 * looks {
		if i%looks == 0 || code(err) == "AccessDeniedException" {
			_, err = r.account.secrets.RotateSecret(ctx, in)
		}
		if err != nil && code(err) != "AccessDeniedException" && code(err) != "InvalidRequestException" {
			break
		}
		d, seen := r.account.secrets.DescribeSecret(ctx, &sm.DescribeSecretInput{SecretId: out.ARN})
		if seen == nil && slices.Contains(d.VersionIdsToStages[version], current) {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(r.retry / 10)
	}
	return fmt.Errorf("the function %s doesn't rotate %s: %w", r.account.function, name, err)
}

// policy lets the function rotate the secrets of this run and nothing else. It
// has no log group, so that none is left over.
func (r *realAccount) policy() (string, error) {
	type statement struct{ Effect, Action, Resource any }
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []statement{
		{"Allow", []string{
			"secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue",
			"secretsmanager:UpdateSecretVersionStage", "secretsmanager:TagResource",
		}, "arn:" + r.partition + ":secretsmanager:" + r.account.region + ":" + r.account.id + ":secret:" + r.account.prefix + "*"},
		{"Allow", "secretsmanager:GetRandomPassword", "*"},
	}})
	return string(text), err
}

func (r *realAccount) makeRole(ctx context.Context) error {
	const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	r.undo(func(ctx context.Context) error {
		_, err := r.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &r.name})
		return gone(err)
	})
	role, err := r.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: &r.name, AssumeRolePolicyDocument: aws.String(trust)})
	if err != nil {
		return fmt.Errorf("making role %s: %w", r.name, err)
	}
	r.role = aws.ToString(role.Role.Arn)
	policy, err := r.policy()
	if err != nil {
		return err
	}
	r.undo(func(ctx context.Context) error {
		_, err := r.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &r.name, PolicyName: &r.name})
		return gone(err)
	})
	if _, err := r.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &r.name, PolicyName: &r.name, PolicyDocument: &policy}); err != nil {
		return fmt.Errorf("giving role %s its policy: %w", r.name, err)
	}
	return nil
}

// deploy makes a function of the probe. A role that was just made can't be
// assumed for some seconds.
func (r *realAccount) deploy(ctx context.Context, name string) (string, error) {
	code, err := zipped("rotate.py", "probe.py")
	if err != nil {
		return "", err
	}
	in := &awslambda.CreateFunctionInput{
		FunctionName: &name, Role: &r.role, Runtime: lambdatypes.RuntimePython313, Handler: aws.String("probe.handler"),
		Timeout: aws.Int32(120), Code: &lambdatypes.FunctionCode{ZipFile: code}, Tags: map[string]string{ownerTag: r.name},
	}
	r.undo(func(ctx context.Context) error {
		_, err := r.lambda.DeleteFunction(ctx, &awslambda.DeleteFunctionInput{FunctionName: &name})
		return gone(err)
	})
	var out *awslambda.CreateFunctionOutput
	for range 24 {
		var notYet *lambdatypes.InvalidParameterValueException
		if out, err = r.lambda.CreateFunction(ctx, in); !errors.As(err, &notYet) {
			break
		}
		time.Sleep(r.retry)
	}
	if err != nil {
		return "", fmt.Errorf("making function %s: %w", name, err)
	}
	wait := awslambda.NewFunctionActiveV2Waiter(r.lambda)
	if err := wait.Wait(ctx, &awslambda.GetFunctionInput{FunctionName: &name}, 5*time.Minute); err != nil {
		return "", fmt.Errorf("waiting for function %s: %w", name, err)
	}
	return aws.ToString(out.FunctionArn), nil
}

func zipped(names ...string) ([]byte, error) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join("testdata", "python", name))
		if err != nil {
			return nil, err
		}
		f, err := w.Create(name)
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(text); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

// withoutPermission adds a function whose policy names nobody, if we may make one.
func (r *realAccount) withoutPermission(t *testing.T, missing string) []string {
	t.Helper()
	if r.role == "" {
		return []string{missing}
	}
	arn, err := r.deploy(t.Context(), r.name+"-closed")
	if err != nil {
		t.Fatal(err)
	}
	return []string{missing, arn}
}

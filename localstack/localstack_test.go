package localstack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
)

const (
	rotateARN = "arn:aws:lambda:us-east-1:000000000000:function:rotate"
	watchARN  = "arn:aws:lambda:us-east-1:000000000000:function:watch"
)

// functions stands for the Lambda service: "rotate" rotates, "watch" keeps
// what EventBridge sends it.
type functions struct {
	mu      sync.Mutex
	client  *sm.Client // set after the server's start
	watched []string
}

func (f *functions) Invoke(ctx context.Context, name string, payload []byte) (host.Invocation, error) {
	var e struct {
		Step, SecretID, ClientRequestToken, RotationToken string
		Detail                                            struct{ EventName string }
	}
	if err := json.Unmarshal(payload, &e); err != nil {
		return host.Invocation{}, err
	}
	f.mu.Lock()
	client := f.client
	f.mu.Unlock()
	var err error
	switch {
	case name == watchARN:
		f.mu.Lock()
		f.watched = append(f.watched, e.Detail.EventName)
		f.mu.Unlock()
	case name != rotateARN:
		return host.Invocation{}, awsproto.Errorf("ResourceNotFoundException", "no function %s", name)
	case e.Step == "createSecret":
		_, err = client.PutSecretValue(ctx, &sm.PutSecretValueInput{
			SecretId: &e.SecretID, ClientRequestToken: &e.ClientRequestToken, RotationToken: &e.RotationToken,
			SecretString: aws.String("new"), VersionStages: []string{"AWSPENDING"},
		})
	case e.Step == "finishSecret":
		err = finish(ctx, client, e.SecretID, e.ClientRequestToken)
	}
	if err != nil {
		return host.Invocation{FunctionError: "Unhandled", Payload: []byte(`{"errorType":"Failed"}`)}, nil //nolint:nilerr // the answer carries it
	}
	return host.Invocation{Payload: []byte("null")}, nil
}

func finish(ctx context.Context, client *sm.Client, id, token string) error {
	d, err := client.DescribeSecret(ctx, &sm.DescribeSecretInput{SecretId: &id})
	if err != nil {
		return err
	}
	for version, labels := range d.VersionIdsToStages {
		if slices.Contains(labels, "AWSCURRENT") {
			_, err = client.UpdateSecretVersionStage(ctx, &sm.UpdateSecretVersionStageInput{
				SecretId: &id, VersionStage: aws.String("AWSCURRENT"), MoveToVersionId: &token, RemoveFromVersionId: &version,
			})
		}
	}
	return err
}

func start(t *testing.T) (*localstack.AWS, *functions) {
	t.Helper()
	f := &functions{}
	a, err := localstack.Start(t.Context(), localstack.Options{Addr: "127.0.0.1:0", Invoker: f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.client = sm.New(sm.Options{Region: "us-east-1", BaseEndpoint: &a.Endpoint, Credentials: identity()})
	return a, f
}

func identity() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider("AKIATEST", "unused", "")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestAWSCLI is the independent client: what it prints is what an operator sees.
func TestAWSCLI(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("aws"); err != nil {
		t.Fatal("this test drives the AWS CLI: install it (Debian and Ubuntu: apt-get install awscli) so that aws is in PATH")
	}
	a, _ := start(t)
	run := func(args ...string) map[string]any {
		t.Helper()
		out := map[string]any{}
		stdout, stderr, err := cli(t, a.Endpoint, args...)
		if err != nil {
			t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, stderr)
		}
		if len(bytes.TrimSpace(stdout)) > 0 {
			if err := json.Unmarshal(stdout, &out); err != nil {
				t.Fatalf("aws %s printed %s: %v", strings.Join(args, " "), stdout, err)
			}
		}
		return out
	}
	labels := func() map[string]any {
		t.Helper()
		m, _ := run("secretsmanager", "describe-secret", "--secret-id", "app/db")["VersionIdsToStages"].(map[string]any)
		return m
	}
	holds := func(version any, label string) bool {
		list, _ := labels()[version.(string)].([]any)
		return slices.Contains(list, any(label))
	}
	if who := run("sts", "get-caller-identity"); who["Arn"] != "arn:aws:iam::000000000000:user/AKIACLI" {
		t.Errorf("caller %v", who)
	}
	old := run("secretsmanager", "create-secret", "--name", "app/db", "--secret-string", "old")["VersionId"]
	if !holds(old, "AWSCURRENT") {
		t.Errorf("labels after create-secret: %v", labels())
	}
	rotated := run("secretsmanager", "rotate-secret", "--secret-id", "app/db",
		"--rotation-lambda-arn", rotateARN, "--rotation-rules", "AutomaticallyAfterDays=30")["VersionId"]
	eventually(t, "AWSCURRENT on the new version", func() bool { return holds(rotated, "AWSCURRENT") })
	if !holds(old, "AWSPREVIOUS") {
		t.Errorf("labels after rotate-secret: %v", labels())
	}
	if got := run("secretsmanager", "get-secret-value", "--secret-id", "app/db"); got["SecretString"] != "new" || got["VersionId"] != rotated {
		t.Errorf("get-secret-value: %v", got)
	}
	_, stderr, err := cli(t, a.Endpoint, "secretsmanager", "update-secret-version-stage", "--secret-id", "app/db",
		"--version-stage", "AWSCURRENT", "--move-to-version-id", old.(string))
	if err == nil || !strings.Contains(string(stderr), "(InvalidParameterException)") {
		t.Errorf("moving AWSCURRENT without --remove-from-version-id: %v\n%s", err, stderr)
	}
	run("secretsmanager", "update-secret-version-stage", "--secret-id", "app/db", "--version-stage", "AWSCURRENT",
		"--move-to-version-id", old.(string), "--remove-from-version-id", rotated.(string))
	if !holds(old, "AWSCURRENT") || !holds(rotated, "AWSPREVIOUS") {
		t.Errorf("labels after moving AWSCURRENT back: %v", labels())
	}
}

func cli(t *testing.T, endpoint string, args ...string) (stdout, stderr []byte, err error) {
	t.Helper()
	// Debian's version of the CLI doesn't know AWS_ENDPOINT_URL.
	cmd := exec.CommandContext(t.Context(), "aws", append([]string{"--endpoint-url", endpoint}, args...)...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=AKIACLI", "AWS_SECRET_ACCESS_KEY=unused",
		"AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_DEFAULT_OUTPUT=json", "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE="+home+"/config", "AWS_SHARED_CREDENTIALS_FILE="+home+"/credentials")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.Bytes(), errOut.Bytes(), err
}

func TestC8_RotationEventsReachATarget(t *testing.T) {
	t.Parallel()
	a, f := start(t)
	ctx := t.Context()
	eb := eventbridge.New(eventbridge.Options{Region: "us-east-1", BaseEndpoint: &a.Endpoint, Credentials: identity()})
	_, err := eb.PutRule(ctx, &eventbridge.PutRuleInput{
		Name:         aws.String("rotations"),
		EventPattern: aws.String(`{"source":["aws.secretsmanager"],"detail":{"eventName":["RotationSucceeded","PutSecretValue","GetSecretValue"]}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = eb.PutTargets(ctx, &eventbridge.PutTargetsInput{
		Rule: aws.String("rotations"), Targets: []ebtypes.Target{{Id: aws.String("1"), Arn: aws.String(watchARN)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.client.CreateSecret(ctx, &sm.CreateSecretInput{Name: aws.String("s"), SecretString: aws.String("old")}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client.GetSecretValue(ctx, &sm.GetSecretValueInput{SecretId: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client.RotateSecret(ctx, &sm.RotateSecretInput{SecretId: aws.String("s"), RotationLambdaARN: aws.String(rotateARN)}); err != nil {
		t.Fatal(err)
	}
	watched := func() []string {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.Sorted(slices.Values(f.watched))
	}
	eventually(t, "two events", func() bool { return len(watched()) >= 2 })
	if got := watched(); !slices.Equal(got, []string{"PutSecretValue", "RotationSucceeded"}) {
		t.Errorf("events %v; reads don't reach a rule that is only ENABLED", got)
	}
}

// TestARotationStartsAStateMachine goes through every service: Secrets Manager,
// its rotation function, EventBridge, Step Functions and an aws-sdk integration.
func TestARotationStartsAStateMachine(t *testing.T) {
	t.Parallel()
	a, f := start(t)
	ctx := t.Context()
	machines := sfn.New(sfn.Options{Region: "us-east-1", BaseEndpoint: &a.Endpoint, Credentials: identity()})
	role := aws.String("arn:aws:iam::000000000000:role/r")
	machine, err := machines.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{
		Name: aws.String("after"), RoleArn: role, Definition: aws.String(`{"StartAt":"Describe","States":{"Describe":{
			"Type":"Task","Resource":"arn:aws:states:::aws-sdk:secretsmanager:describeSecret",
			"Parameters":{"SecretId.$":"$.detail.additionalEventData.SecretId"},
			"ResultSelector":{"name.$":"$.Name"},"End":true}}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	eb := eventbridge.New(eventbridge.Options{Region: "us-east-1", BaseEndpoint: &a.Endpoint, Credentials: identity()})
	if _, err := eb.PutRule(ctx, &eventbridge.PutRuleInput{
		Name: aws.String("done"), EventPattern: aws.String(`{"source":["aws.secretsmanager"],"detail":{"eventName":["RotationSucceeded"]}}`),
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := eb.PutTargets(ctx, &eventbridge.PutTargetsInput{
		Rule: aws.String("done"), Targets: []ebtypes.Target{{Id: aws.String("1"), Arn: machine.StateMachineArn, RoleArn: role}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client.CreateSecret(ctx, &sm.CreateSecretInput{Name: aws.String("app/db"), SecretString: aws.String("old")}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client.RotateSecret(ctx, &sm.RotateSecretInput{SecretId: aws.String("app/db"), RotationLambdaARN: aws.String(rotateARN)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the execution", func() bool {
		list, err := machines.ListExecutions(ctx, &sfn.ListExecutionsInput{StateMachineArn: machine.StateMachineArn})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Executions) == 0 {
			return false
		}
		d, err := machines.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: list.Executions[0].ExecutionArn})
		if err != nil {
			t.Fatal(err)
		}
		if d.Status == sfntypes.ExecutionStatusFailed {
			t.Fatalf("%s: %s", aws.ToString(d.Error), aws.ToString(d.Cause))
		}
		return d.Status == sfntypes.ExecutionStatusSucceeded && aws.ToString(d.Output) == `{"name":"app/db"}`
	})
}

func TestSTS(t *testing.T) {
	t.Parallel()
	a, _ := start(t)
	client := sts.New(sts.Options{Region: "us-east-1", BaseEndpoint: &a.Endpoint, Credentials: identity(), RetryMaxAttempts: 1})
	out, err := client.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || *out.Account != awsproto.Account || *out.Arn != "arn:aws:iam::000000000000:user/AKIATEST" || *out.UserId != "AKIATEST" {
		t.Errorf("GetCallerIdentity: %+v, %v", out, err)
	}
	if _, err := client.GetSessionToken(t.Context(), &sts.GetSessionTokenInput{}); err == nil || !strings.Contains(err.Error(), "InvalidAction") {
		t.Errorf("GetSessionToken: %v", err)
	}
}

func TestControl(t *testing.T) {
	t.Parallel()
	a, _ := start(t)
	request := func(method, path, body string) (int, map[string]any) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, a.Endpoint+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var out map[string]any
		if err := json.Unmarshal(text, &out); err != nil {
			t.Fatalf("%s %s answered %s", method, path, text)
		}
		return resp.StatusCode, out
	}
	if status, out := request("GET", "/_keyturn/health", ""); status != 200 || out["status"] != "ok" {
		t.Errorf("health: %d %v", status, out)
	}
	before := a.Clock.Now()
	if status, out := request("POST", "/_keyturn/clock/advance", `{"seconds":3600}`); status != 200 {
		t.Errorf("advance: %d %v", status, out)
	}
	if moved := a.Clock.Now().Sub(before); moved < time.Hour {
		t.Errorf("the clock moved by %s", moved)
	}
	for _, body := range []string{`{"seconds":-1}`, `{"hours":1}`, ``} {
		if status, _ := request("POST", "/_keyturn/clock/advance", body); status != 400 {
			t.Errorf("advance %s: %d", body, status)
		}
	}
	if status, _ := request("GET", "/nothing", ""); status != 404 {
		t.Errorf("an unknown path: %d", status)
	}
}

func TestCallServiceByIntegrationNames(t *testing.T) {
	t.Parallel()
	a, _ := start(t)
	out, err := a.CallService(t.Context(), "secretsmanager", "getRandomPassword", []byte(`{"PasswordLength":8}`))
	var got struct{ RandomPassword string }
	if err != nil || json.Unmarshal(out, &got) != nil || len(got.RandomPassword) != 8 {
		t.Errorf("CallService: %v", err)
	}
	if _, err := a.CallService(t.Context(), "dynamodb", "putItem", nil); err == nil {
		t.Error("a service that isn't there was called")
	}
}

func TestCloseDoesNotWaitForAnUnusedConnection(t *testing.T) {
	t.Parallel()
	a, f := start(t)
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(a.Endpoint, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// The server takes connections in turn: once it has answered on a later
	// one, it has taken the first.
	if _, err := f.client.ListSecrets(t.Context(), &sm.ListSecretsInput{}); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestASecondServerOnThePortSaysWhatToDo(t *testing.T) {
	t.Parallel()
	a, _ := start(t)
	_, err := localstack.Start(t.Context(), localstack.Options{Addr: strings.TrimPrefix(a.Endpoint, "http://")})
	if err == nil || !strings.Contains(err.Error(), "is another one running") {
		t.Errorf("error = %v", err)
	}
}

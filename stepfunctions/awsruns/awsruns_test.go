package awsruns_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/stepfunctions/awsruns"
)

const definition = `{"StartAt":"Way","States":{
	"Way":{"Type":"Choice","Choices":[{"Variable":"$.token","StringEquals":"fail","Next":"Bad"}],"Default":"Hold"},
	"Hold":{"Type":"Wait","Seconds":3600,"Next":"Good"},
	"Bad":{"Type":"Fail","Error":"RotationStuck","Cause":"{\"Error\":\"Keyturn.Internal\"}"},
	"Good":{"Type":"Succeed"}}}`

func setup(t *testing.T) (*awsruns.Runs, *localstack.AWS) {
	t.Helper()
	running, err := localstack.Start(t.Context(), localstack.Options{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Close() })
	api := sfn.NewFromConfig(aws.Config{
		Region: awsproto.Region, BaseEndpoint: &running.Endpoint,
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
	out, err := api.CreateStateMachine(t.Context(), &sfn.CreateStateMachineInput{
		Name: aws.String("m"), Definition: aws.String(definition), RoleArn: aws.String("arn:aws:iam::000000000000:role/m"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return &awsruns.Runs{API: api, StateMachine: func(secret string) (string, error) {
		if secret != "s" {
			return "", fmt.Errorf("who is %s?", secret)
		}
		return *out.StateMachineArn, nil
	}}, running
}

func describe(t *testing.T, r *awsruns.Runs, name string, ended bool) rotation.Run {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		run, err := r.Describe(t.Context(), "s", name)
		if err != nil {
			t.Fatal(err)
		}
		if !ended || run.Status != rotation.RunRunning || time.Now().After(deadline) {
			return run
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// held waits until an execution's clock runs: an hour that passes before doesn't
// count.
func held(t *testing.T, r *awsruns.Runs, name string) {
	t.Helper()
	machine, err := r.StateMachine("s")
	if err != nil {
		t.Fatal(err)
	}
	arn := strings.Replace(machine, ":stateMachine:", ":execution:", 1) + ":" + name
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		out, err := r.API.(*sfn.Client).GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{ExecutionArn: &arn})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range out.Events {
			if e.Type == types.HistoryEventTypeWaitStateEntered {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s doesn't wait: %d events", name, len(out.Events))
		}
	}
}

func TestStartIsAClaim(t *testing.T) {
	t.Parallel()
	r, running := setup(t)
	if run := describe(t, r, "a", false); run.Status != rotation.RunAbsent {
		t.Fatalf("before: %+v", run)
	}
	for _, token := range []string{"t", "t", "another"} {
		if err := r.Start(t.Context(), "a", rotation.Input{Secret: "s", Token: token}); err != nil {
			t.Fatalf("claiming with token %s: %v", token, err)
		}
	}
	if run := describe(t, r, "a", false); run.Status != rotation.RunRunning || !run.Stopped.IsZero() {
		t.Errorf("running: %+v", run)
	}
	held(t, r, "a") // Start doesn't wait until the execution has come that far
	running.Clock.Advance(time.Hour)
	if run := describe(t, r, "a", true); run.Status != rotation.RunSucceeded || run.Stopped.IsZero() {
		t.Errorf("ended: %+v", run)
	}
	if err := r.Start(t.Context(), "a", rotation.Input{Secret: "s", Token: "t"}); err != nil {
		t.Errorf("a name of the past: %v", err)
	}
	if run := describe(t, r, "a", false); run.Status != rotation.RunSucceeded {
		t.Errorf("a name of the past was started again: %+v", run)
	}
}

func TestDescribeTellsHowARunFailed(t *testing.T) {
	t.Parallel()
	r, _ := setup(t)
	if err := r.Start(t.Context(), "b", rotation.Input{Secret: "s", Token: "fail"}); err != nil {
		t.Fatal(err)
	}
	run := describe(t, r, "b", true)
	if run.Status != rotation.RunFailed || run.Error != "RotationStuck" || run.Cause != `{"Error":"Keyturn.Internal"}` {
		t.Errorf("%+v", run)
	}
}

func TestNoStepFunctionsIsUnavailable(t *testing.T) {
	t.Parallel()
	r, running := setup(t)
	_ = running.Close()
	if _, err := r.Describe(t.Context(), "s", "a"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
}

// A zone's secrets have a state machine of their own.
func TestARunIsFoundInItsSecretsMachine(t *testing.T) {
	t.Parallel()
	r, _ := setup(t)
	if _, err := r.Describe(t.Context(), "another", "a"); err == nil || r.Start(t.Context(), "a", rotation.Input{Secret: "another"}) == nil || r.Stop(t.Context(), "another", "a", "") == nil {
		t.Errorf("a secret without a machine: %v", err)
	}
	const arn = "arn:aws:states:us-east-1:000000000000:stateMachine:keyturn-rotation"
	if core, none := awsruns.ZoneMachine(arn, "core"), awsruns.ZoneMachine(arn, ""); core != arn+"-core" || none != arn {
		t.Errorf("%s, %s", core, none)
	}
}

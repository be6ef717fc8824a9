package stepfunctions_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/localstack/stepfunctions"
)

func TestMachines(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t, stepfunctions.Config{}), t.Context()
	arn := b.create("m", machine(onlyAPass))
	if *arn != "arn:aws:states:us-east-1:000000000000:stateMachine:m" {
		t.Errorf("ARN %s", *arn)
	}
	if again := b.create("m", machine(onlyAPass)); *again != *arn {
		t.Errorf("created again as %s", *again)
	}
	_, err := b.client.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{Name: aws.String("m"), Definition: aws.String(machine(waitADay)), RoleArn: aws.String(role)})
	var exists *types.StateMachineAlreadyExists
	if !errors.As(err, &exists) {
		t.Errorf("another definition: %v", err)
	}
	before := b.end(b.start(arn, "before", `{}`))
	up, err := b.client.UpdateStateMachine(ctx, &sfn.UpdateStateMachineInput{StateMachineArn: arn, Definition: aws.String(machine(strings.Replace(onlyAPass, "true}", "false}", 1)))})
	if err != nil || aws.ToString(up.RevisionId) == "" {
		t.Fatalf("update: %+v, %v", up, err)
	}
	after := b.end(b.start(arn, "after", `{}`))
	if aws.ToString(before.Output) != `{"done":true}` || aws.ToString(after.Output) != `{"done":false}` {
		t.Errorf("before %s, after %s", aws.ToString(before.Output), aws.ToString(after.Output))
	}
	d, err := b.client.DescribeStateMachine(ctx, &sfn.DescribeStateMachineInput{StateMachineArn: arn})
	if err != nil || d.Status != types.StateMachineStatusActive || d.Type != types.StateMachineTypeStandard || *d.RevisionId != *up.RevisionId ||
		*d.RoleArn != role || d.LoggingConfiguration.Level != types.LogLevelOff {
		t.Errorf("describe: %+v, %v", d, err)
	}
	of, err := b.client.DescribeStateMachineForExecution(ctx, &sfn.DescribeStateMachineForExecutionInput{ExecutionArn: before.ExecutionArn})
	if err != nil || *of.Definition != machine(onlyAPass) {
		t.Errorf("of the first execution: %+v, %v", of, err)
	}
	b.create("a", machine(onlyAPass))
	list, err := b.client.ListStateMachines(ctx, &sfn.ListStateMachinesInput{MaxResults: 1})
	if err != nil || *list.StateMachines[0].Name != "a" || list.NextToken == nil {
		t.Errorf("list: %+v, %v", list, err)
	}
	if list, err = b.client.ListStateMachines(ctx, &sfn.ListStateMachinesInput{NextToken: list.NextToken}); err != nil || *list.StateMachines[0].Name != "m" || list.NextToken != nil {
		t.Errorf("list on: %+v, %v", list, err)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t, stepfunctions.Config{}), t.Context()
	arn := b.create("m", machine(waitADay))
	run := b.start(arn, "r", `{}`)
	for range 2 {
		if _, err := b.client.DeleteStateMachine(ctx, &sfn.DeleteStateMachineInput{StateMachineArn: arn}); err != nil {
			t.Fatal(err)
		}
	}
	d, err := b.client.DescribeStateMachine(ctx, &sfn.DescribeStateMachineInput{StateMachineArn: arn})
	if err != nil || d.Status != types.StateMachineStatusDeleting {
		t.Errorf("while it runs: %+v, %v", d, err)
	}
	var deleting *types.StateMachineDeleting
	if _, err := b.client.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: arn}); !errors.As(err, &deleting) {
		t.Errorf("start: %v", err)
	}
	b.eventually("it ends", func() bool {
		b.clock.Advance(6 * time.Hour)
		return b.describe(run).Status == types.ExecutionStatusSucceeded
	})
	b.eventually("the machine is gone", func() bool {
		var gone *types.StateMachineDoesNotExist
		_, err := b.client.DescribeStateMachine(ctx, &sfn.DescribeStateMachineInput{StateMachineArn: arn})
		return errors.As(err, &gone)
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t, stepfunctions.Config{}), t.Context()
	arn := b.create("m", machine(onlyAPass))
	create := func(in sfn.CreateStateMachineInput) error {
		if in.Name == nil {
			in.Name = aws.String("n")
		}
		if in.Definition == nil {
			in.Definition = aws.String(machine(onlyAPass))
		}
		if in.RoleArn == nil {
			in.RoleArn = aws.String(role)
		}
		_, err := b.client.CreateStateMachine(ctx, &in)
		return err
	}
	start := func(in sfn.StartExecutionInput) error {
		if in.StateMachineArn == nil {
			in.StateMachineArn = arn
		}
		_, err := b.client.StartExecution(ctx, &in)
		return err
	}
	describe := func(arn string) error {
		_, err := b.client.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: &arn})
		return err
	}
	_, history := b.client.GetExecutionHistory(ctx, &sfn.GetExecutionHistoryInput{ExecutionArn: b.start(arn, "r", `{}`), NextToken: aws.String("x")})
	_, update := b.client.UpdateStateMachine(ctx, &sfn.UpdateStateMachineInput{StateMachineArn: arn})
	_, activity := b.client.CreateActivity(ctx, &sfn.CreateActivityInput{Name: aws.String("x")})
	for _, tt := range []struct {
		name, code, text string
		err              error
	}{
		{"bad definition", "InvalidDefinition", "Field 'Nxt' is not supported at /States/A/Nxt", create(sfn.CreateStateMachineInput{Definition: aws.String(machine(`"A":{"Type":"Succeed","Nxt":"B"}`))})},
		{"forgotten placeholder", "InvalidDefinition", "${setSecret}", create(sfn.CreateStateMachineInput{Definition: aws.String(machine(`"A":{` + call("${setSecret}") + `,"End":true}`))})},
		{"bad name", "InvalidName", "", create(sfn.CreateStateMachineInput{Name: aws.String("a b")})},
		{"bad role", "InvalidArn", "", create(sfn.CreateStateMachineInput{RoleArn: aws.String("r")})},
		{"express", "StateMachineTypeNotSupported", "", create(sfn.CreateStateMachineInput{Type: types.StateMachineTypeExpress})},
		{"version", "SerializationException", "publish", create(sfn.CreateStateMachineInput{Publish: true})},
		{"no machine", "StateMachineDoesNotExist", "", start(sfn.StartExecutionInput{StateMachineArn: aws.String(*arn + "x")})},
		{"no ARN", "InvalidArn", "", start(sfn.StartExecutionInput{StateMachineArn: aws.String("m")})},
		{"no JSON", "InvalidExecutionInput", "", start(sfn.StartExecutionInput{Input: aws.String("{")})},
		{"too long", "ValidationException", "262144", start(sfn.StartExecutionInput{Input: aws.String(`"` + strings.Repeat("x", 262_144) + `"`)})},
		{"far too long", "ValidationException", "", start(sfn.StartExecutionInput{Input: aws.String(`"` + strings.Repeat("x", 2<<20) + `"`)})},
		{"no execution", "ExecutionDoesNotExist", "", describe("arn:aws:states:us-east-1:000000000000:execution:m:none")},
		{"no execution's ARN", "InvalidArn", "", describe("none")},
		{"token", "InvalidToken", "", history},
		{"nothing to update", "MissingRequiredParameter", "", update},
		{"unknown action", "UnknownOperationException", "CreateActivity", activity},
	} {
		var e smithy.APIError
		if !errors.As(tt.err, &e) || e.ErrorCode() != tt.code || !strings.Contains(e.ErrorMessage(), tt.text) {
			t.Errorf("%s: got %v, want %s", tt.name, tt.err, tt.code)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	b := setup(t, stepfunctions.Config{})
	ok, err := b.client.ValidateStateMachineDefinition(t.Context(), &sfn.ValidateStateMachineDefinitionInput{Definition: aws.String(machine(onlyAPass))})
	if err != nil || ok.Result != types.ValidateStateMachineDefinitionResultCodeOk || len(ok.Diagnostics) != 0 {
		t.Errorf("good: %+v, %v", ok, err)
	}
	bad, err := b.client.ValidateStateMachineDefinition(t.Context(), &sfn.ValidateStateMachineDefinitionInput{Definition: aws.String(machine(`"A":{"Type":"Pass","Next":"B"}`))})
	if err != nil || bad.Result != types.ValidateStateMachineDefinitionResultCodeFail || len(bad.Diagnostics) != 1 ||
		aws.ToString(bad.Diagnostics[0].Code) != "MISSING_TRANSITION_TARGET" || aws.ToString(bad.Diagnostics[0].Location) != "/States/A/Next" {
		t.Errorf("bad: %+v, %v", bad, err)
	}
}

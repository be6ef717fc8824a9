package keyturn_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/infra/cdk/keyturn"
	"github.com/keyturn/keyturn/rotation"
)

func TestCreatedSecrets(t *testing.T) {
	tp := synth(t, zones).template
	_, r := tp.one(t, "AWS::SecretsManager::Secret", named("Name", "payments/db"))
	want := map[string]any{
		"Name": "payments/db", "Description": "Rotated by Keyturn (pay), kind postgres",
		"KmsKeyId": "arn:aws:kms:eu-central-1:111122223333:key/bbbbbbbb-1111-2222-3333-444444444444",
	}
	if diff := cmp.Diff(want, r.Properties); diff != "" {
		t.Errorf("the created secret (-want +got):\n%s", diff)
	}
	if made := synth(t, minimal).template.of("AWS::SecretsManager::Secret"); len(made) > 0 {
		t.Errorf("a secret that exists is made: %v", made)
	}
}

// Secrets Manager drives what keyturn.yaml says and schedules, never at once, and
// never what the machine drives.
func TestSchedules(t *testing.T) {
	for _, name := range configurations {
		d := synth(t, name)
		made := map[string]resource{}
		for _, id := range d.template.of("AWS::SecretsManager::RotationSchedule") {
			r := d.template.Resources[id]
			made[text(r.Properties["SecretId"])] = r
		}
		for _, s := range d.account.Secrets {
			secret, zone := s.Secret, "${KeyturnZone"+s.Zone
			if s.Create {
				secret = "${" + d.template.of("AWS::SecretsManager::Secret")[0] + "}"
			}
			r, scheduled := made[secret]
			delete(made, secret)
			if want := s.Schedule != "" && s.Driver == rotation.DriverSecretsManager; scheduled != want {
				t.Errorf("%s: %s has a schedule: %v, want %v", name, secret, scheduled, want)
				continue
			} else if !want {
				continue
			}
			rules := map[string]any{"ScheduleExpression": s.Schedule}
			if s.ScheduleWindow > 0 {
				rules["Duration"] = "2h"
			}
			if diff := cmp.Diff([]any{false, rules}, []any{r.Properties["RotateImmediatelyOnUpdate"], r.Properties["RotationRules"]}); diff != "" {
				t.Errorf("%s: schedule of %s (-want +got):\n%s", name, secret, diff)
			}
			function := text(r.Properties["RotationLambdaARN"])
			if !strings.HasPrefix(function, zone) || !strings.Contains(function, "rotateSecretAlias") {
				t.Errorf("%s: %s is rotated by %s", name, secret, function)
			}
			if !slices.ContainsFunc(r.DependsOn, func(id string) bool { return d.template.Resources[id].Type == "AWS::Lambda::Permission" }) {
				t.Errorf("%s: the schedule of %s may come before the permission to call the function", name, secret)
			}
		}
		if len(made) > 0 {
			t.Errorf("%s: schedules of no secret: %v", name, slices.Collect(maps.Keys(made)))
		}
	}
}

// Forty secrets with one line of schedule don't begin to rotate at one moment.
func TestSchedulesAreSpread(t *testing.T) {
	starts := map[string]int{}
	tp := synth(t, many).template
	for _, id := range tp.of("AWS::SecretsManager::RotationSchedule") {
		starts[text(at(tp.Resources[id].Properties, "RotationRules", "ScheduleExpression"))]++
	}
	if most := slices.Max(slices.Collect(maps.Values(starts))); len(starts) < 20 || most > 4 {
		t.Errorf("36 rotations begin at %d moments, %d at one of them", len(starts), most)
	}
}

func TestSecretsManagerMayCallTheRotationFunctions(t *testing.T) {
	tp := synth(t, zones).template
	var called []string
	for _, id := range tp.of("AWS::Lambda::Permission") {
		p := tp.Resources[id].Properties
		if p["Principal"] != "secretsmanager.amazonaws.com" {
			continue
		}
		called = append(called, strings.Trim(text(p["FunctionName"]), "${}")[:len("KeyturnZonecorerotateSecretAlias")])
		if p["SourceAccount"] != "111122223333" || p["Action"] != "lambda:InvokeFunction" {
			t.Errorf("Secrets Manager may %v for account %v", p["Action"], p["SourceAccount"])
		}
	}
	slices.Sort(called)
	if diff := cmp.Diff([]string{"KeyturnZonecorerotateSecretAlias", "KeyturnZoneedgerotateSecretAlias"}, called); diff != "" {
		t.Errorf("Secrets Manager may call (-want +got):\n%s", diff)
	}
}

// CloudFormation makes what changed its logical id before it deletes the old one,
// and the deletion would undo it: nothing but the secret's name decides the ids.
func TestIDsFollowFromTheName(t *testing.T) {
	ids := func(d *deployed) []string {
		return slices.Sorted(slices.Values(append(d.template.of("AWS::SecretsManager::RotationSchedule"), d.template.of("AWS::SecretsManager::ResourcePolicy")...)))
	}
	compiled := compileFile(t, zones)
	compiled.Secrets = slices.Clone(compiled.Secrets)
	slices.Reverse(compiled.Secrets)
	for i, s := range compiled.Secrets {
		if s.Create { // it exists by now, and is listed by its ARN in the other zone
			compiled.Secrets[i].Create, compiled.Secrets[i].Zone, compiled.Secrets[i].Secret = false, "edge", secretARN+s.Secret+"-ZyXwVu"
		}
	}
	d, err := build(t, keyturn.Props{Account: compiled, Folder: "testdata", Functions: builtFunctions(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(d.folder) })
	if diff := cmp.Diff(ids(synth(t, zones)), ids(d)); diff != "" {
		t.Errorf("logical ids (-before +after):\n%s", diff)
	}
}

// What a managed secret's policy keeps others from, and whom it spares.
func TestSecretPolicies(t *testing.T) {
	d := synth(t, zones)
	policyOf := func(secret string) []statement {
		_, r := d.template.one(t, "AWS::SecretsManager::ResourcePolicy", named("SecretId", secret))
		if r.Properties["BlockPublicPolicy"] != true {
			t.Errorf("the policy of %s may be public", secret)
		}
		return statements(r.Properties["ResourcePolicy"])
	}
	role := func(function string) string { return "${" + d.template.roleOf(t, function) + ".Arn}" }
	const (
		person   = "arn:aws:iam::111122223333:role/admin"
		glass    = "arn:aws:iam::111122223333:role/break-glass"
		operator = "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/eu-central-1/AWSReservedSSO_Operators_0123"
		root     = "arn:aws:iam::111122223333:root"
		cdk      = "arn:aws:iam::111122223333:role/cdk-hnb659fds-cfn-exec-role-111122223333-eu-central-1"
	)
	byCloudFormation := map[string][]string{"aws:CalledVia": {"cloudformation.amazonaws.com"}}
	bySomethingElse := map[string][]string{"aws:CalledVia": {"athena.amazonaws.com"}}
	_, machine := d.template.one(t, "AWS::SecretsManager::RotationSchedule", named("SecretId", sessions))
	ours := map[string][]string{"secretsmanager:RotationLambdaARN": {text(machine.Properties["RotationLambdaARN"])}}
	theirs := map[string][]string{"secretsmanager:RotationLambdaARN": {"arn:aws:lambda:eu-central-1:111122223333:function:theirs"}}
	created := "${" + d.template.of("AWS::SecretsManager::Secret")[0] + "}"
	for _, tt := range []struct {
		secret, who, action string
		keys                map[string][]string
		denied              bool
	}{
		// Values and labels: the functions that write this secret, and who may break the glass.
		{sessions, person, "PutSecretValue", nil, true},
		{sessions, person, "UpdateSecretVersionStage", nil, true},
		{sessions, person, "DeleteSecret", nil, true},
		{sessions, cdk, "PutSecretValue", byCloudFormation, true},
		{sessions, person, "PutSecretValue", byCloudFormation, true},
		{sessions, glass, "PutSecretValue", nil, false},
		{sessions, operator, "UpdateSecretVersionStage", nil, false},
		{sessions, root, "PutSecretValue", nil, false},
		{sessions, role("pay-edge-rotateSecret"), "PutSecretValue", nil, false},
		{sessions, role("pay-watchdog"), "UpdateSecretVersionStage", nil, false},
		{sessions, role("pay-edge-setSecret"), "UpdateSecretVersionStage", nil, true}, // this zone's machine drives nothing
		{reports, role("pay-core-setSecret"), "UpdateSecretVersionStage", nil, false},
		{sessions, role("pay-core-rotateSecret"), "PutSecretValue", nil, true}, // of another zone
		{sessions, role("pay-edge-cutSecret"), "UpdateSecretVersionStage", nil, true},
		// A value can come by UpdateSecret, and a tag pauses: nobody but break-glass, and CloudFormation for what it made.
		{sessions, person, "UpdateSecret", nil, true},
		{sessions, person, "UpdateSecret", byCloudFormation, true},
		{sessions, role("pay-edge-rotateSecret"), "UpdateSecret", nil, true},
		{sessions, operator, "TagResource", nil, false},
		{created, person, "TagResource", byCloudFormation, false},
		{created, cdk, "UpdateSecret", nil, false},
		{created, person, "UntagResource", nil, true},
		// Configuration: the deployment's too, whether CloudFormation has a role or the person's rights.
		{sessions, person, "PutResourcePolicy", nil, true},
		{sessions, person, "DeleteResourcePolicy", bySomethingElse, true},
		{sessions, person, "PutResourcePolicy", byCloudFormation, false},
		{sessions, cdk, "DeleteResourcePolicy", byCloudFormation, false},
		{sessions, cdk, "DeleteResourcePolicy", nil, false},
		{sessions, root, "DeleteResourcePolicy", nil, false},
		{sessions, person, "CancelRotateSecret", nil, true},
		{sessions, person, "CancelRotateSecret", byCloudFormation, false},
		// Rotating, by our function, and reading stay as they are.
		{sessions, person, "RotateSecret", nil, false},
		{sessions, person, "RotateSecret", ours, false},
		{sessions, person, "RotateSecret", theirs, true},
		{sessions, cdk, "RotateSecret", ours, false},
		{sessions, glass, "RotateSecret", theirs, false},
		{sessions, person, "GetSecretValue", nil, false},
		{sessions, person, "DescribeSecret", nil, false},
	} {
		c := call{Who: tt.who, Action: "secretsmanager:" + tt.action, Keys: tt.keys}
		if got := denies(t, policyOf(tt.secret), c); got != tt.denied {
			t.Errorf("%s: %s by %s with %v is denied: %v, want %v", tt.secret, tt.action, tt.who, tt.keys, got, tt.denied)
		}
	}
	for _, s := range policyOf(sessions) {
		if !s.Deny {
			t.Errorf("the policy allows something: %+v", s)
		}
	}
}

// Every secret has its policy, but those that keep the one they have.
func TestKeptPolicies(t *testing.T) {
	for _, name := range configurations {
		d := synth(t, name)
		if got, want := len(d.template.of("AWS::SecretsManager::ResourcePolicy")), len(d.account.Secrets); got != want {
			t.Errorf("%s: %d secrets have policies, of %d", name, got, want)
		}
	}
	d := synth(t, otherwise)
	for _, id := range d.template.of("AWS::SecretsManager::ResourcePolicy") {
		if text(d.template.Resources[id].Properties["SecretId"]) == sessions {
			t.Error("a policy that was to be kept is replaced")
		}
	}
	if got := len(d.made.SecretStatements[sessions]); got != 4 || len(d.made.SecretStatements) != 1 {
		t.Errorf("statements to be added to it by hand: %d, of %d secrets", got, len(d.made.SecretStatements))
	}
}

func TestProps(t *testing.T) {
	d := synth(t, otherwise)
	for _, id := range d.template.of("AWS::StepFunctions::StateMachine") {
		if at(d.template.Resources[id].Properties, "TracingConfiguration", "Enabled") != true {
			t.Errorf("%s isn't traced", id)
		}
	}
	for _, id := range d.template.of("AWS::Logs::LogGroup") {
		if got := d.template.Resources[id].Properties["RetentionInDays"]; got != 30.0 {
			t.Errorf("%s keeps for %v days", id, got)
		}
	}
}

// Secrets Manager would be a second driver.
func TestTheMachinesSecretsHaveNoSchedule(t *testing.T) {
	d := synth(t, otherwise)
	for _, id := range d.template.of("AWS::SecretsManager::RotationSchedule") {
		if text(d.template.Resources[id].Properties["SecretId"]) == reports {
			t.Errorf("%s schedules what the machine drives", id)
		}
	}
}

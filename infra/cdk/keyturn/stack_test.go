package keyturn_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/infra/cdk/keyturn"
)

func TestNothingIsFoundByTheChecks(t *testing.T) {
	for _, name := range configurations {
		d := synth(t, name)
		for _, e := range d.errors {
			t.Errorf("%s: %s", name, e)
		}
		var warned bool
		for _, w := range d.warnings {
			if !strings.Contains(w, "break_glass") {
				t.Errorf("%s: %s", name, w)
			}
			warned = true
		}
		if empty := len(d.account.Deploy.BreakGlass) == 0; warned != empty {
			t.Errorf("%s: warned of an empty break_glass: %v; it is empty: %v", name, warned, empty)
		}
	}
}

// Whatever the checks let pass has a reason in the template.
func TestEverySuppressionHasAReason(t *testing.T) {
	for id, r := range synth(t, zones).template.Resources {
		list, _ := at(r.Metadata, "cdk_nag", "rules_to_suppress").([]any)
		for _, rule := range list {
			if reason := text(at(rule, "reason")); len(reason) < 40 {
				t.Errorf("%s: %s is suppressed because %q", id, text(at(rule, "id")), reason)
			}
		}
	}
}

// plain are the types that are used; each has to be known to what deploys the
// template elsewhere. No custom resource is among them.
var plain = []string{
	"AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard", "AWS::EC2::SecurityGroup", "AWS::Events::Rule", "AWS::IAM::Role",
	"AWS::KMS::Key", "AWS::Lambda::Alias", "AWS::Lambda::EventInvokeConfig", "AWS::Lambda::Function", "AWS::Lambda::Permission",
	"AWS::Lambda::Version", "AWS::Logs::LogGroup", "AWS::Logs::SubscriptionFilter", "AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::SNS::Topic", "AWS::SNS::TopicPolicy",
	"AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "AWS::SecretsManager::ResourcePolicy", "AWS::SecretsManager::RotationSchedule",
	"AWS::SecretsManager::Secret", "AWS::StepFunctions::StateMachine",
}

func TestOnlyPlainResources(t *testing.T) {
	for _, name := range configurations {
		for id, r := range synth(t, name).template.Resources {
			if !slices.Contains(plain, r.Type) {
				t.Errorf("%s: %s has type %s", name, id, r.Type)
			}
		}
	}
}

// What would be lost, or couldn't be read any more, stays when the stack goes; what
// a first deployment that failed has made doesn't.
func TestWhatStays(t *testing.T) {
	keeps := []string{"AWS::KMS::Key", "AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::SecretsManager::Secret"}
	for id, r := range synth(t, zones).template.Resources {
		want := "" // CloudFormation's default: deleted
		switch {
		case slices.Contains(keeps, r.Type), r.Type == "AWS::Logs::LogGroup" && r.Properties["LogGroupName"] == nil:
			want = "RetainExceptOnCreate"
		case r.Type == "AWS::Lambda::Version":
			want = "Retain"
		}
		if r.DeletionPolicy != want {
			t.Errorf("%s (%s): DeletionPolicy %q, want %q", id, r.Type, r.DeletionPolicy, want)
		}
	}
}

// A log group that stays and has a name would be in the way of the next
// deployment; those of the state machines have one, and go.
func TestLogGroups(t *testing.T) {
	for _, name := range configurations {
		tp := synth(t, name).template
		for _, id := range tp.of("AWS::Logs::LogGroup") {
			p := tp.Resources[id].Properties
			if p["RetentionInDays"] != 400.0 || !strings.HasSuffix(text(p["KmsKeyId"]), ".Arn}") {
				t.Errorf("%s: %s keeps for %v days under key %s", name, id, p["RetentionInDays"], text(p["KmsKeyId"]))
			}
		}
	}
}

// Bounds of CloudFormation, IAM and Secrets Manager (their quotas).
func TestLimits(t *testing.T) {
	for _, name := range configurations {
		d := synth(t, name)
		if n := len(d.template.Resources); n >= 500 {
			t.Errorf("%s: %d resources; a stack has 500", name, n)
		}
		raw, err := os.ReadFile(filepath.Join(d.folder, "Stack.template.json"))
		if err != nil || len(raw) > 1<<20 {
			t.Errorf("%s: the template has %d bytes, %v; CloudFormation takes a megabyte", name, len(raw), err)
		}
		for _, id := range d.template.of("AWS::IAM::Role") {
			if n := length(at(d.template.Resources[id].Properties, "Policies")); n > keyturn.MostRolePolicy {
				t.Errorf("%s: the policy of %s has %d characters", name, id, n)
			}
		}
		for _, id := range d.template.of("AWS::SecretsManager::ResourcePolicy") {
			if n := length(at(d.template.Resources[id].Properties, "ResourcePolicy")); n > keyturn.MostSecretPolicy {
				t.Errorf("%s: the policy %s has %d characters", name, id, n)
			}
		}
	}
}

// length spells a policy out with ARNs as long as they become.
func length(v any) int {
	raw, _ := json.Marshal(spelled(v))
	return len(raw)
}

func spelled(v any) any {
	switch v := v.(type) {
	case []any:
		list := []any{}
		for _, one := range v {
			list = append(list, spelled(one))
		}
		return list
	case map[string]any:
		if _, isRef := v["Ref"]; isRef || v["Fn::GetAtt"] != nil || v["Fn::Join"] != nil {
			return text(v) + strings.Repeat("x", 40)
		}
		m := map[string]any{}
		for k, one := range v {
			m[k] = spelled(one)
		}
		return m
	}
	return v
}

// A stack that can't be deployed isn't synthesized.
func TestWhatCantBeDeployed(t *testing.T) {
	whole := func() keyturn.Props {
		return keyturn.Props{Account: compileFile(t, zones), Folder: "testdata", Functions: builtFunctions(t)}
	}
	crowd := whole()
	crowd.Account = compileFile(t, many)
	first := crowd.Account.Secrets[0]
	for i := range 200 {
		one := first
		one.Secret = strings.Replace(first.Secret, "service-00", "service-x"+strings.Repeat("i", i), 1)
		crowd.Account.Secrets = append(crowd.Account.Secrets, one)
	}
	elsewhere := whole()
	elsewhere.Account.Secrets = slices.Clone(elsewhere.Account.Secrets)
	elsewhere.Account.Secrets[1].Secret = strings.Replace(elsewhere.Account.Secrets[1].Secret, "eu-central-1", "eu-west-1", 1)
	unbuilt := whole()
	unbuilt.Functions = t.TempDir()
	escaped := whole()
	escaped.Account.Secrets = slices.Clone(escaped.Account.Secrets)
	escaped.Account.Secrets[0].Files = []string{"../ca.pem"}
	missing := whole()
	missing.Folder = t.TempDir()
	for name, tt := range map[string]struct {
		props keyturn.Props
		says  string
	}{
		"no functions named":      {keyturn.Props{Account: whole().Account}, "bin/lambda"},
		"no account":              {keyturn.Props{Functions: "bin"}, "keyturn.yaml"},
		"functions aren't built":  {unbuilt, "make functions"},
		"a file outside":          {escaped, "put it beside keyturn.yaml"},
		"a file that is missing":  {missing, "certificates/internal.pem"},
		"a secret elsewhere":      {elsewhere, "eu-west-1"},
		"too much for one policy": {crowd, "divide them among zones"},
	} {
		if _, err := build(t, tt.props); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOutputs(t *testing.T) {
	d := synth(t, zones)
	got := map[string]string{}
	for id, o := range d.template.Outputs {
		got[id] = text(at(o, "Value"))
	}
	bucket, _ := d.template.one(t, "AWS::S3::Bucket", func(resource) bool { return true })
	group, _ := d.template.one(t, "AWS::EC2::SecurityGroup", func(resource) bool { return true })
	want := map[string]string{
		"AuditBucket": "${" + bucket + "}", "Topic": "arn:aws:sns:eu-central-1:111122223333:oncall",
		"StateMachine":          "arn:aws:states:eu-central-1:111122223333:stateMachine:pay-rotation",
		"EmergencyStateMachine": "arn:aws:states:eu-central-1:111122223333:stateMachine:pay-emergency",
		"SecurityGroupcore":     "${" + group + ".GroupId}",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
}

package keyturn_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/infra/cdk/keyturn"
)

func keysOf[V any](m map[string]V) func(func(string) bool) { return maps.Keys(m) }

// rules are a configuration's, by name.
func rules(tp template) map[string]resource {
	all := map[string]resource{}
	for _, id := range tp.of("AWS::Events::Rule") {
		r := tp.Resources[id]
		all[text(r.Properties["Name"])] = r
	}
	return all
}

func TestRules(t *testing.T) {
	var pings []string
	for _, zone := range []string{"core", "edge"} {
		for _, n := range []string{"1", "2", "3"} {
			pings = append(pings, "pay-ping-"+zone+"-"+n)
		}
	}
	for name, want := range map[string][]string{
		minimal: {"keyturn-calls", "keyturn-daily", "keyturn-findings", "keyturn-key-rotations", "keyturn-records", "keyturn-rotations", "keyturn-runs", "keyturn-watch"},
		zones:   append([]string{"pay-calls", "pay-daily", "pay-findings", "pay-key-rotations", "pay-records", "pay-rotations", "pay-runs", "pay-watch"}, pings...),
	} {
		slices.Sort(want)
		if diff := cmp.Diff(want, slices.Sorted(keysOf(rules(synth(t, name).template)))); diff != "" {
			t.Errorf("%s: rules (-want +got):\n%s", name, diff)
		}
	}
}

// An event that isn't delivered lies in a queue, each function may be called by
// the rules that call it, and EventBridge's bounds hold.
func TestTargets(t *testing.T) {
	for _, name := range configurations {
		tp := synth(t, name).template
		allowed := map[string]bool{}
		for _, id := range tp.of("AWS::Lambda::Permission") {
			p := tp.Resources[id].Properties
			if p["Principal"] == "events.amazonaws.com" {
				allowed[text(p["SourceArn"])+" "+text(p["FunctionName"])] = true
			}
		}
		for _, id := range tp.of("AWS::Events::Rule") {
			p := tp.Resources[id].Properties
			targets, _ := p["Targets"].([]any)
			if len(targets) < 1 || len(targets) > 5 || p["State"] != "ENABLED" || p["EventBusName"] != nil {
				t.Errorf("%s: %s has %d targets, state %v, bus %v", name, id, len(targets), p["State"], p["EventBusName"])
			}
			if raw, _ := json.Marshal(spelled(p["EventPattern"])); len(raw) > 2048 {
				t.Errorf("%s: the pattern of %s has %d characters", name, id, len(raw))
			}
			for _, target := range targets {
				arn := text(at(target, "Arn"))
				if strings.Contains(arn, "Alias") && !allowed["${"+id+".Arn} "+arn] {
					t.Errorf("%s: %s may not call %s", name, id, arn)
				}
				if !strings.Contains(text(at(target, "DeadLetterConfig", "Arn")), "Undelivered") || at(target, "RetryPolicy") == nil {
					t.Errorf("%s: what %s can't deliver is lost", name, id)
				}
			}
		}
	}
}

func TestPatterns(t *testing.T) {
	tp := synth(t, zones).template
	all := rules(tp)
	bucket := map[string]any{"Ref": tp.of("AWS::S3::Bucket")[0]}
	data, _ := tp.one(t, "AWS::KMS::Key", func(r resource) bool { return r.Properties["KeyUsage"] == nil })
	for name, want := range map[string]any{
		"pay-rotations": map[string]any{
			"source": []any{"aws.secretsmanager"}, "detail-type": []any{"AWS Service Event via CloudTrail"},
			"detail": map[string]any{"eventName": []any{"RotationSucceeded", "RotationFailed", "RotationAbandoned"}},
		},
		"pay-findings": map[string]any{"source": []any{"keyturn"}, "detail-type": []any{"Keyturn Finding"}},
		"pay-key-rotations": map[string]any{
			"source": []any{"aws.kms"}, "detail-type": []any{"KMS CMK Rotation"},
			"resources": []any{
				"arn:aws:kms:eu-central-1:111122223333:key/aaaaaaaa-1111-2222-3333-444444444444",
				"arn:aws:kms:eu-central-1:111122223333:key/bbbbbbbb-1111-2222-3333-444444444444",
				map[string]any{"Fn::GetAtt": []any{data, "Arn"}},
			},
		},
		"pay-records": map[string]any{
			"source": []any{"aws.s3"}, "detail-type": []any{"Object Created"},
			"detail": map[string]any{"bucket": map[string]any{"name": []any{bucket}}, "object": map[string]any{"key": []any{map[string]any{"prefix": "records/"}}}},
		},
		"pay-watch": nil,
		"pay-daily": nil,
	} {
		if diff := cmp.Diff(want, all[name].Properties["EventPattern"]); diff != "" {
			t.Errorf("%s waits for (-want +got):\n%s", name, diff)
		}
	}
	if got := all["pay-watch"].Properties["ScheduleExpression"]; got != "rate(1 minute)" {
		t.Errorf("the watchdog looks at %v", got)
	}
	runs := at(all["pay-runs"].Properties, "EventPattern", "detail")
	machines := []string{"arn:aws:states:eu-central-1:111122223333:stateMachine:pay-rotation-core", "arn:aws:states:eu-central-1:111122223333:stateMachine:pay-rotation-edge"}
	if diff := cmp.Diff(machines, texts(at(runs, "stateMachineArn"))); diff != "" {
		t.Errorf("the watchdog hears of (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"}, texts(at(runs, "status"))); diff != "" {
		t.Errorf("the watchdog hears of (-want +got):\n%s", diff)
	}
}

// Calls of anybody but Keyturn's own roles reach the audit function: those of
// other roles, and of users and root, whose events name no role.
func TestCallsOfOthers(t *testing.T) {
	tp := synth(t, zones).template
	detail := at(rules(tp)["pay-calls"].Properties, "EventPattern", "detail")
	for _, must := range []string{"PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage", "DeleteSecret", "PutResourcePolicy", "CancelRotateSecret", "TagResource", "UntagResource"} {
		if !slices.Contains(texts(at(detail, "eventName")), must) {
			t.Errorf("%s isn't seen", must)
		}
	}
	alternatives, _ := at(detail, "$or").([]any)
	issuer := func(of any) any {
		list, _ := at(of, "userIdentity", "sessionContext", "sessionIssuer", "arn").([]any)
		return list[0]
	}
	if len(alternatives) != 2 || at(issuer(alternatives[0]), "exists") != false {
		t.Fatalf("calls by %v are seen", alternatives)
	}
	ours := text(at(issuer(alternatives[1]), "anything-but", "prefix"))
	if ours != "arn:aws:iam::111122223333:role/keyturn/pay/" {
		t.Errorf("calls by %s… aren't seen", ours)
	}
	for _, id := range tp.of("AWS::IAM::Role") {
		if path := tp.Resources[id].Properties["Path"]; path != "/keyturn/pay/" {
			t.Errorf("%s has path %v", id, path)
		}
	}
}

// Each function of a VPC is called once a day; those outside have no network
// interfaces to lose.
func TestPings(t *testing.T) {
	tp := synth(t, zones).template
	pinged := map[string]int{}
	for name, r := range rules(tp) {
		if !strings.Contains(name, "-ping-") {
			continue
		}
		for _, target := range r.Properties["Targets"].([]any) {
			if text(at(target, "Input")) != `{"ping":true}` || r.Properties["ScheduleExpression"] != "rate(1 day)" {
				t.Errorf("%s sends %s at %v", name, text(at(target, "Input")), r.Properties["ScheduleExpression"])
			}
			alias := tp.Resources[strings.Trim(text(at(target, "Arn")), "${}")]
			function := tp.Resources[strings.Trim(text(alias.Properties["FunctionName"]), "${}")]
			pinged[text(function.Properties["FunctionName"])]++
		}
	}
	want := map[string]int{}
	for _, folder := range keyturn.ZoneFunctions() {
		want["pay-core-"+folder], want["pay-edge-"+folder] = 1, 1
	}
	want["pay-core-lateLogin"] = 1
	if diff := cmp.Diff(want, pinged); diff != "" {
		t.Errorf("pings (-want +got):\n%s", diff)
	}
}

// A finding becomes a message that says what to do.
func TestFindingsAsMessages(t *testing.T) {
	tp := synth(t, zones).template
	target := rules(tp)["pay-findings"].Properties["Targets"].([]any)[0]
	if got := text(at(target, "Arn")); got != "arn:aws:sns:eu-central-1:111122223333:oncall" {
		t.Errorf("findings go to %s", got)
	}
	message := text(at(target, "InputTransformer", "InputTemplate"))
	paths, _ := at(target, "InputTransformer", "InputPathsMap").(map[string]any)
	for variable, path := range paths {
		if !strings.Contains(message, "<"+variable+">") || !strings.HasPrefix(text(path), "$.") {
			t.Errorf("%s (%v) isn't in the message", variable, path)
		}
	}
	for _, field := range []string{"finding", "secret", "version", "saw", "do"} { // rotation.Finding's JSON
		if text(paths[field]) != "$.detail."+field {
			t.Errorf("the message has no %s", field)
		}
	}
}

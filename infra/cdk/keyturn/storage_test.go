package keyturn_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAuditBucket(t *testing.T) {
	for name, want := range map[string]struct {
		mode string
		days float64
	}{minimal: {"GOVERNANCE", 400}, zones: {"COMPLIANCE", 2555}} {
		tp := synth(t, name).template
		_, r := tp.one(t, "AWS::S3::Bucket", func(resource) bool { return true })
		p := r.Properties
		rule := at(p, "ObjectLockConfiguration", "Rule", "DefaultRetention")
		got := []any{p["ObjectLockEnabled"], at(rule, "Mode"), at(rule, "Days"), at(p, "VersioningConfiguration", "Status"), p["BucketName"],
			at(p, "NotificationConfiguration", "EventBridgeConfiguration", "EventBridgeEnabled")}
		if diff := cmp.Diff([]any{true, want.mode, want.days, "Enabled", nil, true}, got); diff != "" {
			t.Errorf("%s: the bucket (-want +got):\n%s", name, diff)
		}
		for _, block := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
			if at(p, "PublicAccessBlockConfiguration", block) != true {
				t.Errorf("%s: %s is off", name, block)
			}
		}
	}
}

// Nobody changes, hides or unlocks a record, and nobody writes without a lock on
// its key: not root either, of whom S3 keeps the right to mend the policy.
func TestBucketPolicy(t *testing.T) {
	tp := synth(t, zones).template
	_, r := tp.one(t, "AWS::S3::BucketPolicy", func(resource) bool { return true })
	all := statements(r.Properties["PolicyDocument"])
	secure := func(more ...string) map[string][]string {
		keys := map[string][]string{"aws:SecureTransport": {"true"}}
		for i := 0; i < len(more); i += 2 {
			keys[more[i]] = []string{more[i+1]}
		}
		return keys
	}
	const person, glass = "arn:aws:iam::111122223333:role/admin", "arn:aws:iam::111122223333:role/break-glass"
	for _, tt := range []struct {
		who, action string
		keys        map[string][]string
		denied      bool
	}{
		{person, "s3:PutObject", secure("s3:if-none-match", "*"), false},
		{person, "s3:PutObject", secure(), true},
		{glass, "s3:PutObject", secure(), true},
		{person, "s3:GetObject", secure(), false},
		{person, "s3:GetObject", map[string][]string{"aws:SecureTransport": {"false"}}, true},
		{glass, "s3:DeleteObject", secure(), true},
		{person, "s3:BypassGovernanceRetention", secure(), true},
		{person, "s3:PutObjectRetention", secure(), true},
		{glass, "s3:BypassGovernanceRetention", secure(), false},
		{person, "s3:PutBucketPolicy", secure(), false},
	} {
		if got := denies(t, all, call{Who: tt.who, Action: tt.action, Keys: tt.keys}); got != tt.denied {
			t.Errorf("%s by %s with %v is denied: %v, want %v", tt.action, tt.who, tt.keys, got, tt.denied)
		}
	}
	bucket := "${" + tp.of("AWS::S3::Bucket")[0] + ".Arn}"
	for _, s := range all {
		if s.Sid != "OnceOnly" && s.Sid != "NothingHidden" {
			continue
		}
		for _, prefix := range []string{"records", "heads", "refusals", "evidence", "manifests"} {
			if !slices.Contains(s.Resources, bucket+"/"+prefix+"/*") {
				t.Errorf("%s doesn't hold for %s/", s.Sid, prefix)
			}
		}
	}
}

func TestKeys(t *testing.T) {
	tp := synth(t, minimal).template
	if n := len(tp.of("AWS::KMS::Key")); n != 2 {
		t.Fatalf("%d keys", n)
	}
	_, signing := tp.one(t, "AWS::KMS::Key", named("KeyUsage", "SIGN_VERIFY"))
	if signing.Properties["KeySpec"] != "ECC_NIST_P256" {
		t.Errorf("the signing key is %v", signing.Properties["KeySpec"])
	}
	data, r := tp.one(t, "AWS::KMS::Key", func(r resource) bool { return r.Properties["KeyUsage"] == nil })
	if r.Properties["EnableKeyRotation"] != true {
		t.Error("the key isn't rotated")
	}
	may := map[string]bool{}
	for _, s := range statements(r.Properties["KeyPolicy"]) {
		who := text(at(s.Principal, "Service")) + text(at(s.Principal, "AWS"))
		may[who] = true
		// EventBridge's requests carry no source; a condition would drop its messages.
		if strings.Contains(who, "events.") != (s.Condition == nil) && !strings.Contains(who, ":root") {
			t.Errorf("%s uses the key on condition %v", who, s.Condition)
		}
	}
	for _, who := range []string{"logs.eu-central-1.amazonaws.com", "cloudwatch.amazonaws.com", "events.amazonaws.com"} {
		if !slices.ContainsFunc(slices.Sorted(keysOf(may)), func(k string) bool { return strings.HasPrefix(k, who) }) {
			t.Errorf("%s can't use the key", who)
		}
	}
	for kind, property := range map[string]string{"AWS::SNS::Topic": "KmsMasterKeyId", "AWS::SQS::Queue": "KmsMasterKeyId", "AWS::Logs::LogGroup": "KmsKeyId"} {
		for _, id := range tp.of(kind) {
			if got := text(tp.Resources[id].Properties[property]); got != "${"+data+".Arn}" {
				t.Errorf("%s lies under key %q", id, got)
			}
		}
	}
}

func TestTopicAndQueues(t *testing.T) {
	tp := synth(t, minimal).template
	_, topic := tp.one(t, "AWS::SNS::TopicPolicy", func(resource) bool { return true })
	publishers := []string{}
	for _, s := range statements(topic.Properties["PolicyDocument"]) {
		if !s.Deny {
			publishers = append(publishers, text(at(s.Principal, "Service")))
		}
	}
	if diff := cmp.Diff([]string{"events.amazonaws.com", "cloudwatch.amazonaws.com"}, publishers); diff != "" {
		t.Errorf("publishers (-want +got):\n%s", diff)
	}
	plaintext := call{Action: "sqs:SendMessage", Keys: map[string][]string{"aws:SecureTransport": {"false"}}}
	for _, id := range tp.of("AWS::SQS::QueuePolicy") {
		if !denies(t, statements(tp.Resources[id].Properties["PolicyDocument"]), plaintext) {
			t.Errorf("%s lets messages come without TLS", id)
		}
	}
	if own := synth(t, zones).template; len(own.of("AWS::SNS::Topic"))+len(own.of("AWS::SNS::TopicPolicy")) > 0 {
		t.Error("a topic is made beside the account's own")
	}
}

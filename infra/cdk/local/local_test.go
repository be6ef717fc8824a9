package local_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/bucket"
)

// What is deployed rotates: by RotateSecret, by events alone, and by its schedule;
// it keeps its trail in the bucket, and tells what others do.
func TestADeployedStackRotates(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	before, old := d.current()
	if !d.works(old) {
		t.Fatal("the first login doesn't work")
	}

	t.Log("by aws secretsmanager rotate-secret")
	d.rotate()
	d.rotated(before)
	second, login := d.current()
	if d.works(old) || !d.works(login) {
		t.Errorf("the old login works: %v, the new one: %v", d.works(old), d.works(login))
	}

	t.Log("by events, without the watchdog's look every minute")
	bus := eventbridge.NewFromConfig(d.config)
	if _, err := bus.DisableRule(t.Context(), &eventbridge.DisableRuleInput{Name: aws.String("shop-watch")}); err != nil {
		t.Fatal(err)
	}
	d.rotate()
	d.rotated(second)
	third, _ := d.current()
	if _, err := bus.EnableRule(t.Context(), &eventbridge.EnableRuleInput{Name: aws.String("shop-watch")}); err != nil {
		t.Fatal(err)
	}

	t.Log("by its schedule")
	d.aws.Clock.Advance(5 * time.Hour)
	d.rotated(third)

	d.checkTrail()
	d.checkAudit()
	d.checkNothingWasLost()
}

func (d *deployed) rotate() {
	d.t.Helper()
	if _, err := d.secrets.RotateSecret(d.t.Context(), &secretsmanager.RotateSecretInput{SecretId: &d.secret}); err != nil {
		d.t.Fatal(err)
	}
}

// ledger is the audit bucket.
func (d *deployed) ledger() *bucket.Ledger {
	return &bucket.Ledger{API: s3.NewFromConfig(d.config), Bucket: d.Of("AWS::S3::Bucket")[0].Ref}
}

func (d *deployed) checkTrail() {
	d.t.Helper()
	s, err := audit.Verify(d.t.Context(), d.ledger(), d.secret)
	if err != nil || len(s.Chains) < 3 || s.Records < 30 {
		d.t.Errorf("the trail has %d records in %d chains, %v", s.Records, len(s.Chains), err)
	}
}

// checkAudit: a person's write is told to people, and the day has its manifest.
func (d *deployed) checkAudit() {
	d.t.Helper()
	for line := range strings.Lines(d.told()) {
		if strings.Contains(line, " called ") && !strings.Contains(line, "user/deployer called RotateSecret") {
			d.t.Errorf("Keyturn's own call is told as somebody else's: %s", line)
		}
	}
	if _, err := d.secrets.TagResource(d.t.Context(), &secretsmanager.TagResourceInput{
		SecretId: &d.secret, Tags: []smtypes.Tag{{Key: aws.String("note"), Value: aws.String("by hand")}},
	}); err != nil {
		d.t.Fatal(err)
	}
	d.within(time.Minute, func() bool { return strings.Contains(d.told(), "called TagResource") }, func() string {
		return "a person's call was told nobody: " + d.told() + d.logs.String()
	})
	d.aws.Clock.Advance(24 * time.Hour)
	d.within(time.Minute, func() bool {
		all, err := audit.Manifests(d.t.Context(), d.ledger())
		return err == nil && len(all) > 0 && len(all[0].Signature) > 0 && len(all[0].Of(d.secret)) > 0
	}, func() string { return "no manifest was published\n" + d.logs.String() })
	if !strings.Contains(d.logs.String(), `"OldCredentialSeconds"`) || !strings.Contains(d.logs.String(), `"Findings":0`) {
		d.t.Error("metrics weren't written")
	}
}

// told is what went to the topic.
func (d *deployed) told() string {
	var text strings.Builder
	for _, m := range d.aws.SNS.Messages(d.Of("AWS::SNS::Topic")[0].Ref) {
		text.WriteString(m.Body + "\n")
	}
	return text.String()
}

// checkNothingWasLost: no event was given up, and no function has failed.
func (d *deployed) checkNothingWasLost() {
	d.t.Helper()
	for _, q := range d.Of("AWS::SQS::Queue") {
		out, err := sqs.NewFromConfig(d.config).GetQueueAttributes(d.t.Context(), &sqs.GetQueueAttributesInput{
			QueueUrl: &q.Ref, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameApproximateNumberOfMessages},
		})
		if err != nil || out.Attributes["ApproximateNumberOfMessages"] != "0" {
			d.t.Errorf("%s holds %v, %v", q.Ref, out.Attributes, err)
		}
	}
	for _, f := range d.Of("AWS::Lambda::Function") {
		s, ok := d.aws.Lambda.Stats(f.Ref)
		if !ok || s.Errors > 0 {
			d.t.Errorf("%s: %d of %d invocations failed", f.Ref, s.Errors, s.Invocations)
		}
	}
}

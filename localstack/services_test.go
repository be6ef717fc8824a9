package localstack_test

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// TestAFindingReachesItsTopicAndALostEventItsQueue goes from EventBridge through
// SNS and SQS, each by its own client on the one port.
func TestAFindingReachesItsTopicAndALostEventItsQueue(t *testing.T) {
	t.Parallel()
	a, _ := start(t)
	ctx := t.Context()
	topics := sns.New(sns.Options{Region: "us-east-1", BaseEndpoint: &a.Endpoint, Credentials: identity()})
	queues := sqs.New(sqs.Options{Region: "us-east-1", BaseEndpoint: &a.Endpoint, Credentials: identity()})
	eb := eventbridge.New(eventbridge.Options{Region: "us-east-1", BaseEndpoint: &a.Endpoint, Credentials: identity()})
	topic, err := topics.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("findings")})
	if err != nil {
		t.Fatal(err)
	}
	queue, err := queues.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("dead")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := eb.PutRule(ctx, &eventbridge.PutRuleInput{Name: aws.String("findings"), EventPattern: aws.String(`{"source":["keyturn"]}`)}); err != nil {
		t.Fatal(err)
	}
	dead := &ebtypes.DeadLetterConfig{Arn: aws.String("arn:aws:sqs:us-east-1:000000000000:dead")}
	if _, err := eb.PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: aws.String("findings"), Targets: []ebtypes.Target{
		{Id: aws.String("topic"), Arn: topic.TopicArn, DeadLetterConfig: dead, InputTransformer: &ebtypes.InputTransformer{
			InputPathsMap: map[string]string{"kind": "$.detail.kind"}, InputTemplate: aws.String(`{"finding":"<kind>"}`),
		}},
		{Id: aws.String("nobody"), Arn: aws.String("arn:aws:lambda:us-east-1:000000000000:function:nobody"), DeadLetterConfig: dead},
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := eb.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []ebtypes.PutEventsRequestEntry{
		{Source: aws.String("keyturn"), DetailType: aws.String("Finding"), Detail: aws.String(`{"kind":"stuck"}`)},
	}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the message", func() bool { return len(a.SNS.Messages(*topic.TopicArn)) == 1 })
	if got := a.SNS.Messages(*topic.TopicArn)[0].Body; got != `{"finding":"stuck"}` {
		t.Errorf("message %s", got)
	}
	eventually(t, "the dead letter", func() bool { return len(a.SQS.Messages(*dead.Arn)) == 1 })
	got, err := queues.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: queue.QueueUrl, MessageAttributeNames: []string{"All"}})
	if err != nil || len(got.Messages) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	m := got.Messages[0]
	if !strings.Contains(*m.Body, `"detail":{"kind":"stuck"}`) || *m.MessageAttributes["ERROR_CODE"].StringValue != "NO_RESOURCE" ||
		!strings.HasSuffix(*m.MessageAttributes["TARGET_ARN"].StringValue, "function:nobody") {
		t.Errorf("%s %v", *m.Body, m.MessageAttributes)
	}
}

// A key signs what its alias is asked to, over the wire and from a state machine.
func TestAKeySignsOnTheOnePort(t *testing.T) {
	t.Parallel()
	a, _ := start(t)
	ctx := t.Context()
	keys := kms.New(kms.Options{Region: "us-east-1", BaseEndpoint: &a.Endpoint, Credentials: identity()})
	key, err := keys.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: kmstypes.KeySpecEccNistP256, KeyUsage: kmstypes.KeyUsageTypeSignVerify})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/keyturn/audit"), TargetKeyId: key.KeyMetadata.KeyId}); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("manifest"))
	signed, err := keys.Sign(ctx, &kms.SignInput{
		KeyId: aws.String("alias/keyturn/audit"), Message: digest[:], MessageType: kmstypes.MessageTypeDigest, SigningAlgorithm: kmstypes.SigningAlgorithmSpecEcdsaSha256,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Verify(ctx, &kms.VerifyInput{
		KeyId: key.KeyMetadata.Arn, Message: []byte("manifest"), Signature: signed.Signature, SigningAlgorithm: kmstypes.SigningAlgorithmSpecEcdsaSha256,
	}); err != nil {
		t.Error(err)
	}
	out, err := a.CallService(ctx, "kms", "describeKey", []byte(`{"KeyId":"alias/keyturn/audit"}`))
	if err != nil || !strings.Contains(string(out), *key.KeyMetadata.Arn) {
		t.Errorf("%s, %v", out, err)
	}
}

package keyturn

import (
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"
)

// The events that Keyturn itself puts on the default bus.
const (
	EventSource   = "keyturn"
	FindingDetail = "Keyturn Finding"
)

// queues keep what nobody has taken, by ARN, for a fortnight.
type queues struct {
	undelivered     string // by EventBridge
	failed          string // by a function, after its tries
	undeliveredName *string
	failedName      *string
}

// findings makes the topic for findings and alarms, unless there is one, and the
// queues.
func (b *builder) findings() {
	b.TopicARN = &b.account.Deploy.Topic
	if b.account.Deploy.Topic == "" {
		topic := awssns.NewCfnTopic(b.root, jsii.String("Topic"), &awssns.CfnTopicProps{KmsMasterKeyId: &b.key, DisplayName: jsii.String("Keyturn " + b.name)})
		b.TopicARN = topic.Ref()
		awssns.NewCfnTopicPolicy(b.root, jsii.String("TopicPolicy"), &awssns.CfnTopicPolicyProps{
			Topics: &[]*string{topic.Ref()}, PolicyDocument: document(b.topicPolicy()...),
		})
	}
	undelivered := b.queue("Undelivered", statement{
		sid: "Rules", principal: service("events.amazonaws.com"), actions: []string{"sqs:SendMessage"},
		condition: map[string]any{"ArnLike": map[string]any{"aws:SourceArn": b.arn("events", "rule/"+b.name+"-*")}},
	})
	failed := b.queue("Failed")
	b.queues = queues{*undelivered.AttrArn(), *failed.AttrArn(), undelivered.AttrQueueName(), failed.AttrQueueName()}
}

// topicPolicy lets rules and alarms publish. EventBridge takes no conditions in a
// topic's policy (its user guide, "Resource-based policies", SNS).
func (b *builder) topicPolicy() []statement {
	topic := []string{*b.TopicARN}
	return []statement{
		{sid: "Rules", principal: service("events.amazonaws.com"), actions: []string{"sns:Publish"}, resources: topic},
		{
			sid: "Alarms", principal: service("cloudwatch.amazonaws.com"), actions: []string{"sns:Publish"}, resources: topic,
			condition: equals("aws:SourceAccount", b.accountID),
		},
		{
			sid: "TLSOnly", deny: true, principal: everyone(), actions: []string{"sns:Publish"}, resources: topic,
			condition: map[string]any{"Bool": map[string]any{"aws:SecureTransport": "false"}},
		},
	}
}

// queue makes a queue that takes messages over TLS only, from those allowed.
func (b *builder) queue(id string, allowed ...statement) awssqs.CfnQueue {
	const fortnight = 14 * 24 * 60 * 60
	queue := awssqs.NewCfnQueue(b.root, &id, &awssqs.CfnQueueProps{KmsMasterKeyId: &b.key, MessageRetentionPeriod: jsii.Number(fortnight)})
	policy := append(slices.Clone(allowed), statement{
		sid: "TLSOnly", deny: true, principal: everyone(), actions: []string{"sqs:*"},
		condition: map[string]any{"Bool": map[string]any{"aws:SecureTransport": "false"}},
	})
	for i := range policy {
		policy[i].resources = []string{*queue.AttrArn()}
	}
	awssqs.NewCfnQueuePolicy(b.root, jsii.String(id+"Policy"), &awssqs.CfnQueuePolicyProps{Queues: &[]*string{queue.Ref()}, PolicyDocument: document(policy...)})
	return queue
}

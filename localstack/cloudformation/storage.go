package cloudformation

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

func makeKey(ctx context.Context, d *deployment, _ string, r *Resource) error {
	out, err := d.clients.kms.CreateKey(ctx, &kms.CreateKeyInput{
		Description: aws.String(r.text("Description")), KeySpec: kmstypes.KeySpec(r.text("KeySpec")), KeyUsage: kmstypes.KeyUsageType(r.text("KeyUsage")),
	})
	if err != nil {
		return err
	}
	r.Ref = aws.ToString(out.KeyMetadata.KeyId)
	r.Attributes["Arn"], r.Attributes["KeyId"] = aws.ToString(out.KeyMetadata.Arn), r.Ref
	return nil
}

// lockRule is ObjectLockConfiguration.
type lockRule struct {
	ObjectLockEnabled string
	Rule              struct {
		DefaultRetention struct {
			Days int32
			Mode string
		}
	}
}

func makeBucket(ctx context.Context, d *deployment, id string, r *Resource) error {
	var lock lockRule
	var versioning struct{ Status string }
	var notify struct {
		EventBridgeConfiguration *struct{ EventBridgeEnabled bool }
	}
	locked, _ := r.Properties["ObjectLockEnabled"].(bool)
	err := errors.Join(r.read("ObjectLockConfiguration", &lock), r.read("VersioningConfiguration", &versioning), r.read("NotificationConfiguration", &notify))
	if err != nil {
		return err
	}
	name := strings.ToLower(d.physical(id))
	if _, err := d.clients.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name, ObjectLockEnabledForBucket: &locked}); err != nil {
		return err
	}
	if _, err := d.clients.s3.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
		Bucket: &name, VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatus(versioning.Status)},
		ChecksumAlgorithm: s3types.ChecksumAlgorithmSha256,
	}); err != nil {
		return err
	}
	if _, err := d.clients.s3.PutObjectLockConfiguration(ctx, &s3.PutObjectLockConfigurationInput{
		Bucket: &name, ChecksumAlgorithm: s3types.ChecksumAlgorithmSha256,
		ObjectLockConfiguration: &s3types.ObjectLockConfiguration{
			ObjectLockEnabled: s3types.ObjectLockEnabled(lock.ObjectLockEnabled),
			Rule: &s3types.ObjectLockRule{DefaultRetention: &s3types.DefaultRetention{
				Days: &lock.Rule.DefaultRetention.Days, Mode: s3types.ObjectLockRetentionMode(lock.Rule.DefaultRetention.Mode),
			}},
		},
	}); err != nil {
		return err
	}
	if c := notify.EventBridgeConfiguration; c != nil && c.EventBridgeEnabled {
		if _, err := d.clients.s3.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
			Bucket: &name, NotificationConfiguration: &s3types.NotificationConfiguration{EventBridgeConfiguration: &s3types.EventBridgeConfiguration{}},
		}); err != nil {
			return err
		}
	}
	r.Ref, r.Attributes["Arn"] = name, "arn:aws:s3:::"+name
	return nil
}

func makeBucketPolicy(ctx context.Context, d *deployment, id string, r *Resource) error {
	_, err := d.clients.s3.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{
		Bucket: aws.String(r.text("Bucket")), Policy: aws.String(r.document("PolicyDocument")), ChecksumAlgorithm: s3types.ChecksumAlgorithmSha256,
	})
	if err != nil {
		return err
	}
	return kept(ctx, d, id, r)
}

func makeTopic(ctx context.Context, d *deployment, id string, r *Resource) error {
	out, err := d.clients.sns.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String(d.physical(id)), Attributes: map[string]string{
		"DisplayName": r.text("DisplayName"), "KmsMasterKeyId": r.text("KmsMasterKeyId"),
	}})
	if err != nil {
		return err
	}
	r.Ref = aws.ToString(out.TopicArn)
	r.Attributes["TopicArn"], r.Attributes["TopicName"] = r.Ref, d.physical(id)
	return nil
}

func makeTopicPolicy(ctx context.Context, d *deployment, id string, r *Resource) error {
	topics, _ := r.Properties["Topics"].([]any)
	for _, topic := range topics {
		if _, err := d.clients.sns.SetTopicAttributes(ctx, &sns.SetTopicAttributesInput{
			TopicArn: aws.String(topic.(string)), AttributeName: aws.String("Policy"), AttributeValue: aws.String(r.document("PolicyDocument")),
		}); err != nil {
			return err
		}
	}
	return kept(ctx, d, id, r)
}

func makeQueue(ctx context.Context, d *deployment, id string, r *Resource) error {
	name := d.physical(id)
	attributes := map[string]string{"KmsMasterKeyId": r.text("KmsMasterKeyId")}
	if n := r.number("MessageRetentionPeriod"); n > 0 {
		attributes["MessageRetentionPeriod"] = seconds(n)
	}
	out, err := d.clients.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if err != nil {
		return err
	}
	of, err := d.clients.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: out.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameQueueArn},
	})
	if err != nil {
		return err
	}
	r.Ref = aws.ToString(out.QueueUrl)
	r.Attributes["Arn"], r.Attributes["QueueName"], r.Attributes["QueueUrl"] = of.Attributes["QueueArn"], name, r.Ref
	return nil
}

func makeQueuePolicy(ctx context.Context, d *deployment, id string, r *Resource) error {
	queues, _ := r.Properties["Queues"].([]any)
	for _, queue := range queues {
		if _, err := d.clients.sqs.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{
			QueueUrl: aws.String(queue.(string)), Attributes: map[string]string{"Policy": r.document("PolicyDocument")},
		}); err != nil {
			return err
		}
	}
	return kept(ctx, d, id, r)
}

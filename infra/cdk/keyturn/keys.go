package keyturn

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/jsii-runtime-go"
)

// keys makes the key for what lies still (logs, queues, the topic) and the one
// that signs the audit trail's manifests. Both stay when the stack goes: logs
// that are kept can't be read without the one, manifests not be verified without
// the other.
func (b *builder) keys() {
	owner := statement{
		sid: "AccountDecides", principal: map[string]any{"AWS": "arn:" + b.partition + ":iam::" + b.accountID + ":root"},
		actions: []string{"kms:*"}, resources: []string{"*"},
	}
	data := awskms.NewCfnKey(b.root, jsii.String("Key"), &awskms.CfnKeyProps{
		Description: jsii.String("Keyturn " + b.name + ": logs, queues, the topic"), EnableKeyRotation: jsii.Bool(true),
		KeyPolicy: document(owner, b.logsUse(), b.alarmsUse(), eventsUse()),
	})
	retain(data)
	b.key = *data.AttrArn()
	signing := awskms.NewCfnKey(b.root, jsii.String("SigningKey"), &awskms.CfnKeyProps{
		Description: jsii.String("Keyturn " + b.name + ": signs the audit trail's daily manifests"),
		KeySpec:     jsii.String("ECC_NIST_P256"), KeyUsage: jsii.String("SIGN_VERIFY"), KeyPolicy: document(owner),
	})
	retain(signing)
	b.signingKey = *signing.AttrArn()
}

// logsUse lets CloudWatch Logs encrypt the log groups of this account (its user
// guide, "Encrypt log data"). Their names are made at deployment.
func (b *builder) logsUse() statement {
	return statement{
		sid: "Logs", principal: service("logs." + b.region + "." + b.suffix),
		actions: []string{"kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"}, resources: []string{"*"},
		condition: map[string]any{"ArnLike": map[string]any{"kms:EncryptionContext:aws:logs:arn": b.arn("logs", "log-group:*")}},
	}
}

// alarmsUse lets CloudWatch publish to the topic.
func (b *builder) alarmsUse() statement {
	return statement{
		sid: "Alarms", principal: service("cloudwatch.amazonaws.com"),
		actions: []string{"kms:Decrypt", "kms:GenerateDataKey*"}, resources: []string{"*"},
		condition: equals("aws:SourceAccount", b.accountID),
	}
}

// eventsUse lets EventBridge put into the topic and the queue. Its requests to KMS
// carry neither the rule nor the account (EventBridge user guide, encrypted
// targets): a condition on them would drop every message in silence.
func eventsUse() statement {
	return statement{
		sid: "Events", principal: service("events.amazonaws.com"),
		actions: []string{"kms:Decrypt", "kms:GenerateDataKey*"}, resources: []string{"*"},
	}
}

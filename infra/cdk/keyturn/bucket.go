package keyturn

import (
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"
)

// bucket makes the audit bucket: nothing in it can be changed, and nothing
// deleted before its time.
//
// It is encrypted under S3's own keys. Under a key of the account, whoever may
// schedule that key's deletion could end the trail in seven days, which Object
// Lock in compliance mode keeps even root from. The trail holds no values.
func (b *builder) bucket() {
	audit := b.account.Deploy.Audit
	mode := "GOVERNANCE"
	if audit.Compliance {
		mode = "COMPLIANCE"
	}
	days := time.Duration(audit.Retention).Hours() / 24
	made := awss3.NewCfnBucket(b.root, jsii.String("AuditBucket"), &awss3.CfnBucketProps{
		ObjectLockEnabled: jsii.Bool(true),
		ObjectLockConfiguration: &awss3.CfnBucket_ObjectLockConfigurationProperty{
			ObjectLockEnabled: jsii.String("Enabled"),
			Rule: &awss3.CfnBucket_ObjectLockRuleProperty{
				DefaultRetention: &awss3.CfnBucket_DefaultRetentionProperty{Mode: &mode, Days: jsii.Number(days)},
			},
		},
		VersioningConfiguration: &awss3.CfnBucket_VersioningConfigurationProperty{Status: jsii.String("Enabled")},
		BucketEncryption: &awss3.CfnBucket_BucketEncryptionProperty{ServerSideEncryptionConfiguration: []any{
			&awss3.CfnBucket_ServerSideEncryptionRuleProperty{
				ServerSideEncryptionByDefault: &awss3.CfnBucket_ServerSideEncryptionByDefaultProperty{SseAlgorithm: jsii.String("AES256")},
			},
		}},
		PublicAccessBlockConfiguration: &awss3.CfnBucket_PublicAccessBlockConfigurationProperty{
			BlockPublicAcls: jsii.Bool(true), BlockPublicPolicy: jsii.Bool(true), IgnorePublicAcls: jsii.Bool(true), RestrictPublicBuckets: jsii.Bool(true),
		},
		OwnershipControls: &awss3.CfnBucket_OwnershipControlsProperty{Rules: []any{
			&awss3.CfnBucket_OwnershipControlsRuleProperty{ObjectOwnership: jsii.String("BucketOwnerEnforced")},
		}},
		NotificationConfiguration: &awss3.CfnBucket_NotificationConfigurationProperty{
			EventBridgeConfiguration: &awss3.CfnBucket_EventBridgeConfigurationProperty{EventBridgeEnabled: jsii.Bool(true)},
		},
	})
	retain(made)
	b.BucketName, b.bucketARN = made.Ref(), *made.AttrArn()
	policy := awss3.NewCfnBucketPolicy(b.root, jsii.String("AuditBucketPolicy"), &awss3.CfnBucketPolicyProps{
		Bucket: made.Ref(), PolicyDocument: document(b.bucketPolicy()...),
	})
	retain(policy)
}

// bucketPolicy is what holds for everybody. An object can be put once only: with
// If-None-Match S3 refuses a key that is taken, without it nothing may be put (S3
// user guide, "Enforce conditional writes"). Object Lock keeps versions from being
// deleted, and the last two statements keep a delete marker from hiding one, and
// the lock from being lifted.
func (b *builder) bucketPolicy() []statement {
	all := func(prefixes ...string) []string {
		var arns []string
		for _, p := range prefixes {
			arns = append(arns, b.bucketARN+"/"+p+"*")
		}
		return arns
	}
	kept := all(recordsPrefix, headsPrefix, refusalsPrefix, evidencePrefix, manifestsPrefix)
	return []statement{
		{
			sid: "TLSOnly", deny: true, principal: everyone(), actions: []string{"s3:*"}, resources: []string{b.bucketARN, b.bucketARN + "/*"},
			condition: map[string]any{"Bool": map[string]any{"aws:SecureTransport": "false"}},
		},
		{
			sid: "OnceOnly", deny: true, principal: everyone(), actions: []string{putObject}, resources: kept,
			condition: map[string]any{"Null": map[string]any{"s3:if-none-match": "true"}},
		},
		{sid: "NothingHidden", deny: true, principal: everyone(), actions: []string{"s3:DeleteObject"}, resources: kept},
		{
			sid: "LockStays", deny: true, principal: everyone(),
			actions: []string{"s3:BypassGovernanceRetention", "s3:PutObjectRetention", "s3:PutObjectLegalHold"}, resources: kept,
			condition: b.unlessBreakGlass(),
		},
	}
}

// unlessBreakGlass is the condition of a denial that spares those who may break
// the glass.
func (b *builder) unlessBreakGlass() map[string]any {
	if len(b.account.Deploy.BreakGlass) == 0 {
		return nil
	}
	return map[string]any{"ArnNotLike": map[string]any{"aws:PrincipalArn": texts(b.account.Deploy.BreakGlass)}}
}

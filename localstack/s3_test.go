package localstack_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
)

// TestAnAuditBucketByTheAWSCLI is the independent client: it encodes keys, adds
// checksums and reads XML in its own way.
func TestAnAuditBucketByTheAWSCLI(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("aws"); err != nil {
		t.Fatal("this test drives the AWS CLI: install it (Debian and Ubuntu: apt-get install awscli) so that aws is in PATH")
	}
	a, _ := start(t)
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", filepath.Join("testdata", "cli", "audit.sh"))
	cmd.Env = append(os.Environ(), "BUCKET=keyturn-audit", "ENDPOINT="+a.Endpoint, "AWS_ACCESS_KEY_ID=AKIACLI", "AWS_SECRET_ACCESS_KEY=unused",
		"AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE="+home+"/config", "AWS_SHARED_CREDENTIALS_FILE="+home+"/credentials")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "cli", "audit.golden"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(out), "\n")); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

// A bucket's path may look like that of another service.
func TestRequestsFindTheirServiceBySignature(t *testing.T) {
	t.Parallel()
	a, _ := start(t)
	ctx := t.Context()
	client := s3.New(s3.Options{Region: "us-east-1", BaseEndpoint: &a.Endpoint, Credentials: identity(), RetryMaxAttempts: 1})
	for _, bucket := range []string{"2015-03-31", "20260102"} {
		if _, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("functions/f"), Body: strings.NewReader("1")}); err != nil {
			t.Error(err)
		}
	}
	_, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String("_keyturn")})
	if missing := (*s3types.NotFound)(nil); !errors.As(err, &missing) {
		t.Errorf("HeadBucket of _keyturn: %v", err)
	}
	functions := lambda.New(lambda.Options{Region: "us-east-1", BaseEndpoint: &a.Endpoint, Credentials: identity(), RetryMaxAttempts: 1})
	_, err = functions.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: aws.String("f")})
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != "ResourceNotFoundException" {
		t.Errorf("Lambda's own path: %v", err)
	}
}

func TestObjectEventsReachATarget(t *testing.T) {
	t.Parallel()
	a, f := start(t)
	ctx := t.Context()
	eb := eventbridge.New(eventbridge.Options{Region: "us-east-1", BaseEndpoint: &a.Endpoint, Credentials: identity()})
	if _, err := eb.PutRule(ctx, &eventbridge.PutRuleInput{
		Name:         aws.String("objects"),
		EventPattern: aws.String(`{"source":["aws.s3"],"detail-type":["Object Created"],"detail":{"bucket":{"name":["audit"]},"object":{"key":[{"prefix":"records/"}]}}}`),
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := eb.PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: aws.String("objects"), Targets: []ebtypes.Target{{
		Id: aws.String("1"), Arn: aws.String(watchARN), InputTransformer: &ebtypes.InputTransformer{
			InputPathsMap: map[string]string{"key": "$.detail.object.key"}, InputTemplate: aws.String(`{"Detail":{"EventName":<key>}}`),
		},
	}}}); err != nil {
		t.Fatal(err)
	}
	client := s3.New(s3.Options{Region: "us-east-1", BaseEndpoint: &a.Endpoint, Credentials: identity()})
	if _, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("audit")}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
		Bucket: aws.String("audit"), NotificationConfiguration: &s3types.NotificationConfiguration{EventBridgeConfiguration: &s3types.EventBridgeConfiguration{}},
	}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"other", "records/1"} {
		if _, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("audit"), Key: &key, Body: strings.NewReader("1")}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the event", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.watched) == 1 && f.watched[0] == "records/1"
	})
}

package s3_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

func TestBucketsAreMadeOnce(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, err := f.HeadBucket(f.ctx, &sdk.HeadBucketInput{Bucket: aws.String(trailBucket)})
	if status(err) != http.StatusNotFound {
		t.Errorf("HEAD before: %v", err)
	}
	_, err = f.put("k", "1")
	wantCode(t, err, "NoSuchBucket")
	f.create(trailBucket, true)
	f.mustPut("k", "1")
	f.create(trailBucket, false) // us-east-1 takes one's own bucket again and changes nothing
	f.wantBody("k", "", "1")
	out, err := f.HeadBucket(f.ctx, &sdk.HeadBucketInput{Bucket: aws.String(trailBucket)})
	if err != nil || aws.ToString(out.BucketRegion) != awsproto.Region {
		t.Errorf("%+v, %v", out, err)
	}
	got, err := f.GetBucketVersioning(f.ctx, &sdk.GetBucketVersioningInput{Bucket: aws.String(trailBucket)})
	if err != nil || got.Status != types.BucketVersioningStatusEnabled {
		t.Errorf("Object Lock comes with versioning: %+v, %v", got, err)
	}
	for name, want := range map[string]string{
		"ab": "InvalidBucketName", "A-bucket": "InvalidBucketName", "-bucket": "InvalidBucketName", "a..b": "InvalidBucketName",
		"1.2.3.4": "InvalidBucketName", "under_score": "InvalidBucketName", "2015-03-31": "", "a.b": "",
	} {
		if _, got := f.raw("PUT", "/"+name, "", nil); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	_, err = f.CreateBucket(f.ctx, &sdk.CreateBucketInput{
		Bucket: aws.String("elsewhere"), CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: "eu-west-1"},
	})
	wantCode(t, err, "InvalidLocationConstraint")
	_, err = f.CreateBucket(f.ctx, &sdk.CreateBucketInput{Bucket: aws.String("acl"), ObjectOwnership: types.ObjectOwnershipObjectWriter})
	wantCode(t, err, "NotImplemented")
}

// S3 user guide, "EventBridge event message structure".
func TestObjectsAreEventsWhenTheBucketAsksForThem(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, true)
	f.mustPut("before", "1")
	configure := func(c *types.NotificationConfiguration) {
		t.Helper()
		if _, err := f.PutBucketNotificationConfiguration(f.ctx, &sdk.PutBucketNotificationConfigurationInput{
			Bucket: aws.String(trailBucket), NotificationConfiguration: c,
		}); err != nil {
			t.Fatal(err)
		}
	}
	configure(&types.NotificationConfiguration{EventBridgeConfiguration: &types.EventBridgeConfiguration{}})
	on, err := f.GetBucketNotificationConfiguration(f.ctx, &sdk.GetBucketNotificationConfigurationInput{Bucket: aws.String(trailBucket)})
	if err != nil || on.EventBridgeConfiguration == nil {
		t.Errorf("%+v, %v", on, err)
	}
	id := f.mustPut("records/1", "123456789")
	_, err = f.put("records/1", "refused", ifAbsent)
	wantCode(t, err, "PreconditionFailed")
	marker, err := f.remove("records/1", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.remove("records/1", id); err != nil {
		t.Fatal(err)
	}
	configure(&types.NotificationConfiguration{})
	f.mustPut("after", "1")

	created, deleted := f.bus.of(t, "Object Created"), f.bus.of(t, "Object Deleted")
	if len(created) != 1 || len(deleted) != 2 {
		t.Fatalf("events %v, %v", created, deleted)
	}
	order := ""
	for _, d := range append(created, deleted...) {
		o, _ := d["object"].(map[string]any)
		if s, _ := o["sequencer"].(string); s < order {
			t.Errorf("sequencer %q after %q", s, order)
		}
		order, _ = o["sequencer"].(string)
		if id, _ := d["request-id"].(string); id == "" {
			t.Error("an event without a request id")
		}
		delete(o, "sequencer")
		delete(d, "request-id")
	}
	common := func(more, object map[string]any) map[string]any {
		d := map[string]any{
			"version": "0", "event-version": "1.0", "bucket": map[string]any{"name": trailBucket}, "requester": "000000000000",
			"source-ip-address": "127.0.0.1", "object": object,
		}
		for name, value := range more {
			d[name] = value
		}
		return d
	}
	const etag = "25f9e794323b453885f5181f1b624d0b"
	want := []map[string]any{
		common(map[string]any{"reason": "PutObject"}, map[string]any{"key": "records/1", "size": 9.0, "etag": etag, "version-id": id}),
		common(map[string]any{"reason": "DeleteObject", "deletion-type": "Delete Marker Created"},
			map[string]any{"key": "records/1", "version-id": *marker.VersionId}),
		common(map[string]any{"reason": "DeleteObject", "deletion-type": "Permanently Deleted"},
			map[string]any{"key": "records/1", "etag": etag, "version-id": id}),
	}
	if diff := cmp.Diff(want, append(created, deleted...)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	_, err = f.PutBucketNotificationConfiguration(f.ctx, &sdk.PutBucketNotificationConfigurationInput{
		Bucket: aws.String(trailBucket), NotificationConfiguration: &types.NotificationConfiguration{
			TopicConfigurations: []types.TopicConfiguration{{TopicArn: aws.String("arn:aws:sns:us-east-1:000000000000:t"), Events: []types.Event{"s3:ObjectCreated:*"}}},
		},
	})
	wantCode(t, err, "NotImplemented")
}

func TestChangesOfABucketAreInTheTrail(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, true)
	if err := f.policy(tlsOnly); err != nil {
		t.Fatal(err)
	}
	wantCode(t, f.policy("x"), "MalformedPolicy")
	f.mustPut("k", "1")
	type call struct{ name, err string }
	var got []call
	for _, d := range f.bus.of(t, "AWS API Call via CloudTrail") {
		errorCode, _ := d["errorCode"].(string)
		got = append(got, call{d["eventName"].(string), errorCode})
		parameters, _ := d["requestParameters"].(map[string]any)
		if parameters["bucketName"] != trailBucket || d["eventSource"] != "s3.amazonaws.com" || d["readOnly"] != false {
			t.Errorf("%v", d)
		}
	}
	want := []call{{"CreateBucket", ""}, {"PutBucketPolicy", ""}, {"PutBucketPolicy", "MalformedPolicy"}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(call{})); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestFaultsComeBeforeAndAfterEachAction(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	var seen []string
	fail := func(at string, err error) {
		f.service.SetFault(func(_ context.Context, action string, before bool) error {
			point := action + " after"
			if before {
				point = action + " before"
			}
			seen = append(seen, point)
			if point == at {
				return err
			}
			return nil
		})
	}
	slow := &awsproto.Error{Code: "SlowDown", Message: "Please reduce your request rate.", Status: http.StatusServiceUnavailable}
	fail("PutObject before", slow)
	_, err := f.put("k", "one", ifAbsent)
	wantCode(t, err, "SlowDown")
	_, err = f.get("k", "")
	wantCode(t, err, "NoSuchKey")
	fail("PutObject after", errors.New("the answer is lost"))
	_, err = f.put("k", "one", ifAbsent)
	wantCode(t, err, "InternalError")
	f.wantBody("k", "", "one") // it has happened
	_, err = f.put("k", "one", ifAbsent)
	if status(err) != http.StatusInternalServerError {
		t.Errorf("%v", err)
	}
	want := []string{
		"PutObject before", "GetObject before", "GetObject after", "PutObject before", "PutObject after", "GetObject before", "GetObject after",
		"PutObject before", "PutObject after",
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("points (-want +got):\n%s", diff)
	}
}

func TestWhatIsNotModelledIsRefused(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, true)
	f.mustPut("k", "1")
	object, bucket := "/"+trailBucket+"/k", "/"+trailBucket
	tests := []struct {
		method, target string
		headers        map[string]string
		status         int
		code           string
	}{
		{"GET", "/", nil, 501, "NotImplemented"},
		{"DELETE", bucket, nil, 501, "NotImplemented"},
		{"GET", bucket + "?acl", nil, 501, "NotImplemented"},
		{"PUT", bucket + "?lifecycle", nil, 501, "NotImplemented"},
		{"POST", object + "?uploads", nil, 501, "NotImplemented"},
		{"PUT", object + "?partNumber=1&uploadId=x", nil, 501, "NotImplemented"},
		{"PUT", object + "?retention", nil, 501, "NotImplemented"},
		{"GET", object + "?response-content-type=x", nil, 501, "NotImplemented"},
		{"GET", object, map[string]string{"Range": "bytes=0-0"}, 501, "NotImplemented"},
		{"GET", object, map[string]string{"If-None-Match": "*"}, 501, "NotImplemented"},
		{"GET", object, map[string]string{"X-Amz-Checksum-Mode": "OTHER"}, 400, "InvalidArgument"},
		{"PUT", object, map[string]string{"X-Amz-Checksum-Mode": "ENABLED"}, 501, "NotImplemented"},
		{"PUT", object, map[string]string{"X-Amz-Acl": "private"}, 501, "NotImplemented"},
		{"PUT", object, map[string]string{"X-Amz-Tagging": "a=b"}, 501, "NotImplemented"},
		{"PUT", object, map[string]string{"X-Amz-Copy-Source": "/a/b"}, 501, "NotImplemented"},
		{"PUT", object, map[string]string{"X-Amz-Server-Side-Encryption": "aws:kms"}, 501, "NotImplemented"},
		{"PUT", object, map[string]string{"X-Amz-Server-Side-Encryption": "AES256", "X-Amz-Storage-Class": "STANDARD"}, 200, ""},
		{"PUT", object, map[string]string{"X-Amz-Expected-Bucket-Owner": "111122223333"}, 403, "AccessDenied"},
		{"PUT", object, map[string]string{"X-Amz-Expected-Bucket-Owner": "000000000000"}, 200, ""},
		{"DELETE", object, map[string]string{"If-Match": "*"}, 501, "NotImplemented"},
		{"DELETE", object, map[string]string{"X-Amz-Bypass-Governance-Retention": "perhaps"}, 400, "InvalidArgument"},
	}
	for _, tt := range tests {
		if status, code := f.raw(tt.method, tt.target, "", tt.headers); status != tt.status || code != tt.code {
			t.Errorf("%s %s %v: %d %q, want %d %q", tt.method, tt.target, tt.headers, status, code, tt.status, tt.code)
		}
	}
	f.wantBody("k", "", "") // of the two that were taken, the last
}

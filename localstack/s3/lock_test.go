package s3_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const day = 24 * time.Hour

// locked keeps an object until some time from now.
func (f *fixture) locked(mode types.ObjectLockMode, d time.Duration) func(*sdk.PutObjectInput) {
	until := f.clock.Now().Add(d)
	return func(in *sdk.PutObjectInput) { in.ObjectLockMode, in.ObjectLockRetainUntilDate = mode, &until }
}

func bypass(in *sdk.DeleteObjectInput) { in.BypassGovernanceRetention = aws.Bool(true) }

// S3 user guide, "Retention modes" and "Retention periods".
func TestALockedVersionIsNotRemovedBeforeItsDate(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, true)
	strict := f.mustPut("strict", "1", f.locked(types.ObjectLockModeCompliance, 10*day))
	soft := f.mustPut("soft", "1", f.locked(types.ObjectLockModeGovernance, 10*day))
	refused := func(key, id string, options ...func(*sdk.DeleteObjectInput)) {
		t.Helper()
		_, err := f.remove(key, id, options...)
		wantCode(t, err, "AccessDenied")
		f.wantBody(key, id, "1")
	}
	refused("strict", strict)
	refused("strict", strict, bypass)
	refused("soft", soft)
	f.clock.Advance(10*day - time.Minute)
	refused("strict", strict, bypass)
	if _, err := f.remove("soft", soft, bypass); err != nil {
		t.Errorf("governance with bypass: %v", err)
	}
	f.clock.Advance(2 * time.Minute)
	if _, err := f.remove("strict", strict); err != nil {
		t.Errorf("after its date: %v", err)
	}
	_, err := f.get("strict", strict)
	wantCode(t, err, "NoSuchVersion")
}

func TestALockDoesNotStopADeleteMarkerOrANewVersion(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, true)
	id := f.mustPut("k", "one", f.locked(types.ObjectLockModeCompliance, day))
	f.mustPut("k", "two")
	out, err := f.remove("k", "")
	if err != nil || !aws.ToBool(out.DeleteMarker) {
		t.Fatalf("%+v, %v", out, err)
	}
	_, err = f.get("k", "")
	wantCode(t, err, "NoSuchKey")
	f.wantBody("k", id, "one")
	if _, err := f.remove("k", *out.VersionId); err != nil { // markers have no retention
		t.Fatal(err)
	}
	f.wantBody("k", "", "two")
}

func TestDefaultRetention(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, true)
	_, err := f.GetObjectRetention(f.ctx, &sdk.GetObjectRetentionInput{Bucket: aws.String(trailBucket), Key: aws.String("k")})
	wantCode(t, err, "NoSuchKey")
	before := f.mustPut("before", "1")
	if _, err := f.PutObjectLockConfiguration(f.ctx, &sdk.PutObjectLockConfigurationInput{
		Bucket: aws.String(trailBucket), ObjectLockConfiguration: &types.ObjectLockConfiguration{
			ObjectLockEnabled: types.ObjectLockEnabledEnabled,
			Rule:              &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{Mode: types.ObjectLockRetentionModeGovernance, Years: aws.Int32(1)}},
		},
	}); err != nil {
		t.Fatal(err)
	}
	config, err := f.GetObjectLockConfiguration(f.ctx, &sdk.GetObjectLockConfigurationInput{Bucket: aws.String(trailBucket)})
	if err != nil || config.ObjectLockConfiguration.ObjectLockEnabled != types.ObjectLockEnabledEnabled ||
		config.ObjectLockConfiguration.Rule.DefaultRetention.Mode != types.ObjectLockRetentionModeGovernance ||
		aws.ToInt32(config.ObjectLockConfiguration.Rule.DefaultRetention.Years) != 1 ||
		config.ObjectLockConfiguration.Rule.DefaultRetention.Days != nil {
		t.Errorf("%+v, %v", config, err)
	}
	now := f.clock.Now()
	id := f.mustPut("k", "1")
	out, err := f.GetObjectRetention(f.ctx, &sdk.GetObjectRetentionInput{Bucket: aws.String(trailBucket), Key: aws.String("k")})
	if err != nil {
		t.Fatal(err)
	}
	if d := out.Retention.RetainUntilDate.Sub(now.AddDate(1, 0, 0)); out.Retention.Mode != types.ObjectLockRetentionModeGovernance || d < -time.Second || d > time.Minute {
		t.Errorf("retention %s until %s", out.Retention.Mode, out.Retention.RetainUntilDate)
	}
	head, err := f.HeadObject(f.ctx, &sdk.HeadObjectInput{Bucket: aws.String(trailBucket), Key: aws.String("k")})
	if err != nil || head.ObjectLockMode != types.ObjectLockModeGovernance || !head.ObjectLockRetainUntilDate.Equal(*out.Retention.RetainUntilDate) {
		t.Errorf("%+v, %v", head, err)
	}
	_, err = f.remove("k", id)
	wantCode(t, err, "AccessDenied")
	if _, err := f.remove("before", before); err != nil {
		t.Errorf("what was there before the default: %v", err)
	}
	own := f.mustPut("own", "1", f.locked(types.ObjectLockModeCompliance, day)) // in place of the default
	f.clock.Advance(2 * day)
	if _, err := f.remove("own", own); err != nil {
		t.Error(err)
	}
}

func TestALockNeedsADigest(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, true)
	headers := map[string]string{
		"X-Amz-Object-Lock-Mode": "GOVERNANCE", "X-Amz-Object-Lock-Retain-Until-Date": f.clock.Now().Add(day).Format(time.RFC3339),
	}
	if _, got := f.raw("PUT", "/"+trailBucket+"/k", "123456789", headers); got != "InvalidRequest" {
		t.Errorf("without a digest: %q", got)
	}
	headers["Content-Md5"] = "JfnnlDI7RTiF9RgfG2JNCw=="
	if _, got := f.raw("PUT", "/"+trailBucket+"/k", "123456789", headers); got != "" {
		t.Errorf("with Content-MD5: %q", got)
	}
}

func TestRetentionHeadersThatAreRefused(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, true)
	f.create("no-lock", false)
	later := f.clock.Now().Add(day)
	tests := []struct {
		what   string
		change func(*sdk.PutObjectInput)
		code   string
	}{
		{"a past date", f.locked(types.ObjectLockModeCompliance, -time.Minute), "InvalidArgument"},
		{"no date", func(in *sdk.PutObjectInput) { in.ObjectLockMode = types.ObjectLockModeCompliance }, "InvalidArgument"},
		{"no mode", func(in *sdk.PutObjectInput) { in.ObjectLockRetainUntilDate = &later }, "InvalidArgument"},
		{"another mode", f.locked("FOREVER", day), "InvalidArgument"},
		{"a legal hold", func(in *sdk.PutObjectInput) { in.ObjectLockLegalHoldStatus = types.ObjectLockLegalHoldStatusOn }, "NotImplemented"},
		{"a bucket without Object Lock", func(in *sdk.PutObjectInput) {
			f.locked(types.ObjectLockModeCompliance, day)(in)
			in.Bucket = aws.String("no-lock")
		}, "InvalidRequest"},
	}
	for _, tt := range tests {
		if _, err := f.put("k", "1", tt.change); code(err) != tt.code {
			t.Errorf("%s: %v, want %s", tt.what, err, tt.code)
		}
	}
	_, err := f.remove("k", "", bypass, func(in *sdk.DeleteObjectInput) { in.Bucket = aws.String("no-lock") })
	wantCode(t, err, "InvalidArgument")
	_, err = f.GetObjectLockConfiguration(f.ctx, &sdk.GetObjectLockConfigurationInput{Bucket: aws.String("no-lock")})
	wantCode(t, err, "ObjectLockConfigurationNotFoundError")
	f.mustPut("open", "1")
	_, err = f.GetObjectRetention(f.ctx, &sdk.GetObjectRetentionInput{Bucket: aws.String(trailBucket), Key: aws.String("open")})
	wantCode(t, err, "NoSuchObjectLockConfiguration")
}

func TestLockConfigurationsThatAreRefused(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, true)
	rule := func(text string) string {
		return "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>" + text +
			"</DefaultRetention></Rule></ObjectLockConfiguration>"
	}
	for body, want := range map[string]string{
		rule("<Mode>COMPLIANCE</Mode><Days>36500</Days>"):                  "",
		rule("<Mode>COMPLIANCE</Mode><Years>100</Years>"):                  "",
		rule("<Mode>COMPLIANCE</Mode><Days>36501</Days>"):                  "InvalidArgument",
		rule("<Mode>COMPLIANCE</Mode><Years>101</Years>"):                  "InvalidArgument",
		rule("<Mode>COMPLIANCE</Mode><Days>0</Days>"):                      "InvalidArgument",
		rule("<Mode>COMPLIANCE</Mode><Days>x</Days>"):                      "MalformedXML",
		rule("<Mode>COMPLIANCE</Mode><Days>1</Days><Years>1</Years>"):      "MalformedXML",
		rule("<Mode>COMPLIANCE</Mode>"):                                    "MalformedXML",
		rule("<Mode>ALWAYS</Mode><Days>1</Days>"):                          "MalformedXML",
		rule("<Mode>COMPLIANCE</Mode><Days>1</Days><Days>2</Days>"):        "MalformedXML",
		rule("<Mode>COMPLIANCE</Mode><Days>1</Days><Other>1</Other>"):      "NotImplemented",
		"<ObjectLockConfiguration></ObjectLockConfiguration>":              "MalformedXML",
		"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLock>": "MalformedXML",
		"<Other/>":       "MalformedXML",
		"<Other/><Two/>": "MalformedXML",
		"":               "MalformedXML",
	} {
		if _, got := f.raw("PUT", "/"+trailBucket+"?object-lock", body, nil); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

func TestObjectLockNeedsVersioning(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	on := &sdk.PutObjectLockConfigurationInput{
		Bucket: aws.String(trailBucket), ObjectLockConfiguration: &types.ObjectLockConfiguration{ObjectLockEnabled: types.ObjectLockEnabledEnabled},
	}
	_, err := f.PutObjectLockConfiguration(f.ctx, on)
	wantCode(t, err, "InvalidBucketState")
	f.versioning(types.BucketVersioningStatusEnabled)
	if _, err := f.PutObjectLockConfiguration(f.ctx, on); err != nil {
		t.Fatal(err)
	}
	_, err = f.PutBucketVersioning(f.ctx, &sdk.PutBucketVersioningInput{
		Bucket: aws.String(trailBucket), VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusSuspended},
	})
	wantCode(t, err, "InvalidBucketState")
}

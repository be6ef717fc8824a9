package s3_test

import (
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
)

func (f *fixture) versions() *sdk.ListObjectVersionsOutput {
	f.t.Helper()
	out, err := f.ListObjectVersions(f.ctx, &sdk.ListObjectVersionsInput{Bucket: aws.String(trailBucket)})
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

func status(err error) int {
	var e *awshttp.ResponseError
	if errors.As(err, &e) {
		return e.HTTPStatusCode()
	}
	return 0
}

// S3 user guide, "How S3 Versioning works".
func TestVersionsStayUntilTheyAreRemovedByTheirId(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	f.mustPut("k", "unversioned")
	f.versioning(types.BucketVersioningStatusEnabled)
	one, two := f.mustPut("k", "one"), f.mustPut("k", "two")
	f.wantBody("k", "", "two")
	f.wantBody("k", one, "one")
	f.wantBody("k", "null", "unversioned")

	gone, err := f.remove("k", "")
	if err != nil || !aws.ToBool(gone.DeleteMarker) || gone.VersionId == nil {
		t.Fatalf("%+v, %v", gone, err)
	}
	_, err = f.get("k", "")
	wantCode(t, err, "NoSuchKey")
	_, err = f.get("k", *gone.VersionId)
	wantCode(t, err, "MethodNotAllowed")
	_, err = f.HeadObject(f.ctx, &sdk.HeadObjectInput{Bucket: aws.String(trailBucket), Key: aws.String("k")})
	if status(err) != http.StatusNotFound {
		t.Errorf("HEAD: %v", err)
	}
	_, err = f.HeadObject(f.ctx, &sdk.HeadObjectInput{Bucket: aws.String(trailBucket), Key: aws.String("k"), VersionId: gone.VersionId})
	if status(err) != http.StatusMethodNotAllowed {
		t.Errorf("HEAD of a marker: %v", err)
	}
	f.wantBody("k", two, "two")
	if out, err := f.remove("k", *gone.VersionId); err != nil || !aws.ToBool(out.DeleteMarker) {
		t.Errorf("removing the marker: %+v, %v", out, err)
	}
	f.wantBody("k", "", "two")
	if _, err := f.remove("k", two); err != nil {
		t.Fatal(err)
	}
	f.wantBody("k", "", "one")
	if _, err := f.remove("k", two); err != nil {
		t.Errorf("removing a version that is gone: %v", err)
	}
	_, err = f.remove("k", "nonsense")
	wantCode(t, err, "InvalidArgument")
	_, err = f.get("k", "nonsense")
	wantCode(t, err, "InvalidArgument")
}

func TestWithoutVersioningAWriteReplaces(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	if id := f.mustPut("k", "one") + f.mustPut("k", "two"); id != "" {
		t.Errorf("version ids %q", id)
	}
	if all := f.versions().Versions; len(all) != 1 || *all[0].VersionId != "null" {
		t.Errorf("versions %+v", all)
	}
	if out, err := f.remove("k", ""); err != nil || out.DeleteMarker != nil || out.VersionId != nil {
		t.Errorf("%+v, %v", out, err)
	}
	if all := f.versions(); len(all.Versions)+len(all.DeleteMarkers) != 0 {
		t.Errorf("something is left: %+v", all)
	}
	if _, err := f.remove("k", ""); err != nil {
		t.Errorf("deleting what isn't there: %v", err)
	}
}

func TestSuspendedVersioningWritesTheNullVersion(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	f.versioning(types.BucketVersioningStatusEnabled)
	one := f.mustPut("k", "one")
	f.versioning(types.BucketVersioningStatusSuspended)
	if id := f.mustPut("k", "two"); id != "null" {
		t.Errorf("version %q", id)
	}
	f.mustPut("k", "three")
	f.wantBody("k", "", "three")
	f.wantBody("k", one, "one")
	out, err := f.remove("k", "")
	if err != nil || !aws.ToBool(out.DeleteMarker) || aws.ToString(out.VersionId) != "null" {
		t.Errorf("%+v, %v", out, err)
	}
	all := f.versions()
	if len(all.Versions) != 1 || *all.Versions[0].VersionId != one || len(all.DeleteMarkers) != 1 {
		t.Errorf("%+v", all)
	}
	got, err := f.GetBucketVersioning(f.ctx, &sdk.GetBucketVersioningInput{Bucket: aws.String(trailBucket)})
	if err != nil || got.Status != types.BucketVersioningStatusSuspended {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestObjectVersionsAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, true)
	ids := []string{f.mustPut("b/2", "x"), f.mustPut("b/2", "yy"), f.mustPut("a", "z"), f.mustPut("b/1", "x")}
	marker, err := f.remove("b/2", "")
	if err != nil {
		t.Fatal(err)
	}
	type item struct {
		Key, ID string
		Latest  bool
		Size    int64
	}
	var got []item
	for _, v := range f.versions().Versions {
		got = append(got, item{*v.Key, *v.VersionId, *v.IsLatest, *v.Size})
	}
	want := []item{{"a", ids[2], true, 1}, {"b/1", ids[3], true, 1}, {"b/2", ids[1], false, 2}, {"b/2", ids[0], false, 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	if m := f.versions().DeleteMarkers; len(m) != 1 || *m[0].VersionId != *marker.VersionId || !*m[0].IsLatest {
		t.Errorf("delete markers %+v", m)
	}
	for size := range int32(6) {
		var paged []string
		in := &sdk.ListObjectVersionsInput{Bucket: aws.String(trailBucket), MaxKeys: aws.Int32(size + 1)}
		for pages := 0; ; pages++ {
			page, err := f.ListObjectVersions(f.ctx, in)
			if err != nil || pages > 9 {
				t.Fatal(pages, err)
			}
			for _, m := range page.DeleteMarkers { // in a page they come with their key's versions
				paged = append(paged, *m.VersionId)
			}
			for _, v := range page.Versions {
				paged = append(paged, *v.VersionId)
			}
			if !*page.IsTruncated {
				break
			}
			in.KeyMarker, in.VersionIdMarker = page.NextKeyMarker, page.NextVersionIdMarker
		}
		want := append(slices.Clone(ids), *marker.VersionId)
		if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(paged))); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", size+1, diff)
		}
	}
	out, err := f.ListObjectVersions(f.ctx, &sdk.ListObjectVersionsInput{Bucket: aws.String(trailBucket), Delimiter: aws.String("/")})
	if err != nil || len(out.Versions) != 1 || len(out.CommonPrefixes) != 1 || *out.CommonPrefixes[0].Prefix != "b/" {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestReadsGiveBackWhatAWriteSaid(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	f.mustPut("k", "{}", func(in *sdk.PutObjectInput) {
		in.ContentType, in.CacheControl = aws.String("application/json"), aws.String("no-store")
		in.ContentEncoding, in.Metadata = aws.String("gzip"), map[string]string{"rotation": "r1"}
	})
	out, err := f.HeadObject(f.ctx, &sdk.HeadObjectInput{Bucket: aws.String(trailBucket), Key: aws.String("k")})
	if err != nil {
		t.Fatal(err)
	}
	if *out.ContentType != "application/json" || *out.CacheControl != "no-store" || *out.ContentEncoding != "gzip" ||
		out.Metadata["rotation"] != "r1" || *out.ContentLength != 2 || *out.ETag != `"99914b932bd37a50b983c5e7c90ae93b"` {
		t.Errorf("%+v", out)
	}
	if d := f.clock.Now().Sub(*out.LastModified); d < 0 || d > time.Minute {
		t.Errorf("last modified %s", out.LastModified)
	}
	f.mustPut("bare", "")
	if out, err = f.HeadObject(f.ctx, &sdk.HeadObjectInput{Bucket: aws.String(trailBucket), Key: aws.String("bare")}); err != nil || *out.ContentLength != 0 {
		t.Errorf("%+v, %v", out, err)
	}
	f.wantBody("bare", "", "")
}

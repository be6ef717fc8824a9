package s3_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
)

// listed are the keys and common prefixes of an answer.
func listed(out *sdk.ListObjectsV2Output) (keys []string) {
	for _, c := range out.Contents {
		keys = append(keys, *c.Key)
	}
	for _, p := range out.CommonPrefixes {
		keys = append(keys, *p.Prefix+"*")
	}
	return keys
}

// S3 API reference, ListObjectsV2.
func TestListings(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	for _, key := range []string{"b/2", "a", "b/1", "b/c/3", "z", "é", "Z", "b.x", "b/1/x"} {
		f.mustPut(key, key)
	}
	tests := []struct {
		what, prefix, delimiter, after string
		want                           []string
	}{
		{"by their UTF-8 bytes", "", "", "", []string{"Z", "a", "b.x", "b/1", "b/1/x", "b/2", "b/c/3", "z", "é"}},
		{"under a prefix", "b/", "", "", []string{"b/1", "b/1/x", "b/2", "b/c/3"}},
		{"a prefix is no folder", "b", "", "", []string{"b.x", "b/1", "b/1/x", "b/2", "b/c/3"}},
		{"to the delimiter", "", "/", "", []string{"Z", "a", "b.x", "z", "é", "b/*"}},
		{"to the delimiter after a prefix", "b/", "/", "", []string{"b/1", "b/2", "b/1/*", "b/c/*"}},
		{"after a key", "", "", "b/1", []string{"b/1/x", "b/2", "b/c/3", "z", "é"}},
		{"after a key that isn't there", "b/", "", "b/1/", []string{"b/1/x", "b/2", "b/c/3"}},
		{"nothing", "nothing", "", "", nil},
	}
	for _, tt := range tests {
		in := &sdk.ListObjectsV2Input{Bucket: aws.String(trailBucket)}
		for value, to := range map[*string]**string{&tt.prefix: &in.Prefix, &tt.delimiter: &in.Delimiter, &tt.after: &in.StartAfter} {
			if *value != "" {
				*to = value
			}
		}
		out, err := f.ListObjectsV2(f.ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		got := listed(out)
		if diff := cmp.Diff(tt.want, got); diff != "" || int(*out.KeyCount) != len(tt.want) || *out.IsTruncated {
			t.Errorf("%s: count %d (-want +got):\n%s", tt.what, *out.KeyCount, diff)
		}
		for size := range int32(len(tt.want) + 1) {
			if paged := f.pages(*in, size+1); len(paged) != len(tt.want) || !sameSet(paged, tt.want) {
				t.Errorf("%s by pages of %d: %v, want %v", tt.what, size+1, paged, tt.want)
			}
		}
	}
}

func sameSet(a, b []string) bool {
	seen := map[string]bool{}
	for _, s := range a {
		seen[s] = true
	}
	for _, s := range b {
		if !seen[s] {
			return false
		}
	}
	return len(seen) == len(b)
}

func (f *fixture) pages(in sdk.ListObjectsV2Input, size int32) (all []string) {
	f.t.Helper()
	in.MaxKeys = &size
	pages := sdk.NewListObjectsV2Paginator(f.Client, &in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(f.ctx)
		if err != nil || len(all) > 2000 {
			f.t.Fatal(err)
		}
		if *page.KeyCount > size {
			f.t.Errorf("a page of %d, asked for %d", *page.KeyCount, size)
		}
		all = append(all, listed(page)...)
	}
	return all
}

func TestAListingShowsEachObject(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, true)
	f.mustPut("k", "123456789")
	f.mustPut("gone", "1")
	if _, err := f.remove("gone", ""); err != nil {
		t.Fatal(err)
	}
	out, err := f.ListObjectsV2(f.ctx, &sdk.ListObjectsV2Input{Bucket: aws.String(trailBucket)})
	if err != nil || len(out.Contents) != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	o := out.Contents[0]
	if *o.ETag != `"25f9e794323b453885f5181f1b624d0b"` || *o.Size != 9 || o.StorageClass != types.ObjectStorageClassStandard || o.LastModified == nil ||
		o.ChecksumAlgorithm[0] != types.ChecksumAlgorithmCrc32 || aws.ToString(out.Name) != trailBucket || aws.ToInt32(out.MaxKeys) != 1000 {
		t.Errorf("%+v", o)
	}
}

func TestAPageHasAThousandKeys(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	for i := range 1001 {
		if status, code := f.raw("PUT", fmt.Sprintf("/%s/%04d", trailBucket, i), "", nil); status != 200 {
			t.Fatal(code)
		}
	}
	for asked, want := range map[int32]int32{0: 0, 999: 999, 1000: 1000, 5000: 1000} {
		out, err := f.ListObjectsV2(f.ctx, &sdk.ListObjectsV2Input{Bucket: aws.String(trailBucket), MaxKeys: &asked})
		if err != nil || *out.KeyCount != want || *out.IsTruncated != (want > 0) {
			t.Errorf("max-keys %d: %d keys, truncated %v, %v", asked, *out.KeyCount, *out.IsTruncated, err)
		}
	}
	if n := len(f.pages(sdk.ListObjectsV2Input{Bucket: aws.String(trailBucket)}, 1000)); n != 1001 {
		t.Errorf("%d keys by pages", n)
	}
}

func TestKeysMayBeEncoded(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	key := "a b/c+d%/é&<x>"
	f.mustPut(key, "1")
	f.wantBody(key, "", "1")
	out, err := f.ListObjectsV2(f.ctx, &sdk.ListObjectsV2Input{Bucket: aws.String(trailBucket)})
	if err != nil || listed(out)[0] != key {
		t.Errorf("%v, %v", listed(out), err)
	}
	out, err = f.ListObjectsV2(f.ctx, &sdk.ListObjectsV2Input{
		Bucket: aws.String(trailBucket), EncodingType: types.EncodingTypeUrl, Prefix: aws.String("a b"), Delimiter: aws.String("&"),
	})
	if err != nil || out.EncodingType != types.EncodingTypeUrl || *out.Prefix != "a+b" || *out.Delimiter != "%26" ||
		listed(out)[0] != "a+b/c%2Bd%25/%C3%A9%26*" {
		t.Errorf("%v, %+v, %v", listed(out), out, err)
	}
}

func TestListingsThatAreRefused(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	for query, want := range map[string]string{
		"?list-type=2&max-keys=-1":                   "InvalidArgument",
		"?list-type=2&max-keys=x":                    "InvalidArgument",
		"?list-type=2&continuation-token=":           "InvalidArgument",
		"?list-type=2&continuation-token=zzzz":       "InvalidArgument",
		"?list-type=2&encoding-type=base64":          "InvalidArgument",
		"?list-type=1":                               "InvalidArgument",
		"?list-type=2&list-type=2":                   "InvalidArgument",
		"?list-type=2&fetch-owner=true":              "NotImplemented",
		"?list-type=2&marker=a":                      "NotImplemented",
		"":                                           "NotImplemented", // the first version of the API
		"?versions&version-id-marker=null":           "InvalidArgument",
		"?versions&key-marker=a&version-id-marker=x": "InvalidArgument",
	} {
		if _, got := f.raw("GET", "/"+trailBucket+query, "", nil); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	for key, want := range map[string]string{
		strings.Repeat("k", 1024): "",
		strings.Repeat("k", 1025): "KeyTooLongError",
		"%FF":                     "InvalidURI",
		"a%00b":                   "NotImplemented",
		"a//b/../c":               "", // a key is no path
	} {
		if _, got := f.raw("PUT", "/"+trailBucket+"/"+key, "1", nil); got != want {
			t.Errorf("%.20s: %q, want %q", key, got, want)
		}
	}
	f.wantBody("a//b/../c", "", "1")
}

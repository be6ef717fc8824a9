package s3_test

import (
	"crypto/md5"
	"encoding/base64"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// The check values of "123456789" are those of the catalogue of parametrised CRC
// algorithms; those of the SHA family are sha1sum's and sha256sum's.
func TestChecksumsOfAllAlgorithmsAreKept(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	tests := map[types.ChecksumAlgorithm]string{
		types.ChecksumAlgorithmCrc32:     "y/Q5Jg==",     // cbf43926
		types.ChecksumAlgorithmCrc32c:    "4waSgw==",     // e3069283
		types.ChecksumAlgorithmCrc64nvme: "rosUhgp5mIg=", // ae8b14860a799888
		types.ChecksumAlgorithmSha1:      "98O8HYCOBHMq32eZZczDTKeuNEE=",
		types.ChecksumAlgorithmSha256:    "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
	}
	for algorithm := range tests {
		key := "sums/" + string(algorithm)
		f.mustPut(key, "123456789", func(in *sdk.PutObjectInput) { in.ChecksumAlgorithm = algorithm })
		out, err := f.HeadObject(f.ctx, &sdk.HeadObjectInput{Bucket: aws.String(trailBucket), Key: &key, ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			t.Fatal(err)
		}
		got := map[types.ChecksumAlgorithm]*string{
			types.ChecksumAlgorithmCrc32: out.ChecksumCRC32, types.ChecksumAlgorithmCrc32c: out.ChecksumCRC32C,
			types.ChecksumAlgorithmCrc64nvme: out.ChecksumCRC64NVME, types.ChecksumAlgorithmSha1: out.ChecksumSHA1,
			types.ChecksumAlgorithmSha256: out.ChecksumSHA256,
		}
		for name, value := range got {
			want := ""
			if name == algorithm {
				want = tests[name]
			}
			if aws.ToString(value) != want {
				t.Errorf("%s of an object with %s is %q, want %q", name, algorithm, aws.ToString(value), want)
			}
		}
		f.wantBody(key, "", "123456789") // the SDK checks it again
	}
}

func TestTheSDKsDefaultChecksumIsVerifiedAndAnswered(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	out, err := f.PutObject(f.ctx, &sdk.PutObjectInput{Bucket: aws.String(trailBucket), Key: aws.String("k"), Body: strings.NewReader("123456789")})
	if err != nil || aws.ToString(out.ChecksumCRC32) != "y/Q5Jg==" || out.ChecksumType != types.ChecksumTypeFullObject {
		t.Errorf("PutObject: %+v, %v", out, err)
	}
	if aws.ToString(out.ETag) != `"25f9e794323b453885f5181f1b624d0b"` { // the MD5 of 123456789
		t.Errorf("ETag %s", aws.ToString(out.ETag))
	}
	_, err = f.put("wrong", "123456789", func(in *sdk.PutObjectInput) { in.ChecksumCRC32 = aws.String("AAAAAA==") })
	wantCode(t, err, "BadDigest")
	sum := md5.Sum([]byte("something else"))
	_, err = f.put("wrong", "123456789", func(in *sdk.PutObjectInput) { in.ContentMD5 = aws.String(base64.StdEncoding.EncodeToString(sum[:])) })
	wantCode(t, err, "BadDigest")
	_, err = f.put("wrong", "123456789", func(in *sdk.PutObjectInput) { in.ContentMD5 = aws.String("bm90IGFuIE1ENQ==") })
	wantCode(t, err, "InvalidDigest")
	_, err = f.get("wrong", "")
	wantCode(t, err, "NoSuchKey")
}

func TestAnObjectWithoutChecksumGetsCRC64NVME(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	if status, code := f.raw("PUT", "/"+trailBucket+"/k", "123456789", nil); status != 200 {
		t.Fatalf("%d %s", status, code)
	}
	out, err := f.HeadObject(f.ctx, &sdk.HeadObjectInput{Bucket: aws.String(trailBucket), Key: aws.String("k"), ChecksumMode: types.ChecksumModeEnabled})
	if err != nil || aws.ToString(out.ChecksumCRC64NVME) != "rosUhgp5mIg=" {
		t.Errorf("%+v, %v", out, err)
	}
}

// Over TLS the SDK sends a stream in chunks with its checksum behind it.
func TestTrailersOfTheSDKAreVerified(t *testing.T) {
	t.Parallel()
	f := startOn(t, httptest.NewTLSServer)
	f.create(trailBucket, false)
	body := strings.Repeat("0123456789", 20_000)
	stream := struct{ io.Reader }{strings.NewReader(body)} // can't be read twice
	if _, err := f.PutObject(f.ctx, &sdk.PutObjectInput{
		Bucket: aws.String(trailBucket), Key: aws.String("k"), Body: stream, ContentLength: aws.Int64(int64(len(body))),
	}); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	trailer, payload := f.last.Get("X-Amz-Trailer"), f.last.Get("X-Amz-Content-Sha256")
	f.mu.Unlock()
	if trailer != "x-amz-checksum-crc32" || payload != "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
		t.Errorf("the SDK sent the trailer %q and the payload %q", trailer, payload)
	}
	f.wantBody("k", "", body)
	out, err := f.HeadObject(f.ctx, &sdk.HeadObjectInput{Bucket: aws.String(trailBucket), Key: aws.String("k")})
	if err != nil || out.ContentEncoding != nil || *out.ContentLength != int64(len(body)) {
		t.Errorf("%+v, %v", out, err)
	}
}

// S3 API reference, "Signature calculations: including trailing headers".
func TestChunkedBodies(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	const (
		unsigned = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
		signed   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
		plain    = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
		crc      = "x-amz-checksum-crc32:y/Q5Jg==\r\n"
		name     = "x-amz-checksum-crc32"
	)
	signature := ";chunk-signature=" + strings.Repeat("0", 64)
	tests := []struct {
		what, payload, trailer, length, body, code string
	}{
		{"one chunk", unsigned, name, "9", "9\r\n123456789\r\n0\r\n" + crc + "\r\n", ""},
		{"two chunks", unsigned, name, "9", "4\r\n1234\r\n5\r\n56789\r\n0\r\n" + crc + "\r\n", ""},
		{"without trailers", plain, "", "9", "9" + signature + "\r\n123456789\r\n0" + signature + "\r\n\r\n", ""},
		{"signed", signed, name, "9", "9" + signature + "\r\n123456789\r\n0" + signature + "\r\n" + crc + "x-amz-trailer-signature:0\r\n\r\n", ""},
		{"another object", unsigned, name, "9", "9\r\n123456780\r\n0\r\n" + crc + "\r\n", "BadDigest"},
		{"another algorithm than announced", unsigned, "x-amz-checksum-sha1", "9", "9\r\n123456789\r\n0\r\n" + crc + "\r\n", "MalformedTrailerError"},
		{"announced and missing", unsigned, name, "9", "9\r\n123456789\r\n0\r\n\r\n", "MalformedTrailerError"},
		{"not announced", unsigned, "", "9", "9\r\n123456789\r\n0\r\n" + crc + "\r\n", "MalformedTrailerError"},
		{"in a form without them", plain, name, "9", "9\r\n123456789\r\n0\r\n" + crc + "\r\n", "MalformedTrailerError"},
		{"another trailer", unsigned, "x-other", "9", "9\r\n123456789\r\n0\r\nx-other:1\r\n\r\n", "NotImplemented"},
		{"no last chunk", unsigned, name, "9", "9\r\n123456789\r\n", "IncompleteBody"},
		{"a chunk cut off", unsigned, name, "9", "9\r\n12345", "IncompleteBody"},
		{"no length of a chunk", unsigned, name, "9", "x\r\n123456789\r\n0\r\n\r\n", "IncompleteBody"},
		{"shorter than declared", unsigned, name, "10", "9\r\n123456789\r\n0\r\n" + crc + "\r\n", "IncompleteBody"},
		{"length not declared", unsigned, name, "", "9\r\n123456789\r\n0\r\n" + crc + "\r\n", "MissingContentLength"},
	}
	for _, tt := range tests {
		_, got := f.raw("PUT", "/"+trailBucket+"/"+strings.ReplaceAll(tt.what, " ", "-"), tt.body, map[string]string{
			"X-Amz-Content-Sha256": tt.payload, "X-Amz-Trailer": tt.trailer, "X-Amz-Decoded-Content-Length": tt.length,
			"Content-Encoding": "aws-chunked",
		})
		if got != tt.code {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.code)
		}
	}
	for _, key := range []string{"one-chunk", "two-chunks", "without-trailers", "signed"} {
		f.wantBody(key, "", "123456789")
	}
}

func TestDigestsInHeadersAreChecked(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	tests := []struct {
		what    string
		headers map[string]string
		code    string
	}{
		{"two checksums", map[string]string{"X-Amz-Checksum-Crc32": "y/Q5Jg==", "X-Amz-Checksum-Crc32c": "4waSgw=="}, "InvalidRequest"},
		{"another algorithm than declared", map[string]string{"X-Amz-Checksum-Crc32": "y/Q5Jg==", "X-Amz-Sdk-Checksum-Algorithm": "SHA1"}, "InvalidRequest"},
		{"declared and missing", map[string]string{"X-Amz-Sdk-Checksum-Algorithm": "CRC32"}, "InvalidRequest"},
		{"not modelled", map[string]string{"X-Amz-Checksum-Xxhash64": "AAAAAAAAAAA="}, "NotImplemented"},
		{"another body than signed", map[string]string{"X-Amz-Content-Sha256": strings.Repeat("0", 64)}, "XAmzContentSHA256Mismatch"},
		{"no digest of the body", map[string]string{"X-Amz-Content-Sha256": ""}, "InvalidRequest"},
		{"unsigned", map[string]string{"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"}, ""},
	}
	for _, tt := range tests {
		if _, got := f.raw("PUT", "/"+trailBucket+"/k", "123456789", tt.headers); got != tt.code {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.code)
		}
	}
}

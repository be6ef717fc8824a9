package s3

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

// request is a call, taken apart.
type request struct {
	ctx         context.Context
	id          string
	path        string
	bucket, key string
	header      http.Header
	query       url.Values
	body        []byte
	sum         checksum // of the body; the zero value if the caller gave none
	md5         bool     // the caller gave a Content-MD5, and it is right
}

// operation is one action of the API: what it may carry besides what every
// request has, and what it does with the lock held.
type operation struct {
	name       string
	iam        string // what policies call it; "" for what no bucket policy is asked about
	run        func(*Service, *request) (*answer, error)
	query      []string
	headers    []string // conditions and X-Amz-…, in canonical form
	configures bool     // a management event of CloudTrail
}

const checksumMode = "X-Amz-Checksum-Mode"

var (
	versionQuery = []string{"versionId"}
	readHeaders  = []string{checksumMode}
)

// operations are known by method, level and sub-resource.
var operations = map[string]operation{
	"PUT bucket": {name: "CreateBucket", run: (*Service).createBucket, configures: true,
		headers: []string{"X-Amz-Bucket-Object-Lock-Enabled", "X-Amz-Object-Ownership"}},
	"HEAD bucket": {name: "HeadBucket", iam: "s3:ListBucket", run: (*Service).headBucket},
	"PUT bucket?versioning": {name: "PutBucketVersioning", iam: "s3:PutBucketVersioning",
		run: (*Service).putBucketVersioning, configures: true},
	"GET bucket?versioning": {name: "GetBucketVersioning", iam: "s3:GetBucketVersioning", run: (*Service).getBucketVersioning},
	"PUT bucket?object-lock": {name: "PutObjectLockConfiguration", iam: "s3:PutBucketObjectLockConfiguration",
		run: (*Service).putObjectLockConfiguration, configures: true},
	"GET bucket?object-lock": {name: "GetObjectLockConfiguration", iam: "s3:GetBucketObjectLockConfiguration",
		run: (*Service).getObjectLockConfiguration},
	"PUT bucket?policy": {name: "PutBucketPolicy", iam: "s3:PutBucketPolicy", run: (*Service).putBucketPolicy, configures: true},
	"GET bucket?policy": {name: "GetBucketPolicy", iam: "s3:GetBucketPolicy", run: (*Service).getBucketPolicy},
	"PUT bucket?notification": {name: "PutBucketNotificationConfiguration", iam: "s3:PutBucketNotification",
		run: (*Service).putBucketNotificationConfiguration, configures: true},
	"GET bucket?notification": {name: "GetBucketNotificationConfiguration", iam: "s3:GetBucketNotification",
		run: (*Service).getBucketNotificationConfiguration},
	"GET bucket?list-type": {name: "ListObjectsV2", iam: "s3:ListBucket", run: (*Service).listObjectsV2,
		query: []string{"prefix", "delimiter", "max-keys", "continuation-token", "start-after", "encoding-type", "fetch-owner"}},
	"GET bucket?versions": {name: "ListObjectVersions", iam: "s3:ListBucketVersions", run: (*Service).listObjectVersions,
		query: []string{"prefix", "delimiter", "max-keys", "key-marker", "version-id-marker", "encoding-type"}},
	"PUT object": {name: "PutObject", iam: "s3:PutObject", run: (*Service).putObject, headers: []string{
		"If-None-Match", "X-Amz-Object-Lock-Mode", "X-Amz-Object-Lock-Retain-Until-Date", "X-Amz-Server-Side-Encryption", "X-Amz-Storage-Class",
	}},
	"GET object":  {name: "GetObject", iam: "s3:GetObject", run: (*Service).getObject, query: versionQuery, headers: readHeaders},
	"HEAD object": {name: "HeadObject", iam: "s3:GetObject", run: (*Service).headObject, query: versionQuery, headers: readHeaders},
	"DELETE object": {name: "DeleteObject", iam: "s3:DeleteObject", run: (*Service).deleteObject, query: versionQuery,
		headers: []string{"X-Amz-Bypass-Governance-Retention"}},
	"GET object?retention": {name: "GetObjectRetention", iam: "s3:GetObjectRetention", run: (*Service).getObjectRetention,
		query: versionQuery},
}

// always are the headers that any request may have: the signature's, the
// SDK's own, and the body's checksum.
var always = []string{
	"X-Amz-Date", "X-Amz-Content-Sha256", "X-Amz-Security-Token", "X-Amz-User-Agent", "X-Amz-Expected-Bucket-Owner",
	"X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Decoded-Content-Length", "X-Amz-Trailer",
}

// operation takes the path apart and finds what is asked for.
func (q *request) operation(method string) (operation, error) {
	q.bucket, q.key, _ = strings.Cut(strings.TrimPrefix(q.path, "/"), "/")
	level := "service"
	switch {
	case q.key != "":
		level = "object"
	case q.bucket != "":
		level = "bucket"
	}
	name := method + " " + level
	for sub := range q.query {
		if _, ok := operations[name+"?"+sub]; ok {
			name += "?" + sub
			break
		}
	}
	op, ok := operations[name]
	if !ok {
		return op, notModelled("%s %s", method, q.path)
	}
	_, sub, _ := strings.Cut(name, "?")
	for given, values := range q.query {
		// The SDKs name the operation in x-id, beside the path.
		if given != sub && given != "x-id" && !slices.Contains(op.query, given) {
			return op, notModelled("the parameter %s of %s", given, op.name)
		}
		if len(values) != 1 {
			return op, failed(http.StatusBadRequest, "InvalidArgument", "the parameter %s is given %d times", given, len(values))
		}
	}
	return op, nil
}

// check refuses what the operation doesn't know.
func (q *request) check(op operation) error {
	for name, values := range q.header {
		amazon := strings.HasPrefix(name, "X-Amz-")
		if !amazon && !strings.HasPrefix(name, "If-") && name != "Range" {
			continue
		}
		if len(values) != 1 {
			return failed(http.StatusBadRequest, "InvalidArgument", "the header %s is given %d times", name, len(values))
		}
		known := slices.Contains(op.headers, name) || amazon && slices.Contains(always, name) ||
			strings.HasPrefix(name, checksumPrefix) && name != checksumMode || op.name == "PutObject" && strings.HasPrefix(name, metaPrefix)
		if !known {
			return notModelled("the header %s of %s", name, op.name)
		}
	}
	if owner := q.header.Get("X-Amz-Expected-Bucket-Owner"); owner != "" && owner != awsproto.Account {
		return accessDenied("the bucket's owner is account %s", awsproto.Account)
	}
	if q.key != "" {
		return checkKey(q.key)
	}
	return nil
}

const maxKey = 1024 // bytes

func checkKey(key string) error {
	switch {
	case !utf8.ValidString(key):
		return failed(http.StatusBadRequest, "InvalidURI", "Couldn't parse the specified URI.")
	case len(key) > maxKey:
		return failed(http.StatusBadRequest, "KeyTooLongError", "Your key is too long: %d bytes of at most %d", len(key), maxKey)
	case strings.ContainsFunc(key, unicode.IsControl):
		// XML 1.0 can't carry most of them, so that no listing could show the key.
		return notModelled("a key with control characters")
	}
	return nil
}

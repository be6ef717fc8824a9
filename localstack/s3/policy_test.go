package s3_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
)

func (f *fixture) policy(statements ...string) error {
	_, err := f.PutBucketPolicy(f.ctx, &sdk.PutBucketPolicyInput{
		Bucket: aws.String(trailBucket), Policy: aws.String(`{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`),
	})
	return err
}

const (
	ifNoneMatchOnly = `{"Sid":"Append","Effect":"Deny","Principal":{"AWS":"*"},"Action":"s3:PutObject",
		"Resource":"arn:aws:s3:::audit-trail/records/*","Condition":{"Null":{"s3:if-none-match":"true"}}}`
	tlsOnly = `{"Sid":"TLS","Effect":"Deny","Principal":"*","Action":"s3:*",
		"Resource":["arn:aws:s3:::audit-trail","arn:aws:s3:::audit-trail/*"],"Condition":{"Bool":{"aws:SecureTransport":"false"}}}`
)

// S3 user guide, "Enforce conditional writes on Amazon S3 buckets".
func TestAPolicyMayDemandConditionalWrites(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, true)
	if err := f.policy(ifNoneMatchOnly, tlsOnly); err != nil {
		t.Fatal(err)
	}
	_, err := f.put("records/1", "one")
	wantCode(t, err, "AccessDenied")
	f.mustPut("records/1", "one", ifAbsent)
	_, err = f.put("records/1", "two", ifAbsent)
	wantCode(t, err, "PreconditionFailed")
	_, err = f.put("records/1", "two")
	wantCode(t, err, "AccessDenied")
	f.wantBody("records/1", "", "one")
	f.mustPut("elsewhere", "one")
	out, err := f.GetBucketPolicy(f.ctx, &sdk.GetBucketPolicyInput{Bucket: aws.String(trailBucket)})
	if err != nil || !strings.Contains(*out.Policy, `"Sid":"Append"`) {
		t.Errorf("%+v, %v", out, err)
	}
}

// Plain HTTP stands for TLS here, so that this denial is kept and never met.
func TestADenialOfPlainHTTPIsAcceptedAndNeverMet(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	if err := f.policy(tlsOnly, strings.Replace(strings.Replace(tlsOnly, "Bool", "NumericLessThan", 1), `"aws:SecureTransport":"false"`, `"s3:TlsVersion":"1.2"`, 1)); err != nil {
		t.Fatal(err)
	}
	f.mustPut("k", "one")
	f.wantBody("k", "", "one")
}

func TestDenialsOfOtherActionsAreEnforced(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, true)
	deny := func(action string) string {
		return `{"Effect":"Deny","Principal":"*","Action":["` + action + `"],"Resource":["arn:aws:s3:::audit-trail","arn:aws:s3:::audit-trail/*"]}`
	}
	id := f.mustPut("k", "one", f.locked("GOVERNANCE", day))
	free := f.mustPut("k", "two")
	calls := map[string]func() error{
		"s3:PutObject":                 func() error { _, err := f.put("k", "x"); return err },
		"s3:GetObject":                 func() error { _, err := f.get("k", ""); return err },
		"s3:GetObjectVersion":          func() error { _, err := f.get("k", id); return err },
		"s3:DeleteObject":              func() error { _, err := f.remove("k", ""); return err },
		"s3:DeleteObjectVersion":       func() error { _, err := f.remove("k", free); return err },
		"s3:BypassGovernanceRetention": func() error { _, err := f.remove("k", id, bypass); return err },
		"s3:ListBucket": func() error {
			_, err := f.ListObjectsV2(f.ctx, &sdk.ListObjectsV2Input{Bucket: aws.String(trailBucket)})
			return err
		},
		"s3:ListBucketVersions": func() error {
			_, err := f.ListObjectVersions(f.ctx, &sdk.ListObjectVersionsInput{Bucket: aws.String(trailBucket)})
			return err
		},
	}
	ctx, name := f.ctx, aws.String(trailBucket)
	for action, call := range map[string]func() error{
		"s3:GetObjectRetention": func() error {
			_, err := f.GetObjectRetention(ctx, &sdk.GetObjectRetentionInput{Bucket: name, Key: aws.String("k"), VersionId: &id})
			return err
		},
		"s3:PutObjectRetention": func() error { _, err := f.put("k", "x", f.locked("GOVERNANCE", day)); return err },
		"s3:GetBucketVersioning": func() error {
			_, err := f.GetBucketVersioning(ctx, &sdk.GetBucketVersioningInput{Bucket: name})
			return err
		},
		"s3:PutBucketVersioning":              func() error { _, got := f.raw("PUT", "/"+trailBucket+"?versioning", "", nil); return coded(got) },
		"s3:GetBucketObjectLockConfiguration": func() error { _, got := f.raw("GET", "/"+trailBucket+"?object-lock", "", nil); return coded(got) },
		"s3:PutBucketObjectLockConfiguration": func() error { _, got := f.raw("PUT", "/"+trailBucket+"?object-lock", "", nil); return coded(got) },
		"s3:GetBucketPolicy":                  func() error { _, got := f.raw("GET", "/"+trailBucket+"?policy", "", nil); return coded(got) },
		"s3:GetBucketNotification":            func() error { _, got := f.raw("GET", "/"+trailBucket+"?notification", "", nil); return coded(got) },
		"s3:PutBucketNotification":            func() error { _, got := f.raw("PUT", "/"+trailBucket+"?notification", "", nil); return coded(got) },
	} {
		calls[action] = call
	}
	for action, call := range calls {
		if err := f.policy(deny(action)); err != nil {
			t.Fatal(err)
		}
		if err := call(); code(err) != "AccessDenied" {
			t.Errorf("%s: %v, want AccessDenied", action, err)
		}
	}
	if err := f.policy(deny("s3:Delete*")); err != nil {
		t.Fatal(err)
	}
	wantCode(t, calls["s3:DeleteObjectVersion"](), "AccessDenied")
	f.mustPut("k", "allowed")
	// The last one, because nothing takes it back.
	if err := f.policy(deny("s3:PutBucketPolicy")); err != nil {
		t.Fatal(err)
	}
	wantCode(t, f.policy(tlsOnly), "AccessDenied")
}

// As a stack denies it to everybody but those who may break the glass.
func TestADenialMaySpareSomebody(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, true)
	one, two := f.mustPut("records/1", "1", f.locked("GOVERNANCE", day)), f.mustPut("records/1", "2", f.locked("GOVERNANCE", day))
	spare := func(operator string, arns string) string {
		return `{"Sid":"LockStays","Effect":"Deny","Principal":{"AWS":"*"},"Action":["s3:BypassGovernanceRetention","s3:PutObjectRetention","s3:PutObjectLegalHold"],
			"Resource":"arn:aws:s3:::audit-trail/records/*","Condition":{"` + operator + `":{"aws:PrincipalArn":` + arns + `}}}`
	}
	const others, me = `["arn:aws:iam::000000000000:role/glass"]`, `["arn:aws:iam::000000000000:role/glass","arn:aws:iam::*:user/AKIA*"]`
	for statement, want := range map[string]string{spare("ArnNotLike", others): "AccessDenied", spare("ArnLike", me): "AccessDenied"} {
		if err := f.policy(statement); err != nil {
			t.Fatal(err)
		}
		_, err := f.remove("records/1", one, bypass)
		wantCode(t, err, want)
	}
	for statement, id := range map[string]string{spare("ArnNotLike", me): one, spare("ArnLike", others): two} {
		if err := f.policy(statement); err != nil {
			t.Fatal(err)
		}
		if _, err := f.remove("records/1", id, bypass); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

// coded is an error with a code, or nil for none.
func coded(code string) error {
	if code == "" {
		return nil
	}
	return &smithy.GenericAPIError{Code: code}
}

// A denial that isn't enforced would make a test of it pass for nothing.
func TestPoliciesThatAreRefused(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	change := func(old, with string) string {
		t.Helper()
		if !strings.Contains(ifNoneMatchOnly, old) {
			t.Fatalf("there is no %s", old)
		}
		return strings.Replace(ifNoneMatchOnly, old, with, 1)
	}
	tests := []struct{ what, statement, code string }{
		{"an allowance", change("Deny", "Allow"), ""},
		{"with a creation operation", change(`}}}`, `},"Bool":{"s3:ObjectCreationOperation":"true"}}}`), ""},
		{"for one principal", change(`"AWS":"*"`, `"AWS":"arn:aws:iam::000000000000:role/x"`), "NotImplemented"},
		{"for a service", change(`"AWS":"*"`, `"Service":"*"`), "NotImplemented"},
		{"another key", change("s3:if-none-match", "aws:SourceIp"), "NotImplemented"},
		{"a principal that isn't there", change("s3:if-none-match", "aws:PrincipalArn"), "NotImplemented"},
		{"no values", change(`"true"`, `[]`), "NotImplemented"},
		{"another operator", change("Null", "StringNotEquals"), "NotImplemented"},
		{"two values", change(`"true"`, `["true","false"]`), "NotImplemented"},
		{"another value", change(`"true"`, `"yes"`), "MalformedPolicy"},
		{"another member", change(`"Sid":"Append"`, `"NotPrincipal":"*"`), "MalformedPolicy"},
		{"another effect", change("Deny", "Refuse"), "MalformedPolicy"},
		{"another bucket", change("audit-trail", "other"), "MalformedPolicy"},
		{"another service", change("s3:PutObject", "sqs:SendMessage"), "MalformedPolicy"},
		{"no action", change(`"Action":"s3:PutObject",`, ""), "MalformedPolicy"},
		{"no JSON", "x", "MalformedPolicy"},
		{"too long", change("Append", strings.Repeat("x", 20<<10)), "PolicyTooLarge"},
	}
	for _, tt := range tests {
		if err := f.policy(tt.statement); code(err) != tt.code {
			t.Errorf("%s: %v, want %q", tt.what, err, tt.code)
		}
	}
	if err := f.policy(); code(err) != "MalformedPolicy" {
		t.Errorf("no statement: %v", err)
	}
	f.create("other", false)
	_, err := f.GetBucketPolicy(f.ctx, &sdk.GetBucketPolicyInput{Bucket: aws.String("other")})
	wantCode(t, err, "NoSuchBucketPolicy")
}

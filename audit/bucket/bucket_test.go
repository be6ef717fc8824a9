package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/bucket"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	locals3 "github.com/keyturn/keyturn/localstack/s3"
)

const (
	name   = "trail"
	secret = "arn:aws:secretsmanager:us-east-1:000000000000:secret:orders/db-AbCdEf"
)

// policy is the statement that the deployment puts: nothing is written over.
const policy = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:PutObject",
	"Resource":["arn:aws:s3:::trail/records/*","arn:aws:s3:::trail/heads/*","arn:aws:s3:::trail/refusals/*"],
	"Condition":{"Null":{"s3:if-none-match":"true"}}}]}`

// setup makes a bucket as it is deployed.
func setup(t *testing.T, o localstack.Options) (*bucket.Ledger, *localstack.AWS) {
	t.Helper()
	o.Addr = "127.0.0.1:0"
	running, err := localstack.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Close() })
	api := s3.NewFromConfig(aws.Config{
		Region: awsproto.Region, BaseEndpoint: &running.Endpoint, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
	if _, err := api.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(name), ObjectLockEnabledForBucket: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.PutObjectLockConfiguration(t.Context(), &s3.PutObjectLockConfigurationInput{
		Bucket: aws.String(name), ObjectLockConfiguration: &types.ObjectLockConfiguration{
			ObjectLockEnabled: types.ObjectLockEnabledEnabled,
			Rule:              &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{Mode: types.ObjectLockRetentionModeCompliance, Days: aws.Int32(400)}},
		},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: aws.String(name), Policy: aws.String(policy)}); err != nil {
		t.Fatal(err)
	}
	return &bucket.Ledger{API: api, Bucket: name}, running
}

func TestLedger(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, localstack.Options{})
	if keys, err := l.List(t.Context(), "records/"); err != nil || len(keys) != 0 {
		t.Errorf("an empty bucket: %v, %v", keys, err)
	}
	if _, err := l.Get(t.Context(), "records/a/1.json"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("nothing there: %v", err)
	}
	want := []string{"records/a%2Fb/00000001.json", "records/a/00000001.json", "records/a/00000002.json"}
	for _, key := range []string{want[2], want[0], want[1], "heads/a/00000001.json"} {
		if err := l.Put(t.Context(), key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Put(t.Context(), want[1], []byte("other")); !errors.Is(err, audit.ErrExists) {
		t.Errorf("a key that is taken: %v", err)
	}
	if err := l.Put(t.Context(), want[1], []byte(want[1])); !errors.Is(err, audit.ErrExists) {
		t.Errorf("the same bytes again: %v", err)
	}
	if body, err := l.Get(t.Context(), want[1]); err != nil || string(body) != want[1] {
		t.Errorf("got %q, %v", body, err)
	}
	keys, err := l.List(t.Context(), "records/a")
	slices.Sort(want)
	if diff := cmp.Diff(want, keys); diff != "" || err != nil {
		t.Errorf("listed (-want +got), %v:\n%s", err, diff)
	}
}

func TestManyKeysAreListedWholeAndInOrder(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, localstack.Options{})
	var want []string
	for i := range 1203 { // more than a page
		want = append(want, fmt.Sprintf("refusals/%04d.json", i))
		if err := l.Put(t.Context(), want[i], []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	got, err := l.List(t.Context(), "refusals/")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestKeysThatNoLedgerTakes(t *testing.T) {
	t.Parallel()
	l := &bucket.Ledger{Bucket: name} // nothing is asked of S3
	for _, key := range []string{"", "/a", "a/../b", ".a", "a/.b", "a//b"} {
		if err := l.Put(t.Context(), key, nil); err == nil {
			t.Errorf("%q was put", key)
		}
		if _, err := l.Get(t.Context(), key); err == nil {
			t.Errorf("%q was got", key)
		}
	}
}

// Another request for the same key is under way: S3 wants the put sent again, and
// then the key is free or taken.
func TestAConflictIsSentAgain(t *testing.T) {
	t.Parallel()
	var left atomic.Int32
	l, _ := setup(t, localstack.Options{S3: locals3.Behaviour{Conflict: func(string, string) bool { return left.Add(-1) >= 0 }}})
	left.Store(3)
	if err := l.Put(t.Context(), "records/a/00000001.json", []byte("{}")); err != nil {
		t.Errorf("after three conflicts: %v", err)
	}
	left.Store(2)
	if err := l.Put(t.Context(), "records/a/00000001.json", []byte("{}")); !errors.Is(err, audit.ErrExists) {
		t.Errorf("taken, after two conflicts: %v", err)
	}
	left.Store(1000)
	if err := l.Put(t.Context(), "records/a/00000002.json", []byte("{}")); err == nil || errors.Is(err, audit.ErrExists) {
		t.Errorf("conflicts without end: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Put(ended, "records/a/00000003.json", []byte("{}")); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
}

// Many writers chain their records in one bucket: nothing is lost, and the trail
// verifies.
func TestManyJournalsShareABucket(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, localstack.Options{})
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			j := audit.Journal{Ledger: l, Actor: fmt.Sprint("writer ", w), ActorType: audit.Controller}
			for i := range 5 {
				if err := j.Record(t.Context(), record("r"+fmt.Sprint(i%2), fmt.Sprint("step", w, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	s, err := audit.Verify(t.Context(), l, secret)
	if err != nil || s.Records != 20 || len(s.Chains) != 2 {
		t.Errorf("%d records in %d chains, %v", s.Records, len(s.Chains), err)
	}
}

func record(rotation, step string) audit.Record {
	return audit.Record{SecretID: secret, RotationID: rotation, Step: step, Phase: audit.Intent}
}

// An answer that is lost, or an error before anything was done, leads to one
// record and no other; a bucket that refuses keeps a step from acting.
func TestAnAnswerThatIsLost(t *testing.T) {
	t.Parallel()
	var lose, refuse atomic.Bool
	l, _ := setup(t, localstack.Options{S3Fault: func(_ context.Context, action string, before bool) error {
		if action == "PutObject" && !before && lose.CompareAndSwap(true, false) || action == "PutObject" && before && refuse.Load() {
			return &awsproto.Error{Code: "InternalError", Message: "We encountered an internal error.", Status: 500}
		}
		return nil
	}})
	j := audit.Journal{Ledger: l, Actor: "a", ActorType: audit.Controller}
	if err := j.Record(t.Context(), record("r", "first")); err != nil {
		t.Fatal(err)
	}
	lose.Store(true)
	if err := j.Record(t.Context(), record("r", "second")); err != nil {
		t.Errorf("kept, and the answer lost: %v", err)
	}
	refuse.Store(true)
	if err := j.Record(t.Context(), record("r", "third")); !fault.Is(err, fault.AuditUnavailable) {
		t.Errorf("not kept: %v", err)
	}
	refuse.Store(false)
	s, err := audit.Verify(t.Context(), l, secret)
	if err != nil || s.Records != 2 {
		t.Errorf("%d records, %v", s.Records, err)
	}
}

// Who may write to the bucket, but not to its policy, changes no record unseen and
// takes none away.
func TestRecordsStay(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, localstack.Options{})
	j := audit.Journal{Ledger: l, Actor: "a", ActorType: audit.Controller}
	for _, step := range []string{"one", "two"} {
		if err := j.Record(t.Context(), record("r", step)); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := l.List(t.Context(), "records/")
	if err != nil || len(keys) != 2 {
		t.Fatalf("%v, %v", keys, err)
	}
	api := l.API.(*s3.Client)
	if _, err := api.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(name), Key: &keys[0], Body: bytes.NewReader([]byte("{}"))}); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("written over: %v", err)
	}
	versions, err := api.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: aws.String(name), Prefix: &keys[1]})
	if err != nil || len(versions.Versions) != 1 {
		t.Fatalf("%v, %v", versions, err)
	}
	if _, err := api.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(name), Key: &keys[1], VersionId: versions.Versions[0].VersionId}); err == nil {
		t.Error("a locked version was deleted")
	}
	// A delete marker hides it: the chain shows that it was there.
	if _, err := api.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(name), Key: &keys[0]}); err != nil {
		t.Fatal(err)
	}
	var findings *audit.FindingsError
	if _, err := audit.Verify(t.Context(), l, secret); !errors.As(err, &findings) {
		t.Errorf("a record that is hidden: %v", err)
	}
}

func TestEvidenceLiesInTheBucket(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, localstack.Options{})
	e := audit.EvidenceLedger{Ledger: l}
	s := audit.Sighting{Party: "orders-api", Digest: "v2", By: "pool", Proof: 3, At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	for range 2 {
		if err := e.Append(t.Context(), secret, "v2", s); err != nil {
			t.Fatal(err)
		}
	}
	got, err := e.Seen(t.Context(), secret, "v2")
	if diff := cmp.Diff([]audit.Sighting{s}, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

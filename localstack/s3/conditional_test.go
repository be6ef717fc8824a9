package s3_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/keyturn/keyturn/localstack/s3"
)

// S3 user guide, "How to prevent object overwrites with conditional writes".
func TestAConditionalPutNeverOverwrites(t *testing.T) {
	t.Parallel()
	for _, status := range []types.BucketVersioningStatus{"", types.BucketVersioningStatusEnabled, types.BucketVersioningStatusSuspended} {
		f := start(t)
		f.create(trailBucket, false)
		if status != "" {
			f.versioning(status)
		}
		f.mustPut("a/1", "first", ifAbsent)
		_, err := f.put("a/1", "second", ifAbsent)
		wantCode(t, err, "PreconditionFailed")
		_, err = f.put("a/1", "first", ifAbsent) // one's own bytes are refused too
		wantCode(t, err, "PreconditionFailed")
		f.wantBody("a/1", "", "first")
		f.mustPut("a/2", "other key", ifAbsent)
		f.mustPut("a/1", "without the condition")
		f.wantBody("a/1", "", "without the condition")
	}
}

func TestADeleteMarkerFreesItsKey(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	f.versioning(types.BucketVersioningStatusEnabled)
	old := f.mustPut("k", "one", ifAbsent)
	if _, err := f.remove("k", ""); err != nil {
		t.Fatal(err)
	}
	f.mustPut("k", "two", ifAbsent)
	f.wantBody("k", "", "two")
	f.wantBody("k", old, "one")
}

func TestOfManyConditionalWritersOneWins(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, true)
	const writers = 16
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() { _, errs[i] = f.put("head", fmt.Sprint("writer ", i), ifAbsent) })
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Errorf("writers %d and %d both wrote", winner, i)
		case err == nil:
			winner = i
		default:
			wantCode(t, err, "PreconditionFailed")
		}
	}
	f.wantBody("head", "", fmt.Sprint("writer ", winner))
	if n := len(f.versions().Versions); n != 1 {
		t.Errorf("%d versions, want 1", n)
	}
}

func TestAConflictIsASwitchAndWritesNothing(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	conflicts := 2
	f.service.SetBehaviour(s3.Behaviour{Conflict: func(bucket, key string) bool {
		conflicts--
		return bucket == trailBucket && key == "k" && conflicts >= 0
	}})
	for range 2 {
		_, err := f.put("k", "one", ifAbsent)
		wantCode(t, err, "ConditionalRequestConflict")
		_, err = f.get("k", "")
		wantCode(t, err, "NoSuchKey")
	}
	f.mustPut("k", "one", ifAbsent)
	conflicts = 9
	f.mustPut("k", "unconditional writes don't conflict")
	if conflicts != 9 {
		t.Error("an unconditional write asked the switch")
	}
}

func TestOnlyTheStarIsACondition(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.create(trailBucket, false)
	_, err := f.put("k", "one", func(in *sdk.PutObjectInput) { in.IfNoneMatch = aws.String(`"abc"`) })
	wantCode(t, err, "NotImplemented")
	_, err = f.put("k", "one", func(in *sdk.PutObjectInput) { in.IfMatch = aws.String(`"abc"`) })
	wantCode(t, err, "NotImplemented")
}

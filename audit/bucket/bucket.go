// Package bucket answers: how does an audit trail lie in S3?
//
// Each record is one object, put only if its key is free: of two writers one
// gets 412, and reads what the other has written. The bucket's policy refuses
// puts without that condition, and Object Lock deletions.
package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/audit"
)

// API is what is called of S3.
type API interface {
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
}

// Ledger is an audit.Ledger in a bucket. S3 is strongly consistent (user guide,
// "data consistency model"). The role needs s3:PutObject, s3:GetObject and
// s3:ListBucket: without the last one S3 says of a missing object that reading it
// is forbidden.
type Ledger struct {
	API    API
	Bucket string
}

var _ audit.Ledger = (*Ledger)(nil)

const (
	// maxBody bounds what Get reads, in bytes: records are a few kilobytes.
	maxBody = 1 << 20
	// conflicts is how often a put is tried that met another one on its way to the
	// same key: S3 answers 409 and wants it sent again (API reference, PutObject).
	conflicts = 4
)

// Put implements audit.Ledger.
func (l *Ledger) Put(ctx context.Context, key string, body []byte) error {
	if err := check(key); err != nil {
		return err
	}
	for try := 1; ; try++ {
		_, err := l.API.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &l.Bucket, Key: &key, Body: bytes.NewReader(body), IfNoneMatch: aws.String("*"),
			ContentType: aws.String("application/json"),
			// Object Lock wants one (user guide, "Object Lock considerations"), and the
			// client adds none by itself when its configuration is built by hand.
			ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		})
		switch code := codeOf(err); {
		case err == nil:
			return nil
		case code == "PreconditionFailed":
			return fmt.Errorf("putting %s: %w", key, audit.ErrExists)
		case code == "ConditionalRequestConflict" && try < conflicts:
			if err := pause(ctx, try); err != nil {
				return fmt.Errorf("putting %s: %w", key, err)
			}
		default:
			return fmt.Errorf("putting %s into bucket %s: %w", key, l.Bucket, err)
		}
	}
}

// Get implements audit.Ledger.
func (l *Ledger) Get(ctx context.Context, key string) ([]byte, error) {
	if err := check(key); err != nil {
		return nil, err
	}
	out, err := l.API.GetObject(ctx, &s3.GetObjectInput{Bucket: &l.Bucket, Key: &key})
	var absent *types.NoSuchKey
	if errors.As(err, &absent) {
		return nil, fmt.Errorf("getting %s: %w", key, audit.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("getting %s from bucket %s: %w", key, l.Bucket, err)
	}
	body, err := io.ReadAll(io.LimitReader(out.Body, maxBody+1))
	if err = errors.Join(err, out.Body.Close()); err != nil {
		return nil, fmt.Errorf("reading %s from bucket %s: %w", key, l.Bucket, err)
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("%s in bucket %s is longer than %d bytes, and so no record", key, l.Bucket, maxBody)
	}
	return body, nil
}

// List implements audit.Ledger. S3 sorts keys by their bytes.
func (l *Ledger) List(ctx context.Context, prefix string) ([]string, error) {
	var keys []string
	pages := s3.NewListObjectsV2Paginator(l.API, &s3.ListObjectsV2Input{Bucket: &l.Bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("listing %s in bucket %s: %w", prefix, l.Bucket, err)
		}
		for _, object := range page.Contents {
			keys = append(keys, aws.ToString(object.Key))
		}
	}
	return keys, nil
}

// check refuses what no Ledger takes, so that a trail can move between a bucket
// and a folder.
func check(key string) error {
	if !fs.ValidPath(key) || strings.HasPrefix(key, ".") || strings.Contains(key, "/.") {
		return fmt.Errorf("%q is not a ledger key", key)
	}
	return nil
}

func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// pause waits longer with each try, and not as long as the other one does.
func pause(ctx context.Context, try int) error {
	most := 25 * time.Millisecond << try
	t := time.NewTimer(most/2 + rand.N(most/2)) //nolint:gosec // two writers part ways by it; nothing is secret
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

package audit

import (
	"context"
	"errors"
)

// Answers of a Ledger that callers decide on, by errors.Is.
var (
	// ErrExists: the key is taken. It says nothing about by which bytes: the
	// caller reads and compares.
	ErrExists = errors.New("key exists already")
	// ErrNotFound: nothing is kept under the key.
	ErrNotFound = errors.New("key not found")
)

// Ledger keeps records append-only: what is put stays as it was put. It is what
// an S3 bucket is to PutObject with If-None-Match: * (AWS S3 user guide,
// "conditional writes"), and is strongly consistent like one. Keys are slash
// separated names that [io/fs.ValidPath] accepts and of which no part starts
// with a dot. Implementations honour the context and are safe for use by many
// processes at once.
type Ledger interface {
	// Put keeps body under key. A key that is there already is ErrExists, even
	// if it holds the same bytes. After any other error the body may be there.
	Put(ctx context.Context, key string, body []byte) error
	// Get returns what was put, whole; nothing there is ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)
	// List returns every key that starts with prefix, sorted by bytes.
	List(ctx context.Context, prefix string) ([]string, error)
}

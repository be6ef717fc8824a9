// Package audittest answers: how does the audit trail behave when its ledger
// doesn't?
package audittest

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/keyturn/keyturn/audit"
)

// Memory is an audit.Ledger in memory whose answers a test can bend. The zero
// value is empty and ready.
type Memory struct {
	// Before is called before each operation ("put", "get" or "list") with its key or
	// prefix. Its error is the operation's answer, and nothing is done.
	Before func(ctx context.Context, operation, key string) error
	// After is called when a Put has kept its body. Its error is what the writer
	// hears of it: the answer that was lost.
	After func(ctx context.Context, key string) error

	mu   sync.Mutex
	kept map[string][]byte
}

var _ audit.Ledger = (*Memory)(nil)

// Put implements audit.Ledger.
func (m *Memory) Put(ctx context.Context, key string, body []byte) error {
	if err := m.before(ctx, "put", key); err != nil {
		return err
	}
	if !fs.ValidPath(key) {
		return fmt.Errorf("%q is not a ledger key", key)
	}
	m.mu.Lock()
	_, taken := m.kept[key]
	if !taken {
		m.set(key, body)
	}
	m.mu.Unlock()
	if taken {
		return fmt.Errorf("putting %s: %w", key, audit.ErrExists)
	}
	if m.After != nil {
		return m.After(ctx, key)
	}
	return nil
}

// Get implements audit.Ledger.
func (m *Memory) Get(ctx context.Context, key string) ([]byte, error) {
	if err := m.before(ctx, "get", key); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	body, ok := m.kept[key]
	if !ok {
		return nil, fmt.Errorf("getting %s: %w", key, audit.ErrNotFound)
	}
	return slices.Clone(body), nil
}

// List implements audit.Ledger.
func (m *Memory) List(ctx context.Context, prefix string) ([]string, error) {
	if err := m.before(ctx, "list", prefix); err != nil {
		return nil, err
	}
	var keys []string
	for _, key := range m.Keys() {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// Keys lists every key, sorted, whatever Before says.
func (m *Memory) Keys() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.kept))
}

// Body returns what is kept under a key, or nil, whatever Before says.
func (m *Memory) Body(key string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.kept[key])
}

// Tamper does what no ledger allows: it replaces what is kept under a key, or
// removes it when body is nil.
func (m *Memory) Tamper(key string, body []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if body == nil {
		delete(m.kept, key)
		return
	}
	m.set(key, body)
}

// Clone returns an independent copy of what is kept, with no hooks.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &Memory{}
	for key, body := range m.kept {
		c.set(key, body)
	}
	return c
}

func (m *Memory) set(key string, body []byte) {
	if m.kept == nil {
		m.kept = map[string][]byte{}
	}
	m.kept[key] = slices.Clone(body)
}

func (m *Memory) before(ctx context.Context, operation, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.Before == nil {
		return nil
	}
	return m.Before(ctx, operation, key)
}

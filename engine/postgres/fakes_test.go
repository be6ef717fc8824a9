package postgres_test

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// reports is the parties' own evidence.
type reports struct {
	mu    sync.Mutex
	names []string
	now   func() time.Time
}

func (r *reports) add(name string, now func() time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names, r.now = append(r.names, name), now
}

func (r *reports) Seen(context.Context, string, string) ([]rotation.Evidence, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []rotation.Evidence
	for _, n := range r.names {
		all = append(all, rotation.Evidence{Party: n, By: "its own report", Proof: rotation.Loaded, At: r.now()})
	}
	return all, nil
}

// movable is a clock that only the test moves.
type movable struct {
	mu  sync.Mutex
	now time.Time
}

func (m *movable) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

func (m *movable) Advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = m.now.Add(d)
}

package audit_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/audit"
)

const db = "db.internal:5432"

func at(clock string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, clock)
	if err != nil {
		panic(err)
	}
	return t
}

func note(t *testing.T, r audit.Refusals, server, login string, times ...time.Time) {
	t.Helper()
	for _, one := range times {
		if err := r.Note(t.Context(), server, login, one); err != nil {
			t.Fatal(err)
		}
	}
}

func within(t *testing.T, r audit.Refusals, server, login string, since, until time.Time) []time.Time {
	t.Helper()
	of, err := r.Within(t.Context(), server, since, until)
	if err != nil {
		t.Fatal(err)
	}
	return of(login)
}

func TestRefusalsCountOneLoginOfOneServerInAWindow(t *testing.T) {
	t.Parallel()
	dir := audit.Dir{Root: t.TempDir()}
	first, second := audit.Refusals{Ledger: dir}, audit.Refusals{Ledger: dir} // two processes
	now := at("2026-11-23T12:30:00.5Z")
	hour := now.Add(-time.Hour)
	if got := within(t, first, db, "shop", hour, now); got != nil {
		t.Errorf("an empty ledger has %v", got)
	}
	note(t, first, db, "shop", now.Add(-time.Minute), hour.Add(-time.Nanosecond), hour)
	note(t, second, db, "shop", now.Add(-2*time.Minute), now)
	note(t, second, db, "shop-2", now)
	note(t, second, "other.internal:5432", "shop", now)
	want := []time.Time{hour, now.Add(-2 * time.Minute), now.Add(-time.Minute), now}
	if diff := cmp.Diff(want, within(t, first, db, "shop", hour, now)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	note(t, first, db, "shop", now) // the same moment is another refusal
	if got := within(t, second, db, "shop", hour, now); len(got) != len(want)+1 {
		t.Errorf("%d refusals, want %d", len(got), len(want)+1)
	}
}

func TestRefusalsAroundMidnight(t *testing.T) {
	t.Parallel()
	r := audit.Refusals{Ledger: audit.Dir{Root: t.TempDir()}}
	now := at("2026-03-01T00:10:00Z")
	before, after := at("2026-02-28T23:55:00Z"), at("2026-03-01T00:05:00Z")
	elsewhere := now.In(time.FixedZone("west", -9*3600))
	note(t, r, db, "shop", after.In(elsewhere.Location()), before, at("2026-02-28T22:00:00Z"))
	for _, until := range []time.Time{now, elsewhere} {
		if diff := cmp.Diff([]time.Time{before, after}, within(t, r, db, "shop", until.Add(-time.Hour), until)); diff != "" {
			t.Errorf("until %s: -want +got:\n%s", until, diff)
		}
	}
}

// Who looks at a window lists one folder, whatever the past holds.
func TestRefusalsReadNothingOld(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	r := audit.Refusals{Ledger: audit.Dir{Root: root}}
	now := at("2026-11-23T12:00:00Z")
	for day := range 30 {
		note(t, r, db, "shop", now.AddDate(0, 0, -day))
	}
	listed := &listings{Ledger: audit.Dir{Root: root}}
	if got := within(t, audit.Refusals{Ledger: listed}, db, "shop", now.Add(-time.Hour), now); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	if listed.lists != 1 || listed.gets != 0 || listed.keys != 1 {
		t.Errorf("%d listings of %d keys and %d reads; want one of one and none", listed.lists, listed.keys, listed.gets)
	}
}

func TestRefusalsPassOverForeignKeys(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	r := audit.Refusals{Ledger: audit.Dir{Root: root}}
	now := at("2026-11-23T12:00:00Z")
	note(t, r, db, "shop", now)
	folders, err := filepath.Glob(filepath.Join(root, "refusals", "*", "2026-11-23"))
	if err != nil || len(folders) != 1 {
		t.Fatal(folders, err)
	}
	for i, name := range []string{"x.json", "a-b-c.json", "1-2", "a-1-b-c.json"} {
		if err := os.WriteFile(filepath.Join(folders[0], name), fmt.Append(nil, i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := within(t, r, db, "shop", now.Add(-time.Hour), now); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestRefusalsOfALedgerThatIsDown(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := audit.Refusals{Ledger: audit.Dir{Root: file}}
	now := at("2026-11-23T12:00:00Z")
	if err := r.Note(t.Context(), db, "shop", now); err == nil {
		t.Error("a refusal that isn't kept is no error")
	}
	if _, err := r.Within(t.Context(), db, now.Add(-time.Hour), now); err == nil {
		t.Error("a ledger that can't be listed has no refusals")
	}
}

// listings counts what is asked of a ledger.
type listings struct {
	audit.Ledger
	lists, keys, gets int
}

func (l *listings) List(ctx context.Context, prefix string) ([]string, error) {
	keys, err := l.Ledger.List(ctx, prefix)
	l.lists, l.keys = l.lists+1, l.keys+len(keys)
	return keys, err
}

func (l *listings) Get(ctx context.Context, key string) ([]byte, error) {
	l.gets++
	return l.Ledger.Get(ctx, key)
}

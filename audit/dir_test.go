package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/audit"
)

func now() time.Time { return time.Now() }

// Several processes of this test binary write to one ledger: each is started
// with the ledger's folder in the environment.
const (
	envFolder = "KEYTURN_AUDIT_TEST_FOLDER"
	envWriter = "KEYTURN_AUDIT_TEST_WRITER"
	perWriter = 20
)

func TestMain(m *testing.M) {
	if folder := os.Getenv(envFolder); folder != "" {
		os.Exit(writer(folder, os.Getenv(envWriter)))
	}
	os.Exit(m.Run())
}

func writer(folder, name string) int {
	n, _ := strconv.Atoi(name)
	for i := range perWriter {
		j := &audit.Journal{Ledger: audit.Dir{Root: folder}, Actor: name}
		r := record(secret, fmt.Sprintf("rotation-%d", (n+i)%3), "drain", audit.Intent, i)
		r.Actor = name
		if err := j.Record(context.Background(), r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

func TestManyProcesses(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	const writers = 5
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), envFolder+"="+folder, envWriter+"="+strconv.Itoa(w))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("writer %d: %v\n%s", w, err, out)
			}
		})
	}
	all.Wait()
	s := verify(t, audit.Dir{Root: folder})
	if s.Records != writers*perWriter || len(s.Chains) != 3 {
		t.Errorf("%d records in %d chains; want %d in 3", s.Records, len(s.Chains), writers*perWriter)
	}
}

func TestDir(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "not", "yet")
	d := audit.Dir{Root: root}
	if keys, err := d.List(t.Context(), "a/"); err != nil || len(keys) != 0 {
		t.Errorf("an empty ledger lists %v, %v", keys, err)
	}
	if _, err := d.Get(t.Context(), "a/1"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	for _, key := range []string{"a/2", "a/1", "a/b/c", "ab", "a-/x"} {
		if err := d.Put(t.Context(), key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	for _, body := range []string{"a/1", "other"} {
		if err := d.Put(t.Context(), "a/1", []byte(body)); !errors.Is(err, audit.ErrExists) {
			t.Errorf("put twice: %v, want ErrExists", err)
		}
	}
	if body, err := d.Get(t.Context(), "a/1"); err != nil || string(body) != "a/1" {
		t.Errorf("got %q, %v", body, err)
	}
	lists := map[string][]string{
		"":     {"a-/x", "a/1", "a/2", "a/b/c", "ab"},
		"a":    {"a-/x", "a/1", "a/2", "a/b/c", "ab"},
		"a/":   {"a/1", "a/2", "a/b/c"},
		"a/b":  {"a/b/c"},
		"none": nil,
	}
	for prefix, want := range lists {
		got, err := d.List(t.Context(), prefix)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("List(%q) (-want +got):\n%s", prefix, diff)
		}
	}
	if left, err := os.ReadDir(filepath.Join(root, ".tmp")); err != nil || len(left) != 0 {
		t.Errorf("scratch files stay: %v, %v", left, err)
	}
}

func TestDirRefusesKeysThatLeaveIt(t *testing.T) {
	t.Parallel()
	d := audit.Dir{Root: t.TempDir()}
	for _, key := range []string{"", ".", "..", "../x", "/x", "a/../../x", "a//b", ".tmp/x", "a/.b"} {
		if err := d.Put(t.Context(), key, nil); err == nil || errors.Is(err, audit.ErrExists) {
			t.Errorf("Put(%q): %v", key, err)
		}
		if _, err := d.Get(t.Context(), key); err == nil || errors.Is(err, audit.ErrNotFound) {
			t.Errorf("Get(%q): %v", key, err)
		}
	}
}

func TestRotationIDsCannotLeaveTheirChain(t *testing.T) {
	t.Parallel()
	d := audit.Dir{Root: t.TempDir()}
	j := &audit.Journal{Ledger: d}
	for _, id := range []string{"../../heads", "a/b", "a%2Fb", ".tmp", "ü 1"} {
		write(t, j, secret, id, "create")
	}
	if s := verify(t, d); len(s.Chains) != 5 || s.Records != 10 {
		t.Errorf("%d records in %d chains; want 10 in 5", s.Records, len(s.Chains))
	}
}

package audit_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/audittest"
)

func TestEvidenceDir(t *testing.T) {
	t.Parallel()
	d := audit.EvidenceDir{Dir: t.TempDir()}
	if got, err := d.Seen(t.Context(), secret, "v2"); err != nil || len(got) != 0 {
		t.Errorf("no folder: %v, %v", got, err)
	}
	sighting := func(party, digest string, proof, minute int) audit.Sighting {
		return audit.Sighting{Party: party, Digest: digest, By: "pool", Proof: proof, At: start.Add(time.Duration(minute) * time.Minute)}
	}
	for _, s := range []audit.Sighting{
		sighting("web.api", "v2", 3, 1), sighting("web.api", "v2", 3, 5), sighting("web.api", "v2", 3, 4),
		sighting("web.api", "v2", 4, 2), sighting("../odd", "v2", 3, 0),
	} {
		if err := d.Append(t.Context(), secret, "v2", s); err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.Seen(t.Context(), secret, "v2")
	if err != nil {
		t.Fatal(err)
	}
	want := []audit.Sighting{sighting("../odd", "v2", 3, 0), sighting("web.api", "v2", 4, 2), sighting("web.api", "v2", 3, 5)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("seen (-want +got):\n%s", diff)
	}
	if got, err := d.Seen(t.Context(), secret, "v1"); err != nil || len(got) != 0 {
		t.Errorf("another version: %v, %v", got, err)
	}
}

func TestEvidencePassesOverWhatIsNoEvidence(t *testing.T) {
	t.Parallel()
	d := audit.EvidenceDir{Dir: t.TempDir()}
	path := d.Path(secret, "v2", "web")
	if !strings.HasSuffix(filepath.ToSlash(path), "evidence/"+audit.SecretKey(secret)+"/v2/web.json") {
		t.Errorf("evidence lies at %s", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	good := `{"party":"web","digest":"v2","by":"pool","proof":3,"at":"2026-03-01T12:00:00Z"}`
	lines := []string{
		"not json",
		strings.Replace(good, `"web"`, `"batch"`, 1), // speaks for another
		strings.Replace(good, `3`, `9`, 1),           // no such proof
		`{"party":"web","padding":"` + strings.Repeat("x", 40<<10) + `"}`,
		good,
		good[:40], // torn
	}
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := d.Seen(t.Context(), secret, "v2")
	if err != nil || len(got) != 1 {
		t.Fatalf("seen %v, %v; want one", got, err)
	}
	// What is appended to a torn line stands on its own.
	again := got[0]
	again.At = again.At.Add(time.Minute)
	if err := d.Append(t.Context(), secret, "v2", again); err != nil {
		t.Fatal(err)
	}
	if got, err = d.Seen(t.Context(), secret, "v2"); err != nil || len(got) != 1 || !got[0].At.Equal(again.At) {
		t.Errorf("seen %v, %v; want the newer one", got, err)
	}
}

func TestEvidenceLedger(t *testing.T) {
	t.Parallel()
	ledger := &audittest.Memory{}
	e := audit.EvidenceLedger{Ledger: ledger}
	sighting := func(party, digest string, proof, minute int) audit.Sighting {
		return audit.Sighting{Party: party, Digest: digest, By: "pool", Proof: proof, At: start.Add(time.Duration(minute) * time.Minute)}
	}
	for _, s := range []audit.Sighting{
		sighting("web.api", "v2", 3, 1), sighting("web.api", "v2", 3, 5), sighting("web.api", "v2", 3, 4),
		sighting("web.api", "v2", 4, 2), sighting("../odd", "v2", 3, 0),
	} {
		if err := e.Append(t.Context(), secret, "v2", s); err != nil {
			t.Fatal(err)
		}
	}
	got, err := e.Seen(t.Context(), secret, "v2")
	if err != nil {
		t.Fatal(err)
	}
	want := []audit.Sighting{sighting("../odd", "v2", 3, 0), sighting("web.api", "v2", 4, 2), sighting("web.api", "v2", 3, 5)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("seen (-want +got):\n%s", diff)
	}
	if got, err := e.Seen(t.Context(), secret, "v1"); err != nil || len(got) != 0 {
		t.Errorf("another version: %v, %v", got, err)
	}
	own := strings.Replace(audit.EvidencePrefix(secret, "web.api"), "*", "v2", 1)
	written := slices.DeleteFunc(ledger.Keys(), func(key string) bool { return !strings.HasPrefix(key, own) })
	if len(written) != 4 {
		t.Errorf("web.api may write below %s, and did so %d times", own, len(written))
	}
	for _, s := range []audit.Sighting{sighting("", "v2", 3, 0), sighting("web", "v2", 0, 0), sighting("web", "v2", 5, 0)} {
		if err := e.Append(t.Context(), secret, "v2", s); err == nil {
			t.Errorf("%+v was kept", s)
		}
	}
}

// Who speaks for another isn't heard, nor is what can't be read; both only make a
// drain wait longer. A ledger that can't be read is no lack of evidence.
func TestEvidenceLedgerPassesOverWhatIsNoEvidence(t *testing.T) {
	t.Parallel()
	ledger := &audittest.Memory{}
	folder := strings.Replace(audit.EvidencePrefix(secret, "web"), "*", "v2", 1)
	good := `{"party":"web","digest":"v2","by":"pool","proof":3,"at":"2026-03-01T12:00:00Z"}`
	for key, body := range map[string]string{
		folder + "0/1.json":      "not json",
		folder + "1/1.json":      strings.Replace(good, `"web"`, `"batch"`, 1),
		folder + "2/1.json":      strings.Replace(good, `3`, `9`, 1),
		folder + "3/1.json":      good,
		folder + "3/deep/1.json": strings.Replace(good, `2026`, `2027`, 1),
		folder + "1.json":        strings.Replace(good, `2026`, `2028`, 1),
	} {
		if err := ledger.Put(t.Context(), key, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	e := audit.EvidenceLedger{Ledger: ledger}
	got, err := e.Seen(t.Context(), secret, "v2")
	if err != nil || len(got) != 1 || got[0].At.Year() != 2026 {
		t.Errorf("seen %v, %v; want one", got, err)
	}
	down, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Seen(down, secret, "v2"); err == nil {
		t.Error("a ledger that couldn't be read was taken for one without evidence")
	}
}

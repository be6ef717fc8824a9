package pgxauth_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/consumer/pgxauth"
	"github.com/keyturn/keyturn/consumer/pgxauth/pgxauthtest"
	"github.com/keyturn/keyturn/rotation"
)

const reportedARN = "arn:aws:secretsmanager:us-east-1:000000000000:secret:shop/db-AbCdEf"

func evidence(t *testing.T, path string) []rotation.Evidence {
	t.Helper()
	content, err := os.ReadFile(path) //nolint:gosec // the test's own folder
	if err != nil {
		t.Fatal(err)
	}
	var all []rotation.Evidence
	for line := range bytes.Lines(content) {
		var e rotation.Evidence
		if json.Unmarshal(line, &e) == nil {
			all = append(all, e)
		}
	}
	return all
}

func TestEvidencePath(t *testing.T) {
	t.Parallel()
	got := pgxauth.EvidencePath("/var/evidence", reportedARN, "v1", "checkout")
	// printf %s <ARN> | sha256sum | cut -c1-16
	want := "/var/evidence/evidence/dd161ff23af8be4b/v1/checkout.json"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestEvidenceIsWrittenOncePerArrival(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := pgxauth.NewDirReporter(dir, "checkout", nil)
	if err != nil {
		t.Fatal(err)
	}
	report := func(version string, after time.Duration, connections map[string]int) {
		t.Helper()
		r := pgxauth.Report{Secret: reportedARN, Version: version, Connections: connections, At: epoch.Add(after)}
		if err := d.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	report("v1", 0, map[string]int{"v1": 3})
	report("v1", time.Second, map[string]int{"v1": 2})             // nothing new
	report("v2", 2*time.Second, map[string]int{"v1": 1, "v2": 2})  // not there yet
	report("v2", 3*time.Second, map[string]int{"v2": 3})           // arrived
	report("v1", 4*time.Second, map[string]int{"v1": 3})           // rolled back
	report("v1", 4*time.Second+time.Hour, map[string]int{"v1": 3}) // still so

	line := func(version string, after time.Duration) rotation.Evidence {
		return rotation.Evidence{Party: "checkout", Digest: version, By: "pgxauth: version in use", Proof: rotation.Loaded, At: epoch.Add(after)}
	}
	want := map[string][]rotation.Evidence{
		"v1": {line("v1", 0), line("v1", 4*time.Second), line("v1", 4*time.Second+time.Hour)},
		"v2": {line("v2", 3*time.Second)},
	}
	got := map[string][]rotation.Evidence{}
	for version := range want {
		got[version] = evidence(t, pgxauth.EvidencePath(dir, reportedARN, version, "checkout"))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLineThatWasCutOffStaysApart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := pgxauth.EvidencePath(dir, reportedARN, "v1", "checkout")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"party":"chec`), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := pgxauth.NewDirReporter(dir, "checkout", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Write(pgxauth.Report{Secret: reportedARN, Version: "v1", At: epoch}); err != nil {
		t.Fatal(err)
	}
	if got := evidence(t, path); len(got) != 1 || got[0].Digest != "v1" {
		t.Errorf("got %+v, want the one whole line", got)
	}
}

func TestNamesThatAreNoFileNamesAreRefused(t *testing.T) {
	t.Parallel()
	for _, party := range []string{"", "..", "../x", "a/b", ".hidden", "a b"} {
		if _, err := pgxauth.NewDirReporter(t.TempDir(), party, nil); err == nil {
			t.Errorf("party %q was accepted", party)
		}
	}
	d, err := pgxauth.NewDirReporter(t.TempDir(), "checkout", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Write(pgxauth.Report{Secret: reportedARN, Version: "../../v1", At: epoch}); err == nil {
		t.Error("a version id that leaves the folder was accepted")
	}
}

func TestCredentialsReportThroughTheFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := pgxauth.NewDirReporter(dir, "checkout", nil)
	if err != nil {
		t.Fatal(err)
	}
	secret := pgxauthtest.NewSecret("shop/db")
	secret.Put("v1", newRole(t, "pw"), "pw")
	c := follow(t, secret, func(cfg *pgxauth.Config) { cfg.Report = d.Report })
	openPool(t, c, poolConfig(t))
	path := pgxauth.EvidencePath(dir, secret.ARN(), "v1", "checkout")
	await(t, "a line of evidence", func() bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() > 0
	})
	if got := evidence(t, path); got[0].Proof != rotation.Loaded || got[0].Party != "checkout" {
		t.Errorf("got %+v", got)
	}
}

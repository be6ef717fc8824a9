package pgxauth_test

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/consumer/pgxauth"
	"github.com/keyturn/keyturn/consumer/pgxauth/pgxauthtest"
	"github.com/keyturn/keyturn/rotation"
)

const reportedARN = "arn:aws:secretsmanager:us-east-1:000000000000:secret:shop/db-AbCdEf"

// seen returns what the controller would read of one version.
func seen(t *testing.T, dir, secret, version string) []audit.Sighting {
	t.Helper()
	all, err := audit.EvidenceDir{Dir: dir}.Seen(t.Context(), secret, version)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// lines counts the lines of one party's file.
func lines(t *testing.T, dir, version string) int {
	t.Helper()
	content, err := os.ReadFile(audit.EvidenceDir{Dir: dir}.Path(reportedARN, version, "checkout"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(content, []byte("\n"))
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

	for version, want := range map[string]struct {
		lines int
		last  time.Duration
	}{
		"v1": {3, 4*time.Second + time.Hour},
		"v2": {1, 3 * time.Second},
	} {
		sighting := audit.Sighting{
			Party: "checkout", Digest: version, By: "pgxauth: version in use", Proof: int(rotation.Loaded), At: epoch.Add(want.last),
		}
		if diff := cmp.Diff([]audit.Sighting{sighting}, seen(t, dir, reportedARN, version)); diff != "" {
			t.Error(diff)
		}
		if got := lines(t, dir, version); got != want.lines {
			t.Errorf("%s: %d lines, want %d", version, got, want.lines)
		}
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
	await(t, "evidence", func() bool { return len(seen(t, dir, secret.ARN(), "v1")) > 0 })
	if got := seen(t, dir, secret.ARN(), "v1"); got[0].Proof != int(rotation.Loaded) || got[0].Party != "checkout" {
		t.Errorf("got %+v", got)
	}
}

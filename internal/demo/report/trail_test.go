package report_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/demo/report"
)

func rotations() report.Trail {
	at := func(s int) time.Time { return time.Date(2026, 1, 1, 12, 0, s, 0, time.UTC) }
	step := func(name string, kind report.Kind, from, to int) report.Step {
		return report.Step{Name: name, Kind: kind, From: at(from), To: at(to), Outcome: "done"}
	}
	return report.Trail{
		Secret: "arn:aws:secretsmanager:us-east-1:000000000000:secret:app-AbCdEf", Place: "s3://trail", Chains: 3, Manifests: []string{"manifests: 1, signed by <key>"},
		Rotations: []report.Passage{
			{ID: "one", Began: at(0), Ended: at(20), Steps: []report.Step{step("create", report.Head, 0, 2), step("drain", report.Tail, 2, 20)}},
			{ID: "two", Began: at(30), Ended: at(40), Back: true, Steps: []report.Step{step("create", report.Head, 30, 31), step("rollback", report.Back, 31, 40)}},
			{
				ID: "three", Began: at(50), Steps: []report.Step{step("drain", report.Tail, 50, 55)}, Waits: []string{"<b>web</b>"},
				Seen:    []report.Sighting{{At: at(52), Step: "drain", Party: "web", What: "app_two", How: "pg_stat_activity"}},
				Records: []report.AuditRecord{{Time: at(50), Step: "drain", Phase: "intent", Seq: 1, Hash: "0123456789abcdef"}},
			},
		},
	}
}

func trailPage(t *testing.T, trail report.Trail) string {
	t.Helper()
	var page bytes.Buffer
	if err := report.WriteTrail(&page, trail); err != nil {
		t.Fatal(err)
	}
	return page.String()
}

func TestTheTrailsPageTellsEachRotation(t *testing.T) {
	t.Parallel()
	page := trailPage(t, rotations())
	for _, want := range []string{
		"3 in the trail, whole", "manifests: 1, signed by &lt;key&gt;", "took 20.0 s", "was turned back within 10.0 s", "isn&#39;t over: the last record is of 2026-01-01 12:00:55 UTC",
		"waits for &lt;b&gt;web&lt;/b&gt;", "pg_stat_activity", "0123456789ab…", `class="band back`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q isn't in the page", want)
		}
	}
	if three, one := strings.Index(page, "<code>three</code>"), strings.Index(page, "<code>one</code>"); three < 0 || three > one {
		t.Error("the latest rotation doesn't come first")
	}
	for _, no := range []string{"<script", "http://", "https://", "@import", "<b>web"} {
		if strings.Contains(page, no) {
			t.Errorf("the page has %q", no)
		}
	}
}

func TestTheTrailsPageSaysThatItIsntWhole(t *testing.T) {
	t.Parallel()
	broken := rotations()
	broken.Findings = []string{"records/x: changed"}
	page := trailPage(t, broken)
	if !strings.Contains(page, "The audit trail isn't whole") || !strings.Contains(page, "records/x: changed") || strings.Contains(page, "chains verified") {
		t.Error("the page doesn't say it")
	}
}

func TestTheTrailsPageIsWrittenWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	if err := report.WriteTrailFile(filepath.Join(t.TempDir(), "none", "page.html"), rotations()); err == nil {
		t.Error("wrote into a folder that isn't there")
	}
}

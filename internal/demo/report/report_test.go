package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	text "html"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/demo/load"
	"github.com/keyturn/keyturn/internal/demo/report"
)

func html(t *testing.T, d report.Data) string {
	t.Helper()
	var b bytes.Buffer
	if err := report.WriteHTML(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// void are the elements that have no end tag.
var void = map[string]bool{"meta": true, "path": true}

var tag = regexp.MustCompile(`<(/?)([a-z0-9]+)((?:[^<>"]|"[^"<>]*")*)>`)

// balanced checks that each element that begins also ends, in order, and that
// no angle bracket stands outside a tag.
func balanced(page string) error {
	body := regexp.MustCompile(`(?s)<style>.*?</style>`).ReplaceAllString(strings.TrimPrefix(page, "<!DOCTYPE html>"), "")
	var open []string
	for _, m := range tag.FindAllStringSubmatch(body, -1) {
		name := m[2]
		switch {
		case void[name]:
		case m[1] == "":
			open = append(open, name)
		case len(open) == 0 || open[len(open)-1] != name:
			return fmt.Errorf("</%s> ends nothing; open are %v", name, open)
		default:
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		return fmt.Errorf("never ended: %v", open)
	}
	if rest := tag.ReplaceAllString(body, ""); strings.ContainsAny(rest, "<>") {
		return errors.New("an angle bracket outside a tag")
	}
	return nil
}

func variants() map[string]report.Data {
	failing := sample(1)
	failing.Result.FailedRequests = 412
	failing.Result.OldLoginResult = "accepted"
	failing.Rotations[0].Refused = time.Time{}
	failing.Series[12].Failed = 99
	failing.Failures = []report.Failure{{At: at(12.3), Consumer: "environ-03", Reason: "login refused 28P01", Latency: 250 * time.Millisecond}}
	unobserved := sample(1)
	for i := range unobserved.Series {
		unobserved.Series[i].Logins = nil
	}
	back := sample(2)
	back.Rotations[1].Name = "rollback"
	for i := range back.States {
		back.States[i].Kind = report.Back
	}
	return map[string]report.Data{
		"two rotations": sample(2), "fifty": sample(50), "failing": failing, "unobserved": unobserved, "rolled back": back,
		"empty": {}, "only a start": {Start: began, End: began.Add(time.Second)},
	}
}

func TestPageIsWholeAndSelfContained(t *testing.T) {
	t.Parallel()
	for name, d := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page := html(t, d)
			if err := balanced(page); err != nil {
				t.Error(err)
			}
			for _, outside := range []string{"http:", "https:", "//", "src=", "href=", "url(", "@import", "<script", "<link", "<iframe"} {
				if strings.Contains(strings.ToLower(page), outside) {
					t.Errorf("the page holds %q", outside)
				}
			}
			for _, wrong := range []string{"NaN", "Inf", "ZgotmplZ", "<no value>", "%!"} {
				if strings.Contains(page, wrong) {
					t.Errorf("the page holds %q", wrong)
				}
			}
			for _, needed := range []string{"<!DOCTYPE html>", `lang="en"`, "prefers-color-scheme: dark", `name="viewport"`} {
				if !strings.Contains(page, needed) {
					t.Errorf("the page lacks %q", needed)
				}
			}
		})
	}
}

func TestPageShowsEveryNumber(t *testing.T) {
	t.Parallel()
	d := sample(2)
	d.Result = report.Result{
		Requests: 1234567, FailedRequests: 89, P999: 71.25, P999WithoutRotation: 63.5, AuthRetries: 31, Terminated: 37, Reconnects: 41,
		Rotations: 2, OldLoginResult: "accepted", OldAliveAfterLastUse: 4.75, LeakedSecretValues: 43, OrphanRoles: 47,
	}
	page := html(t, d)
	for _, want := range []string{
		"1,234,567", "89 of 1,234,567 requests failed.", "71.2 ms", "63.5 ms", ">31<", ">37<", "41 connections broke",
		"accepted", "4.8 s", ">43<", ">47<", "broken", "2 rotations", "8,136", "17,740", "250 ms", "app_v1", "app_v2", "app_v3",
		"createSecret", "nightly-01", "PostgreSQL", "longtx-34", "drain 7.0 s",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page doesn't show %q", want)
		}
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	if !sample(1).OK() {
		t.Fatal("the sample isn't OK")
	}
	changes := map[string]func(*report.Result){
		"a failure":       func(r *report.Result) { r.FailedRequests = 1 },
		"a retry":         func(r *report.Result) { r.AuthRetries = 1 },
		"old login lives": func(r *report.Result) { r.OldLoginResult = "accepted" },
		"not tried":       func(r *report.Result) { r.OldLoginResult = "" },
		"a leak":          func(r *report.Result) { r.LeakedSecretValues = 1 },
		"an orphan":       func(r *report.Result) { r.OrphanRoles = 1 },
		"broken audit":    func(r *report.Result) { r.AuditOK = false },
	}
	for name, change := range changes {
		d := sample(1)
		change(&d.Result)
		if d.OK() || strings.Contains(html(t, d), `class="card verdict ok"`) {
			t.Errorf("%s: shown as good", name)
		}
	}
}

func TestWhatOthersWroteIsEscaped(t *testing.T) {
	t.Parallel()
	const evil = `</style><script>alert("x")</script>'"&`
	d := sample(1)
	d.Title = evil
	d.Parameters[0] = report.Parameter{Name: evil, Value: evil}
	d.Rotations[0] = report.Rotation{Name: evil, Old: evil, New: evil, Promoted: at(10), Refused: at(20)}
	d.States[0].Name, d.States[0].Kind = evil, report.Kind(evil)
	d.Series[0].Logins = map[string]int{evil: 5}
	d.Drains[0].Consumer, d.Drains[0].Habit = evil, evil
	d.Failures = []report.Failure{{At: at(1), Consumer: evil, Reason: evil}}
	d.Audit[0] = report.AuditRecord{Time: at(1), Rotation: evil, Step: evil, Phase: evil, Outcome: evil, From: evil, To: evil, Hash: evil}
	d.Findings = []report.Finding{{Grade: report.Grade(evil), Text: evil}}
	d.Result.OldLoginResult = evil
	page := html(t, d)
	if strings.Contains(page, "<script") || strings.Count(page, "</style>") != 1 {
		t.Error("text became markup")
	}
	if err := balanced(page); err != nil {
		t.Error(err)
	}
}

func TestMomentsAreInTheirPlace(t *testing.T) {
	t.Parallel()
	d := report.Data{Start: began, End: at(100), Rotations: []report.Rotation{{Name: "r", Old: "a", New: "b", Promoted: at(25), Refused: at(50)}}}
	d.States = []report.Span{{Name: "drain", Kind: report.Tail, From: at(25), To: at(45)}}
	d.Drains = []report.Drain{{Consumer: "c", LastOld: at(30), FirstNew: at(28)}}
	page := text.UnescapeString(html(t, d))
	for _, want := range []string{
		`style="left:25%;width:20%"`, `class="mark promoted" style="left:25%"`, `class="mark refused low" style="left:50%"`,
		"was last used at 30.0 s, and is refused since 50.0 s", "+5.0 s → +3.0 s", "refused at +25.0 s",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

func TestUseAfterRefusalIsBadNews(t *testing.T) {
	t.Parallel()
	d := sample(1)
	d.Drains[0].LastOld = d.Rotations[0].Refused.Add(time.Second)
	if page := html(t, d); !strings.Contains(page, "was refused at") || !strings.Contains(page, `<li class="bad">Old login`) {
		t.Error("a login that was used after its refusal is shown as dead")
	}
}

func TestPageStaysSmall(t *testing.T) {
	t.Parallel()
	if size := len(html(t, sample(50))); size > 1<<20 {
		t.Errorf("50 rotations make a page of %d bytes", size)
	}
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "report.html")
	if err := report.WriteFile(path, sample(1)); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || string(content) != html(t, sample(1)) {
		t.Errorf("the file differs from the page, or %v", err)
	}
	if err := report.WriteFile(filepath.Join(t.TempDir(), "nowhere", "report.html"), sample(1)); err == nil {
		t.Error("wrote into a folder that isn't there")
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestWriteErrorsAreReported(t *testing.T) {
	t.Parallel()
	if err := report.WriteHTML(fullDisk{}, sample(1)); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
}

func TestLoadTypesConvert(t *testing.T) {
	t.Parallel()
	s := report.Second(load.Second{At: began, Requests: 3})
	b := report.Bar(load.Bar{UpTo: time.Second, Requests: 2})
	f := report.Failure(load.Failure{Consumer: "c"})
	if s.Requests != 3 || b.Requests != 2 || f.Consumer != "c" {
		t.Error("a field was lost")
	}
}

func TestResultIsTheDemonstrationsJSON(t *testing.T) {
	t.Parallel()
	encoded, err := json.Marshal(report.Result{})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(encoded, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"requests", "failed_requests", "p999_ms", "p999_ms_without_rotation", "auth_retries", "terminated", "rotations", "states",
		"old_login_result", "old_alive_after_last_use_seconds", "leaked_secret_values", "audit_ok", "orphan_roles",
	} {
		if _, there := fields[name]; !there {
			t.Errorf("field %s is missing", name)
		}
	}
}

package demo

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/internal/demo/load"
	"github.com/keyturn/keyturn/internal/demo/report"
)

// Outcome is what --json prints.
type Outcome struct {
	report.Result
	// FailedWithoutRotation is the same load's before any rotation: on a machine
	// where that isn't 0, failed_requests says nothing.
	FailedWithoutRotation int64            `json:"failed_requests_without_rotation"`
	FailedAfterReverse    *int64           `json:"failed_requests_after_reverse,omitempty"`
	FailureReasons        map[string]int64 `json:"failure_reasons,omitempty"`
	FirstFailures         []string         `json:"first_failures,omitempty"`
	// LateOnStolenTime is how many of the first 20 failures were only late, while
	// the hypervisor had taken a processor away for half the deadline or longer.
	LateOnStolenTime int64 `json:"late_on_stolen_time,omitempty"`
	// Void says that this is all that is wrong: the run has to be repeated.
	Void bool `json:"void,omitempty"`
	// ServerRejections are refusals in the servers' logs of logins that had to
	// be accepted.
	ServerRejections int      `json:"server_rejections"`
	LeakedIn         []string `json:"leaked_in,omitempty"`
	// Unread is where nobody could look for secret values.
	Unread       []string `json:"not_looked_into,omitempty"`
	AuditRecords int      `json:"audit_records"`
	// HeapMiB is what consumers, load and local AWS hold together after each
	// rotation, whatever is under way at that instant included.
	HeapMiB           []float64 `json:"heap_mib,omitempty"`
	AuditFindings     []string  `json:"audit_findings,omitempty"`
	KilledFunctions   int       `json:"killed_functions,omitempty"`
	StoppedExecutions int       `json:"stopped_executions,omitempty"`

	naive, proven    bool
	records          []audit.Record
	during, baseline load.Totals
}

// Complete reports whether the run was played to its end.
func (o Outcome) Complete() bool { return o.proven }

// Failures says, in sentences, what the run has not shown. None means success;
// for the negative control, success is that it shows failures.
func (o Outcome) Failures() []string {
	if o.naive {
		if o.FailedRequests == 0 {
			return []string{"the negative control shows no failure: this load can't tell a good rotation from a bad one"}
		}
		return nil
	}
	var wrong []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	check(o.FailedRequests == 0, "%d requests failed, %d of them late while the hypervisor had taken a processor away", o.FailedRequests, o.LateOnStolenTime)
	check(o.AuthRetries == 0, "%d logins had to be tried again", o.AuthRetries)
	check(o.ServerRejections == 0, "the servers refused %d logins that had to be accepted", o.ServerRejections)
	check(o.OldLoginResult == report.Rejected, "the old login is %s", o.OldLoginResult)
	check(o.LeakedSecretValues == 0, "secret values were found: %s", strings.Join(o.LeakedIn, "; "))
	check(o.OrphanRoles == 0, "%d login roles are left over", o.OrphanRoles)
	check(o.AuditOK, "the audit trail doesn't verify: %s", strings.Join(o.AuditFindings, "; "))
	return wrong
}

// void reports a run that says something of the machine only.
func (o Outcome) void() bool {
	return !o.naive && o.FailedRequests > 0 && o.FailedRequests == o.LateOnStolenTime && len(o.Failures()) == 1
}

// data is what the HTML report shows.
func (s *stage) data(o Outcome) report.Data {
	d := report.Data{
		Title: s.title(), Start: s.started, End: time.Now(), Result: o.Result, Naive: o.naive,
		Parameters: []report.Parameter{
			{Name: "consumers", Value: strconv.Itoa(s.options.Consumers)},
			{Name: "requests a second", Value: strconv.FormatFloat(s.options.Rate, 'f', -1, 64)},
			{Name: "deadline", Value: "250 ms from the due time"},
			{Name: "nodes", Value: "primary and streaming replica, TLS verify-full"},
		},
		Deadline: 250 * time.Millisecond,
		With:     latency(o.during), Without: latency(o.baseline),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	index := map[string]int{}
	for i, t := range s.turns {
		index[t.Token] = i
		d.Rotations = append(d.Rotations, report.Rotation{
			Name: fmt.Sprintf("rotation %d by %s", i+1, t.By), Old: t.gone().Username, New: t.kept().Username, Promoted: t.Promoted,
		})
	}
	for _, sp := range s.spans {
		i, ok := index[sp.token]
		if !ok {
			continue
		}
		d.States = append(d.States, report.Span{Rotation: i, Name: sp.name, Kind: sp.kind, From: sp.from, To: sp.to})
		if sp.name == "Disable" {
			d.Rotations[i].Refused = sp.to
		}
	}
	d.Series, d.Drains, d.Audit = s.series(), s.drains(), auditRows(o.records)
	for _, f := range o.during.FailedDetail {
		d.Failures = append(d.Failures, report.Failure(f))
	}
	d.Findings = findings(o)
	return d
}

func (s *stage) title() string {
	switch {
	case s.options.Naive:
		return "The same load, with the password changed in place"
	case s.options.Rollback:
		return "A database login rotated under load, and turned back"
	default:
		return "A database login rotated under load"
	}
}

func latency(t load.Totals) report.Latency {
	l := report.Latency{Requests: t.Requests, Failed: t.Failed, P50: t.P50, P99: t.P99, P999: t.P999, Max: t.Max}
	for _, b := range t.Latency {
		l.Bars = append(l.Bars, report.Bar(b))
	}
	return l
}

func (s *stage) series() []report.Second {
	var series []report.Second
	for _, p := range s.load.Series() {
		series = append(series, report.Second(p))
	}
	return series
}

// drains says when each consumer was last on the old login and first on the new.
func (s *stage) drains() []report.Drain {
	type on struct{ first, last time.Time }
	uses := map[string]map[string]on{}
	habits := map[string]string{}
	for _, u := range s.load.Uses() {
		if uses[u.Consumer] == nil {
			uses[u.Consumer] = map[string]on{}
		}
		uses[u.Consumer][u.Login], habits[u.Consumer] = on{u.First, u.Last}, string(u.Habit)
	}
	var drains []report.Drain
	for i, t := range s.turns {
		for consumer, logins := range uses {
			drains = append(drains, report.Drain{
				Rotation: i, Consumer: consumer, Habit: habits[consumer],
				LastOld: logins[t.gone().Username].last, FirstNew: logins[t.kept().Username].first,
			})
		}
	}
	slices.SortFunc(drains, func(a, b report.Drain) int {
		return cmp.Or(a.Rotation-b.Rotation, a.LastOld.Compare(b.LastOld), strings.Compare(a.Consumer, b.Consumer))
	})
	return drains
}

func auditRows(records []audit.Record) []report.AuditRecord {
	rows := make([]report.AuditRecord, 0, len(records))
	for _, r := range records {
		rows = append(rows, report.AuditRecord{
			Time: r.Time, Rotation: r.RotationID, Step: r.Step, Phase: string(r.Phase), Outcome: r.Outcome,
			From: r.From, To: r.To, Seq: r.Seq, Hash: r.Hash,
		})
	}
	return rows
}

func findings(o Outcome) []report.Finding {
	var all []report.Finding
	for _, f := range o.Failures() {
		all = append(all, report.Finding{Grade: report.Bad, Text: f})
	}
	if o.KilledFunctions+o.StoppedExecutions > 0 {
		all = append(all, report.Finding{Grade: report.Note, Text: fmt.Sprintf(
			"%d functions were killed and %d executions stopped at random moments", o.KilledFunctions, o.StoppedExecutions)})
	}
	if o.FailedWithoutRotation > 0 {
		all = append(all, report.Finding{Grade: report.Note, Text: fmt.Sprintf(
			"%d requests failed before any rotation: this machine is too slow for the load", o.FailedWithoutRotation)})
	}
	if !o.naive && o.ServerRejections == 0 {
		all = append(all, report.Finding{Grade: report.Good, Text: "the servers' own logs show no refused login of a credential that had to work"})
	}
	return all
}

// report writes the HTML page.
func (s *stage) report(o Outcome) error {
	return report.WriteFile(s.options.Report, s.data(o))
}

// Package report answers: what happened in a rotation, as a picture that an
// engineer understands in five seconds?
//
// WriteHTML makes one page of a demonstration, WriteTrail one of a secret's audit
// trail; they need nothing else: no script, no font, no network. Live shows the
// same while it happens, on a terminal or as lines.
package report

import "time"

// Data is everything that the page shows. Times are absolute; the page counts
// them from Start. Secret values have no place in it.
type Data struct {
	Title      string
	Start, End time.Time
	Parameters []Parameter
	Result     Result
	// Naive says that the run was the negative control, where failures are the
	// expected outcome.
	Naive     bool
	Rotations []Rotation
	States    []Span
	Series    []Second
	// Deadline is when an answer counts as failed.
	Deadline time.Duration
	// With is the latency while rotating, Without that of the same run before.
	With, Without Latency
	Drains        []Drain
	Failures      []Failure // the first ones
	Audit         []AuditRecord
	Findings      []Finding
}

// Parameter is one setting of the run, or one figure of its result.
type Parameter struct{ Name, Value string }

// Result is the demonstration's JSON object.
type Result struct {
	Requests             int64      `json:"requests"`
	FailedRequests       int64      `json:"failed_requests"`
	P999                 float64    `json:"p999_ms"`
	P999WithoutRotation  float64    `json:"p999_ms_without_rotation"`
	AuthRetries          int64      `json:"auth_retries"`
	Terminated           int64      `json:"terminated"`
	Reconnects           int64      `json:"reconnects"`
	Rotations            int        `json:"rotations"`
	States               [][]string `json:"states"`
	OldLoginResult       string     `json:"old_login_result"`
	OldAliveAfterLastUse float64    `json:"old_alive_after_last_use_seconds"`
	LeakedSecretValues   int        `json:"leaked_secret_values"`
	AuditOK              bool       `json:"audit_ok"`
	OrphanRoles          int        `json:"orphan_roles"`
}

// Rejected is the OldLoginResult of a login that every node refuses.
const Rejected = "rejected"

// Rotation is one change of login.
type Rotation struct {
	Name     string // "rotation 1", "rollback"
	Old, New string // logins
	// Promoted is when the new version became current; Refused is when the old
	// login was proven to be refused on every node. Zero: it never came to that.
	Promoted, Refused time.Time
}

// Kind is which part of the sequence a state belongs to.
type Kind string

// The kinds of states.
const (
	Head Kind = "head"
	Tail Kind = "tail"
	Back Kind = "back"
)

// Span is one state of one rotation.
type Span struct {
	Rotation int // index into Data.Rotations
	Name     string
	Kind     Kind
	From, To time.Time
}

// Second is one point of the series; load.Second converts to it.
type Second struct {
	At            time.Time
	Requests      int64
	Failed        int64
	P50, P99, Max time.Duration
	Logins        map[string]int
}

// Bar is one bar of a latency distribution; load.Bar converts to it.
type Bar struct {
	UpTo     time.Duration
	Requests int64
}

// Latency is a distribution of latencies, from the due time.
type Latency struct {
	Requests, Failed    int64
	P50, P99, P999, Max time.Duration
	Bars                []Bar
}

// Drain is how one consumer went from the old login to the new one.
type Drain struct {
	Rotation          int // index into Data.Rotations
	Consumer, Habit   string
	LastOld, FirstNew time.Time // zero: not seen on it
}

// Failure is one failed request.
type Failure struct {
	At       time.Time
	Consumer string
	Reason   string
	Latency  time.Duration
	Stolen   time.Duration // for how long the hypervisor had taken a processor away meanwhile
}

// AuditRecord is one line of the audit trail.
type AuditRecord struct {
	Time                           time.Time
	Rotation, Step, Phase, Outcome string
	From, To                       string
	Seq                            int
	Hash                           string
}

// Grade says whether a finding is good news.
type Grade string

// The grades of findings.
const (
	Good Grade = "good"
	Note Grade = "note"
	Bad  Grade = "bad"
)

// Finding is one thing that was checked, in a sentence.
type Finding struct {
	Grade Grade
	Text  string
}

// OK reports whether the run shows what a rotation promises.
func (d Data) OK() bool {
	r := d.Result
	return r.FailedRequests == 0 && r.AuthRetries == 0 && r.OldLoginResult == Rejected &&
		r.LeakedSecretValues == 0 && r.OrphanRoles == 0 && r.AuditOK
}

package pgxauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/rotation"
)

// Report says what a process uses: references and counts, never a value.
type Report struct {
	// Secret is the ARN (the configured id until the secret was first read).
	Secret string
	// Version is the version id that new connections log in with.
	Version string
	// Connections counts the pools' open connections by version id.
	Connections map[string]int
	// At is when this was so, UTC.
	At time.Time
}

// Loaded reports whether the process uses Version and nothing else any more.
func (r Report) Loaded() bool {
	for version, n := range r.Connections {
		if version != r.Version && n > 0 {
			return false
		}
	}
	return r.Version != ""
}

// reportLoop tells Config.Report about every change.
func (c *Credentials) reportLoop() {
	if c.cfg.Report == nil {
		return
	}
	ticker := time.NewTicker(c.cfg.ReportEvery)
	defer ticker.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.poke:
		case <-ticker.C:
		}
		if r := c.report(); r.Version != "" {
			c.cfg.Report(r)
		}
	}
}

func (c *Credentials) report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := Report{Secret: c.arn, Connections: c.versionsLocked(), At: c.cfg.Now().UTC()}
	if c.doc != nil {
		r.Version = c.doc.version
	}
	return r
}

// repeatAfter is when EvidenceReporter writes again what it has written before.
const repeatAfter = 10 * time.Minute

// EvidenceReporter writes a party's reports as audit evidence: one sighting each
// time that the party has wholly gone over to a version.
type EvidenceReporter struct {
	evidence audit.Evidence
	party    string
	logger   *slog.Logger

	mu      sync.Mutex
	version string
	at      time.Time
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// NewDirReporter returns a reporter that writes into a folder, in the layout of
// audit.EvidenceDir.
func NewDirReporter(dir, party string, logger *slog.Logger) (*EvidenceReporter, error) {
	return NewEvidenceReporter(audit.EvidenceDir{Dir: dir}, party, logger)
}

// NewEvidenceReporter returns a reporter for one party; its name becomes part of a
// key or path and has to be plain. logger may be nil. Pass its Report as
// Config.Report. A deployment's evidence is an audit.EvidenceLedger in its bucket.
func NewEvidenceReporter(evidence audit.Evidence, party string, logger *slog.Logger) (*EvidenceReporter, error) {
	if !plainName.MatchString(party) {
		return nil, fmt.Errorf("party name %q: use up to 128 letters, digits, dots, dashes and underscores", party)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &EvidenceReporter{evidence: evidence, party: party, logger: logger}, nil
}

// Report writes evidence and logs what hinders it.
func (d *EvidenceReporter) Report(r Report) {
	if err := d.Write(r); err != nil {
		d.logger.Error("evidence not written", "party", d.party, "version", r.Version, "error", err)
	}
}

// Write appends evidence if the report is one: the party has no connection of
// another version. It writes nothing if the same was written within 10 minutes.
func (d *EvidenceReporter) Write(r Report) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !r.Loaded() {
		d.version = "" // it is between two versions: its next arrival is news
		return nil
	}
	if r.Version == d.version && r.At.Sub(d.at) < repeatAfter {
		return nil
	}
	if !plainName.MatchString(r.Version) {
		return errors.New("the version id can't be a file name")
	}
	err := d.evidence.Append(context.Background(), r.Secret, r.Version, audit.Sighting{
		Party: d.party, Digest: r.Version, By: "pgxauth: version in use", Proof: int(rotation.Loaded), At: r.At,
	})
	if err != nil {
		return fmt.Errorf("writing evidence: %w", err)
	}
	d.version, d.at = r.Version, r.At
	return nil
}

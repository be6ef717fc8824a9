package demo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// mostRotations keeps the secret below the 100 versions that Secrets Manager
// holds: it removes none that is younger than a day (AWS: "Secrets Manager quotas").
const mostRotations = 95

// Options is what the flags of keyturn demo say.
type Options struct {
	Consumers  int
	Rate       float64
	Rotations  int
	Version    string // PostgreSQL's major version; empty: the newest installed
	KillRandom bool   // functions and executions are killed at random moments
	Rollback   bool   // trouble after promotion: back to the old login
	Naive      bool   // the negative control: ALTER PASSWORD in place
	Keep       bool   // leave the folder with logs, audit trail and policy
	Functions  string // folder of built functions; empty: build them
	Report     string // path of the HTML report; empty: none
	Baseline   time.Duration
	Progress   io.Writer // takes the live view; never nil
}

// validate tells everything that is wrong before anything is started.
func (o Options) validate() error {
	var wrong []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	check(o.Consumers >= 5 && o.Consumers <= 200, "--consumers is %d; give 5 to 200, so that every habit has a consumer", o.Consumers)
	check(o.Rate >= 1 && o.Rate <= 20_000, "--rate is %g; give 1 to 20000 requests a second", o.Rate)
	check(o.Rotations >= 1 && o.Rotations <= mostRotations, "--rotations is %d; give 1 to %d", o.Rotations, mostRotations)
	check(o.Baseline >= time.Second && o.Baseline <= time.Hour, "--baseline is %s; give 1s to 1h", o.Baseline)
	check(!o.Naive || (!o.Rollback && !o.KillRandom), "--naive is the run without Keyturn; it can't go with --rollback or --kill-random")
	if o.Version != "" {
		_, err := strconv.ParseUint(o.Version, 10, 16)
		check(err == nil, "--postgres is %q; give a major version, such as 15", o.Version)
	}
	if err := o.reportable(); err != nil {
		wrong = append(wrong, err)
	}
	if err := errors.Join(wrong...); err != nil {
		return fault.New(fault.InvalidInput, "reading the flags: %s", err).WithHint("keyturn demo --help shows every flag with its default")
	}
	return nil
}

// reportable tries where the report will be written: after the run is too late.
func (o Options) reportable() error {
	if o.Report == "" {
		return nil
	}
	if info, err := os.Stat(o.Report); err == nil && info.IsDir() {
		return fmt.Errorf("--report is the folder %s; give a file's name", o.Report)
	}
	f, err := os.CreateTemp(filepath.Dir(o.Report), ".report-*.html")
	if err != nil {
		return fmt.Errorf("--report is %s, and nothing can be written there (%w); name a file in a folder of yours", o.Report, err)
	}
	_ = f.Close()
	return os.Remove(f.Name())
}

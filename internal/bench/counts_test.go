package bench_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tally is what one part of a step did, each list sorted.
type tally struct {
	logins     []string // accepted and refused ones
	statements []string // with ? for names and constants
	calls      []string // of Secrets Manager
	puts       int      // of the audit trail
}

func (t tally) plus(o tally) tally {
	t.logins = slices.Sorted(slices.Values(append(t.logins, o.logins...)))
	t.statements = slices.Sorted(slices.Values(append(t.statements, o.statements...)))
	t.calls = slices.Sorted(slices.Values(append(t.calls, o.calls...)))
	t.puts += o.puts
	return t
}

// counts are the tallies of one rotation, by step.
type counts struct{ fn, bare map[string]tally }

// count carries out one rotation with every statement logged. It is slower than
// one that is timed.
func (d *duel) count() counts {
	d.tb.Helper()
	d.logStatements("all")
	defer d.logStatements("none")
	c := counts{fn: map[string]tally{}, bare: map[string]tally{}}
	d.rotate(func(step, who string, part func()) {
		into, application, caller, folder := c.fn, "keyturn", functionOf[step], d.path("audit")
		if who == "bare" {
			into, application, caller, folder = c.bare, "bare", "bare", d.path("bare")
		}
		d.calls.take(caller)
		before, puts := d.logSize(), countFiles(d.tb, folder)
		part()
		t := readLog(d.logSince(before), application)
		t.calls, t.puts = d.calls.take(caller), countFiles(d.tb, folder)-puts
		into[step] = into[step].plus(t)
	})
	return c
}

// logStatements switches the server's log_statement and waits until it holds.
func (r *rig) logStatements(value string) {
	r.tb.Helper()
	if err := r.cluster.Exec(r.ctx, "postgres", "ALTER SYSTEM SET log_statement = '"+value+"'", "SELECT pg_reload_conf()"); err != nil {
		r.tb.Fatal(err)
	}
	for r.ctx.Err() == nil {
		conn, err := r.cluster.Superuser(r.ctx, r.cluster.Primary, "postgres")
		if err != nil {
			r.tb.Fatal(err)
		}
		var now string
		err = conn.QueryRow(r.ctx, "SHOW log_statement").Scan(&now)
		_ = conn.Close(r.ctx)
		if err != nil {
			r.tb.Fatal(err)
		}
		if now == value {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.tb.Fatal("log_statement didn't change")
}

func (r *rig) logSize() int64 {
	r.tb.Helper()
	info, err := os.Stat(r.cluster.Primary.LogFile)
	if err != nil {
		r.tb.Fatal(err)
	}
	return info.Size()
}

func (r *rig) logSince(offset int64) string {
	r.tb.Helper()
	text, err := r.cluster.Primary.Log()
	if err != nil {
		r.tb.Fatal(err)
	}
	return text[offset:]
}

// countFiles counts the records and index entries of an audit trail.
func countFiles(tb testing.TB, root string) int {
	tb.Helper()
	n := 0
	for _, folder := range []string{"records", "heads"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && strings.HasSuffix(path, ".json") {
				n++
			}
			if os.IsNotExist(err) {
				return nil
			}
			return err
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	return n
}

var (
	// entryStart is the log_line_prefix of package pgtest.
	entryStart = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d [\d:.]+ UTC \[\d+\] `)
	statement  = regexp.MustCompile(`(?s)^(\S+)@\S+/(\S+) LOG:  (?:statement|execute [^:]+): (.*)$`)
	authorized = regexp.MustCompile(`LOG:  connection authorized: user=.* application_name=(\S+) SSL enabled`)
	rejected   = regexp.MustCompile(`FATAL:  (?:password authentication failed for user|role ".*" is not permitted to log in)`)
	constant   = regexp.MustCompile(`E?'(?:[^']|'')*'|"(?:[^"]|"")*"`)
	space      = regexp.MustCompile(`\s+`)
)

// readLog finds what the sessions of one application did.
func readLog(text, application string) tally {
	var t tally
	for _, entry := range entryStart.Split(text, -1) {
		if m := statement.FindStringSubmatch(entry); m != nil && m[2] == application {
			t.statements = append(t.statements, normalize(m[3]))
		}
		if m := authorized.FindStringSubmatch(entry); m != nil && m[1] == application {
			t.logins = append(t.logins, "accepted")
		}
		if rejected.MatchString(entry) { // before it has a name; only one part runs at a time
			t.logins = append(t.logins, "refused")
		}
	}
	return t
}

// normalize makes statements about different logins equal.
func normalize(sql string) string {
	return strings.TrimSpace(space.ReplaceAllString(constant.ReplaceAllString(sql, "?"), " "))
}

// without takes each element of b out of a once; extra is what isn't in a.
func without(a, b []string) (rest, extra []string) {
	rest = slices.Clone(a)
	for _, x := range b {
		if i := slices.Index(rest, x); i >= 0 {
			rest = slices.Delete(rest, i, i+1)
		} else {
			extra = append(extra, x)
		}
	}
	return rest, extra
}

// TestBareCallsAreTheStepsOwn keeps the comparison honest: what the bare form
// of a step does, its function does too, with the same logins and as many
// records; only reads may be more.
func TestBareCallsAreTheStepsOwn(t *testing.T) {
	t.Parallel()
	d := newDuel(newRig(t))
	d.rotate(nil) // the identity's own rotation is the unusual one
	c := d.count()
	for _, step := range stepNames {
		fn, bare := c.fn[step], c.bare[step]
		if diff := cmp.Diff(fn.logins, bare.logins); diff != "" {
			t.Errorf("%s: the logins differ (-function +bare):\n%s", step, diff)
		}
		if fn.puts != bare.puts {
			t.Errorf("%s: the function puts %d audit records, the bare form %d", step, fn.puts, bare.puts)
		}
		if len(fn.calls) == 0 || (len(fn.statements) == 0 && step != "adopt") {
			t.Errorf("%s: nothing was seen of the function", step)
		}
		for kind, both := range map[string][2][]string{"statement": {fn.statements, bare.statements}, "call": {fn.calls, bare.calls}} {
			rest, extra := without(both[0], both[1])
			for _, x := range extra {
				t.Errorf("%s: the function has no such %s (any more), take it out of bare_test.go: %s", step, kind, x)
			}
			for _, x := range rest {
				t.Logf("%s: the function's own %s: %s", step, kind, x)
			}
		}
	}
}

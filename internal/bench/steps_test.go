package bench_test

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

// targets that docs/benchmarks.md promises.
const (
	targetStart  = 8.0  // ms
	targetMemory = 16.0 // MiB
	targetZip    = 6.0  // MB
	targetRatio  = 1.3
)

// rows of the tables that are printed at the end.
var tables struct {
	sync.Mutex
	functions []functionRow
	steps     []stepRow
}

type functionRow struct {
	name                   string
	size, zip              float64 // MB
	start, idle, worked    float64 // ms, MiB, MiB
	invocations, coldTimes int
}

type stepRow struct {
	name              string
	fn, bare, ratio   float64 // ms, ms
	fnTally, bareDone tally
	rotations         int
}

// BenchmarkFunction measures each binary: its size, how long it takes from the
// start of the process to its first request for work, and its resident memory
// at most.
func BenchmarkFunction(b *testing.B) {
	r := newRig(b)
	r.deploy(r.newApp("shop", "machine"))
	for _, name := range functionNames(b) {
		b.Run(name, func(b *testing.B) {
			row := functionRow{name: name}
			var starts []time.Duration
			var peaks []int64
			for b.Loop() {
				r.register(name)
				if _, err := r.aws.Lambda.Invoke(r.ctx, name, nil); err != nil {
					b.Fatal(err)
				}
				s := r.stats(name)
				starts, peaks = append(starts, s.ColdStarts...), append(peaks, s.PeakMemory...)
			}
			row.measureFile(b, name)
			row.coldTimes = len(starts)
			row.start, row.idle = milliseconds(median(durations(starts))), mebibytes(median(peaks))
			b.ReportMetric(row.size, "MB")
			b.ReportMetric(row.zip, "zip-MB")
			b.ReportMetric(row.start, "start-ms")
			b.ReportMetric(row.idle, "MiB")
			b.ReportMetric(0, "ns/op")
			keep(row)
		})
	}
}

// BenchmarkStep measures each step of warm functions beside its bare calls.
func BenchmarkStep(b *testing.B) {
	d := newDuel(newRig(b))
	d.rotate(nil) // cold starts, and the identity's own rotation
	counted := d.count()
	var all []times
	for range rotations() {
		all = append(all, d.rotate(nil))
	}
	for _, step := range stepNames {
		b.Run(step, func(b *testing.B) {
			for b.Loop() { // measured already, in turns
			}
			row := stepRow{name: step, fnTally: counted.fn[step], bareDone: counted.bare[step], rotations: len(all)}
			row.measure(all)
			b.ReportMetric(row.fn, "ms")
			b.ReportMetric(row.bare, "bare-ms")
			b.ReportMetric(row.ratio, "ratio")
			b.ReportMetric(0, "ns/op")
			tables.Lock()
			defer tables.Unlock()
			tables.steps = append(slices.DeleteFunc(tables.steps, func(r stepRow) bool { return r.name == step }), row)
		})
	}
	d.worked(b)
}

// rotations is what -benchtime 20x asks for; a duration means 20 too.
func rotations() int {
	if f := flag.Lookup("test.benchtime"); f != nil {
		if n, err := strconv.Atoi(strings.TrimSuffix(f.Value.String(), "x")); err == nil && n > 0 {
			return n
		}
	}
	return 20
}

// measure sums up a step: medians, and their ratio.
func (r *stepRow) measure(all []times) {
	var fn, bare []time.Duration
	for _, t := range all {
		fn, bare = append(fn, t.fn[r.name]), append(bare, t.bare[r.name])
	}
	r.fn, r.bare = milliseconds(median(durations(fn))), milliseconds(median(durations(bare)))
	if r.bare > 0 {
		r.ratio = r.fn / r.bare
	}
}

// worked notes the memory of functions that have done real work: the steps of
// all rotations, and those of rotateSecret, rollback and watchdog here.
func (d *duel) worked(b *testing.B) {
	b.Helper()
	token := uuid.NewString()
	if _, err := d.secrets.RotateSecret(d.ctx, &secretsmanager.RotateSecretInput{
		SecretId: &d.third.ARN, ClientRequestToken: &token, RotationLambdaARN: aws.String("arn:aws:lambda:" + awsproto.Region + ":" + awsproto.Account + ":function:rotateSecret"),
	}); err != nil {
		b.Fatal(err)
	}
	by := newBare(d.rig, d.third)
	for by.describe(); by.holder("AWSCURRENT") != token; by.describe() {
		if d.ctx.Err() != nil {
			b.Fatal("the rotation by Secrets Manager didn't end")
		}
		time.Sleep(20 * time.Millisecond)
	}
	by.label("KEYTURN_REJECTED", token, "")
	for name, event := range map[string]string{
		"rollback": fmt.Sprintf(`{"secret":%q,"token":%q,"direction":"back","generation":1,"cursor":"","polls":0}`, d.third.ARN, token),
		"watchdog": `{}`,
	} {
		out, err := d.aws.Lambda.Invoke(d.ctx, name, []byte(event))
		if err != nil || out.FunctionError != "" {
			b.Fatalf("%s: %v %s", name, err, out.Payload)
		}
	}
	for _, name := range functionNames(b) {
		s := d.stats(name)
		keep(functionRow{name: name, worked: mebibytes(slices.Max(s.PeakMemory)), invocations: s.Invocations})
	}
}

func durations(all []time.Duration) []int64 {
	out := make([]int64, 0, len(all))
	for _, d := range all {
		out = append(out, int64(d))
	}
	return out
}

func milliseconds(ns int64) float64 { return float64(ns) / 1e6 }

func mebibytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// measureFile takes the sizes of a binary, in megabytes of a million bytes.
func (r *functionRow) measureFile(tb testing.TB, name string) {
	tb.Helper()
	path := filepath.Join(binaries, name)
	info, err := os.Stat(path)
	if err != nil {
		tb.Fatal(err)
	}
	packed, err := zipSize(path)
	if err != nil {
		tb.Fatal(err)
	}
	r.size, r.zip = float64(info.Size())/1e6, float64(packed)/1e6
}

// keep merges what is known of a function.
func keep(row functionRow) {
	tables.Lock()
	defer tables.Unlock()
	i := slices.IndexFunc(tables.functions, func(r functionRow) bool { return r.name == row.name })
	if i < 0 {
		tables.functions = append(tables.functions, row)
		return
	}
	known := &tables.functions[i]
	if row.worked > 0 {
		known.worked, known.invocations = row.worked, row.invocations
		return
	}
	row.worked, row.invocations = known.worked, known.invocations
	*known = row
}

// printTables writes what was measured in the form of docs/benchmarks.md.
func printTables(w io.Writer) {
	tables.Lock()
	defer tables.Unlock()
	if len(tables.functions) > 0 && tables.functions[0].coldTimes > 0 {
		fmt.Fprintf(w, "\n| function | binary | zip (≤ %g MB) | cold start (≤ %g ms) | memory idle | at work (≤ %g MiB) |\n| --- | --- | --- | --- | --- | --- |\n",
			targetZip, targetStart, targetMemory)
		for _, r := range tables.functions {
			fmt.Fprintf(w, "| %s | %.1f MB | %.1f MB | %.1f ms | %.1f MiB | %.1f MiB |\n", r.name, r.size, r.zip, r.start, r.idle, r.worked)
		}
	}
	if len(tables.steps) > 0 {
		fmt.Fprintf(w, "\n| step | function | bare calls | ratio (≤ %g) | logins | statements | Secrets Manager calls | audit puts |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n", targetRatio)
		for _, r := range tables.steps {
			fmt.Fprintf(w, "| %s | %.1f ms | %.1f ms | %.2f | %d / %d | %d / %d | %d / %d | %d / %d |\n", r.name, r.fn, r.bare, r.ratio,
				len(r.fnTally.logins), len(r.bareDone.logins), len(r.fnTally.statements), len(r.bareDone.statements),
				len(r.fnTally.calls), len(r.bareDone.calls), r.fnTally.puts, r.bareDone.puts)
		}
	}
}

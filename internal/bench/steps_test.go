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
	"github.com/keyturn/keyturn/localstack/lambda"
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
	empty     float64 // ms
}

type functionRow struct {
	name                     string
	size, zip                float64 // MB
	start, bareStart         float64 // ms
	ready, bareReady, worked float64 // MiB; ready: at the first request for work
}

type stepRow struct {
	name            string
	fn, bare, ratio float64 // ms, ms
	net             float64 // the ratio without the invocations
	fnDid, bareDid  tally
}

// BenchmarkFunction measures each binary: its size, how long it takes from the
// start of the process to its first request for work, and its resident memory
// at most. A bare function is started in turns with it.
func BenchmarkFunction(b *testing.B) {
	r := newRig(b)
	r.deploy(r.newApp("shop", "machine"))
	for _, name := range functionNames(b) {
		b.Run(name, func(b *testing.B) {
			row := functionRow{name: name}
			var own, bare lambda.Stats
			for b.Loop() {
				r.start(name, &own)
				r.start(baseline, &bare)
			}
			row.measureFile(b, name)
			row.start, row.bareStart = milliseconds(median(own.ColdStarts)), milliseconds(median(bare.ColdStarts))
			row.ready, row.bareReady = mebibytes(median(own.PeakMemory)), mebibytes(median(bare.PeakMemory))
			b.ReportMetric(row.size, "MB")
			b.ReportMetric(row.zip, "zip-MB")
			b.ReportMetric(row.start, "start-ms")
			b.ReportMetric(row.bareStart, "bare-start-ms")
			b.ReportMetric(row.ready, "MiB")
			b.ReportMetric(row.bareReady, "bare-MiB")
			b.ReportMetric(0, "ns/op")
			keep(row)
		})
	}
}

// start starts a function cold and adds its figures.
func (r *rig) start(name string, to *lambda.Stats) {
	r.tb.Helper()
	r.register(name)
	time.Sleep(10 * time.Millisecond) // the process before is ending
	if _, err := r.aws.Lambda.Invoke(r.ctx, name, nil); err != nil {
		r.tb.Fatal(err)
	}
	s := r.stats(name)
	to.ColdStarts, to.PeakMemory = append(to.ColdStarts, s.ColdStarts...), append(to.PeakMemory, s.PeakMemory...)
}

// BenchmarkStep measures each step of warm functions beside its bare calls.
func BenchmarkStep(b *testing.B) {
	d := newDuel(newRig(b))
	d.rotate(nil) // cold starts, and the identity's own rotation
	counted := d.count()
	var all []times
	var empty []time.Duration
	for range rotations() {
		t := d.rotate(nil)
		all, empty = append(all, t), append(empty, t.empty)
	}
	for _, step := range stepNames {
		b.Run(step, func(b *testing.B) {
			for b.Loop() { // measured already, in turns
			}
			row := stepRow{name: step, fnDid: counted.fn[step], bareDid: counted.bare[step]}
			row.measure(all)
			b.ReportMetric(row.fn, "ms")
			b.ReportMetric(row.bare, "bare-ms")
			b.ReportMetric(row.ratio, "ratio")
			b.ReportMetric(row.net, "net-ratio")
			b.ReportMetric(0, "ns/op")
			tables.Lock()
			defer tables.Unlock()
			tables.empty = milliseconds(median(empty))
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

// measure sums up a step: medians of the times, and of the ratio within each
// rotation, in which both parts met the same machine.
func (r *stepRow) measure(all []times) {
	var fn, bare []time.Duration
	var ratios, net []float64
	invocations := time.Duration(1)
	if r.name == "drain" {
		invocations = looks
	}
	for _, t := range all {
		fn, bare = append(fn, t.fn[r.name]), append(bare, t.bare[r.name])
		ratios = append(ratios, float64(t.fn[r.name])/float64(t.bare[r.name]))
		net = append(net, float64(t.fn[r.name]-invocations*t.empty)/float64(t.bare[r.name]))
	}
	r.fn, r.bare, r.ratio, r.net = milliseconds(median(fn)), milliseconds(median(bare)), median(ratios), median(net)
}

// worked notes the memory of functions that have done real work: the steps of
// all rotations, and those of rotateSecret, emergency, rollback and watchdog here.
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
		"cutSecret":   fmt.Sprintf(`{"act":"foretell","secret":%q,"token":%q,"cut":false,"cursor":"","polls":0}`, d.third.ARN, token),
		"emergency":   fmt.Sprintf(`{"act":"bury","secret":%q,"token":%q,"cut":false,"cursor":"","polls":0}`, d.third.ARN, token),
		"rollback":    fmt.Sprintf(`{"secret":%q,"token":%q,"direction":"back","generation":1,"cursor":"","polls":0}`, d.third.ARN, token),
		"abortSecret": fmt.Sprintf(`{"secret":%q,"token":%q,"direction":"head","generation":1,"cursor":"","polls":0}`, d.third.ARN, token),
		"watchdog":    `{}`,
		"audit":       `{"source":"aws.kms","detail-type":"KMS CMK Rotation","detail":{"key-id":"1"}}`,
	} {
		out, err := d.aws.Lambda.Invoke(d.ctx, name, []byte(event))
		if err != nil || out.FunctionError != "" {
			b.Fatalf("%s: %v %s", name, err, out.Payload)
		}
	}
	for _, name := range functionNames(b) {
		s := d.stats(name)
		keep(functionRow{name: name, worked: mebibytes(slices.Max(s.PeakMemory))})
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

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
		known.worked = row.worked
		return
	}
	row.worked = known.worked
	*known = row
}

// atWork is empty when BenchmarkStep wasn't run.
func (r functionRow) atWork() string {
	if r.worked == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f MiB", r.worked)
}

// printTables writes what was measured in the form of docs/benchmarks.md.
func printTables(w io.Writer) {
	tables.Lock()
	defer tables.Unlock()
	if len(tables.functions) > 0 && tables.functions[0].size > 0 {
		fmt.Fprintf(w, "\n| function | binary | zip (≤ %g MB) | cold start (≤ %g ms) | a bare function's | memory when ready (≤ %g MiB) | a bare function's | at work |\n",
			targetZip, targetStart, targetMemory)
		fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- | --- | --- |")
		for _, r := range tables.functions {
			fmt.Fprintf(w, "| %s | %.1f MB | %.1f MB | %.1f ms | %.1f ms | %.1f MiB | %.1f MiB | %s |\n",
				r.name, r.size, r.zip, r.start, r.bareStart, r.ready, r.bareReady, r.atWork())
		}
	}
	if len(tables.steps) == 0 {
		return
	}
	fmt.Fprintf(w, "\n| step | function | bare calls | ratio (≤ %g) | without the invocation | logins | statements | Secrets Manager calls | audit puts |\n", targetRatio)
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, r := range tables.steps {
		fmt.Fprintf(w, "| %s | %.1f ms | %.1f ms | %.2f | %.2f | %d / %d | %d / %d | %d / %d | %d / %d |\n", r.name, r.fn, r.bare, r.ratio, r.net,
			len(r.fnDid.logins), len(r.bareDid.logins), len(r.fnDid.statements), len(r.bareDid.statements),
			len(r.fnDid.calls), len(r.bareDid.calls), r.fnDid.puts, r.bareDid.puts)
	}
	fmt.Fprintf(w, "| invoke (nothing) | %.1f ms | | | | | | | |\n", tables.empty)
}

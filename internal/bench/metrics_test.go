package bench_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestZipIsWhatIsDeployed compares the size with that of the real packer, whose
// entry also carries a date: a few bytes of header.
func TestZipIsWhatIsDeployed(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join(binaries, "watchdog"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bootstrap")
	if err := os.WriteFile(file, content, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "run", "../lambdazip", file).CombinedOutput(); err != nil {
		t.Fatalf("packing: %v\n%s", err, out)
	}
	info, err := os.Stat(file + ".zip")
	if err != nil {
		t.Fatal(err)
	}
	got, err := zipSize(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := info.Size() - got; d < -200 || d > 200 {
		t.Errorf("the packer makes %d bytes, zipSize counts %d", info.Size(), got)
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		all  []time.Duration
		want time.Duration
	}{{nil, 0}, {[]time.Duration{3}, 3}, {[]time.Duration{9, 1}, 9}, {[]time.Duration{100, 1, 2}, 2}, {[]time.Duration{4, 3, 2, 1}, 3}} {
		if got := median(c.all); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.all, got, c.want)
		}
	}
}

func TestStepIsSummedUpByMedians(t *testing.T) {
	t.Parallel()
	one := func(fn, bare time.Duration) times {
		return times{fn: map[string]time.Duration{"set": fn}, bare: map[string]time.Duration{"set": bare}, empty: time.Millisecond}
	}
	got := stepRow{name: "set"}
	// The machine was twice as slow in the last two: that isn't the step's fault.
	got.measure([]times{
		one(11*time.Millisecond, 10*time.Millisecond), one(22*time.Millisecond, 20*time.Millisecond), one(26*time.Millisecond, 20*time.Millisecond),
	})
	want := stepRow{name: "set", fn: 22, bare: 20, ratio: 1.1, net: 1.05}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(stepRow{}, tally{}), cmpopts.EquateApprox(1e-9, 0)); diff != "" {
		t.Error(diff)
	}
}

func TestLogIsReadBySession(t *testing.T) {
	t.Parallel()
	const log = `2026-01-02 03:04:05.678 UTC [11] rotator@postgres/[unknown] LOG:  connection authorized: user=rotator database=postgres application_name=keyturn SSL enabled (protocol=TLSv1.3, bits=256)
2026-01-02 03:04:05.679 UTC [12] web@shop/web LOG:  connection authorized: user=web database=shop application_name=web SSL enabled (protocol=TLSv1.3, bits=256)
2026-01-02 03:04:05.680 UTC [11] rotator@postgres/keyturn LOG:  execute stmtcache_0123: SELECT oid,
		rolname FROM pg_roles WHERE rolname = $1 AND x <> 'it''s'
2026-01-02 03:04:05.680 UTC [11] rotator@postgres/keyturn DETAIL:  parameters: $1 = 'shop'
2026-01-02 03:04:05.681 UTC [11] rotator@postgres/keyturn LOG:  statement: ALTER ROLE "shop ""x""" NOLOGIN
2026-01-02 03:04:05.682 UTC [12] web@shop/web LOG:  statement: SELECT 1
2026-01-02 03:04:05.683 UTC [13] shop@shop/[unknown] FATAL:  password authentication failed for user "shop"
2026-01-02 03:04:05.684 UTC [14] shop@shop/[unknown] FATAL:  role "shop" is not permitted to log in
`
	want := tally{
		logins:     []string{"accepted", "refused", "refused"},
		statements: []string{"SELECT oid, rolname FROM pg_roles WHERE rolname = $1 AND x <> ?", "ALTER ROLE ? NOLOGIN"},
	}
	if diff := cmp.Diff(want, readLog(log, "keyturn"), cmp.AllowUnexported(tally{})); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutKeepsCount(t *testing.T) {
	t.Parallel()
	rest, extra := without([]string{"a", "a", "b"}, []string{"a", "c"})
	if diff := cmp.Diff([][]string{{"a", "b"}, {"c"}}, [][]string{rest, extra}); diff != "" {
		t.Error(diff)
	}
}

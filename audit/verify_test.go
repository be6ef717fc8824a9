package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/audittest"
	"github.com/keyturn/keyturn/fault"
)

func history(t testing.TB) *audittest.Memory {
	t.Helper()
	ledger := &audittest.Memory{}
	j := &audit.Journal{Ledger: ledger}
	write(t, j, secret, "one", "create", "set")
	write(t, j, secret, "two", "create")
	write(t, j, other, "nine", "create")
	return ledger
}

func TestVerifyFinds(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		harm  func(*audittest.Memory)
		known bool // whether Verify is given the heads from before
		want  audit.FindingKind
	}{
		"changed record": {func(m *audittest.Memory) {
			k := key(secret, "one", 2)
			m.Tamper(k, bytes.Replace(m.Body(k), []byte(`"to":"v2"`), []byte(`"to":"v3"`), 1))
		}, false, audit.Changed},
		"other white space": {func(m *audittest.Memory) {
			k := key(secret, "one", 2)
			m.Tamper(k, append(m.Body(k), '\n'))
		}, false, audit.Changed},
		"missing record":          {func(m *audittest.Memory) { m.Tamper(key(secret, "one", 2), nil) }, false, audit.Missing},
		"missing first record":    {func(m *audittest.Memory) { m.Tamper(key(secret, "two", 1), nil) }, false, audit.Missing},
		"truncated older chain":   {func(m *audittest.Memory) { m.Tamper(key(secret, "one", 4), nil) }, false, audit.Truncated},
		"truncated latest chain":  {func(m *audittest.Memory) { m.Tamper(key(secret, "two", 2), nil) }, true, audit.Truncated},
		"missing index entry":     {func(m *audittest.Memory) { m.Tamper(index(1), nil) }, false, audit.Missing},
		"missing last entry":      {func(m *audittest.Memory) { m.Tamper(index(2), nil) }, false, audit.Foreign},
		"swapped records":         {func(m *audittest.Memory) { swap(m, key(secret, "one", 2), key(secret, "one", 3)) }, false, audit.Reordered},
		"swapped entries":         {func(m *audittest.Memory) { swap(m, index(1), index(2)) }, false, audit.Reordered},
		"record of another chain": {func(m *audittest.Memory) { m.Tamper(key(secret, "two", 3), m.Body(key(secret, "one", 3))) }, false, audit.Foreign},
		"record of another secret": {func(m *audittest.Memory) {
			m.Tamper(key(secret, "two", 1), m.Body(key(other, "nine", 1)))
		}, false, audit.Foreign},
		"chain that nobody announced": {func(m *audittest.Memory) {
			m.Tamper(key(secret, "three", 1), m.Body(key(secret, "one", 1)))
		}, false, audit.Foreign},
		"a member's name in capitals": {func(m *audittest.Memory) {
			m.Tamper(index(2), audit.SealAgain(bytes.Replace(m.Body(index(2)), []byte(`{`), []byte(`{"ROTATION_ID":"x",`), 1)))
		}, false, audit.Changed},
		"stray key": {func(m *audittest.Memory) { m.Tamper("records/"+audit.SecretKey(secret)+"/readme", []byte("x")) }, false, audit.Foreign},
		"a rewritten chain": {func(m *audittest.Memory) {
			fresh := &audittest.Memory{}
			j := &audit.Journal{Ledger: fresh}
			r := record(secret, "one", "create", audit.Intent, 99)
			_ = j.Record(context.Background(), r)
			m.Tamper(key(secret, "one", 1), fresh.Body(key(secret, "one", 1)))
		}, false, audit.Unlinked},
		"everything gone": {func(m *audittest.Memory) {
			for _, k := range m.Keys() {
				m.Tamper(k, nil)
			}
		}, true, audit.Truncated},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ledger := history(t)
			var known []audit.Head
			if test.known {
				known = heads(t, ledger)
			}
			test.harm(ledger)
			_, err := audit.Verify(t.Context(), ledger, secret, known...)
			var found *audit.FindingsError
			if !errors.As(err, &found) {
				t.Fatalf("got %v, want a finding", err)
			}
			if !slices.ContainsFunc(found.Findings, func(f audit.Finding) bool { return f.Kind == test.want }) {
				t.Errorf("no finding is %q:\n%v", test.want, err)
			}
		})
	}
}

// Any one change to any one of a secret's files is found, given the heads.
func TestVerifyFindsAnySingleMutation(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		ledger := randomHistory(rt)
		known, err := audit.Heads(context.Background(), ledger, secret)
		if err != nil {
			rt.Fatal(err)
		}
		if _, err := audit.Verify(context.Background(), ledger, secret, known...); err != nil {
			rt.Fatalf("a trail that nobody touched: %v", err)
		}
		what := mutate(rt, ledger)
		_, err = audit.Verify(context.Background(), ledger, secret, known...)
		var found *audit.FindingsError
		if !errors.As(err, &found) {
			rt.Fatalf("%s wasn't found: %v", what, err)
		}
	})
}

// randomHistory lets rotations of two secrets interleave, through journals that
// remember and journals that don't.
func randomHistory(rt *rapid.T) *audittest.Memory {
	ledger := &audittest.Memory{}
	lasting := &audit.Journal{Ledger: ledger}
	n := rapid.IntRange(1, 20).Draw(rt, "records")
	for i := range n {
		j := lasting
		if rapid.Bool().Draw(rt, "new process") {
			j = &audit.Journal{Ledger: ledger}
		}
		arn := secret
		if i > 0 {
			arn = rapid.SampledFrom([]string{secret, secret, other}).Draw(rt, "secret")
		}
		rotation := fmt.Sprintf("r%d", rapid.IntRange(0, 1+i/3).Draw(rt, "rotation"))
		phase := rapid.SampledFrom([]audit.Phase{audit.Intent, audit.ResultPhase}).Draw(rt, "phase")
		if err := j.Record(context.Background(), record(arn, rotation, "drain", phase, i)); err != nil {
			rt.Fatal(err)
		}
	}
	return ledger
}

func mutate(rt *rapid.T, m *audittest.Memory) string {
	own := slices.DeleteFunc(m.Keys(), func(k string) bool { return !strings.Contains(k, audit.SecretKey(secret)) })
	k := rapid.SampledFrom(own).Draw(rt, "key")
	body := m.Body(k)
	switch rapid.SampledFrom([]string{"delete", "flip", "cut", "replace", "copy"}).Draw(rt, "harm") {
	case "delete":
		m.Tamper(k, nil)
		return "deleting " + k
	case "flip":
		i := rapid.IntRange(0, len(body)-1).Draw(rt, "byte")
		body[i] ^= byte(rapid.IntRange(1, 255).Draw(rt, "bits"))
		m.Tamper(k, body)
		return fmt.Sprintf("changing byte %d of %s", i, k)
	case "cut":
		m.Tamper(k, body[:rapid.IntRange(0, len(body)-1).Draw(rt, "length")])
		return "cutting " + k
	case "replace":
		from := rapid.SampledFrom(m.Keys()).Filter(func(f string) bool { return f != k }).Draw(rt, "from")
		m.Tamper(k, m.Body(from))
		return "putting " + from + " over " + k
	default:
		folder := k[:strings.LastIndexByte(k, '/')+1]
		to := fmt.Sprintf("%s%08d.json", folder, only(m.Keys(), folder)+1)
		m.Tamper(to, body)
		return "copying " + k + " to " + to
	}
}

func TestVerifyTellsOpenSteps(t *testing.T) {
	t.Parallel()
	ledger := &audittest.Memory{}
	j := &audit.Journal{Ledger: ledger}
	steps := []struct {
		step    string
		phase   audit.Phase
		outcome string
	}{
		{"create", audit.Intent, ""},
		{"create", audit.ResultPhase, "done"},
		{"set", audit.Intent, ""},
		{"set", audit.Intent, ""}, // asked again after a crash
		{"drain", audit.Intent, ""},
		{"drain", audit.ResultPhase, "wait"},
		{"drain", audit.ResultPhase, "unknown"},
		{"adopt", audit.ResultPhase, "done"},
		{"disable", audit.Intent, ""},
		{"disable", audit.ResultPhase, "reopened"},
	}
	for i, s := range steps {
		r := record(secret, "one", s.step, s.phase, i)
		r.Outcome = s.outcome
		if err := j.Record(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, o := range verify(t, ledger).Open {
		got = append(got, o.Step+" "+string(o.Phase))
	}
	if diff := cmp.Diff([]string{"set intent", "drain intent", "adopt result"}, got); diff != "" {
		t.Errorf("open steps (-want +got):\n%s", diff)
	}
}

func TestVerifyTellsAnUnreadableLedgerFromABadTrail(t *testing.T) {
	t.Parallel()
	ledger := history(t)
	ledger.Before = func(context.Context, string, string) error { return errors.New("no route to host") }
	_, err := audit.Verify(t.Context(), ledger, secret)
	var found *audit.FindingsError
	if errors.As(err, &found) || !fault.Is(err, fault.AuditUnavailable) {
		t.Errorf("got %v, want %s", err, fault.AuditUnavailable)
	}
}

// A chain that starts while Verify reads is not taken for a foreign one.
func TestVerifyWhileRecording(t *testing.T) {
	t.Parallel()
	ledger := history(t)
	started := false
	ledger.Before = func(_ context.Context, op, key string) error {
		if op == "list" && strings.HasPrefix(key, "records/"+audit.SecretKey(secret)+"/") && !started {
			started = true
			write(t, &audit.Journal{Ledger: ledger}, secret, "three", "create")
		}
		return nil
	}
	if s := verify(t, ledger); s.Records != 8 {
		t.Errorf("%d records; want 8", s.Records)
	}
}

func heads(t testing.TB, l audit.Ledger) []audit.Head {
	t.Helper()
	h, err := audit.Heads(t.Context(), l, secret)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func swap(m *audittest.Memory, a, b string) {
	x, y := m.Body(a), m.Body(b)
	m.Tamper(a, y)
	m.Tamper(b, x)
}

package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/audittest"
	"github.com/keyturn/keyturn/fault"
)

const signedSecret = "arn:signed"

// mark signs by a word: what it says stands in the digest's place.
type mark string

func (m mark) Sign(_ context.Context, digest []byte) (string, []byte, error) {
	return string(m), append([]byte(m), digest...), nil
}

func (m mark) signed(manifest audit.Manifest) error {
	digest, err := manifest.Digest()
	if err == nil && !bytes.Equal(manifest.Signature, append([]byte(m), digest...)) {
		err = errors.New("signed by somebody else")
	}
	return err
}

// published is a ledger of three days: a rotation and a manifest on each. The
// records are of noon, the manifests of 13:00.
func published(t *testing.T) *audittest.Memory {
	t.Helper()
	l := &audittest.Memory{}
	for day := 1; day <= 3; day++ {
		recordOn(t, l, day)
		publishOn(t, l, day)
	}
	return l
}

func moment(day, hour int) time.Time { return time.Date(2026, 3, day, hour, 0, 0, 0, time.UTC) }

func recordOn(t *testing.T, l audit.Ledger, day int) {
	t.Helper()
	j := audit.Journal{Ledger: l, Actor: "a", ActorType: audit.Controller}
	for _, phase := range []audit.Phase{audit.Intent, audit.ResultPhase} {
		r := audit.Record{Time: moment(day, 12), SecretID: signedSecret, RotationID: fmt.Sprintf("r%d", day), Step: "create", Phase: phase, Outcome: "done"}
		if err := j.Record(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}

func publishOn(t *testing.T, l audit.Ledger, day int) {
	t.Helper()
	if _, err := audit.Publish(t.Context(), l, mark("k"), []string{signedSecret}, moment(day, 13)); err != nil {
		t.Fatal(err)
	}
}

// against verifies a ledger as of a day, and returns the findings as text.
func against(t *testing.T, l audit.Ledger, day int, expected bool) (audit.PublishedDays, []string) {
	t.Helper()
	series, err := audit.ReadManifests(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	_, days, err := series.Verify(t.Context(), l, signedSecret, mark("k").signed, expected, moment(day, 23))
	var findings *audit.FindingsError
	if err != nil && !errors.As(err, &findings) {
		t.Fatal(err)
	}
	texts := []string{}
	if findings != nil {
		for _, f := range findings.Findings {
			texts = append(texts, f.String())
		}
	}
	return days, texts
}

func TestATrailIsVerifiedAgainstItsManifests(t *testing.T) {
	t.Parallel()
	l := published(t)
	days, findings := against(t, l, 3, true)
	want := audit.PublishedDays{Count: 3, First: "2026-03-01", Last: "2026-03-03", Keys: []string{"k"}, Heads: 3, Without: []string{}}
	if diff := cmp.Diff(want, days); diff != "" || len(findings) > 0 {
		t.Errorf("%v, days (-want +got):\n%s", findings, diff)
	}
	recordOn(t, l, 4) // today's manifest isn't due yet
	if _, findings := against(t, l, 4, true); len(findings) > 0 {
		t.Errorf("today: %v", findings)
	}
	if _, findings := against(t, l, 5, true); len(findings) != 1 || !strings.Contains(findings[0], "manifests/2026-03-04.json: missing") {
		t.Errorf("yesterday's manifest isn't there: %v", findings)
	}
}

// The audit function was down for a day. The manifest after it says so, signed.
func TestADayOnWhichNothingWasPublished(t *testing.T) {
	t.Parallel()
	l := &audittest.Memory{}
	recordOn(t, l, 1)
	publishOn(t, l, 1)
	recordOn(t, l, 2)
	recordOn(t, l, 3)
	publishOn(t, l, 3)
	days, findings := against(t, l, 3, true)
	if diff := cmp.Diff([]string{"2026-03-02"}, days.Without); diff != "" || len(findings) > 0 || days.Heads != 3 {
		t.Errorf("%v, %+v\n%s", findings, days, diff)
	}
}

func TestNoManifestsAtAll(t *testing.T) {
	t.Parallel()
	l := &audittest.Memory{}
	recordOn(t, l, 1)
	for _, tt := range []struct {
		day      int
		expected bool
		want     int
	}{{2, true, 0}, {3, true, 1}, {30, false, 0}} {
		days, findings := against(t, l, tt.day, tt.expected)
		if days.Count != 0 || len(findings) != tt.want {
			t.Errorf("on day %d, expected %v: %+v, %v", tt.day, tt.expected, days, findings)
		}
	}
}

// What somebody does who can write the whole ledger, and can't sign.
func TestWhatIsDoneToManifests(t *testing.T) {
	t.Parallel()
	key := func(day int) string { return fmt.Sprintf("manifests/2026-03-%02d.json", day) }
	gone := func(l *audittest.Memory, keys ...string) {
		for _, k := range keys {
			l.Tamper(k, nil)
		}
	}
	records := func(l *audittest.Memory, rotation string) (all []string) {
		for _, k := range l.Keys() {
			if strings.Contains(k, "/"+rotation+"/") {
				all = append(all, k)
			}
		}
		return all
	}
	for name, tt := range map[string]struct {
		do   func(*testing.T, *audittest.Memory)
		want []string
	}{
		"the last record is taken away": {func(_ *testing.T, l *audittest.Memory) { gone(l, records(l, "r3")[1]) }, []string{"00000002.json: truncated"}},
		"an old rotation is taken away": {func(_ *testing.T, l *audittest.Memory) { gone(l, records(l, "r1")...) }, []string{"r1", "truncated"}},
		"a manifest is taken away": {
			func(_ *testing.T, l *audittest.Memory) { gone(l, key(2)) },
			[]string{key(3) + ": missing: it doesn't follow the one of 2026-03-01", key(2) + ": missing"},
		},
		"the first is taken away": {func(_ *testing.T, l *audittest.Memory) { gone(l, key(1)) }, []string{key(2) + ": missing: the manifest before it is gone"}},
		"the last is taken away":  {func(_ *testing.T, l *audittest.Memory) { gone(l, key(3)) }, []string{key(3) + ": missing"}},
		"all are taken away":      {func(_ *testing.T, l *audittest.Memory) { gone(l, key(1), key(2), key(3)) }, []string{"no manifest at all"}},
		"one is changed": {func(_ *testing.T, l *audittest.Memory) {
			l.Tamper(key(3), bytes.Replace(l.Body(key(3)), []byte(`"seq":2`), []byte(`"seq":1`), 1))
		}, []string{key(3) + ": changed: the manifest isn't as it was sealed"}},
		"one is no manifest": {func(_ *testing.T, l *audittest.Memory) { l.Tamper(key(2), []byte("{}")) }, []string{key(2) + ": changed: it is no manifest"}},
		"one is sealed and signed anew by another": {func(t *testing.T, l *audittest.Memory) {
			gone(l, append(records(l, "r3"), key(3))...)
			if _, err := audit.Publish(t.Context(), l, mark("forged"), []string{signedSecret}, moment(3, 13)); err != nil {
				t.Fatal(err)
			}
		}, []string{key(3) + ": unsigned: signed by somebody else"}},
		"all are made anew, as if it began later": {func(t *testing.T, l *audittest.Memory) {
			gone(l, key(1))
			again := l.Clone()
			gone(again, key(2), key(3))
			publishOn(t, again, 2)
			l.Tamper(key(2), again.Body(key(2)))
		}, []string{key(3) + ": missing"}},
	} {
		l := published(t)
		tt.do(t, l)
		_, findings := against(t, l, 4, true)
		all := strings.Join(findings, "\n")
		for _, want := range tt.want {
			if !strings.Contains(all, want) {
				t.Errorf("%s: found %q, want %s", name, findings, want)
			}
		}
	}
}

func TestALedgerWhoseManifestsCantBeRead(t *testing.T) {
	t.Parallel()
	for _, operation := range []string{"list", "get"} {
		l := published(t)
		l.Before = func(_ context.Context, did, key string) error {
			if did == operation && strings.HasPrefix(key, "manifests/") {
				return errors.New("down")
			}
			return nil
		}
		if _, err := audit.ReadManifests(t.Context(), l); !fault.Is(err, fault.AuditUnavailable) {
			t.Errorf("%s: %v", operation, err)
		}
	}
}

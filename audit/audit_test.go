package audit_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/rotation"
)

var _ rotation.Journal = (*audit.Journal)(nil)

const (
	secret = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:orders/db-AbCdEf"
	other  = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:billing/db-GhIjKl"
)

var quiet = slog.New(slog.DiscardHandler)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func record(secret, rotation, step string, phase audit.Phase, n int) audit.Record {
	r := audit.Record{
		Time: start.Add(time.Duration(n) * time.Second), SecretID: secret, RotationID: rotation,
		Engine: "postgres", Step: step, From: "v1", To: "v2", Actor: "keyturn", ActorType: audit.Controller,
		Phase: phase, PolicyHash: "p", Evidence: []byte(`[{"party":"node <1>","proof":4}]`),
	}
	if phase == audit.ResultPhase {
		r.Outcome = "done"
	}
	return r
}

// write records the intent and the result of some steps.
func write(t testing.TB, j *audit.Journal, secret, rotation string, steps ...string) {
	t.Helper()
	for i, step := range steps {
		for k, phase := range []audit.Phase{audit.Intent, audit.ResultPhase} {
			if err := j.Record(t.Context(), record(secret, rotation, step, phase, 2*i+k)); err != nil {
				t.Fatalf("recording %s of %s: %v", step, rotation, err)
			}
		}
	}
}

func verify(t testing.TB, l audit.Ledger, known ...audit.Head) audit.Summary {
	t.Helper()
	s, err := audit.Verify(t.Context(), l, secret, known...)
	if err != nil {
		t.Fatalf("a trail that nobody touched: %v", err)
	}
	return s
}

func key(secret, rotation string, seq int) string {
	return fmt.Sprintf("records/%s/%s/%08d.json", audit.SecretKey(secret), rotation, seq)
}

func index(n int) string {
	return fmt.Sprintf("heads/%s/%08d.json", audit.SecretKey(secret), n)
}

// only counts the keys of a ledger that start with a prefix.
func only(keys []string, prefix string) int {
	n := 0
	for _, k := range keys {
		if strings.HasPrefix(k, prefix) {
			n++
		}
	}
	return n
}

type lister interface {
	List(ctx context.Context, prefix string) ([]string, error)
}

func count(t *testing.T, l lister, prefix string) int {
	t.Helper()
	keys, err := l.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	return len(keys)
}

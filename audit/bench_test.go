package audit_test

import (
	"testing"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/audittest"
)

// BenchmarkStep is what one step of a rotation records, an intent and a result,
// in a process that has recorded nothing of this rotation before. The ledger
// costs nothing.
func BenchmarkStep(b *testing.B) {
	var before audittest.Memory
	write(b, &audit.Journal{Ledger: &before, Log: quiet}, secret, "r1", "create")
	b.ReportAllocs()
	for b.Loop() {
		j := &audit.Journal{Ledger: before.Clone(), Log: quiet}
		write(b, j, secret, "r1", "adopt")
	}
}

package audit_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/audittest"
)

// drawRecord makes any record that a journal takes, also with bytes that are no
// UTF-8, empty lists and documents as evidence.
func drawRecord(rt *rapid.T, rotation string) audit.Record {
	text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 8), func(b []byte) string { return string(b) }),
		rapid.SampledFrom([]string{"", "<&>\u2028", "\"\\\b\f\n\r\t\x00\x7f", "\xff\xfeé😀", "e\u0301"}))
	list := rapid.SliceOfN(text, 0, 3)
	r := audit.Record{
		Time:     time.Unix(rapid.Int64Range(0, 4_000_000_000).Draw(rt, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(rt, "nanoseconds")),
		SecretID: secret, RotationID: rotation, Engine: text.Draw(rt, "engine"), Step: text.Draw(rt, "step"),
		From: text.Draw(rt, "from"), To: text.Draw(rt, "to"), Actor: text.Draw(rt, "actor"), ActorType: audit.ActorType(text.Draw(rt, "type")),
		Phase:   rapid.SampledFrom([]audit.Phase{audit.Intent, audit.ResultPhase}).Draw(rt, "phase"),
		Outcome: text.Draw(rt, "outcome"), Missing: list.Draw(rt, "missing"), Notes: list.Draw(rt, "notes"), PolicyHash: text.Draw(rt, "policy"),
	}
	if rapid.Bool().Draw(rt, "with evidence") {
		evidence, err := json.MarshalIndent(rapid.SliceOfN(rapid.MapOf(rapid.String(), rapid.Float64Range(-1e300, 1e300)), 0, 3).Draw(rt, "evidence"), "", " ")
		if err != nil {
			rt.Fatal(err)
		}
		r.Evidence = evidence
	}
	return r
}

// A record is written member by member: nothing but this test knows that the
// result is what the general way gives.
func TestSealedRecordIsItsCanonicalForm(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		ledger := &audittest.Memory{}
		j := &audit.Journal{Ledger: ledger, Log: quiet}
		for range rapid.IntRange(1, 3).Draw(rt, "records") {
			r := drawRecord(rt, "r1")
			if err := j.Record(t.Context(), r); err != nil {
				rt.Fatal(err)
			}
			keys, err := ledger.List(t.Context(), "records/")
			if err != nil {
				rt.Fatal(err)
			}
			body := ledger.Body(keys[len(keys)-1])
			checkSealed(rt, body)
			var there audit.Record
			if err := json.Unmarshal(body, &there); err != nil {
				rt.Fatal(err)
			}
			there.Seq, there.PrevHash, there.Hash = 0, "", ""
			r.Time = r.Time.UTC()
			if diff := cmp.Diff(plain(rt, r), plain(rt, there)); diff != "" {
				rt.Fatalf("what was recorded isn't what was said (-said +recorded):\n%s", diff)
			}
		}
		if s := verify(t, ledger); len(s.Chains) != 1 {
			rt.Fatalf("%d chains", len(s.Chains))
		}
	})
}

// checkSealed compares a body with encoding/json's reading of it.
func checkSealed(rt *rapid.T, body []byte) {
	if again, err := audit.Canonical(body); err != nil || !bytes.Equal(again, body) {
		rt.Fatalf("%s isn't canonical: %s, %v", body, again, err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		rt.Fatal(err)
	}
	var hash string
	if err := json.Unmarshal(members["hash"], &hash); err != nil {
		rt.Fatal(err)
	}
	rest := maps.Clone(members)
	delete(rest, "hash")
	raw, err := json.Marshal(rest)
	if err != nil {
		rt.Fatal(err)
	}
	canonical, err := audit.Canonical(raw)
	if err != nil {
		rt.Fatal(err)
	}
	if sum := sha256.Sum256(canonical); hash != hex.EncodeToString(sum[:]) {
		rt.Fatalf("%s isn't hashed as it is written", body)
	}
}

// plain is a record as encoding/json writes it, so that what no JSON can keep
// (bytes that are no UTF-8) is equal on both sides.
func plain(rt *rapid.T, r audit.Record) any {
	raw, err := json.Marshal(r)
	if err != nil {
		rt.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		rt.Fatal(err)
	}
	return tree
}

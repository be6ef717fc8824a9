package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// verifier holds one reading of a secret's trail.
type verifier struct {
	ledger Ledger
	secret string

	index    []stored[entry]
	late     []stored[entry]       // announced while we were reading
	chains   map[string]*chainView // by the rotation's key segment
	findings []Finding
}

// stored is one document as it lies in the ledger.
type stored[T any] struct {
	key    string
	n      int // from the key
	hash   string
	intact bool
	doc    T
}

// chainView is one chain as it lies in the ledger.
type chainView struct {
	records []stored[Record]
}

// at returns the record with a number, or nil.
func (c *chainView) at(seq int) *stored[Record] {
	if c == nil {
		return nil
	}
	i, found := slices.BinarySearchFunc(c.records, seq, func(s stored[Record], n int) int { return s.n - n })
	if !found {
		return nil
	}
	return &c.records[i]
}

func (c *chainView) last() int {
	if c == nil || len(c.records) == 0 {
		return 0
	}
	return c.records[len(c.records)-1].n
}

func (v *verifier) find(kind FindingKind, key, format string, args ...any) {
	v.findings = append(v.findings, Finding{Kind: kind, Key: key, Detail: fmt.Sprintf(format, args...)})
}

// read takes the index before the records, so that every record that an entry
// pins is there to be seen; what is announced in between is read afterwards.
func (v *verifier) read(ctx context.Context) error {
	var err error
	if v.index, err = v.readIndex(ctx, 0, true); err != nil {
		return err
	}
	prefix := recordsPrefix(v.secret)
	keys, err := v.ledger.List(ctx, prefix)
	if err != nil {
		return err
	}
	for _, key := range keys {
		chain, _, ok := strings.Cut(strings.TrimPrefix(key, prefix), "/")
		if !ok || number(key) == 0 || key != fmt.Sprintf("%s%s/%08d.json", prefix, chain, number(key)) {
			v.find(Foreign, key, "no record of this secret has such a key")
			continue
		}
		s, err := fetch[Record](ctx, v.ledger, key)
		if err != nil {
			return err
		}
		if v.chains[chain] == nil {
			v.chains[chain] = &chainView{}
		}
		v.chains[chain].records = append(v.chains[chain].records, s)
	}
	last := 0
	if len(v.index) > 0 {
		last = v.index[len(v.index)-1].n
	}
	v.late, err = v.readIndex(ctx, last, false)
	return err
}

// readIndex reads the index entries after a number. strangers says whether keys
// that are none are reported.
func (v *verifier) readIndex(ctx context.Context, after int, strangers bool) ([]stored[entry], error) {
	prefix := indexPrefix(v.secret)
	keys, err := v.ledger.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	var entries []stored[entry]
	for _, key := range keys {
		if number(key) == 0 || key != indexKey(v.secret, number(key)) {
			if strangers {
				v.find(Foreign, key, "no index entry has such a key")
			}
			continue
		}
		if number(key) <= after {
			continue
		}
		s, err := fetch[entry](ctx, v.ledger, key)
		if err != nil {
			return nil, err
		}
		entries = append(entries, s)
	}
	return entries, nil
}

func fetch[T any](ctx context.Context, l Ledger, key string) (stored[T], error) {
	s := stored[T]{key: key, n: number(key)}
	body, err := l.Get(ctx, key)
	if err != nil {
		return s, err
	}
	s.hash, s.intact = examine(body)
	if s.intact && json.Unmarshal(body, &s.doc) != nil {
		s.intact = false
	}
	return s, nil
}

// checkIndex checks the entries against each other and against the records
// that they pin.
func (v *verifier) checkIndex() {
	for i, e := range v.index {
		before := stored[entry]{}
		if i > 0 {
			before = v.index[i-1]
		}
		if e.n != before.n+1 {
			v.find(Missing, indexKey(v.secret, before.n+1), "the index goes on at %d", e.n)
		}
		switch {
		case !e.intact:
			v.find(Changed, e.key, "the index entry isn't as it was sealed")
			continue
		case e.doc.SecretID != v.secret:
			v.find(Foreign, e.key, "it belongs to secret %s", e.doc.SecretID)
			continue
		case e.doc.N != e.n:
			v.find(Reordered, e.key, "it was sealed as entry %d", e.doc.N)
			continue
		}
		if e.n == before.n+1 {
			v.checkEntryLinks(e, before)
		}
		for _, pin := range e.doc.Tips {
			v.checkPin(e.key, "index entry", pin)
		}
	}
}

func (v *verifier) checkEntryLinks(e, before stored[entry]) {
	if e.doc.PrevEntry != before.hash {
		v.find(Unlinked, e.key, "it was sealed after another entry %d", before.n)
	}
	want := ""
	if before.n > 0 {
		if !before.intact {
			return // reported already; what it carried can't be told
		}
		i := slices.IndexFunc(e.doc.Tips, func(h Head) bool { return h.RotationID == before.doc.RotationID })
		if i < 0 {
			v.find(Unlinked, e.key, "it doesn't pin the chain of rotation %s, announced just before", before.doc.RotationID)
			return
		}
		want = before.doc.PrevHash
		if pin := e.doc.Tips[i]; pin.Seq > 0 {
			want = pin.Hash
		}
	}
	if e.doc.PrevHash != want {
		v.find(Unlinked, e.key, "it doesn't carry the last hash of the rotation before")
	}
}

// checkPin checks that a record which somebody has seen is still there.
func (v *verifier) checkPin(key, by string, pin Head) {
	if pin.Seq == 0 {
		return
	}
	chain := v.chains[segment(pin.RotationID)]
	at := recordKey(v.secret, pin.RotationID, pin.Seq)
	r := chain.at(pin.Seq)
	switch {
	case r == nil && pin.Seq > chain.last():
		v.find(Truncated, at, "%s %s has seen this record; the chain ends at %d", by, key, chain.last())
	case r == nil:
		v.find(Missing, at, "%s %s has seen this record", by, key)
	case r.hash != pin.Hash:
		v.find(Changed, at, "%s %s has seen another record here", by, key)
	}
}

// checkKnown checks a head that was kept outside the ledger.
func (v *verifier) checkKnown(h Head) {
	announced := slices.ContainsFunc(slices.Concat(v.index, v.late), func(e stored[entry]) bool {
		return e.intact && e.doc.RotationID == h.RotationID
	})
	if !announced {
		v.find(Truncated, indexPrefix(v.secret), "no entry announces rotation %s, of which a head is known", h.RotationID)
	}
	v.checkPin(h.RotationID, "the head known of rotation", h)
}

// checkChains checks each chain by itself and against its announcements.
func (v *verifier) checkChains() {
	starts := map[string][]string{} // chain → what its first record may carry
	for _, e := range slices.Concat(v.index, v.late) {
		if e.intact && e.doc.SecretID == v.secret {
			name := segment(e.doc.RotationID)
			starts[name] = append(starts[name], e.doc.PrevHash)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.chains)) {
		c := v.chains[name]
		if len(starts[name]) == 0 {
			v.find(Foreign, c.records[0].key, "no index entry announces this chain")
		}
		var before *stored[Record]
		for i := range c.records {
			v.checkRecord(name, &c.records[i], before, starts[name])
			before = &c.records[i]
		}
	}
}

func (v *verifier) checkRecord(chain string, r, before *stored[Record], starts []string) {
	prev := 0
	if before != nil {
		prev = before.n
	}
	gap := r.n != prev+1
	if gap {
		v.find(Missing, fmt.Sprintf("%s%s/%08d.json", recordsPrefix(v.secret), chain, prev+1), "the chain goes on at %d", r.n)
	}
	switch {
	case !r.intact:
		v.find(Changed, r.key, "the record isn't as it was sealed")
	case r.doc.SecretID != v.secret:
		v.find(Foreign, r.key, "it belongs to secret %s", r.doc.SecretID)
	case segment(r.doc.RotationID) != chain:
		v.find(Foreign, r.key, "it belongs to rotation %s", r.doc.RotationID)
	case r.doc.Seq != r.n:
		v.find(Reordered, r.key, "it was sealed as record %d", r.doc.Seq)
	case gap:
	case before != nil && r.doc.PrevHash != before.hash:
		v.find(Unlinked, r.key, "it was sealed after another record %d", before.n)
	case before == nil && len(starts) > 0 && !slices.Contains(starts, r.doc.PrevHash):
		v.find(Unlinked, r.key, "it doesn't carry the last hash of the rotation before")
	}
}

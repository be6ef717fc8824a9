package audit

import (
	"maps"
	"slices"
)

// summary puts together what was read, in the order of the index; chains that
// nobody announced come last.
func (v *verifier) summary() Summary {
	s := Summary{SecretID: v.secret, Chains: []Chain{}, Open: []OpenStep{}, Findings: []Finding{}}
	s.Findings = append(s.Findings, v.findings...)
	seen := map[string]bool{}
	add := func(rotation string) {
		name := segment(rotation)
		if seen[name] {
			return
		}
		seen[name] = true
		c := v.chains[name]
		sum := Chain{Head: Head{RotationID: rotation}}
		if c != nil {
			s.Records += len(c.records)
			first, last := c.records[0], c.records[len(c.records)-1]
			sum.Seq, sum.Hash = last.n, last.hash
			sum.First, sum.Last = first.doc.Time, last.doc.Time
			s.Open = append(s.Open, c.open()...)
		}
		s.Chains = append(s.Chains, sum)
	}
	for _, e := range slices.Concat(v.index, v.late) {
		if e.intact && e.doc.SecretID == v.secret {
			add(e.doc.RotationID)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.chains)) {
		if r := v.chains[name].records[0]; r.intact && r.doc.SecretID == v.secret {
			add(r.doc.RotationID)
		}
	}
	return s
}

// open pairs intents with results. One intent may have many results: a step
// that is polled records each answer that is news, and is at its end only with
// the last. Asking again before the end is the same open step.
func (c *chainView) open() []OpenStep {
	type act struct{ step, from, to string }
	waiting := map[act]OpenStep{}
	intended := map[act]bool{}
	var found []OpenStep
	for _, r := range c.records {
		if !r.intact {
			continue
		}
		a := act{r.doc.Step, r.doc.From, r.doc.To}
		o := OpenStep{Key: r.key, RotationID: r.doc.RotationID, Step: r.doc.Step, Phase: r.doc.Phase, Time: r.doc.Time}
		switch {
		case r.doc.Phase == Intent:
			waiting[a] = o
			intended[a] = true
		case !intended[a]:
			found = append(found, o)
		case r.doc.Outcome != "wait" && r.doc.Outcome != "unknown":
			delete(waiting, a)
		}
	}
	for _, o := range waiting {
		found = append(found, o)
	}
	slices.SortFunc(found, func(x, y OpenStep) int {
		if x.Key < y.Key {
			return -1
		}
		return 1
	})
	return found
}

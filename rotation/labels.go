package rotation

import (
	"maps"
	"slices"
	"strings"
)

// Label is a staging label. The labels are the only state there is.
type Label string

const (
	// Current is what consumers read.
	Current Label = "AWSCURRENT"
	// Pending is the version that is being made.
	Pending Label = "AWSPENDING"
	// Previous is what was current before; Secrets Manager moves it by itself.
	Previous Label = "AWSPREVIOUS"
	// Retiring is on the version that is being replaced and isn't revoked yet.
	// Only one version can hold it: it is the lock of a drain.
	Retiring Label = "KEYTURN_RETIRING"
	// Disabled is put on before the credential is disabled at its target.
	Disabled Label = "KEYTURN_DISABLED"
	// Rejected is on a version that is, or was, rolled back.
	Rejected Label = "KEYTURN_REJECTED"

	livePrefix      = "KEYTURN_LIVE_"
	candidatePrefix = "KEYTURN_CANDIDATE_"
	stolenPrefix    = "KEYTURN_STOLEN_"
	replacePrefix   = "KEYTURN_REPLACE_"
)

// Live is the label of a version whose credential its target may accept. It is
// put on before the target hears of the credential and taken off when that is
// revoked, so that nobody can lose track of one: whoever moves AWS's labels by
// hand leaves it where it is, and it keeps the version from being discarded.
func Live(version string) Label { return Label(livePrefix + version) }

// Candidate is on a version that was never promoted. The machine driver stores
// it under this label alone, before it claims AWSPENDING.
func Candidate(token string) Label { return Label(candidatePrefix + token) }

// Stolen is on a version whose credential an emergency has declared stolen: it
// is retired in haste and never brought back.
func Stolen(version string) Label { return Label(stolenPrefix + version) }

// Replace is on a stolen version that is current, and names the one that an
// emergency makes in its place: whoever goes on with it makes the same one.
func Replace(token string) Label { return Label(replacePrefix + token) }

// MadeLabels are the labels under which a new version's value is stored. The
// machine claims AWSPENDING and Live afterwards: a put would steal the former.
func MadeLabels(driver Driver, token string) []Label {
	if driver == DriverMachine {
		return []Label{Candidate(token)}
	}
	return []Label{Pending, Candidate(token), Live(token)}
}

// Versions maps version ids to their labels.
type Versions map[string][]Label

// Holder returns the version that holds a label, or "".
func (v Versions) Holder(l Label) string {
	for _, id := range slices.Sorted(maps.Keys(v)) {
		if v.Has(id, l) {
			return id
		}
	}
	return ""
}

// Has reports whether a version holds a label.
func (v Versions) Has(version string, l Label) bool {
	return slices.Contains(v[version], l)
}

// Displaced lists the live versions that nobody has a use for: not current, not
// pending and not being drained. Somebody else's write has put them there, or a
// run that ended too soon; each gets a drain of its own.
func (v Versions) Displaced() []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(v)) {
		if v.Has(id, Live(id)) && !v.Has(id, Current) && !v.Has(id, Retiring) && !v.pending(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// pending reports a version that is being made. One with AWSPREVIOUS was current
// before: its AWSPENDING was left over (rule C6.4) and nobody is making it.
func (v Versions) pending(id string) bool {
	return v.Has(id, Pending) && !v.Has(id, Previous)
}

// A secret has 20 staging labels at most, over all of its versions
// (docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html). A
// rotation that an emergency or a rollback meets needs twelve of them.
const (
	mostLabels   = 20
	labelsNeeded = 12
)

// foreign lists the labels that neither AWS nor Keyturn has put on.
func (v Versions) foreign() []string {
	var all []string
	for _, id := range slices.Sorted(maps.Keys(v)) {
		for _, l := range v[id] {
			if !strings.HasPrefix(string(l), "AWS") && !strings.HasPrefix(string(l), "KEYTURN_") {
				all = append(all, string(l))
			}
		}
	}
	return all
}

// unpresented reports a version that no consumer had reason to use.
func (v Versions) unpresented(id string) bool {
	return !v.Has(id, Current) && !v.Has(id, Previous) &&
		(v.Has(id, Candidate(id)) || (v.Has(id, Pending) && !v.Has(id, Live(id))))
}

// unclaimed lists the versions that a machine has stored and not claimed
// AWSPENDING for: no target has heard of them.
func (v Versions) unclaimed() []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(v)) {
		if v.Has(id, Candidate(id)) && !v.Has(id, Live(id)) && !v.Has(id, Pending) && !v.Has(id, Rejected) {
			ids = append(ids, id)
		}
	}
	return ids
}

// byHand reports a version, other than one, that somebody stored by hand and that
// may be used. It has no LIVE label: Keyturn puts that on its own versions before
// anybody hears of them.
func (v Versions) byHand(except string) bool {
	return slices.ContainsFunc(v.liveBeside(except), func(id string) bool { return !v.Has(id, Live(id)) })
}

// liveBeside lists the versions, other than one, whose credential somebody may
// rightly use. AWSPREVIOUS alone isn't among them: it stays on a version after
// its credential is revoked, and in pair mode that login is the next one's, as is
// one on which a disable that came late has left its label. Nor are displaced
// versions: they go as well.
func (v Versions) liveBeside(except string) []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(v)) {
		lives := func(l Label) bool {
			return l == Current || l == Pending || l == Retiring || l == Disabled && v.Has(id, Live(id))
		}
		if id != except && slices.ContainsFunc(v[id], lives) {
			ids = append(ids, id)
		}
	}
	return ids
}

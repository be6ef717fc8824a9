package rotation

import (
	"maps"
	"slices"
	"strconv"
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
	// Only one version can hold it: it is the lock of a drain, and it keeps the
	// version from being discarded.
	Retiring Label = "KEYTURN_RETIRING"
	// Disabled is put on before the credential is disabled at its target.
	Disabled Label = "KEYTURN_DISABLED"
	// Rejected is on a version that is, or was, rolled back.
	Rejected Label = "KEYTURN_REJECTED"

	orphanPrefix    = "KEYTURN_ORPHAN_"
	candidatePrefix = "KEYTURN_CANDIDATE_"
)

// Orphan is the n-th label for a version that somebody else displaced.
func Orphan(n int) Label { return Label(orphanPrefix + strconv.Itoa(n)) }

// IsOrphan reports whether a label is one of those.
func (l Label) IsOrphan() bool { return strings.HasPrefix(string(l), orphanPrefix) }

// Candidate is the label under which the machine driver stores a version before
// it claims AWSPENDING for it.
func Candidate(token string) Label { return Label(candidatePrefix + token) }

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

// Orphans lists displaced versions in the order of their labels.
func (v Versions) Orphans() []string {
	type orphan struct {
		n  int
		id string
	}
	var found []orphan
	for id, labels := range v {
		for _, l := range labels {
			if l.IsOrphan() {
				n, _ := strconv.Atoi(strings.TrimPrefix(string(l), orphanPrefix))
				found = append(found, orphan{n, id})
			}
		}
	}
	slices.SortFunc(found, func(a, b orphan) int { return a.n - b.n })
	ids := make([]string, 0, len(found))
	for _, o := range found {
		ids = append(ids, o.id)
	}
	return ids
}

// Live lists the versions, other than one, whose credential somebody may
// rightly use. AWSPREVIOUS alone isn't among them: it stays on a version after
// its credential is revoked, and in pair mode that login is the next one's.
func (v Versions) Live(except string) []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(v)) {
		lives := func(l Label) bool {
			return l == Current || l == Pending || l == Retiring || l == Disabled || l.IsOrphan()
		}
		if id != except && slices.ContainsFunc(v[id], lives) {
			ids = append(ids, id)
		}
	}
	return ids
}

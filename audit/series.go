package audit

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// Series is every manifest of a ledger, as it lies there.
type Series struct {
	kept []keptManifest // the oldest first
}

// keptManifest is what lies under one day's key.
type keptManifest struct {
	Manifest
	day  string
	flaw *Finding // it isn't what was published
}

// PublishedDays is what a trail's manifests came to.
type PublishedDays struct {
	Count int `json:"count"`
	// First and Last are days, as 2006-01-02.
	First string `json:"first,omitempty"`
	Last  string `json:"last,omitempty"`
	// Keys are those that the manifests name, Heads how many ends of this secret's
	// chains they list.
	Keys  []string `json:"keys"`
	Heads int      `json:"heads"`
	// Without are days on which the secret has records and nothing was published.
	// The manifest after such a day vouches for them: its signature says that none
	// came between it and the one before the day.
	Without []string `json:"days_without"`
}

// ReadManifests reads every manifest of a ledger; one a day makes some hundred.
func ReadManifests(ctx context.Context, l Ledger) (Series, error) {
	var s Series
	keys, err := l.List(ctx, manifests)
	if err != nil {
		return s, fault.Wrap(fault.AuditUnavailable, err, "listing the manifests")
	}
	for _, key := range keys {
		k := keptManifest{day: strings.TrimSuffix(strings.TrimPrefix(key, manifests), ".json")}
		k.Manifest, err = Published(ctx, l, k.day)
		switch {
		case fault.Is(err, fault.InvalidInput):
			k.flaw = &Finding{Kind: Changed, Key: key, Detail: "it is no manifest of that day"}
		case err != nil:
			return s, err
		default:
			if _, err := k.Digest(); err != nil {
				k.flaw = &Finding{Kind: Changed, Key: key, Detail: "the manifest isn't as it was sealed"}
			}
		}
		s.kept = append(s.kept, k)
	}
	return s, nil
}

// Len is how many there are.
func (s Series) Len() int { return len(s.kept) }

// Verify is [Verify] of a secret's trail against all manifests: each has to be
// signed, to follow the one before it, and to be there for every past day (UTC) on
// which the secret has records; and what it lists has to be there still. signed
// tells whether a key that is trusted has signed a manifest (audit/kmssign).
// expected says that a deployment publishes to this ledger: then none at all, two
// days after the first record, is a finding too. now is the time, by which today's
// may not be there yet.
func (s Series) Verify(ctx context.Context, l Ledger, secret string, signed func(Manifest) error, expected bool, now time.Time, known ...Head) (Summary, PublishedDays, error) {
	s.judge(signed)
	d := PublishedDays{Count: len(s.kept), Keys: []string{}, Without: []string{}}
	if d.Count > 0 {
		d.First, d.Last = s.kept[0].day, s.kept[d.Count-1].day
	}
	latest := map[string]Head{} // a chain's last head commits all of its records
	for _, k := range s.kept {
		if k.flaw != nil {
			continue
		}
		if !slices.Contains(d.Keys, k.KeyID) {
			d.Keys = append(d.Keys, k.KeyID)
		}
		for _, h := range k.Of(secret) {
			if h.Seq >= latest[h.RotationID].Seq {
				latest[h.RotationID] = h
			}
		}
	}
	d.Heads = len(latest)
	for _, rotation := range slices.Sorted(maps.Keys(latest)) {
		known = append(known, latest[rotation])
	}
	v, err := verified(ctx, l, secret, known)
	if err != nil {
		return Summary{SecretID: secret}, d, err
	}
	for i, k := range s.kept {
		if k.flaw != nil {
			v.findings = append(v.findings, *k.flaw)
		}
		s.checkLink(v, i)
	}
	d.Without = s.checkDays(v, expected, now)
	summary, err := v.result()
	return summary, d, err
}

// judge tells those that nobody trusted has signed.
func (s Series) judge(signed func(Manifest) error) {
	for i := range s.kept {
		if k := &s.kept[i]; k.flaw == nil {
			if err := signed(k.Manifest); err != nil {
				k.flaw = &Finding{Kind: Unsigned, Key: manifestKey(k.day), Detail: err.Error()}
			}
		}
	}
}

// checkLink looks whether a manifest follows the one before it. One that isn't as
// it was published says nothing of what came before.
func (s Series) checkLink(v *verifier, i int) {
	k := s.kept[i]
	switch {
	case k.flaw != nil || s.linked(i):
	case i == 0:
		v.find(Missing, manifestKey(k.day), "the manifest before it is gone")
	case s.kept[i-1].flaw != nil: // told already
	case k.Before == "":
		v.find(Unlinked, manifestKey(k.day), "it says that it is the first; the one of %s lies before it", s.kept[i-1].day)
	default:
		v.find(Missing, manifestKey(k.day), "it doesn't follow the one of %s: a manifest between them is gone", s.kept[i-1].day)
	}
}

// linked reports whether a manifest says that it follows the one that lies before
// it, or that it is the first.
func (s Series) linked(i int) bool {
	if k := s.kept[i]; k.flaw != nil || i == 0 {
		return k.flaw == nil && k.Before == ""
	}
	return s.kept[i-1].flaw == nil && s.kept[i].Before == s.kept[i-1].Hash
}

// checkDays looks for the manifest of each day on which there are records. The
// first manifest vouches for all that was before it.
func (s Series) checkDays(v *verifier, expected bool, now time.Time) []string {
	without := []string{}
	days := v.days()
	if len(s.kept) == 0 {
		if began := now.UTC().AddDate(0, 0, -2).Format(dayForm); expected && len(days) > 0 && days[0] <= began {
			v.find(Missing, manifestKey(days[0]), "there is no manifest at all, but records since that day")
		}
		return without
	}
	for _, day := range days {
		after, found := slices.BinarySearchFunc(s.kept, day, func(k keptManifest, day string) int { return strings.Compare(k.day, day) })
		switch {
		case found || day >= now.UTC().Format(dayForm):
		case after == len(s.kept):
			v.find(Missing, manifestKey(day), "there are records of this day, and no manifest of it or after it vouches for them")
		case after > 0 && s.linked(after):
			without = append(without, day)
		case after > 0:
			v.find(Missing, manifestKey(day), "there are records of this day, and no manifest of it")
		}
	}
	return without
}

// days are those on which there are records, in UTC, the oldest first.
func (v *verifier) days() []string {
	seen := map[string]bool{}
	for _, c := range v.chains {
		for _, r := range c.records {
			if r.intact {
				seen[r.doc.Time.UTC().Format(dayForm)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

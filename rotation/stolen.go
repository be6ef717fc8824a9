package rotation

import (
	"context"
	"maps"
	"slices"

	"github.com/keyturn/keyturn/fault"
)

// isStolen reports a version that nobody may bring back. The first label of an
// emergency says so as well as the last.
func (v Versions) isStolen(id string) bool { return v.Has(id, Stolen(id)) || v.replacement(id) != "" }

func (v Versions) anyStolen() bool {
	for id := range v {
		if v.isStolen(id) {
			return true
		}
	}
	return false
}

func refuseStolen(version string) error {
	return fault.New(fault.TooLate, "version %s was declared stolen: it isn't made current again", version).
		WithHint("rotate again if the new credential is the one that is bad")
}

// stolenLogin reports a version whose login or key was declared stolen, under
// whichever version: storing it again doesn't make it safe. What lets a login in
// or makes it current asks this, and the labels alone where no value may be read.
func (r *Rotator) stolenLogin(ctx context.Context, s scene, version string) (bool, error) {
	v := s.desc.Versions
	if version == "" || v.isStolen(version) || !v.anyStolen() {
		return v.isStolen(version), nil
	}
	for _, id := range slices.Sorted(maps.Keys(v)) {
		if !v.isStolen(id) {
			continue
		}
		same, err := twins(ctx, s, version, id)
		if fault.Is(err, fault.InvalidStage) || fault.Is(err, fault.InvalidInput) {
			continue // one of them holds no credential
		}
		if same || err != nil {
			return same, err
		}
	}
	return false, nil
}

// refuseStolenLogin is the guard of what would make a version current.
func (r *Rotator) refuseStolenLogin(ctx context.Context, s scene, version string) error {
	stolen, err := r.stolenLogin(ctx, s, version)
	if err == nil && stolen {
		return refuseStolen(version)
	}
	return err
}

// stolenSince is the fence of what lets a version in again: an emergency may have
// begun since stolenLogin looked, and a fence reads no values.
func (v Versions) stolenSince(before Versions, version string) error {
	if v.isStolen(version) {
		return refuseStolen(version)
	}
	for id := range v {
		if v.isStolen(id) && !before.isStolen(id) {
			return fault.New(fault.Unavailable, "version %s was declared stolen since this step began", id)
		}
	}
	return nil
}

// markAgain marks the versions of a tail whose login was stored again after it was
// declared stolen, so that it goes in haste or is replaced. Failing only costs that
// haste: the stolen one has to go all the same.
func (r *Rotator) markAgain(ctx context.Context, s scene, versions ...string) {
	for _, id := range versions {
		v := s.desc.Versions
		if v.isStolen(id) || v.unpresented(id) {
			continue
		}
		stolen, err := r.stolenLogin(ctx, s, id)
		if stolen {
			err = r.markStolen(ctx, s, id)
		}
		if err != nil {
			r.Log.WarnContext(ctx, "marking a stolen login that was stored again", "secret", s.desc.ARN, "version", id, "error", err)
		} else if stolen {
			v[id] = append(slices.Clone(v[id]), Stolen(id), Live(id))
		}
	}
}

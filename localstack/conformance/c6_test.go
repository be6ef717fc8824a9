package conformance_test

import (
	"maps"
	"testing"
)

func TestC6_1_MovingCurrentToItsHolderChangesNothing(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, "first")
	second := s.mustPut("second")
	for _, from := range []string{"", second} {
		if err := s.move(current, second, from); err != nil {
			t.Errorf("moving AWSCURRENT to its holder, from %q: %v", from, err)
		}
	}
	s.wantLabels(map[string]string{current: second, previous: s.first})
}

func TestC6_2_OneCallMovesCurrentAndPreviousFollows(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, "first")
	second := s.mustPut("second")
	third := s.mustPut("third", pending)
	before := map[string]string{current: second, previous: s.first, pending: third}
	wantCode(t, s.move(current, third, ""), "InvalidParameterException", "RemoveFromVersionId")
	wantCode(t, s.move(current, third, s.first), "InvalidParameterException", "")
	wantCode(t, s.move(current, "", second), "InvalidParameterException", "")
	s.wantLabels(before)
	if err := s.move(current, third, second); err != nil {
		t.Fatal(err)
	}
	s.wantLabels(map[string]string{current: third, previous: second, pending: third})
	// And back, as a rollback does.
	if err := s.move(current, second, third); err != nil {
		t.Fatal(err)
	}
	s.wantLabels(map[string]string{current: second, previous: third, pending: third})
}

func TestC6_4_BothEndStatesOfPendingOccurAndNeitherBlocks(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	before := s.first
	for range 2 {
		version := s.rotate()
		s.rotated(version)
		labels := s.labels()
		cleaned := map[string]string{current: version, previous: before}
		kept := map[string]string{current: version, previous: before, pending: version}
		if !maps.Equal(labels, cleaned) && !maps.Equal(labels, kept) {
			t.Errorf("labels %v", labels)
		}
		before = version
	}
}

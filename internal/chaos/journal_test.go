package chaos

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAJournalLeavesOutWhatWasWalked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "walked")
	at := func(call int) []Fault {
		return []Fault{{Point{"setSecret", 1, call, layerPostgres, "commit"}, CrashAfter}}
	}
	open := func() *journal {
		j, err := openJournal(path)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	first := open()
	for _, call := range []int{1, 2} {
		if err := first.add("machine, pair", at(call)); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text[:len(text)-3], 0o600); err != nil { // killed in the middle of the second
		t.Fatal(err)
	}
	second := open()
	if !second.has("machine, pair", at(1)) || second.has("machine, pair", at(2)) || second.has("machine, fresh", at(1)) {
		t.Errorf("it knows %v", second.walked)
	}
	if err := second.add("machine, pair", at(2)); err != nil {
		t.Fatal(err)
	}
	if err := second.close(); err != nil {
		t.Fatal(err)
	}
	third := open()
	defer func() { _ = third.close() }()
	if len(third.walked) != 2 || !third.has("machine, pair", at(2)) {
		t.Errorf("in the end it knows %v", third.walked)
	}
}

func TestAJournalThatCantBeReadIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := openJournal(t.TempDir()); err == nil {
		t.Error("a folder is a journal")
	}
}

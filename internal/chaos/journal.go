package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// journal is a file with a line for each walk that broke nothing. All walks take
// hours; with a journal a run goes on where the last one was ended, also when
// faults have come in between.
type journal struct {
	file   *os.File
	walked map[string]bool
}

// openJournal reads what earlier runs have written; without a path there is none.
func openJournal(path string) (*journal, error) {
	j := &journal{walked: map[string]bool{}}
	if path == "" {
		return j, nil
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	whole := text[:bytes.LastIndexByte(text, '\n')+1] // a run that was killed may leave half a line
	for line := range strings.Lines(string(whole)) {
		j.walked[strings.TrimSuffix(line, "\n")] = true
	}
	if j.file, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	if err = j.file.Truncate(int64(len(whole))); err == nil {
		_, err = j.file.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("taking half a line off the journal: %w", err), j.file.Close())
	}
	return j, nil
}

func walkText(sc string, faults []Fault) string { return sc + ": " + fmt.Sprint(faults) }

func (j *journal) has(sc string, faults []Fault) bool { return j.walked[walkText(sc, faults)] }

func (j *journal) add(sc string, faults []Fault) error {
	j.walked[walkText(sc, faults)] = true
	if j.file == nil {
		return nil
	}
	if _, err := fmt.Fprintln(j.file, walkText(sc, faults)); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}

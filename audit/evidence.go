package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// maxSighting bounds one line of evidence, in bytes.
const maxSighting = 16 << 10

// Sighting is what one party has shown about one version of a secret. It never
// holds a value.
type Sighting struct {
	Party  string    `json:"party"`  // the consumer's name in the policy
	Digest string    `json:"digest"` // what it was seen with: version id, login, key id
	By     string    `json:"by"`     // how it was seen
	Proof  int       `json:"proof"`  // rank of rotation.Proof: 1 written, 2 elapsed, 3 loaded, 4 behaved
	At     time.Time `json:"at"`     // UTC
	// Expires is when it stops counting; zero means never.
	Expires time.Time `json:"expires,omitzero"`
}

func (s Sighting) complete() bool { return s.Party != "" && s.Proof >= 1 && s.Proof <= 4 }

func incomplete(s Sighting, version string) error {
	return fmt.Errorf("evidence of party %q on version %q with proof %d is incomplete", s.Party, version, s.Proof)
}

// EvidenceDir keeps the parties' evidence, append-only, one JSON object a line:
//
//	<Dir>/evidence/<SecretKey(ARN)>/<version id>/<party>.json
//
// A party writes its own file only: a line that speaks for another is not
// counted. A version id or party name that can't be one path element, or starts
// with a dot, is escaped as in ledger keys: any byte but letters, digits,
// hyphens and underscores becomes %XX.
type EvidenceDir struct {
	Dir string
}

// Path returns the file of one party.
func (d EvidenceDir) Path(secret, version, party string) string {
	return filepath.Join(d.folder(secret, version), element(party)+".json")
}

func (d EvidenceDir) folder(secret, version string) string {
	return filepath.Join(d.Dir, "evidence", SecretKey(secret), element(version))
}

// element makes a name one path element, as it stands where that is possible.
func element(name string) string {
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\\\x00") {
		return segment(name)
	}
	return name
}

// Append adds one sighting to its party's file, in one write. A line that a
// crash left torn is closed first.
func (d EvidenceDir) Append(_ context.Context, secret, version string, s Sighting) error {
	if !s.complete() || version == "" {
		return incomplete(s, version)
	}
	s.At, s.Expires = s.At.UTC(), s.Expires.UTC()
	line, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("marshalling evidence: %w", err)
	}
	if err := os.MkdirAll(d.folder(secret, version), 0o750); err != nil {
		return fmt.Errorf("appending evidence: %w", err)
	}
	f, err := os.OpenFile(d.Path(secret, version, s.Party), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("appending evidence: %w", err)
	}
	line = append(line, '\n')
	if torn(f) {
		line = append([]byte{'\n'}, line...)
	}
	_, err = f.Write(line)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("appending evidence: %w", err)
	}
	return nil
}

// torn reports whether a file ends in the middle of a line.
func torn(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false
	}
	last := make([]byte, 1)
	_, err = f.ReadAt(last, info.Size()-1)
	return err == nil && last[0] != '\n'
}

// Seen returns what the parties have shown about one version: for each party,
// digest, manner and proof the latest sighting, sorted by party and time. Lines
// that don't parse, such as a torn last one, are passed over: less evidence only
// makes a drain wait longer. No folder is no evidence; one that can't be read is
// an error, and then nothing is known.
func (d EvidenceDir) Seen(ctx context.Context, secret, version string) ([]Sighting, error) {
	folder := d.folder(secret, version)
	files, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading evidence: %w", err)
	}
	latest := map[Sighting]Sighting{} // keyed without the time
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("reading evidence: %w", err)
		}
		party, ok := strings.CutSuffix(file.Name(), ".json")
		if !ok || !file.Type().IsRegular() {
			continue
		}
		if err := readSightings(filepath.Join(folder, file.Name()), party, latest); err != nil {
			return nil, fmt.Errorf("reading evidence: %w", err)
		}
	}
	return inOrder(latest), nil
}

// inOrder sorts by party and time.
func inOrder(latest map[Sighting]Sighting) []Sighting {
	return slices.SortedFunc(maps.Values(latest), func(a, b Sighting) int {
		return cmp.Or(strings.Compare(a.Party, b.Party), a.At.Compare(b.At))
	})
}

func readSightings(path, party string, latest map[Sighting]Sighting) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	in := bufio.NewReaderSize(f, maxSighting)
	for {
		line, err := in.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		if !long {
			keepSighting(line, party, element, latest)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// keepSighting keeps a sighting that is newer, if its party wrote it: spelled
// gives the party's name as it stands in the place where the line was.
func keepSighting(line []byte, party string, spelled func(string) string, latest map[Sighting]Sighting) {
	var s Sighting
	if json.Unmarshal(bytes.TrimSpace(line), &s) != nil || !s.complete() || spelled(s.Party) != party || s.At.IsZero() {
		return
	}
	key := s
	key.At = time.Time{}
	if s.At.After(latest[key].At) {
		latest[key] = s
	}
}

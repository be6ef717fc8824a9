package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Reconcile chains the records that Note couldn't. It reads JSON lines as the
// Journal printed them; other lines, and a torn one, are passed over. A record
// that reached its chain after all isn't chained again, so the same lines may be
// reconciled any number of times. Records keep their own time and actor and
// stand at the end of their rotation's chain. It returns how many it chained,
// and stops at the first that can't be.
func (j *Journal) Reconcile(ctx context.Context, lines io.Reader) (int, error) {
	known := map[string]map[string]bool{} // chain → contents that it holds
	chained := 0
	in := bufio.NewReader(lines)
	for {
		line, readErr := in.ReadBytes('\n')
		n, err := j.reconcileLine(ctx, line, known)
		chained += n
		if err != nil {
			return chained, err
		}
		if errors.Is(readErr, io.EOF) {
			return chained, nil
		}
		if readErr != nil {
			return chained, fmt.Errorf("reading audit lines: %w", readErr)
		}
	}
}

// readUnchained returns the record of a line that the ledger didn't take.
func readUnchained(line []byte) (Record, bool) {
	if !bytes.Contains(line, []byte(`"unchained"`)) {
		return Record{}, false
	}
	var u unchained
	err := json.Unmarshal(line, &u)
	return u.Record, err == nil && u.Unchained
}

func (j *Journal) reconcileLine(ctx context.Context, line []byte, known map[string]map[string]bool) (int, error) {
	noted, ok := readUnchained(line)
	if !ok {
		return 0, nil
	}
	r, err := j.complete(noted)
	if err != nil {
		return 0, nil //nolint:nilerr // what no chain could take was told when it was noted
	}
	own, err := content(r)
	if err != nil {
		return 0, fmt.Errorf("reconciling a record of rotation %s: %w", r.RotationID, err)
	}
	chain := chainPrefix(r.SecretID, r.RotationID)
	if known[chain] == nil {
		if known[chain], err = j.contents(ctx, chain); err != nil {
			return 0, unavailable(err, r)
		}
	}
	if known[chain][own] {
		return 0, nil
	}
	if err := j.Record(ctx, r); err != nil {
		return 0, err
	}
	known[chain][own] = true
	return 1, nil
}

// contents reads what the records of one chain say.
func (j *Journal) contents(ctx context.Context, chain string) (map[string]bool, error) {
	if j.Ledger == nil {
		return nil, errors.New("the journal has no ledger")
	}
	keys, err := j.Ledger.List(ctx, chain)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", chain, err)
	}
	held := map[string]bool{}
	for _, key := range keys {
		body, err := j.Ledger.Get(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", key, err)
		}
		var r Record
		if json.Unmarshal(body, &r) != nil {
			continue // damaged: Verify reports it
		}
		if own, err := content(r); err == nil {
			held[own] = true
		}
	}
	return held, nil
}

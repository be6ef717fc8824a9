package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

// Records reads every record of a secret, ordered by time and, within a
// rotation, by sequence. It doesn't verify: Verify does.
func Records(ctx context.Context, l Ledger, secret string) ([]Record, error) {
	keys, err := l.List(ctx, recordsPrefix(secret))
	if err != nil {
		return nil, fmt.Errorf("listing the records of %s: %w", secret, err)
	}
	records := make([]Record, 0, len(keys))
	for _, key := range keys {
		body, err := l.Get(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", key, err)
		}
		var r Record
		if err := json.Unmarshal(body, &r); err != nil {
			return nil, fmt.Errorf("reading %s: %w", key, err)
		}
		records = append(records, r)
	}
	slices.SortStableFunc(records, func(a, b Record) int {
		if a.RotationID == b.RotationID {
			return a.Seq - b.Seq
		}
		return a.Time.Compare(b.Time)
	})
	return records, nil
}

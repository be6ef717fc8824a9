package audit

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Evidence keeps what parties have shown: an EvidenceDir or an EvidenceLedger.
type Evidence interface {
	Append(ctx context.Context, secret, version string, s Sighting) error
	Seen(ctx context.Context, secret, version string) ([]Sighting, error)
}

var (
	_ Evidence = EvidenceDir{}
	_ Evidence = EvidenceLedger{}
)

// EvidenceLedger keeps the parties' evidence in a Ledger, one sighting a key:
//
//	evidence/<SecretKey(ARN)>/<version id>/<party>/<what>/<nanoseconds>-<random>.json
//
// A party may write below its own name only; what its sighting says is part of
// the key, so that a reader takes the latest of each and leaves the rest unread.
type EvidenceLedger struct{ Ledger Ledger }

// EvidencePrefix is where one party's evidence lies on every version of a secret
// when * stands for the version: what its role may write.
func EvidencePrefix(secret, party string) string {
	return "evidence/" + SecretKey(secret) + "/*/" + segment(party) + "/"
}

func evidenceFolder(secret, version string) string {
	return "evidence/" + SecretKey(secret) + "/" + segment(version) + "/"
}

// what is a sighting without its time.
func (s Sighting) what() (string, error) {
	s.At = time.Time{}
	body, err := json.Marshal(s)
	return digest(body)[:16], err
}

// Append keeps one sighting.
func (e EvidenceLedger) Append(ctx context.Context, secret, version string, s Sighting) error {
	if !s.complete() || version == "" {
		return incomplete(s, version)
	}
	s.At, s.Expires = s.At.UTC(), s.Expires.UTC()
	what, err := s.what()
	if err != nil {
		return fmt.Errorf("marshalling evidence: %w", err)
	}
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("marshalling evidence: %w", err)
	}
	key := fmt.Sprintf("%s%s/%s/%020d-%s.json", evidenceFolder(secret, version), segment(s.Party), what, s.At.UnixNano(), rand.Text()[:8])
	if err := e.Ledger.Put(ctx, key, body); err != nil {
		return fmt.Errorf("appending evidence: %w", err)
	}
	return nil
}

// Seen returns what EvidenceDir's does. What a party wrote under another's name,
// or can't be parsed, doesn't count.
func (e EvidenceLedger) Seen(ctx context.Context, secret, version string) ([]Sighting, error) {
	folder := evidenceFolder(secret, version)
	keys, err := e.Ledger.List(ctx, folder)
	if err != nil {
		return nil, fmt.Errorf("reading evidence: %w", err)
	}
	last := map[string]string{} // party and what → its latest key: they are sorted
	for _, key := range keys {
		if parts := strings.Split(strings.TrimPrefix(key, folder), "/"); len(parts) == 3 {
			last[parts[0]+"/"+parts[1]] = key
		}
	}
	latest := map[Sighting]Sighting{}
	for _, place := range slices.Sorted(maps.Keys(last)) {
		body, err := e.Ledger.Get(ctx, last[place])
		if errors.Is(err, ErrNotFound) {
			continue // it has expired
		}
		if err != nil {
			return nil, fmt.Errorf("reading evidence: %w", err)
		}
		party, _, _ := strings.Cut(place, "/")
		keepSighting(body, party, segment, latest)
	}
	return inOrder(latest), nil
}

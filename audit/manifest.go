package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// Manifest says where the chains of a deployment ended on one day: all that have
// grown since the manifest before. It is signed, so that somebody who can write the
// whole ledger still can't shorten or rebuild a chain unseen: each head has to be
// there later, with its hash.
type Manifest struct {
	Day     string           `json:"day"` // UTC, as 2006-01-02
	Time    time.Time        `json:"time"`
	Secrets []ManifestSecret `json:"secrets"`
	// Before is the hash of the manifest before this one; empty: it is the first.
	Before string `json:"before"`
	Hash   string `json:"hash"` // as of a record

	// KeyID names the key, Signature is its signature of the manifest's SHA-256
	// digest without these two members, in base64.
	KeyID     string `json:"key_id,omitempty"`
	Signature []byte `json:"signature,omitempty"`
}

// ManifestSecret is one secret's chains.
type ManifestSecret struct {
	SecretID string `json:"secret_id"`
	Heads    []Head `json:"heads"` // in the order in which the chains were announced
}

// Signer signs what nobody else can.
type Signer interface {
	// Sign returns the key's name and its signature of a SHA-256 digest.
	Sign(ctx context.Context, digest []byte) (keyID string, signature []byte, err error)
}

const manifests = "manifests/"

func manifestKey(day string) string { return manifests + day + ".json" }

// Publish puts the manifest of today, which lists these secrets, and returns it. A
// day has one manifest: what is there already is returned as it is. Trails that
// aren't whole are listed as they are and don't keep it from being published.
func Publish(ctx context.Context, l Ledger, s Signer, secrets []string, now time.Time) (Manifest, error) {
	m := Manifest{Day: now.UTC().Format(dayForm), Time: now.UTC(), Secrets: []ManifestSecret{}}
	known, err := Manifests(ctx, l)
	if err != nil {
		return m, err
	}
	var since time.Time
	if n := len(known); n > 0 {
		last := known[n-1]
		if last.Day >= m.Day {
			return last, nil
		}
		m.Before, since = last.Hash, last.Time.Add(-clocksApart)
	}
	for _, secret := range slices.Sorted(slices.Values(secrets)) {
		heads, err := grown(ctx, l, secret, since)
		if err != nil {
			return m, err
		}
		if len(heads) > 0 {
			m.Secrets = append(m.Secrets, ManifestSecret{SecretID: secret, Heads: heads})
		}
	}
	body, err := m.sign(ctx, s)
	if err != nil {
		return m, err
	}
	err = l.Put(ctx, manifestKey(m.Day), body)
	if errors.Is(err, ErrExists) {
		return Published(ctx, l, m.Day)
	}
	return m, fault.Wrap(fault.AuditUnavailable, err, "publishing the manifest of %s", m.Day)
}

// clocksApart is how far the clocks of those that record may differ.
const clocksApart = time.Hour

// grown lists the heads of the chains that have a record since then.
func grown(ctx context.Context, l Ledger, secret string, since time.Time) ([]Head, error) {
	s, err := Verify(ctx, l, secret)
	var findings *FindingsError
	if err != nil && !errors.As(err, &findings) {
		return nil, err
	}
	var heads []Head
	for _, c := range s.Chains {
		if !c.Last.Before(since) {
			heads = append(heads, c.Head)
		}
	}
	return heads, nil
}

// sign seals the manifest, and then signs what was sealed.
func (m *Manifest) sign(ctx context.Context, s Signer) ([]byte, error) {
	sealed, hash, err := seal(*m)
	if err != nil {
		return nil, err
	}
	m.Hash = hash
	digest := sha256.Sum256(sealed)
	if m.KeyID, m.Signature, err = s.Sign(ctx, digest[:]); err != nil {
		return nil, fault.Wrap(fault.AuditUnavailable, err, "signing the manifest of %s", m.Day)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("marshalling the manifest of %s: %w", m.Day, err)
	}
	return body, nil
}

// Digest is what was signed: the SHA-256 of the sealed manifest. One whose content
// isn't what its hash says is an error.
func (m Manifest) Digest() ([]byte, error) {
	m.KeyID, m.Signature = "", nil
	sealed, hash, err := seal(m)
	if err != nil {
		return nil, err
	}
	if hash != m.Hash {
		return nil, fault.New(fault.InvalidInput, "the manifest of %s isn't as it was sealed", m.Day).
			WithHint("somebody has changed it; take it from a copy that was kept elsewhere")
	}
	digest := sha256.Sum256(sealed)
	return digest[:], nil
}

// Published reads the manifest of a day.
func Published(ctx context.Context, l Ledger, day string) (Manifest, error) {
	body, err := l.Get(ctx, manifestKey(day))
	if err != nil {
		return Manifest{}, fault.Wrap(fault.AuditUnavailable, err, "reading the manifest of %s", day)
	}
	var m Manifest
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil || m.Day != day {
		return Manifest{}, fault.New(fault.InvalidInput, "%s is no manifest of %s", manifestKey(day), day).
			WithHint("somebody has written over it; take it from a copy that was kept elsewhere")
	}
	return m, nil
}

// Manifests reads the latest manifest, and the one before it.
func Manifests(ctx context.Context, l Ledger) ([]Manifest, error) {
	keys, err := l.List(ctx, manifests)
	if err != nil {
		return nil, fault.Wrap(fault.AuditUnavailable, err, "listing the manifests")
	}
	var all []Manifest
	for _, key := range keys[max(0, len(keys)-2):] {
		m, err := Published(ctx, l, strings.TrimSuffix(strings.TrimPrefix(key, manifests), ".json"))
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// Of returns where those of a secret's chains ended that the manifest lists, for
// Verify.
func (m Manifest) Of(secret string) []Head {
	for _, s := range m.Secrets {
		if s.SecretID == secret {
			return s.Heads
		}
	}
	return nil
}

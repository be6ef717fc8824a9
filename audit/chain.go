package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// window is how many of the latest chains a new chain's index entry pins. It is
// more than one because a rotation may still be recording when the next starts.
const window = 8

// Head is where a chain ends, or ended when somebody looked.
type Head struct {
	RotationID string `json:"rotation_id"`
	Seq        int    `json:"seq"`  // of the last record; 0: none yet
	Hash       string `json:"hash"` // of the last record; empty: none yet
}

// entry is one line of a secret's index of chains. It is put before the chain's
// first record. Entries are numbered without gaps from 1, and the put of one
// number is the race that two processes run when both start a chain: the loser
// reads the winner's entry and queues behind it, so that the chains of one
// secret have one order that all readers see.
type entry struct {
	SecretID   string `json:"secret_id"`
	N          int    `json:"n"`
	RotationID string `json:"rotation_id"`
	// PrevHash is what the chain's first record carries: the last hash of the
	// rotation before, or what that one carried if it never recorded anything.
	PrevHash string `json:"prev_hash"`
	// PrevEntry is the hash of entry N-1.
	PrevEntry string `json:"prev_entry"`
	// Tips pin the ends of the latest chains, as they were seen at this start.
	Tips []Head `json:"tips"`
	Hash string `json:"hash"`
}

// SecretKey is the name of a secret in keys: the first 16 hex digits of the
// SHA-256 of its ARN.
func SecretKey(arn string) string { return digest([]byte(arn))[:16] }

func recordsPrefix(secret string) string { return "records/" + SecretKey(secret) + "/" }
func indexPrefix(secret string) string   { return "heads/" + SecretKey(secret) + "/" }

func chainPrefix(secret, rotation string) string {
	return recordsPrefix(secret) + segment(rotation) + "/"
}

func recordKey(secret, rotation string, seq int) string {
	return fmt.Sprintf("%s%08d.json", chainPrefix(secret, rotation), seq)
}

func indexKey(secret string, n int) string {
	return fmt.Sprintf("%s%08d.json", indexPrefix(secret), n)
}

// number reads the number off a key's last part; 0 means that it has none.
func number(key string) int {
	digits, ours := strings.CutSuffix(key[strings.LastIndexByte(key, '/')+1:], ".json")
	if !ours || len(digits) != 8 || strings.Trim(digits, "0123456789") != "" {
		return 0
	}
	n, _ := strconv.Atoi(digits)
	return n
}

// segment makes any text one part of a key. Letters, digits, hyphens and
// underscores stay; any other byte becomes %XX, so that no two texts share one.
func segment(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
		if plain {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// place is the end of a chain and the record that stands there, if any.
type place struct {
	Head
	body []byte
}

// tip finds the end of one chain by listing it.
func tip(ctx context.Context, l Ledger, secret, rotation string) (place, error) {
	keys, err := l.List(ctx, chainPrefix(secret, rotation))
	if err != nil {
		return place{}, fmt.Errorf("listing the chain of rotation %s: %w", rotation, err)
	}
	end := place{Head: Head{RotationID: rotation}}
	for _, key := range slices.Backward(keys) {
		if number(key) == 0 {
			continue // nothing that we wrote
		}
		if end.body, err = l.Get(ctx, key); err != nil {
			return place{}, fmt.Errorf("reading the end of the chain of rotation %s: %w", rotation, err)
		}
		end.Seq = number(key)
		end.Hash, _ = examine(end.body)
		break
	}
	return end, nil
}

// announce finds or puts the index entry of a rotation's chain and returns what
// its first record has to carry as prev_hash.
func announce(ctx context.Context, l Ledger, secret, rotation string) (string, error) {
	for {
		e, found, err := nextEntry(ctx, l, secret, rotation)
		if err != nil {
			return "", err
		}
		if found {
			return e.PrevHash, nil
		}
		body, _, err := seal(e)
		if err != nil {
			return "", err
		}
		err = l.Put(ctx, indexKey(secret, e.N), body)
		if err == nil {
			return e.PrevHash, nil
		}
		if !errors.Is(err, ErrExists) {
			return "", fmt.Errorf("announcing the chain of rotation %s: %w", rotation, err)
		}
		// Somebody else started a chain, perhaps this one: look again.
	}
}

// nextEntry reads the latest part of a secret's index. It returns the rotation's
// own entry if that is there, or else the entry that would announce it.
func nextEntry(ctx context.Context, l Ledger, secret, rotation string) (e entry, found bool, err error) {
	keys, err := l.List(ctx, indexPrefix(secret))
	if err != nil {
		return entry{}, false, fmt.Errorf("listing the index of chains: %w", err)
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return number(key) == 0 })
	e = entry{SecretID: secret, N: 1, RotationID: rotation, Tips: []Head{}}
	if len(keys) > 0 {
		e.N = number(keys[len(keys)-1]) + 1
	}
	carried := false
	for _, key := range slices.Backward(keys[max(0, len(keys)-window):]) {
		body, err := l.Get(ctx, key)
		if err != nil {
			return entry{}, false, fmt.Errorf("reading the index of chains: %w", err)
		}
		hash, intact := examine(body)
		if e.PrevEntry == "" {
			e.PrevEntry = hash
		}
		var p entry
		if !intact || json.Unmarshal(body, &p) != nil {
			continue // damaged: Verify reports it, and the next rotation isn't held up by it
		}
		if p.RotationID == rotation {
			return p, true, nil
		}
		if err := e.pin(ctx, l, p, &carried); err != nil {
			return entry{}, false, err
		}
	}
	return e, false, nil
}

// pin notes where the chain of an earlier entry ends, and carries its last hash
// if no later chain had one.
func (e *entry) pin(ctx context.Context, l Ledger, p entry, carried *bool) error {
	known := slices.ContainsFunc(e.Tips, func(h Head) bool { return h.RotationID == p.RotationID })
	if known {
		return nil
	}
	end, err := tip(ctx, l, e.SecretID, p.RotationID)
	if err != nil {
		return err
	}
	e.Tips = append(e.Tips, end.Head)
	if !*carried {
		*carried = true
		e.PrevHash = end.Hash
		if end.Seq == 0 {
			e.PrevHash = p.PrevHash
		}
	}
	return nil
}

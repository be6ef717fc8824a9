package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// seal marshals a record or an index entry, and gives it its hash: SHA-256 over
// the canonical JSON of the document without its member "hash", in lower-case
// hex. The returned body is the canonical JSON with it.
func seal(document any) (body []byte, hash string, err error) {
	if r, ok := document.(Record); ok {
		return sealRecord(r)
	}
	raw, err := json.Marshal(document)
	if err != nil {
		return nil, "", fmt.Errorf("marshalling the record: %w", err)
	}
	tree, err := decodeTree(raw)
	if err != nil {
		return nil, "", err
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, "", fmt.Errorf("a record is an object, not %T", tree)
	}
	return sealTree(object)
}

// sealTree encodes each member once: the hashed text and the body differ only
// by the member "hash".
func sealTree(object map[string]any) (body []byte, hash string, err error) {
	delete(object, "hash")
	var before, after []byte // members by the place of their name
	for _, name := range slices.SortedFunc(maps.Keys(object), compareUTF16) {
		part := &before
		if compareUTF16(name, "hash") > 0 {
			part = &after
		}
		if *part, err = appendMember(*part, name, object[name]); err != nil {
			return nil, "", err
		}
	}
	body, hash = join(before, after)
	return body, hash, nil
}

// join hashes an object of members and puts the member "hash" between them.
func join(before, after []byte) (body []byte, hash string) {
	hash = digest(joinObject(before, after))
	return joinObject(before, appendString([]byte(`"hash":`), hash), after), hash
}

// joinObject makes an object of lists of members, any of which may be empty.
func joinObject(members ...[]byte) []byte {
	members = slices.DeleteFunc(members, func(m []byte) bool { return len(m) == 0 })
	return slices.Concat([]byte{'{'}, bytes.Join(members, []byte{','}), []byte{'}'})
}

// examine reads a stored body. It is intact when it is byte for byte what
// sealing its own content gives. The hash of one that isn't is that of its bytes, so
// that later records can be linked to it all the same and the damage stays one
// finding.
func examine(body []byte) (hash string, intact bool) {
	var r Record
	if json.Unmarshal(body, &r) == nil {
		if again, hash, err := sealRecord(r); err == nil && bytes.Equal(again, body) {
			return hash, true
		}
	}
	tree, err := decodeTree(body)
	if err != nil {
		return digest(body), false
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return digest(body), false
	}
	for name := range object {
		// None of ours has capitals, and the decoder would take it for one of ours.
		if name != strings.ToLower(name) {
			return digest(body), false
		}
	}
	again, hash, err := sealTree(object)
	if err != nil || !bytes.Equal(again, body) {
		return digest(body), false
	}
	return hash, true
}

// content identifies what a record says, whatever its place in a chain.
func content(r Record) (string, error) {
	r.Seq, r.PrevHash, r.Hash = 0, "", ""
	r.Time = r.Time.UTC()
	_, hash, err := seal(r)
	return hash, err
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

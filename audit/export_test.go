package audit

import "encoding/json"

// SealAgain gives a document the hash of what it says, as somebody could who may
// write to the ledger; nil if it is no object.
func SealAgain(document []byte) []byte {
	tree, err := decodeTree(document)
	if err != nil {
		return nil
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return nil
	}
	body, _, err := sealTree(object)
	if err != nil {
		return nil
	}
	return body
}

// Unchained reads a line as Reconcile does.
func Unchained(line []byte) (json.RawMessage, bool) {
	r, ok := readUnchained(line)
	if !ok {
		return nil, false
	}
	body, _, err := seal(r)
	return body, err == nil
}

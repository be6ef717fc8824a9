// Package policy answers: which secrets are managed here, and what has been
// decided about each?
//
// A [Document] is the compiled form of keyturn.yaml (package policy/compile):
// JSON with every default filled in, which lies in each function's package. Its
// hash stands in every audit record. A secret that it doesn't list isn't
// touched.
package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/strictjson"
	"github.com/keyturn/keyturn/rotation"
)

// Version is the version of the document's form.
const Version = 1

// file is the document as it is written.
type file struct {
	Version       int      `json:"version"`
	FunctionLimit Duration `json:"function_limit"`
	Secrets       []Entry  `json:"secrets"`
}

// Document is a valid policy document. The zero value lists no secret. It never
// changes and is safe for concurrent use.
type Document struct {
	limit   Duration
	entries []Entry
	body    []byte
	hash    string
}

var _ rotation.Policies = Document{}

// New makes a document of entries that are complete. Entries that break a rule
// are fault.InvalidInput, with every Problem joined.
func New(functionLimit Duration, entries []Entry) (Document, error) {
	var errs []error
	for _, p := range Check(functionLimit, entries) {
		errs = append(errs, p)
	}
	if len(errs) > 0 {
		return Document{}, fault.Wrap(fault.InvalidInput, errors.Join(errs...), "checking the policy")
	}
	raw, err := json.Marshal(file{Version: Version, FunctionLimit: functionLimit, Secrets: entries})
	if err != nil {
		return Document{}, fault.Wrap(fault.InvalidInput, err, "marshalling the policy")
	}
	body, err := audit.Canonical(raw)
	if err != nil {
		return Document{}, fault.Wrap(fault.InvalidInput, err, "marshalling the policy")
	}
	sum := sha256.Sum256(body)
	return Document{limit: functionLimit, entries: slices.Clone(entries), body: body, hash: hex.EncodeToString(sum[:])}, nil
}

// Load reads and parses a compiled document.
func Load(path string) (Document, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Document{}, unreadable("reading the policy document", err)
	}
	d, err := Parse(raw)
	if err != nil && fault.HintOf(err) == "" {
		return Document{}, unreadable("reading "+path, err)
	}
	return d, fault.Wrap(fault.InvalidInput, err, "reading %s", path)
}

// unreadable is for a path that names nothing, or names keyturn.yaml itself.
func unreadable(doing string, err error) error {
	return &fault.Error{
		Name: fault.InvalidInput, Doing: doing, Err: err,
		Hint: "keyturn policy compile makes it of keyturn.yaml; commands take it by --policy, a function has it in its package",
	}
}

// Parse reads a compiled document strictly: members that it doesn't know, that
// are missing or occur twice, and values that break a rule are
// fault.InvalidInput.
func Parse(raw []byte) (Document, error) {
	var f file
	if err := strictjson.Decode(raw, &f); err != nil {
		return Document{}, fault.Wrap(fault.InvalidInput, err, "parsing the policy document")
	}
	if f.Version != Version {
		return Document{}, fault.New(fault.InvalidInput, "the policy document has version %d", f.Version).
			WithHint("these functions read version %d: compile keyturn.yaml with the keyturn of this release", Version)
	}
	return New(f.FunctionLimit, f.Secrets)
}

// JSON returns the document's canonical bytes (RFC 8785), which Parse reads.
func (d Document) JSON() []byte { return bytes.Clone(d.body) }

// Hash is the SHA-256 of the canonical bytes, in hex.
func (d Document) Hash() string { return d.hash }

// Entries returns what the document lists, in its order.
func (d Document) Entries() []Entry { return slices.Clone(d.entries) }

// Secrets implements rotation.Policies. It returns the secrets as they are
// listed: ARNs, or the names of secrets that had none yet.
func (d Document) Secrets() []string {
	secrets := make([]string, 0, len(d.entries))
	for _, e := range d.entries {
		secrets = append(secrets, e.Secret)
	}
	return secrets
}

// Policy implements rotation.Policies. The secret is named by its full ARN: a
// name alone would be another identity for the same secret. An entry that lists
// a name matches the ARN that Secrets Manager makes of it.
func (d Document) Policy(arn string) (rotation.Policy, error) {
	e, err := d.entry(arn)
	if err != nil {
		return rotation.Policy{}, err
	}
	return e.policy(arn, d.limit, d.hash), nil
}

// Zone is the network from which a secret's targets are reached; its ARN names
// the secret as in Policy.
func (d Document) Zone(arn string) (string, error) {
	e, err := d.entry(arn)
	return e.Zone, err
}

func (d Document) entry(arn string) (Entry, error) {
	for _, e := range d.entries {
		if IsARN(e.Secret) && e.Secret == arn {
			return e, nil
		}
	}
	name, isARN := nameOf(arn)
	for _, e := range d.entries {
		if isARN && e.Secret == name {
			return e, nil
		}
	}
	f := fault.New(fault.NotManaged, "the policy doesn't list secret %s", arn)
	if !IsARN(arn) {
		return Entry{}, f.WithHint("name the secret by its full ARN")
	}
	return Entry{}, f.WithHint("add it under secrets in keyturn.yaml and deploy, or switch its rotation off")
}

// Problem is one rule that a document breaks.
type Problem struct {
	Path string // the field, as in secrets[0].drain.window
	What string // what is wrong with it
	Mend string // what to do about it
}

func (p Problem) Error() string { return fmt.Sprintf("%s: %s; %s", p.Path, p.What, p.Mend) }

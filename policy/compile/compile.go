// Package compile answers: is this keyturn.yaml right, and what does it say in
// full?
//
// It turns the file that people write into the policy.Document that functions
// load. Everything that is wrong is told at once, each with line, column, the
// field's path and what to do. The form of the file:
//
//	version: 1                  # of this form; required
//	function_limit: 60s         # the functions' longest time-out; default 60s
//	deploy:                     # for the CDK app; the functions don't see it
//	  name: keyturn             # begins the names of what is made
//	  zones:                    # networks from which targets are reached
//	    core:
//	      vpc: vpc-0123456789abcdef0
//	      subnets: [subnet-0123456789abcdef0, subnet-0123456789abcdef1]
//	      security_groups: [sg-0123456789abcdef0]  # of the functions; default: one is made
//	  audit:
//	    retention: 400d         # Object Lock; no record can be deleted before
//	    lock: governance        # or compliance: not even by root
//	  alarms: {topic: arn:aws:sns:…}  # default: one is made
//	  trail: arn:aws:cloudtrail:…     # default: it is looked for
//	  permissions_boundary: arn:aws:iam::…:policy/…
//	  break_glass: [arn:aws:iam::…:role/…]  # who may write managed secrets beside Keyturn
//	  kms_keys: [arn:aws:kms:…:key/…]       # of secrets that are only read
//	defaults:                   # for all secrets below; each key optional
//	  window: 15m
//	  poll: 60s
//	  quiet_polls: 3
//	  max_overlap: 24h
//	  on_drain_timeout: hold
//	  hold: 1h
//	  head_limit: 30m
//	  stuck: {head: 1h}
//	  failed_logins_per_hour: 3
//	  follow_key: arn:aws:secretsmanager:…:secret:keyturn/follow-key-MnOpQr
//	secrets:
//	  - secret: arn:aws:secretsmanager:…:secret:orders/db-AbCdEf   # or the name alone
//	    kind: postgres          # which engine; required
//	    driver: secretsmanager  # or machine; default: the kind's
//	    drain:
//	      window: 15m           # least time from promotion to disable
//	      poll: 60s             # between two looks
//	      quiet_polls: 3        # looks in a row that see nobody
//	      max_overlap: 24h      # then on_timeout decides
//	      on_timeout: hold      # or terminate
//	    hold: 1h                # disabled, before it is destroyed
//	    head_limit: 30m         # create…finish; then it is rolled back
//	    stuck:                  # from when on it is reported; default: what follows from the rest
//	      head: 1h              # until the new one is current
//	      drain: 2h             # from then until the old one is refused
//	      revoke: 72h           # from then until it is destroyed
//	    emergency: 30s          # to follow when the old credential is stolen
//	    failed_logins_per_hour: 3  # of one login; then it waits, so that no account is locked
//	    schedule: rate(30 days) # Secrets Manager's; default: none. H in cron: a number of its own for each secret
//	    schedule_window: 4h     # from the schedule's start; default: Secrets Manager's own
//	    zone: core              # one of deploy.zones, if there are any
//	    kms_key: arn:…          # under which it lies; default: AWS's own for Secrets Manager
//	    create: true            # the deployment makes it, empty; default: it is there
//	    consumers:
//	      - name: orders-api    # as it shows itself to the target
//	        cadence: 24h        # longest time between two uses; default: always connected
//	        cache: 5m           # how long it may go on using what it read
//	        follow: [https://orders-1.internal/keyturn]  # its instances, if they are to be told
//	        follow_key: arn:…   # the secret whose value signs what they are sent; default: unsigned
//	        wave: 1             # how many at a time; default 1
//	    postgres:               # the kind's own settings, in a block of its name
//	      hosts: [db.internal:5432]
//	      admin: arn:aws:secretsmanager:…:secret:orders/admin-GhIjKl
//
// A value that a secret leaves out is taken from defaults, then from its kind,
// then from this package. Durations are whole numbers with units: 90s, 15m, 1h,
// 7d. Anchors, aliases, tags and several documents in one file are refused: what
// decides about credentials is written where it counts.
package compile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/policy/account"
	"github.com/keyturn/keyturn/rotation"
)

// Kind is what a kind of credential brings along.
type Kind struct {
	// Defaults are the kind's own; its zero fields fall back to this package's.
	Defaults rotation.Policy
	// Validate checks the kind's block, {} if there is none. Joined errors are
	// told one by one; one that quotes a key of the block is placed there. Nil
	// means that the kind has no settings.
	Validate func(settings json.RawMessage) error
	// Needs tells what an engine with these settings, which are valid, reads.
	// Nil: nothing.
	Needs func(settings json.RawMessage) Needs
}

// Needs is what an engine reads beside the secret that it rotates.
type Needs struct {
	Secrets []string // ARNs
	Files   []string // paths, as the settings name them
	// LogGroups are the names of CloudWatch log groups, of which a subscription is read.
	LogGroups []string
}

// base is what holds where neither the file nor the kind says anything.
var base = rotation.Policy{
	Driver: rotation.DriverSecretsManager, Window: 15 * time.Minute, Poll: time.Minute, QuietPolls: 3,
	MaxOverlap: 24 * time.Hour, OnTimeout: rotation.Hold, Hold: time.Hour, HeadLimit: 30 * time.Minute,
	Emergency: 30 * time.Second, FailedLogins: 3, FunctionLimit: time.Minute,
}

// maxSource bounds a file, in bytes: what is to be read by people is shorter, and
// the parser's time grows with the square of the nesting.
const maxSource = 1 << 20

// File compiles a keyturn.yaml into what functions load. Its errors are
// fault.InvalidInput around joined *Error values.
func File(path string, kinds map[string]Kind) (policy.Document, error) {
	a, err := Account(path, kinds)
	return a.Policy, err
}

// Source compiles the text of a keyturn.yaml; name stands for it in errors.
func Source(name string, text []byte, kinds map[string]Kind) (policy.Document, error) {
	a, err := source(name, text, kinds)
	return a.Policy, err
}

// Account compiles a keyturn.yaml into what is deployed. Its errors are File's.
func Account(path string, kinds map[string]Kind) (account.Account, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return account.Account{}, fault.Wrap(fault.InvalidInput, err, "reading the policy")
	}
	return source(path, text, kinds)
}

func source(name string, text []byte, kinds map[string]Kind) (account.Account, error) {
	r := &reader{file: name, places: map[string]place{}, faulty: map[string]bool{}}
	if len(text) > maxSource {
		r.fail("", fmt.Sprintf("longer than %d bytes", maxSource), "deploy secrets in groups, each with a policy of its own")
		return account.Account{}, fault.Wrap(fault.InvalidInput, r.join(), "compiling the policy")
	}
	doc := r.document(text, kinds)
	if err := r.join(); err != nil {
		return account.Account{}, fault.Wrap(fault.InvalidInput, err, "compiling the policy")
	}
	a := account.Account{Deploy: doc.deploy, Secrets: doc.secrets}
	for i := range a.Secrets {
		if needs := kinds[a.Secrets[i].Kind].Needs; needs != nil {
			n := needs(a.Secrets[i].Settings)
			a.Secrets[i].Reads, a.Secrets[i].Files, a.Secrets[i].LogGroups = n.Secrets, n.Files, n.LogGroups
		}
	}
	var err error
	a.Policy, err = policy.New(doc.limit, doc.entries())
	return a, err
}

// document is what was read, whole or not.
type document struct {
	limit   policy.Duration
	deploy  account.Deploy
	secrets []account.Secret
}

func (d document) entries() []policy.Entry {
	entries := make([]policy.Entry, 0, len(d.secrets))
	for _, s := range d.secrets {
		entries = append(entries, s.Entry)
	}
	return entries
}

func (r *reader) document(text []byte, kinds map[string]Kind) document {
	doc := document{limit: policy.Duration(base.FunctionLimit), deploy: account.Defaults()}
	root := r.parse(text)
	if root == nil {
		return doc
	}
	top := r.mapping(field{root, ""}, "version", "function_limit", "deploy", "defaults", "secrets")
	version := 0
	if f, ok := top["version"]; !ok {
		r.fail("version", "missing", "write version: 1 at the top")
	} else if r.integer(f, &version); version != policy.Version && !r.faulty["version"] {
		r.fail("version", "this release reads version 1 only", "write version: 1")
	}
	r.duration(top["function_limit"], &doc.limit)
	defaults := r.defaults(top["defaults"])
	r.deploy(top["deploy"], &doc.deploy)
	for _, f := range r.list(top["secrets"]) {
		s := r.secret(f, defaults, kinds)
		s.FillStuck(doc.limit)
		doc.secrets = append(doc.secrets, s)
	}
	entries := doc.entries()
	for _, p := range slices.Concat(policy.Check(doc.limit, entries), account.Check(doc.deploy, doc.secrets)) {
		r.problem(p, entries)
	}
	return doc
}

// parse returns the one document's node, or nil with an error noted.
func (r *reader) parse(text []byte) ast.Node {
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		e := &Error{File: r.file, Line: 1, Column: 1, Problem: "no valid YAML: " + err.Error(), Mend: "mend the syntax first"}
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) && syntax.Token != nil {
			e.Line, e.Column = syntax.Token.Position.Line, syntax.Token.Position.Column
			e.Problem = "no valid YAML: " + syntax.Message
		}
		r.errs = append(r.errs, e)
		return nil
	}
	var bodies []ast.Node
	for _, d := range tree.Docs {
		if d.Body != nil {
			bodies = append(bodies, d.Body)
		}
	}
	switch len(bodies) {
	case 0:
		r.fail("", "the file is empty", "write version: 1 and the secrets")
		return nil
	case 1:
		return bodies[0]
	}
	r.places[""] = placeOf(bodies[1])
	r.fail("", "a second document begins here", "keep one document in the file")
	return nil
}

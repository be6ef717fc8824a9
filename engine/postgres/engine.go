// Package postgres answers: how does a PostgreSQL login give way to another
// one without an outage, and how is it known that nobody uses it any more?
//
// The login that an application has used so far is the identity: it keeps its
// objects, policies and grants for ever. A new login is a member of it whose
// every session begins with SET role = identity, so that nothing but the name
// and the password differ. The identity itself later only loses its LOGIN.
//
// Nothing here needs a superuser. An admin login with CREATEROLE,
// pg_read_all_stats and pg_signal_backend is enough; from PostgreSQL 16 on it
// also needs ADMIN on the identity.
package postgres

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// Kind is the engine's name in a policy.
const Kind = "postgres"

// Presenters makes the instances of a party take the new version.
type Presenters interface {
	Follow(ctx context.Context, c rotation.Change, party rotation.Party) (rotation.Result, error)
}

// Evidence collects what parties report of themselves about one version.
type Evidence interface {
	Seen(ctx context.Context, secret, version string) ([]rotation.Evidence, error)
}

// Config is what an Engine needs. Values is required.
type Config struct {
	Values rotation.Values
	// Now dates evidence and drains; nil means time.Now. Whatever is compared
	// with the database's own times is read from the database's clock.
	Now func() time.Time
	// Presenters carries out Adopt; nil means that consumers follow by themselves.
	Presenters Presenters
	// Evidence adds reports of parties to what the database shows; it may be nil.
	Evidence Evidence
	// LoginLogs finds the login log of a node (host:port), or nil if it has none.
	// A nil function means: the files that the settings name.
	LoginLogs func(node string) LoginLog
	// Refusals bounds the failed logins of all rotations; nil bounds those of a
	// step only.
	Refusals Refusals
	// Logger takes progress, never values; nil means no log.
	Logger *slog.Logger
}

// Engine rotates PostgreSQL logins. It keeps no state and is safe for
// concurrent use.
type Engine struct {
	values     rotation.Values
	now        func() time.Time
	presenters Presenters
	evidence   Evidence
	loginLogs  func(node string) LoginLog
	refusals   Refusals
	log        *slog.Logger
	random     io.Reader
}

var _ rotation.Engine = (*Engine)(nil)

// New returns an engine.
func New(c Config) *Engine {
	e := &Engine{
		values: c.Values, now: c.Now, presenters: c.Presenters, evidence: c.Evidence,
		loginLogs: c.LoginLogs, refusals: c.Refusals, log: c.Logger, random: rand.Reader,
	}
	if e.now == nil {
		e.now = time.Now
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	return e
}

// Defaults implements rotation.Engine: half an hour of overlap at least, and a
// person is asked after two days.
func (e *Engine) Defaults() rotation.Policy {
	return rotation.Policy{
		Kind: Kind, Driver: rotation.DriverSecretsManager,
		Window: 30 * time.Minute, Poll: time.Minute, QuietPolls: 3,
		MaxOverlap: 48 * time.Hour, OnTimeout: rotation.Hold, Hold: 24 * time.Hour,
		HeadLimit: 15 * time.Minute, FunctionLimit: time.Minute,
	}
}

// Identity implements rotation.Engine: "host:port/login", the host in lower case.
func (e *Engine) Identity(ctx context.Context, secret, version string) (string, error) {
	v, err := e.values.Value(ctx, secret, version)
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "reading version %s", version)
	}
	doc, err := parseDocument(v)
	if err != nil {
		return "", fault.Wrap(fault.InvalidInput, err, "reading version %s of %s", version, secret)
	}
	return doc.address() + "/" + doc.username, nil
}

// LoginOf is the login's name in what Identity returns.
func LoginOf(identity string) string {
	_, login, _ := strings.Cut(identity, "/")
	return login
}

// behaved is evidence from a fresh connection.
func (e *Engine) behaved(party, login, by string) rotation.Evidence {
	return rotation.Evidence{Party: party, Digest: login, By: by, Proof: rotation.Behaved, At: e.now().UTC()}
}

func done(evidence ...rotation.Evidence) rotation.Result {
	return rotation.Result{Outcome: rotation.Done, Evidence: evidence}
}

package rotation

import (
	"cmp"
	"encoding/json"
	"time"
)

// Driver says who grants AWSPENDING; one secret has one.
type Driver string

const (
	// DriverSecretsManager: only RotateSecret grants AWSPENDING.
	DriverSecretsManager Driver = "secretsmanager"
	// DriverMachine: the state machine makes versions itself; no rotation is
	// configured on the secret.
	DriverMachine Driver = "machine"
)

// OnDrainTimeout says what happens to somebody who still presents the old
// credential when the longest overlap has passed.
type OnDrainTimeout string

const (
	// Hold keeps both alive and pages a person.
	Hold OnDrainTimeout = "hold"
	// Terminate ends the remaining sessions and goes on.
	Terminate OnDrainTimeout = "terminate"
)

// Party is somebody outside who takes part: a consumer of the credential.
type Party struct {
	// Name is how the party shows itself to the target (PostgreSQL:
	// application_name) and in evidence.
	Name string
	// Cadence is the longest time between two of its uses; zero means that it
	// is always connected.
	Cadence time.Duration
	// CacheAge is how long it may go on using what it read.
	CacheAge time.Duration
	// Follow are the URLs that make its instances take the new version, in
	// waves; empty means that it follows by itself.
	Follow []string
	// FollowKey is the ARN of the secret whose current value signs what those
	// URLs are sent; empty means that it isn't signed.
	FollowKey string
	// Wave is how many instances follow at a time.
	Wave int
}

// Policy is what the operator has decided about one secret. It is compiled at
// deploy time; a secret's own JSON or tags can only narrow it.
type Policy struct {
	Secret string // ARN
	Kind   string // engine
	Driver Driver
	// Window is the least time between promotion and disable.
	Window time.Duration
	// Poll is the time between two looks at the drain.
	Poll time.Duration
	// QuietPolls is how many looks in a row must see nobody.
	QuietPolls int
	// MaxOverlap is when OnTimeout decides.
	MaxOverlap time.Duration
	OnTimeout  OnDrainTimeout
	// Hold is how long the old credential stays disabled before it is destroyed.
	Hold time.Duration
	// HeadLimit is how long create…finish may take before it is rolled back.
	HeadLimit time.Duration
	// FailedLogins is how often a target may refuse one login within an hour
	// before no step tries it again: failed logins lock accounts. 0: no bound.
	FailedLogins int
	// Emergency is how long consumers get to follow when the old credential is
	// stolen; then it is disabled, whoever still uses it.
	Emergency time.Duration
	// FunctionLimit is the longest that any of our functions may run: after it,
	// no step of a stopped run is still acting.
	FunctionLimit time.Duration
	// Stuck says when a phase has taken too long; see Limits.
	Stuck   Stuck
	Parties []Party
	// Settings belong to the engine, which decodes and validates them.
	Settings json.RawMessage
	// Hash identifies the document that this policy was read from.
	Hash string
}

// Stuck is how long each phase of a rotation may take before a person is told.
// Zero: what follows from the rest of the policy.
type Stuck struct {
	Head   time.Duration // from create until the new credential is current
	Drain  time.Duration // from then until the old one is refused
	Revoke time.Duration // from then on too, until the old one is destroyed
}

// slack is what steps themselves may take, retries included: a database's are
// done within it.
const slack = 30 * time.Minute

// Limits fills in what the policy leaves open: a head may take twice its limit,
// because a rotation is asked for again once, and what a database's needs; a
// drain what its evidence needs; the rest the longest overlap and the hold.
func (p Policy) Limits() Stuck {
	evidence := p.DrainFloor() + p.SlowestCadence()
	limits := Stuck{
		Head:  cmp.Or(p.Stuck.Head, max(2*p.HeadLimit, slack)),
		Drain: cmp.Or(p.Stuck.Drain, evidence+slack),
	}
	limits.Revoke = cmp.Or(p.Stuck.Revoke, max(max(p.MaxOverlap, evidence)+p.Hold+slack, limits.Drain))
	return limits
}

// SlowestCadence is the longest time that a registered party may stay away.
func (p Policy) SlowestCadence() time.Duration {
	var d time.Duration
	for _, party := range p.Parties {
		d = max(d, party.Cadence)
	}
	return d
}

// DrainFloor is the least time between promotion and disable: the window, every
// party's cache age and cadence, and the time that a stopped function may still run.
func (p Policy) DrainFloor() time.Duration {
	d := max(p.Window, p.FunctionLimit)
	for _, party := range p.Parties {
		d = max(d, party.CacheAge, party.Cadence)
	}
	return d
}

// Policies looks up the policy of a secret; an unlisted one is fault.NotManaged.
type Policies interface {
	Policy(secret string) (Policy, error)
	Secrets() []string
}

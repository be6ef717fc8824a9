package policy

import (
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

// Entry is what the document says about one secret. Every default is filled in.
type Entry struct {
	// Secret is the ARN, or the name of a secret that need not exist yet.
	Secret    string          `json:"secret"`
	Kind      string          `json:"kind"`
	Driver    rotation.Driver `json:"driver"`
	Drain     Drain           `json:"drain"`
	Hold      Duration        `json:"hold"`
	HeadLimit Duration        `json:"head_limit"`
	Emergency Duration        `json:"emergency"`
	// Stuck is when a phase has taken too long. A document of an earlier release
	// has none: then it follows from the rest.
	Stuck Stuck `json:"stuck,omitzero"`
	// FailedLogins bounds the refused attempts per login and hour.
	FailedLogins int `json:"failed_logins_per_hour"`
	// Schedule is the expression of Secrets Manager's schedule, or empty.
	Schedule string `json:"schedule,omitempty"`
	// ScheduleWindow is within how long after its start Secrets Manager begins a
	// rotation, in whole hours; 0: its own default.
	ScheduleWindow Duration `json:"schedule_window,omitempty"`
	// Zone is the network from which its targets are reached; empty: the
	// functions are in none.
	Zone      string     `json:"zone,omitempty"`
	Consumers []Consumer `json:"consumers,omitempty"`
	// Settings are the kind's own.
	Settings json.RawMessage `json:"settings"`
}

// Drain says how it is decided that nobody presents the old credential.
type Drain struct {
	Window     Duration                `json:"window"`
	Poll       Duration                `json:"poll"`
	QuietPolls int                     `json:"quiet_polls"`
	MaxOverlap Duration                `json:"max_overlap"`
	OnTimeout  rotation.OnDrainTimeout `json:"on_timeout"`
}

// Stuck says from when on the watchdog reports a rotation that goes on.
type Stuck struct {
	Head   Duration `json:"head,omitempty"`
	Drain  Duration `json:"drain,omitempty"`
	Revoke Duration `json:"revoke,omitempty"`
}

// FillStuck sets the limits that nobody has set to what follows from the rest.
func (e *Entry) FillStuck(functionLimit Duration) {
	limits := e.policy("", functionLimit, "").Limits()
	e.Stuck = Stuck{Head: writable(limits.Head), Drain: writable(limits.Drain), Revoke: writable(limits.Revoke)}
}

// writable is what a document may say.
func writable(d time.Duration) Duration { return Duration(min(d, MaxDuration)) }

// Consumer is a registered party.
type Consumer struct {
	Name    string   `json:"name"`
	Cadence Duration `json:"cadence,omitempty"`
	Cache   Duration `json:"cache,omitempty"`
	Follow  []string `json:"follow,omitempty"`
	// FollowKey is the ARN of the secret that holds the key of their signatures.
	FollowKey string `json:"follow_key,omitempty"`
	Wave      int    `json:"wave,omitempty"`
}

// policy is the entry in the domain's terms.
func (e Entry) policy(arn string, limit Duration, hash string) rotation.Policy {
	p := rotation.Policy{
		Secret: arn, Kind: e.Kind, Driver: e.Driver,
		Window: time.Duration(e.Drain.Window), Poll: time.Duration(e.Drain.Poll),
		QuietPolls: e.Drain.QuietPolls, MaxOverlap: time.Duration(e.Drain.MaxOverlap),
		OnTimeout: e.Drain.OnTimeout, Hold: time.Duration(e.Hold), HeadLimit: time.Duration(e.HeadLimit),
		Emergency: time.Duration(e.Emergency), FailedLogins: e.FailedLogins, FunctionLimit: time.Duration(limit), Hash: hash,
		Stuck: rotation.Stuck{
			Head: time.Duration(e.Stuck.Head), Drain: time.Duration(e.Stuck.Drain), Revoke: time.Duration(e.Stuck.Revoke),
		},
		Settings: append(json.RawMessage(nil), e.Settings...),
	}
	for _, c := range e.Consumers {
		p.Parties = append(p.Parties, rotation.Party{
			Name: c.Name, Cadence: time.Duration(c.Cadence), CacheAge: time.Duration(c.Cache),
			Follow: append([]string(nil), c.Follow...), FollowKey: c.FollowKey, Wave: c.Wave,
		})
	}
	return p
}

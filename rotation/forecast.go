package rotation

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// Forecast is what the next rotation of a secret would do, found by reading only.
type Forecast struct {
	Secret  string `json:"secret"`  // ARN
	Current string `json:"current"` // the version that would go
	Kind    string `json:"kind"`
	Driver  Driver `json:"driver"`
	// Begins is by when the store's schedule begins it; zero: nothing is scheduled.
	Begins   time.Time `json:"begins,omitzero"`
	Every    Seconds   `json:"every_seconds,omitempty"`
	Parties  []string  `json:"parties"`
	Breaks   []string  `json:"breaks"`   // what stops working, if anything
	Blockers []string  `json:"blockers"` // what has to be mended first; none: it would go
	Notes    []string  `json:"notes"`    // what a person should know although nothing is in the way
	Phases   []Phase   `json:"phases"`   // in order
}

// Seconds is a time as JSON writes it: whole seconds.
type Seconds int64

// Phase is one part of the sequence, with what the policy says of its length.
type Phase struct {
	Name  string  `json:"phase"`
	Least Seconds `json:"least_seconds"`
	Most  Seconds `json:"most_seconds,omitempty"` // 0: no bound but a person's
	Why   string  `json:"why"`
}

func inSeconds(d time.Duration) Seconds { return Seconds(d / time.Second) }

// nobody is the token of a rotation that isn't there: its version has no value.
const nobody = "00000000-0000-4000-8000-000000000000"

// Forecast finds out what a rotation of this secret would do, and what is in its
// way. It reads labels, the secret's value and the target, and changes none of
// them. A target that can't be reached is a blocker, and so is a fault that the
// first step would end in; an error is what kept it from looking.
func (r *Rotator) Forecast(ctx context.Context, secret string) (Forecast, error) {
	policy, err := r.Policies.Policy(secret)
	if err != nil {
		return Forecast{}, err
	}
	engine, err := r.Engines.Engine(policy.Kind)
	if err != nil {
		return Forecast{}, err
	}
	desc, err := r.Store.Describe(ctx, secret)
	if err != nil {
		return Forecast{}, fault.Wrap(fault.Unavailable, err, "describing %s", secret)
	}
	f := Forecast{
		Secret: desc.ARN, Current: desc.Versions.Holder(Current), Kind: policy.Kind, Driver: policy.Driver,
		Begins: desc.NextRotation, Every: inSeconds(desc.Every),
		Parties: []string{}, Breaks: []string{}, Blockers: []string{}, Notes: []string{}, Phases: policy.phases(),
	}
	f.labels(desc, policy)
	if f.Current == "" || rotatable(desc) != nil {
		return f, nil //nolint:nilerr // it is told as what is in the way
	}
	plan, err := engine.Plan(ctx, Change{
		Secret: desc.ARN, From: f.Current, To: nobody, Rotation: nobody, Policy: policy,
		Fence: func(context.Context) error { return nil },
	})
	if err != nil {
		f.blocked(err)
		return f, nil
	}
	f.Parties = append(f.Parties, plan.Parties...)
	f.Breaks = append(f.Breaks, plan.Breaks...)
	f.Blockers = append(f.Blockers, plan.Blockers...)
	return f, nil
}

func (f *Forecast) blocked(err error) {
	text := string(fault.NameOf(err)) + ": " + err.Error()
	if hint := fault.HintOf(err); hint != "" {
		text += " (" + hint + ")"
	}
	f.Blockers = append(f.Blockers, text)
}

// labels is what the store says, without a look at the target.
func (f *Forecast) labels(d Description, p Policy) {
	if err := rotatable(d); err != nil {
		f.blocked(err)
	}
	if f.Current == "" {
		f.blocked(fault.New(fault.InvalidStage, "no version is AWSCURRENT").WithHint("store the working credential first (aws secretsmanager put-secret-value)"))
	}
	if d.Paused {
		f.blocked(fault.New(fault.RotationDisabled, "it is paused by the tag keyturn:pause").WithHint("keyturn resume takes it off"))
	}
	switch s := Read(d.Versions, p.Driver); {
	case s.Need == NeedStore, s.Need == NeedRun && s.Direction == Head:
		f.blocked(fault.New(fault.RotationInProgress, "a rotation is under way; it is version %s", s.Token).WithHint("keyturn status shows how far it has come"))
	case s.Need == NeedRun:
		f.blocked(fault.New(fault.DrainInProgress, "the last rotation isn't over").WithHint("keyturn status shows who is behind"))
	}
	if err := roomForLabels(d.Versions); err != nil {
		f.blocked(err)
	}
	switch on := d.RotationEnabled != nil && *d.RotationEnabled; {
	case p.Driver == DriverMachine && on:
		f.Notes = append(f.Notes, "keyturn.yaml says driver: machine, and Secrets Manager rotates it too")
	case p.Driver == DriverSecretsManager && !on:
		f.Notes = append(f.Notes, "Secrets Manager's rotation of it isn't switched on: nothing begins by itself")
	case f.Begins.IsZero():
		f.Notes = append(f.Notes, "no rotation is scheduled: one begins when somebody starts it")
	}
	if len(p.Parties) == 0 {
		f.Notes = append(f.Notes, "no consumer is registered in keyturn.yaml: the drain has the target's own evidence alone")
	}
}

// phases is how long each part takes at least, as the policy has it.
func (p Policy) phases() []Phase {
	expired := "hold: after that both stay alive and a person is told"
	if p.OnTimeout == Terminate {
		expired = "terminate: after that the remaining sessions are ended"
	}
	quiet := time.Duration(p.QuietPolls) * p.Poll
	return []Phase{
		{Name: "create to finish", Most: inSeconds(p.HeadLimit), Why: "the new credential is made, tried on every node and promoted; else discarded"},
		{Name: "adopt and drain", Least: inSeconds(max(p.DrainFloor(), quiet)), Most: inSeconds(p.MaxOverlap), Why: "both work; until nobody uses the old one (on_timeout " + expired + ")"},
		{Name: "disable and hold", Least: inSeconds(p.Hold), Why: "the old one is refused, and can be brought back"},
		{Name: "revoke", Why: "the old one is destroyed"},
	}
}

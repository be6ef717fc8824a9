package rotation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// Need is what the labels of a secret ask for.
type Need string

const (
	// NeedNothing: the secret is stable, or its store is at work.
	NeedNothing Need = "nothing"
	// NeedRun: an execution of the state machine.
	NeedRun Need = "run"
	// NeedStore: the store's own rotation is waiting to be tried again.
	NeedStore Need = "store"
	// NeedReplace: the current credential was declared stolen, and nothing that
	// replaces it is under way.
	NeedReplace Need = "replace"
)

// Situation is what the labels say, and the run that follows from it.
type Situation struct {
	Need      Need
	Token     string // the rotation
	Direction Direction
	Displaced string // the version that waits for a drain of its own, if that is why
}

// Read derives the situation from labels alone. It is the one place that knows
// what a set of labels means.
func Read(v Versions, driver Driver) Situation {
	current, retiring, pending := v.Holder(Current), v.Holder(Retiring), v.Holder(Pending)
	draining := retiring != "" && retiring != current
	// A version that was never current is turned back after the drain of another.
	if x := v.Holder(Rejected); x != "" {
		if x == current || x == retiring || (!draining && (x == pending || v.Has(x, Live(x)) || v.Has(x, Candidate(x)))) {
			return Situation{Need: NeedRun, Token: x, Direction: Back}
		}
	}
	if draining {
		return Situation{Need: NeedRun, Token: current, Direction: Forward}
	}
	if displaced := v.Displaced(); len(displaced) > 0 && current != "" {
		return Situation{Need: NeedRun, Token: current, Direction: Forward, Displaced: displaced[0]}
	}
	if v.Has(current, Disabled) && !v.isStolen(current) { // somebody moved AWSCURRENT back by hand
		return Situation{Need: NeedRun, Token: current, Direction: Forward}
	}
	if pending != "" && pending != current {
		if driver == DriverMachine {
			return Situation{Need: NeedRun, Token: pending, Direction: Head}
		}
		return Situation{Need: NeedStore, Token: pending}
	}
	if stored := v.unclaimed(); len(stored) > 0 && driver == DriverMachine {
		return Situation{Need: NeedRun, Token: stored[0], Direction: Head}
	}
	if v.isStolen(current) {
		return Situation{Need: NeedReplace, Token: v.replacement(current), Direction: Head}
	}
	return Situation{Need: NeedNothing}
}

// nameable reports whether a token may stand in an execution's name as it is.
func nameable(token string) bool {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	return token != "" && len(token) <= 36 && strings.Trim(token, allowed) == ""
}

// RunName is an execution's name without its generation; with "-g" and a number
// it stays within the 80 characters that Step Functions allows.
func RunName(secret, token string, d Direction) string {
	if !nameable(token) {
		sum := sha256.Sum256([]byte(token))
		token = hex.EncodeToString(sum[:16])
	}
	sum := sha256.Sum256([]byte(secret))
	letter := map[Direction]string{Head: "h", Forward: "f", Back: "b"}[d]
	return hex.EncodeToString(sum[:8]) + "-" + token + "-" + letter
}

// EnsureOptions says who asks.
type EnsureOptions struct {
	// Resume also restarts a run that ended in RotationStuck by a terminal
	// fault: a person has looked.
	Resume bool
	// Retry also asks the store to take up a rotation that waits, and starts the
	// run that discards it if the store doesn't promote it.
	Retry bool
	// Emergency starts the next generation as soon as the last one has ended:
	// what that one's functions may still do is outranked at the target.
	Emergency bool
	// RetryStolen is Retry where a stolen credential waits for it.
	RetryStolen bool

	haste bool // a stolen credential is alive
}

// Ensured says what EnsureRun found or did.
type Ensured struct {
	Situation Situation
	Run       Run           // the execution that drives it, or drove it last
	Started   bool          // by this call
	After     time.Duration // ask again then: a stopped run's functions may still act
}

// EnsureRun makes sure that exactly one execution drives what the labels ask
// for, and starts it if none does. Any number of callers may call it at any
// time: the execution's name is the claim.
func (r *Rotator) EnsureRun(ctx context.Context, secret string, o EnsureOptions) (Ensured, error) {
	policy, err := r.Policies.Policy(secret)
	if err != nil {
		return Ensured{}, err
	}
	desc, err := r.Store.Describe(ctx, secret)
	if err != nil {
		return Ensured{}, fault.Wrap(fault.Unavailable, err, "describing %s", secret)
	}
	situation := Read(desc.Versions, policy.Driver)
	o.haste = desc.Versions.anyStolen()
	switch situation.Need {
	case NeedStore:
		return r.ensureStore(ctx, desc, policy, situation, o)
	case NeedReplace:
		return r.ensureReplaced(ctx, desc, policy, situation, o)
	case NeedNothing:
		return Ensured{Situation: situation}, nil
	}
	ensured, err := r.claim(ctx, desc.ARN, policy, situation, o)
	ensured.Situation = situation
	return ensured, err
}

// retryStore asks for the rotation that waits; being told that it waits is the
// answer that we want (rule C7.2).
func (r *Rotator) retryStore(ctx context.Context, secret, token string) error {
	err := r.Store.Rotate(ctx, secret, token)
	if fault.Is(err, fault.RotationInProgress) {
		return nil
	}
	return fault.Wrap(fault.Unavailable, err, "asking for the waiting rotation of %s", secret)
}

// RetirePrevious gives the version before the current one a drain of its own.
// It is for a secret that others have rotated until now: AWS's sample functions
// leave the previous login alive, and Keyturn doesn't begin before nobody uses
// it. A previous version with the current one's login needs none.
func (r *Rotator) RetirePrevious(ctx context.Context, secret string) (Ensured, error) {
	policy, err := r.Policies.Policy(secret)
	if err != nil {
		return Ensured{}, err
	}
	engine, err := r.Engines.Engine(policy.Kind)
	if err != nil {
		return Ensured{}, err
	}
	desc, err := r.Store.Describe(ctx, secret)
	if err != nil {
		return Ensured{}, fault.Wrap(fault.Unavailable, err, "describing %s", secret)
	}
	v := desc.Versions
	old, current := v.Holder(Previous), v.Holder(Current)
	if old == "" || current == "" || v.Holder(Retiring) != "" || v.Has(old, Rejected) {
		return Ensured{}, fault.New(fault.InvalidStage, "%s has no previous version to retire", secret).
			WithHint("keyturn status shows the labels; a rotation that is going on retires its own")
	}
	s := scene{policy: policy, engine: engine, desc: desc}
	if err := r.displaced(ctx, s, old, current); err != nil {
		return Ensured{}, err
	}
	return r.EnsureRun(ctx, secret, EnsureOptions{})
}

// StartHead begins a rotation by the machine. The token is the version id to be.
func (r *Rotator) StartHead(ctx context.Context, secret, token string) (Run, error) {
	policy, err := r.Policies.Policy(secret)
	if err != nil {
		return Run{}, err
	}
	ensured, err := r.claim(ctx, secret, policy, Situation{Need: NeedRun, Token: token, Direction: Head}, EnsureOptions{})
	return ensured.Run, err
}

// claim finds the last generation and starts the next if that one has ended,
// isn't for a person, and none of its functions can still be acting.
func (r *Rotator) claim(ctx context.Context, secret string, p Policy, s Situation, o EnsureOptions) (Ensured, error) {
	if r.Runs == nil {
		return Ensured{}, fault.New(fault.Internal, "this function can't start runs").WithHint("the watchdog does; deploy the functions and the state machine from one release")
	}
	name := RunName(secret, s.Token, s.Direction)
	var last Run
	for generation := 1; ; generation++ {
		run, err := r.describeRun(ctx, secret, name, generation)
		if err != nil {
			return Ensured{}, err
		}
		if run.Status == RunRunning {
			return Ensured{Run: run}, nil
		}
		if run.Status != RunAbsent {
			last = run
			continue
		}
		if generation > 1 {
			if last.Status == RunFailed && !o.Resume && !s.worthAnother(last) {
				return Ensured{Run: last}, nil
			}
			if wait := r.rest(p, last, generation-1, o); wait > 0 {
				return Ensured{Run: last, After: wait}, nil
			}
		}
		in := Input{
			Secret: secret, Token: s.Token, Direction: s.Direction, Driver: p.Driver,
			Run: name, Generation: generation,
		}
		if in.Cursor, err = r.overtakes(ctx, secret, s, p); err != nil {
			return Ensured{}, err
		}
		run = Run{Name: fmt.Sprintf("%s-g%d", name, generation), Status: RunRunning}
		if err := r.Runs.Start(ctx, run.Name, in); err != nil {
			return Ensured{}, fault.Wrap(fault.Unavailable, err, "starting run %s", run.Name)
		}
		return Ensured{Run: run, Started: true}, nil
	}
}

func (r *Rotator) describeRun(ctx context.Context, secret, name string, generation int) (Run, error) {
	run, err := r.Runs.Describe(ctx, secret, fmt.Sprintf("%s-g%d", name, generation))
	return run, fault.Wrap(fault.Unavailable, err, "looking up run %s generation %d", name, generation)
}

// rest is how long the next generation has to wait.
func (r *Rotator) rest(p Policy, last Run, generations int, o EnsureOptions) time.Duration {
	until := pause(p, last, generations)
	switch {
	case o.Emergency, o.haste && last.Status != RunFailed:
		return 0 // it outranks, at the target, what the last one may still do
	case o.Resume:
		until = p.FunctionLimit
	case o.haste:
		until = min(until, hastyPause)
	}
	return last.Stopped.Add(until).Sub(r.Now())
}

// restartable reports a failed run that is worth another one, as its fault is
// worth a retry, or that only had too many events for one execution's history;
// the rest is for a person.
func restartable(run Run) bool {
	cause := causeOf(run)
	full := strings.Contains(run.Cause, "maximum number of history events") // Step Functions' own words
	return fault.Name(cause).Class() == fault.Retry || isPlatform(cause) || full
}

// causeOf reads the error that a failed run names in its cause, or "".
func causeOf(run Run) string {
	var cause struct{ Error string } // what a Catch writes
	if err := json.Unmarshal([]byte(run.Cause), &cause); err != nil {
		return ""
	}
	return cause.Error
}

// faultOf is that error's fault; one that isn't ours is Internal.
func faultOf(run Run) fault.Name {
	if name := fault.Name(causeOf(run)); slices.Contains(fault.Names(), name) {
		return name
	}
	return fault.Internal
}

// pause is how long a run that failed is left alone: the function limit,
// doubled with each generation, an hour at most.
func pause(p Policy, last Run, generations int) time.Duration {
	d := p.FunctionLimit
	if last.Status != RunFailed {
		return d
	}
	for range generations {
		if d *= 2; d >= time.Hour {
			return time.Hour
		}
	}
	return d
}

// isPlatform reports whether an error is Lambda's or Step Functions' own, such
// as a time-out: every step may be called again.
func isPlatform(name string) bool {
	for _, prefix := range []string{"Lambda.", "Sandbox.", "Runtime.", "States.Timeout"} {
		if len(name) >= len(prefix) && name[:len(prefix)] == prefix {
			return true
		}
	}
	return false
}

package rotation

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// emergencyPoll is how often an emergency looks how far it is.
const emergencyPoll = time.Second

// emergency is the policy for a credential that somebody has stolen: its death
// is worth more than the sessions that are left on it.
func (p Policy) emergency() Policy {
	p.Window, p.Hold = 0, 0
	p.MaxOverlap, p.OnTimeout = max(p.Emergency, time.Nanosecond), Terminate
	p.Poll = min(p.Poll, emergencyPoll)
	return p
}

// Foretell says, by reading only, what an emergency would break: who presents
// the current credential, and who won't have followed when it dies.
func (r *Rotator) Foretell(ctx context.Context, secret string, cut bool) (Plan, error) {
	policy, err := r.Policies.Policy(secret)
	if err != nil {
		return Plan{}, err
	}
	engine, err := r.Engines.Engine(policy.Kind)
	if err != nil {
		return Plan{}, err
	}
	desc, err := r.Store.Describe(ctx, secret)
	if err != nil {
		return Plan{}, fault.Wrap(fault.Unavailable, err, "describing %s", secret)
	}
	current := desc.Versions.Holder(Current)
	c := Change{
		Secret: desc.ARN, From: current, Rotation: current, Emergency: true, Policy: policy.emergency(),
		Fence: func(context.Context) error { return nil },
	}
	plan, err := engine.Plan(ctx, c)
	if err != nil {
		return plan, err
	}
	holders, err := engine.Drain(ctx, c)
	if err != nil {
		return plan, err
	}
	if err := cantReplace(desc, policy); err != nil {
		plan.Breaks = append(plan.Breaks, "nothing replaces it before rotation is on again: "+fault.HintOf(err))
	}
	for _, who := range holders.Missing {
		plan.Breaks = append(plan.Breaks, "uses it now: "+who)
	}
	for _, party := range policy.Parties {
		if behind := max(party.CacheAge, party.Cadence); cut || behind > policy.Emergency {
			plan.Breaks = append(plan.Breaks, party.Name+" follows within "+behind.String()+", the old credential dies earlier")
		}
	}
	return plan, nil
}

// MarkStolen is the first act of an emergency: every live credential but the
// one that this emergency makes counts as stolen, and a run that waits for the
// end of a drain is started anew, in haste. Marking twice is marking once.
//
// The current one comes first: from that write on the labels ask for everything
// else, and whoever looks at them goes on with it if this emergency is killed.
func (r *Rotator) MarkStolen(ctx context.Context, req Request) (Result, error) {
	s, err := r.enter(ctx, StepEmergency, req)
	if err != nil {
		return Result{}, err
	}
	if current := s.desc.Versions.Holder(Current); current != "" && current != req.Token {
		if err := r.replaceBy(ctx, s, current, req.Token); err != nil {
			return Result{}, err
		}
		if err := r.markStolen(ctx, s, current); err != nil {
			return Result{}, err
		}
	}
	return Result{Outcome: Done}, r.markBeside(ctx, s)
}

// hasten stops the run that the labels ask for and starts its next generation
// at once: that one outranks, at the target, what the old one may still do.
func (r *Rotator) hasten(ctx context.Context, s scene) error {
	ensured, err := r.EnsureRun(ctx, s.desc.ARN, EnsureOptions{Resume: true, Emergency: true})
	tail := ensured.Situation.Need == NeedRun && ensured.Situation.Direction != Head
	if err != nil || ensured.Started || ensured.Run.Status != RunRunning || !tail {
		return err
	}
	if err := r.Runs.Stop(ctx, s.desc.ARN, ensured.Run.Name, "an emergency takes over"); err != nil {
		return err
	}
	_, err = r.EnsureRun(ctx, s.desc.ARN, EnsureOptions{Resume: true, Emergency: true})
	return err
}

// enterMarked is for the acts after MarkStolen, whose mark may show late: taken
// for the end of the emergency, its absence would leave the stolen one alive.
func (r *Rotator) enterMarked(ctx context.Context, req Request) (scene, error) {
	s, err := r.enter(ctx, StepEmergency, req)
	if err != nil {
		return scene{}, err
	}
	err = r.lookAgain(ctx, &s, func(v Versions) bool {
		current := v.Holder(Current)
		return !v.isStolen(current) && current != req.Token
	})
	return s, err
}

// Cut makes the acceptors refuse the stolen credential before there is another
// one: its sessions end, and consumers fail until they have followed. It is
// never undone.
func (r *Rotator) Cut(ctx context.Context, req Request) (Result, error) {
	s, err := r.enterMarked(ctx, req)
	if err != nil {
		return Result{}, err
	}
	current := s.desc.Versions.Holder(Current)
	if current == "" || (!s.desc.Versions.isStolen(current) && s.desc.Versions.anyStolen()) {
		return Result{Outcome: Done}, nil // replaced in the meantime
	}
	stolen := func(v Versions) error {
		if !v.isStolen(current) {
			return fault.New(fault.Superseded, "version %s isn't marked as stolen", current).
				WithHint("an emergency marks it first; nothing was done")
		}
		return nil
	}
	if err := stolen(s.desc.Versions); err != nil {
		return Result{}, err
	}
	fence := func(v Versions) error {
		if !v.isStolen(current) && v.Holder(Current) == current { // it was shown a moment ago
			return fault.New(fault.Unavailable, "the mark of version %s as stolen doesn't show", current)
		}
		return stolen(v)
	}
	c := s.change(r, current, "", fence)
	c.Rank = 0 // the runs that follow have to outrank it
	return r.act(ctx, s, c, s.engine.Disable)
}

// Replace waits until a credential that isn't stolen is current, and starts the
// rotation that makes it, under the emergency's token, when nothing else does.
func (r *Rotator) Replace(ctx context.Context, req Request) (Result, error) {
	s, err := r.enterMarked(ctx, req)
	if err != nil {
		return Result{}, err
	}
	v := s.desc.Versions
	current := v.Holder(Current)
	if !v.isStolen(current) {
		return Result{Outcome: Done}, nil
	}
	if v.Has(req.Token, Rejected) {
		_, err := guardHead(v, req.Token)
		return Result{}, err
	}
	if err := r.markBeside(ctx, s); err != nil {
		return Result{}, err
	}
	ensured, err := r.EnsureRun(ctx, s.desc.ARN, EnsureOptions{Retry: true, Emergency: true})
	wait := Result{Outcome: Wait, After: emergencyPoll, Missing: []string{"the new credential isn't current yet"}}
	if under := ensured.Situation; under.Need != NeedReplace {
		wait.Missing = []string{"what is under way has to end first: " + string(under.Direction) + " " + under.Token}
	}
	return wait, cmp.Or(err, stuck(ensured.Run, ensured.After))
}

// stuck is the fault of a run that waits for a person, or nil.
func stuck(run Run, after time.Duration) error {
	if run.Status != RunFailed || after > 0 {
		return nil
	}
	return fault.New(faultOf(run), "run %s failed: %s", run.Name, run.Cause).
		WithHint("its cause says what to mend; then call the emergency again")
}

// Bury waits until no stolen credential is left.
func (r *Rotator) Bury(ctx context.Context, req Request) (Result, error) {
	s, err := r.enter(ctx, StepEmergency, req)
	if err != nil {
		return Result{}, err
	}
	var alive []string
	for id := range s.desc.Versions {
		if s.desc.Versions.isStolen(id) {
			alive = append(alive, "version "+id+" isn't revoked yet")
		}
	}
	if len(alive) == 0 {
		return Result{Outcome: Done}, nil
	}
	slices.Sort(alive)
	ensured, err := r.EnsureRun(ctx, s.desc.ARN, EnsureOptions{Emergency: true})
	return Result{Outcome: Wait, After: emergencyPoll, Missing: alive}, cmp.Or(err, stuck(ensured.Run, ensured.After))
}

// emergencyNotes says what an emergency leaves behind at the end of its window.
func emergencyNotes(missing []string) []string {
	if len(missing) == 0 {
		return nil
	}
	return []string{"the emergency didn't wait for: " + strings.Join(missing, "; ")}
}

package rotation

import (
	"context"

	"github.com/keyturn/keyturn/fault"
)

// Finish moves AWSCURRENT to the new version. The old one gets RETIRING first,
// while it is still current: nobody can lose track of it, and a second drain
// can't begin. After the label has moved Finish never fails.
func (r *Rotator) Finish(ctx context.Context, req Request) (Result, error) {
	s, err := r.enter(ctx, StepFinish, req)
	if err != nil {
		return Result{}, err
	}
	already, err := r.guard(ctx, &s)
	if err != nil {
		return Result{}, err
	}
	if already {
		return r.finished(ctx, s)
	}
	current := s.desc.Versions.Holder(Current)
	if current == "" {
		return Result{}, fault.New(fault.InvalidStage, "%s has no AWSCURRENT version", s.desc.ARN).
			WithHint("store the working credential first (aws secretsmanager put-secret-value)")
	}
	if err := r.refuseStolenLogin(ctx, s, req.Token); err != nil {
		return Result{}, err
	}
	c := s.change(r, current, req.Token, supportsHead(req.Token))
	res, err := r.act(ctx, s, c, func(ctx context.Context, c Change) (Result, error) {
		return r.promote(ctx, s, c)
	})
	if err == nil && res.Outcome == Done {
		r.ensureLater(ctx, s.desc.ARN)
	}
	return res, err
}

// promote proves the new version once more, because a function has no memory
// of the test, and then writes: RETIRING if nobody holds it, AWSCURRENT if the
// old version still does. In between the new one stops being a candidate.
func (r *Rotator) promote(ctx context.Context, s scene, c Change) (Result, error) {
	tested, err := s.engine.Test(ctx, c)
	if err != nil || tested.Outcome != Done {
		return tested, err
	}
	if err := r.note(ctx, s, c.From); err != nil {
		return Result{}, err
	}
	if err := r.Store.Attach(ctx, c.Secret, Retiring, c.From); err != nil {
		if fault.Is(err, fault.Conflict) {
			return Result{}, fault.New(fault.DrainInProgress, "another version of %s is still being drained", c.Secret).
				WithHint("the label did not move; the rotation is taken up again when the drain ends")
		}
		return Result{}, fault.Wrap(fault.Unavailable, err, "marking %s as retiring", c.From)
	}
	if err := r.unmark(ctx, s, c.To, Candidate(c.To)); err != nil {
		return Result{}, err
	}
	if err = r.Store.Move(ctx, c.Secret, Current, c.To, c.From); err != nil {
		// A lost answer and a lost race look alike: only the labels tell.
		desc, again := r.Store.Describe(ctx, c.Secret)
		if again != nil || !desc.Versions.Has(c.To, Current) {
			return Result{}, fault.Wrap(fault.Conflict, err, "moving AWSCURRENT to %s", c.To)
		}
	}
	r.unpend(ctx, s, c.To)
	return Result{Outcome: Done, Evidence: tested.Evidence}, nil
}

// unpend takes AWSPENDING off a promoted version that the machine drives;
// Secrets Manager cleans up after its own rotations (rule C6.3). If this fails,
// the next create moves the label.
func (r *Rotator) unpend(ctx context.Context, s scene, token string) {
	if s.policy.Driver != DriverMachine {
		return
	}
	if err := r.Store.Detach(ctx, s.desc.ARN, Pending, token); err != nil {
		r.Log.WarnContext(ctx, "taking AWSPENDING off the promoted version", "secret", s.desc.ARN, "error", err)
	}
}

// finished is a late finish: the token is current. If it is still a candidate,
// somebody promoted it by hand, and the version that it replaced needs a drain.
func (r *Rotator) finished(ctx context.Context, s scene) (Result, error) {
	v, token := s.desc.Versions, s.req.Token
	if v.Has(token, Candidate(token)) {
		var err error
		if old := v.Holder(Previous); old != "" {
			err = r.displaced(ctx, s, old, token)
		}
		if err == nil {
			err = r.unmark(ctx, s, token, Candidate(token))
		}
		if err != nil {
			r.Log.WarnContext(ctx, "keeping track of the previous version", "secret", s.desc.ARN, "error", err)
		}
	}
	r.ensureLater(ctx, s.desc.ARN)
	return Result{Outcome: Done}, nil
}

// ensureLater starts the run that the labels ask for. Failing is no harm: the
// event RotationSucceeded and the watchdog ask again.
func (r *Rotator) ensureLater(ctx context.Context, secret string) {
	if r.Runs == nil {
		return
	}
	if _, err := r.EnsureRun(ctx, secret, EnsureOptions{}); err != nil {
		r.Log.WarnContext(ctx, "starting the next run; the watchdog will", "secret", secret, "error", err)
	}
}

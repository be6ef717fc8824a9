package rotation

import (
	"context"
	"errors"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// switchedOff refuses a step that the store's own rotation calls although it is
// cancelled (rule C2.2). Runs go on: what was begun has to end (C7.4).
func switchedOff(d Description, p Policy) error {
	if !off(d, p) {
		return nil
	}
	return fault.New(fault.RotationDisabled, "rotation is switched off for %s", d.ARN).
		WithHint("configure it again with aws secretsmanager rotate-secret --rotation-lambda-arn … --rotation-rules …")
}

func off(d Description, p Policy) bool {
	return p.Driver == DriverSecretsManager && d.RotationEnabled != nil && !*d.RotationEnabled
}

// ensureStore takes care of an AWSPENDING that the store has granted: it asks
// the store to try again, unless its rotation is cancelled, and starts a run
// that watches and in the end decides about it, see [Rotator.stranded].
func (r *Rotator) ensureStore(ctx context.Context, d Description, p Policy, s Situation, o EnsureOptions) (Ensured, error) {
	v := d.Versions
	retry := o.Retry || (o.RetryStolen && v.isStolen(v.Holder(Current)))
	if !retry || d.Paused || draining(v, s.Token) != "" || !v.pending(s.Token) {
		return Ensured{Situation: s}, nil
	}
	if !off(d, p) {
		if err := r.retryStore(ctx, d.ARN, s.Token); err != nil {
			return Ensured{Situation: s}, err
		}
	}
	ensured, err := r.claim(ctx, d.ARN, p, Situation{Need: NeedRun, Token: s.Token, Direction: Head}, o)
	ensured.Situation = s
	return ensured, err
}

// patience is how long a rotation that the store drives may stay unpromoted. A
// cancelled one is tried again by nobody; only a function that was called before
// may still act.
func patience(s scene) time.Duration {
	if off(s.desc, s.policy) {
		return s.policy.FunctionLimit
	}
	return s.policy.HeadLimit
}

// stranded decides about an AWSPENDING that the store doesn't promote (rule C7.3).
// If it is the only credential that works it is promoted; so is one that replaces
// a stolen one: cancelling a rotation doesn't make the stolen one good again. If
// both work the store is asked once more. Otherwise the run fails, and its abort
// discards the new one. What couldn't be seen decides nothing.
func (r *Rotator) stranded(ctx context.Context, s scene) (Result, error) {
	v, token, limit := s.desc.Versions, s.req.Token, patience(s)
	wait := func(o Outcome, why string) Result {
		return Result{Outcome: o, After: max(headPoll, s.policy.Poll), Cursor: s.cursor.after(o), Missing: []string{why}}
	}
	if s.cursor.Retried && r.Now().Sub(s.cursor.Since) <= 2*limit {
		return wait(Wait, "Secrets Manager was asked to promote "+token+" once more"), nil
	}
	current := v.Holder(Current)
	made, unseen := r.works(ctx, s, token, current)
	if unseen != nil {
		return wait(Unknown, "whether version "+token+" works: "+unseen.Error()), nil //nolint:nilerr // it is waited for
	}
	old, unseen := r.works(ctx, s, current, token)
	switch {
	case unseen != nil && !made && ofOwnLogin(unseen):
		return Result{}, unseen // the new one has no value: there is nothing that could be lost
	case unseen != nil:
		return wait(Unknown, "whether version "+current+" works: "+unseen.Error()), nil //nolint:nilerr // it is waited for
	}
	switch {
	case !old && made:
		r.Log.WarnContext(ctx, "only the pending credential works; it is promoted", "secret", s.desc.ARN, "version", token)
		return r.Finish(ctx, s.req)
	case made && off(s.desc, s.policy) && v.isStolen(current):
		r.Log.WarnContext(ctx, "rotation is switched off, and the current credential is stolen; the pending one is promoted", "secret", s.desc.ARN, "version", token)
		return r.Finish(ctx, s.req)
	case !old:
		return Result{}, fault.New(fault.CredentialRejected, "neither the current nor the pending credential of %s works", s.desc.ARN).
			WithHint("make one of them work at the target, then keyturn resume")
	case made && !off(s.desc, s.policy) && !s.cursor.Retried:
		if err := r.retryStore(ctx, s.desc.ARN, token); err != nil {
			return Result{}, err
		}
		s.cursor.Retried = true
		return wait(Wait, "Secrets Manager is asked to promote "+token+" once more"), nil
	}
	if err := switchedOff(s.desc, s.policy); err != nil {
		return Result{}, err
	}
	return Result{}, fault.New(fault.HeadExpired, "version %s isn't current after %s", token, limit).
		WithHint("the log of the rotateSecret function says which step fails")
}

// works reports whether a version's credential is accepted everywhere, or why
// that couldn't be seen. A refusal of the engine's own login is no refusal of the
// credential.
func (r *Rotator) works(ctx context.Context, s scene, version, other string) (accepted bool, unseen error) {
	c := s.change(r, other, version, func(Versions) error { return nil })
	c.Cursor = ""
	res, err := s.engine.Test(ctx, c)
	switch {
	case ofOwnLogin(err):
		return false, err
	case fault.Is(err, fault.CredentialRejected), fault.Is(err, fault.InvalidStage): // refused, or without a value
		return false, nil
	case err != nil:
		return false, err
	case res.Outcome != Done:
		return false, errors.New("not everywhere yet: " + list(res.Missing))
	}
	return true, nil
}

func ofOwnLogin(err error) bool {
	var own *OwnLoginError
	return errors.As(err, &own)
}

package rotation

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/keyturn/keyturn/fault"
)

// guardHead applies rule C2.3–C2.5 and our own labels. It reports already when
// the token is current: every head step then succeeds without acting.
func guardHead(v Versions, token string) (already bool, err error) {
	switch {
	case v.Has(token, Rejected):
		return false, fault.New(fault.Rejected, "version %s was rolled back", token).
			WithHint("start a new rotation; this one is over")
	case v[token] == nil:
		return false, fault.New(fault.InvalidStage, "version %s has no stage for rotation", token).
			WithHint("steps are called by the rotation that made the version; start one with rotate-secret")
	case v.Has(token, Current):
		return true, nil
	case v.Has(token, Retiring):
		return false, fault.New(fault.Superseded, "version %s is being retired", token).
			WithHint("start a new rotation; this one is over")
	case !v.Has(token, Pending):
		return false, fault.New(fault.InvalidStage, "version %s isn't AWSPENDING", token).
			WithHint("another rotation has taken its place, or somebody removed the label")
	case !v.pending(token):
		return false, fault.New(fault.InvalidStage, "version %s was current before; its AWSPENDING was left over", token).
			WithHint("remove the label with aws secretsmanager update-secret-version-stage, then rotate again")
	}
	return false, nil
}

// guard is guardHead, which looks again for a moment where the labels may merely
// be late.
func (r *Rotator) guard(ctx context.Context, s *scene) (already bool, err error) {
	if err := r.lookAgain(ctx, s, func(v Versions) bool { return mayBeLate(v, s.req.Token) }); err != nil {
		return false, err
	}
	return guardHead(s.desc.Versions, s.req.Token)
}

// lookAgain reads the labels again for a moment while they may be late: reads of
// Secrets Manager may lag behind its writes (rule C4.1).
func (r *Rotator) lookAgain(ctx context.Context, s *scene, late func(Versions) bool) error {
	for look := 1; look <= looks && late(s.desc.Versions); look++ {
		if r.sleep(ctx, time.Duration(look)*betweenLooks) != nil {
			return nil //nolint:nilerr // time is up: what was seen counts
		}
		desc, err := r.Store.Describe(ctx, s.desc.ARN)
		if err != nil {
			return fault.Wrap(fault.Unavailable, err, "reading the labels of version %s again", s.req.Token)
		}
		s.desc = desc
	}
	return nil
}

// mayBeLate reports a version of which nothing says that its rotation is over:
// AWSPENDING may just not show yet.
func mayBeLate(v Versions, token string) bool {
	over := v.Has(token, Rejected) || v.Has(token, Current) || v.Has(token, Retiring) || v.Has(token, Previous)
	return !over && !v.Has(token, Pending)
}

// supportsHead is the fence of set and test.
func supportsHead(token string) func(Versions) error {
	return func(v Versions) error {
		already, err := guardHead(v, token)
		if err == nil && already {
			return fault.New(fault.Superseded, "version %s is already current", token)
		}
		return err
	}
}

// draining reports the version that a drain still works on: a new rotation must
// not begin before it is revoked. RETIRING on the current version is a promotion
// that broke off, which the next finish completes.
func draining(v Versions, token string) string {
	if old := v.Holder(Retiring); old != "" && old != v.Holder(Current) && old != token {
		return old
	}
	for _, id := range v.Displaced() {
		if id != token {
			return id
		}
	}
	return ""
}

func drainInProgress(v Versions, token string) error {
	old := draining(v, token)
	if old == "" {
		return nil
	}
	return fault.New(fault.DrainInProgress, "version %s is still being drained", old).
		WithHint("nothing was written; this rotation is taken up again when the drain ends (keyturn status shows who is behind)")
}

// Create makes the new version's value. Called by the machine for a secret that
// Secrets Manager drives, it starts that rotation and waits for its promotion.
func (r *Rotator) Create(ctx context.Context, req Request) (Result, error) {
	s, err := r.enter(ctx, StepCreate, req)
	if err != nil {
		return Result{}, err
	}
	if !req.ByStore && s.policy.Driver == DriverSecretsManager {
		return r.drive(ctx, s)
	}
	if s.policy.Driver == DriverMachine && unclaimed(s.desc.Versions, req.Token) {
		if err := drainInProgress(s.desc.Versions, req.Token); err != nil {
			return Result{}, err
		}
		if p := s.desc.Versions.Holder(Pending); p != "" && p != s.desc.Versions.Holder(Current) {
			return Result{}, rotationInProgress(p)
		}
	} else if already, err := r.guardCreate(ctx, &s); err != nil || already {
		return Result{Outcome: Done}, err
	}
	from := s.desc.Versions.Holder(Current)
	if from == "" {
		return Result{}, fault.New(fault.InvalidStage, "%s has no AWSCURRENT version", s.desc.ARN).
			WithHint("store the working credential first (aws secretsmanager put-secret-value)")
	}
	if err := roomForLabels(s.desc.Versions); err != nil {
		return Result{}, err
	}
	c := s.change(r, from, req.Token, supportsHead(req.Token))
	return r.act(ctx, s, c, func(ctx context.Context, c Change) (Result, error) {
		res, err := s.engine.Create(ctx, c)
		if err != nil || res.Outcome != Done {
			return res, err
		}
		if err := r.note(ctx, s, from); err != nil || s.policy.Driver != DriverMachine {
			return res, err
		}
		return res, r.claimPending(ctx, s)
	})
}

// roomForLabels refuses a rotation that could come to a stand in the middle,
// because a label that it needs is one too many.
func roomForLabels(v Versions) error {
	others := v.foreign()
	if len(others) <= mostLabels-labelsNeeded {
		return nil
	}
	return fault.New(fault.Blocked, "%d staging labels of the secret are neither AWS's nor Keyturn's (%s); AWS allows %d in all, and a rotation needs up to %d",
		len(others), list(others), mostLabels, labelsNeeded).
		WithHint("take some off with aws secretsmanager update-secret-version-stage --version-stage NAME --remove-from-version-id ID; nothing was changed")
}

// unclaimed reports a version that the machine hasn't made yet, or has made and
// not claimed AWSPENDING for.
func unclaimed(v Versions, token string) bool {
	return len(v[token]) == 0 || slices.Contains(v.unclaimed(), token)
}

func (r *Rotator) guardCreate(ctx context.Context, s *scene) (already bool, err error) {
	already, err = r.guard(ctx, s)
	if err != nil || already {
		return already, err
	}
	if s.desc.Paused {
		return false, fault.New(fault.RotationDisabled, "%s carries the tag keyturn:pause", s.desc.ARN).
			WithHint("remove the tag to let it rotate")
	}
	return false, drainInProgress(s.desc.Versions, s.req.Token)
}

// claimPending gives a machine-driven version its AWSPENDING and marks it as
// live; a second machine loses here, on the write.
func (r *Rotator) claimPending(ctx context.Context, s scene) error {
	secret, token := s.desc.ARN, s.req.Token
	if !s.desc.Versions.Has(token, Pending) {
		if err := r.attachPending(ctx, secret, token); err != nil {
			return err
		}
		if late, err := r.claimedLate(ctx, s); late || err != nil {
			return err
		}
	}
	return r.markLive(ctx, secret, token)
}

func (r *Rotator) attachPending(ctx context.Context, secret, token string) error {
	err := r.Store.Attach(ctx, secret, Pending, token)
	if fault.Is(err, fault.Conflict) {
		desc, again := r.Store.Describe(ctx, secret)
		if again != nil {
			return fault.Wrap(fault.Unavailable, again, "reading who holds AWSPENDING")
		}
		p := desc.Versions.Holder(Pending)
		if p != desc.Versions.Holder(Current) {
			return rotationInProgress(cmp.Or(p, "another token"))
		}
		// A finished rotation may leave AWSPENDING on the current version (rule C6.4).
		err = r.Store.Move(ctx, secret, Pending, token, p)
	}
	if fault.Is(err, fault.Conflict) {
		return rotationInProgress("another token")
	}
	return fault.Wrap(fault.Unavailable, err, "claiming AWSPENDING for %s", token)
}

// claimedLate takes the claim back if the version is no candidate any more: this
// create hung while another one's version was promoted or given up. It looks after
// the write, because it may hang before that, too.
func (r *Rotator) claimedLate(ctx context.Context, s scene) (late bool, err error) {
	token := s.req.Token
	desc, err := r.Store.Describe(ctx, s.desc.ARN)
	if err != nil {
		return false, fault.Wrap(fault.Unavailable, err, "reading the labels after create")
	}
	s.desc = desc
	noCandidate := func(v Versions) bool { return !v.Has(token, Candidate(token)) }
	if err := r.lookAgain(ctx, &s, noCandidate); err != nil || !noCandidate(s.desc.Versions) {
		return false, err
	}
	v := s.desc.Versions
	if retiring := v.Holder(Retiring); retiring == "" || retiring != v.Holder(Current) { // else a finish needs it
		if err := r.unmark(ctx, s, token, Pending); err != nil {
			return false, err
		}
	}
	if v.Has(token, Current) {
		return true, nil
	}
	return false, fault.New(fault.Superseded, "version %s is no candidate any more", token).
		WithHint("this call came late; start a new rotation if one is still wanted")
}

// markLive must have happened before a target hears of the version's credential.
func (r *Rotator) markLive(ctx context.Context, secret, version string) error {
	return fault.Wrap(fault.Unavailable, r.Store.Attach(ctx, secret, Live(version), version), "marking %s as live", version)
}

// note begins to track a version that Keyturn didn't make or promote, once its
// credential is seen to work: one that never did would have nothing to retire.
func (r *Rotator) note(ctx context.Context, s scene, version string) error {
	if !s.desc.Versions.Has(version, Live(version)) {
		if err := r.markLive(ctx, s.desc.ARN, version); err != nil {
			return err
		}
	}
	if !s.desc.Versions.Has(version, Current) {
		return nil
	}
	return r.unmark(ctx, s, version, Candidate(version))
}

func rotationInProgress(holder string) error {
	return fault.New(fault.RotationInProgress, "AWSPENDING is on %s", holder).
		WithHint("a rotation is going on; it ends by itself or by keyturn rollback")
}

// drive starts the store's own rotation with our token and watches it.
func (r *Rotator) drive(ctx context.Context, s scene) (Result, error) {
	v, token := s.desc.Versions, s.req.Token
	if s.cursor.Since.IsZero() {
		s.cursor.Since = r.Now().UTC()
	}
	switch {
	case v.Has(token, Rejected), v.Has(token, Retiring):
		_, err := guardHead(v, token)
		return Result{}, err
	case v.Has(token, Current):
		r.ensureLater(ctx, s.desc.ARN)
		return Result{Outcome: Done, Cursor: s.cursor.after(Done)}, nil
	case v[token] == nil && s.cursor.Started && r.Now().Sub(s.cursor.Since) <= patience(s):
		// It may not show yet. Asked again for a version that was discarded in the
		// meantime, Secrets Manager would bring a destroyed credential back.
	case !v.Has(token, Pending) && (s.cursor.Started || v.Has(token, Live(token))):
		return Result{}, fault.New(fault.InvalidStage, "version %s lost AWSPENDING before it became current", token).
			WithHint("Secrets Manager abandoned the rotation, or somebody moved the label; see its RotationAbandoned event")
	case !v.Has(token, Pending):
		if err := drainInProgress(v, token); err != nil {
			return Result{}, err
		}
		if err := switchedOff(s.desc, s.policy); err != nil {
			return Result{}, err
		}
		if err := r.Store.Rotate(ctx, s.desc.ARN, token); err != nil {
			return Result{}, fault.Wrap(fault.Unavailable, err, "asking Secrets Manager to rotate")
		}
		s.cursor.Started = true
	case r.Now().Sub(s.cursor.Since) > patience(s):
		return r.stranded(ctx, s)
	default:
		s.cursor.Started = true
	}
	return Result{
		Outcome: Wait, After: headPoll, Cursor: s.cursor.after(Wait),
		Missing: []string{"Secrets Manager hasn't promoted " + token + " yet"},
	}, nil
}

// Set makes the acceptors take the new version beside the old one.
func (r *Rotator) Set(ctx context.Context, req Request) (Result, error) {
	return r.head(ctx, StepSet, req, Engine.Set)
}

// Test proves that the acceptors take the new version.
func (r *Rotator) Test(ctx context.Context, req Request) (Result, error) {
	return r.head(ctx, StepTest, req, Engine.Test)
}

func (r *Rotator) head(ctx context.Context, step Step, req Request, do func(Engine, context.Context, Change) (Result, error)) (Result, error) {
	s, err := r.enter(ctx, step, req)
	if err != nil {
		return Result{}, err
	}
	already, err := r.guard(ctx, &s)
	if err != nil || already {
		return Result{Outcome: Done}, err
	}
	if err := r.refuseStolenLogin(ctx, s, req.Token); err != nil {
		return Result{}, err
	}
	c := s.change(r, s.desc.Versions.Holder(Current), req.Token, supportsHead(req.Token))
	return r.act(ctx, s, c, func(ctx context.Context, c Change) (Result, error) {
		if err := r.note(ctx, s, c.To); err != nil {
			return Result{}, err
		}
		res, err := do(s.engine, ctx, c)
		if fault.Is(err, fault.InvalidStage) && r.readable(ctx, c) {
			return do(s.engine, ctx, c)
		}
		return res, err
	})
}

// looks is how often a read is repeated that may lag behind a write, after
// betweenLooks, twice that, and so on: a second and a half in all.
const (
	looks        = 5
	betweenLooks = 100 * time.Millisecond
)

// readable waits a moment for the value of a version that was just made: reads
// of Secrets Manager may lag behind its writes (rule C4.1).
func (r *Rotator) readable(ctx context.Context, c Change) bool {
	for look := 1; look <= looks; look++ {
		if _, err := r.Store.Value(ctx, c.Secret, c.To); err == nil {
			return true
		} else if !fault.Is(err, fault.InvalidStage) {
			return false
		}
		if r.sleep(ctx, time.Duration(look)*betweenLooks) != nil {
			return false
		}
	}
	return false
}

// sleep returns nil after d, or the context's error.
func (r *Rotator) sleep(ctx context.Context, d time.Duration) error {
	if r.Sleep != nil {
		return r.Sleep(ctx, d)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

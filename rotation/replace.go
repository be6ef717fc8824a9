package rotation

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
)

// hastyPause is the longest that a run which failed is left alone while a stolen
// credential is alive.
const hastyPause = 5 * time.Minute

// markStolen declares one credential stolen. It is tracked as a live one from
// now on, also if Keyturn didn't make it: whoever displaces it, it has to die.
func (r *Rotator) markStolen(ctx context.Context, s scene, version string) error {
	if s.desc.Versions.marked(version) {
		return nil
	}
	r.noteMark(ctx, s, version, audit.Intent, "")
	err := r.attachStolen(ctx, s, version)
	r.noteMark(ctx, s, version, audit.ResultPhase, told(err))
	return err
}

func (r *Rotator) attachStolen(ctx context.Context, s scene, version string) error {
	if !s.desc.Versions.Has(version, Live(version)) {
		if err := r.markLive(ctx, s.desc.ARN, version); err != nil {
			return err
		}
	}
	return fault.Wrap(fault.Unavailable, r.Store.Attach(ctx, s.desc.ARN, Stolen(version), version), "marking %s as stolen", version)
}

func (r *Rotator) noteMark(ctx context.Context, s scene, version string, phase audit.Phase, outcome string) {
	r.Journal.Note(ctx, audit.Record{
		Time: r.Now().UTC(), SecretID: s.desc.ARN, RotationID: s.req.Token, Engine: s.policy.Kind,
		Step: string(StepEmergency), From: version, To: s.req.Token, Phase: phase, Outcome: outcome,
		Notes: []string{"the credential counts as stolen"}, PolicyHash: s.policy.Hash,
	})
}

// marked reports a stolen version that has all of its marks.
func (v Versions) marked(id string) bool { return v.Has(id, Stolen(id)) && v.Has(id, Live(id)) }

// replaceBy writes down which version replaces the stolen one; the latest
// emergency decides.
func (r *Rotator) replaceBy(ctx context.Context, s scene, current, token string) error {
	if err := r.Store.Attach(ctx, s.desc.ARN, Replace(token), current); err != nil {
		return fault.Wrap(fault.Unavailable, err, "marking %s as replaced by %s", current, token)
	}
	for _, l := range s.desc.Versions.replaceLabels(current) {
		if l != Replace(token) {
			if err := r.unmark(ctx, s, current, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// replaceLabels are a version's; there is more than one only for a moment.
func (v Versions) replaceLabels(version string) []Label {
	ours := func(l Label) bool { return strings.HasPrefix(string(l), replacePrefix) }
	return slices.DeleteFunc(slices.Sorted(slices.Values(v[version])), func(l Label) bool { return !ours(l) })
}

// replacement is the version that an emergency makes in place of a stolen one,
// or "" if nobody wrote it down.
func (v Versions) replacement(version string) string {
	for _, l := range v.replaceLabels(version) {
		return strings.TrimPrefix(string(l), replacePrefix)
	}
	return ""
}

// unstolen lists what is alive beside a stolen current credential and isn't
// marked yet. What is being made, or was given up before it was current, isn't
// among it: nobody has read it, and another emergency may go on with it.
func (v Versions) unstolen(token string) []string {
	return slices.DeleteFunc(slices.Concat(v.liveBeside(token), v.Displaced()), func(id string) bool {
		making := v.pending(id) && !v.Has(id, Current)
		return id == token || making || v.unpresented(id) || v.isStolen(id) || v.Has(id, Current)
	})
}

// markBeside marks what is alive beside the stolen current credential, and
// hastens its drain. The mark comes after that: one that is missing says that
// the drain still waits as it did before the emergency.
func (r *Rotator) markBeside(ctx context.Context, s scene) error {
	left := s.desc.Versions.unstolen(s.req.Token)
	if len(left) == 0 {
		return nil
	}
	if retiring := s.desc.Versions.Holder(Retiring); slices.Contains(left, retiring) {
		if err := r.hasten(ctx, s); err != nil {
			r.Log.WarnContext(ctx, "starting the run of the drain anew, which the next look tries again", "secret", s.desc.ARN, "error", err)
			left = slices.DeleteFunc(left, func(id string) bool { return id == retiring })
		}
	}
	for _, id := range left {
		if err := r.markStolen(ctx, s, id); err != nil {
			return err
		}
	}
	return nil
}

// finishMarking goes on with an emergency that was killed while it marked.
func (r *Rotator) finishMarking(ctx context.Context, d Description, p Policy) error {
	v, current := d.Versions, d.Versions.Holder(Current)
	s := scene{req: Request{Secret: d.ARN, Token: cmp.Or(v.replacement(current), current)}, policy: p, desc: d}
	for _, id := range slices.Sorted(maps.Keys(v)) {
		if v.isStolen(id) {
			if err := r.markStolen(ctx, s, id); err != nil {
				return err
			}
		}
	}
	if !v.isStolen(current) {
		return nil
	}
	return r.markBeside(ctx, s)
}

// ensureReplaced starts the rotation that makes another credential in place of
// the stolen one, under the token that the emergency has written down. One whose
// version had to be discarded is tried again under the next token, which
// everybody derives alike.
func (r *Rotator) ensureReplaced(ctx context.Context, d Description, p Policy, s Situation, o EnsureOptions) (Ensured, error) {
	s, last, attempts, err := r.attempt(ctx, d, s)
	if err != nil {
		return Ensured{Situation: s}, err
	}
	if err := cantReplace(d, p); err != nil {
		if o.Resume || o.Emergency { // somebody waits for the answer
			return Ensured{Situation: s, Run: last}, err
		}
		return Ensured{Situation: s, Run: last}, nil // the finding RotationOff tells it
	}
	if attempts > 0 {
		if last.Status == RunFailed && !o.Resume && !s.worthAnother(last) {
			return Ensured{Situation: s, Run: last}, nil
		}
		if wait := r.rest(p, last, attempts, o); wait > 0 {
			return Ensured{Situation: s, Run: last, After: wait}, nil
		}
	}
	ensured, err := r.claim(ctx, d.ARN, p, s, o)
	ensured.Situation = s
	return ensured, err
}

// cantReplace refuses to ask for another credential while the store's rotation is
// off: asking would switch it on, and that is for whoever switched it off.
func cantReplace(d Description, p Policy) error {
	if p.Driver != DriverSecretsManager || (d.RotationEnabled != nil && *d.RotationEnabled) {
		return nil
	}
	return fault.New(fault.RotationDisabled, "a stolen credential is current, and Secrets Manager's rotation of %s, which replaces it, is off", d.ARN).
		WithHint("aws secretsmanager rotate-secret --secret-id %s switches it on again and makes another credential "+
			"(with --rotation-lambda-arn and --rotation-rules if it never had them); the watchdog does the rest", d.ARN)
}

// attempt finds the token that isn't spent: no run has turned it back. It tells
// how many are, and the last run of the latest of those, unless the next one has
// begun.
func (r *Rotator) attempt(ctx context.Context, d Description, s Situation) (_ Situation, last Run, spent int, err error) {
	if len(s.Token) < 32 || len(s.Token) > 64 { // nobody wrote it down, or not an emergency
		s.Token = nextToken(d.ARN, d.Versions.Holder(Current))
	}
	for ; ; spent++ {
		back, err := r.Runs.Describe(ctx, d.ARN, RunName(d.ARN, s.Token, Back)+"-g1")
		if err != nil {
			return s, Run{}, 0, fault.Wrap(fault.Unavailable, err, "looking up whether %s was turned back", s.Token)
		}
		head, _, err := r.lastRun(ctx, d.ARN, RunName(d.ARN, s.Token, Head))
		if err != nil {
			return s, Run{}, 0, err
		}
		if back.Status == RunAbsent {
			if head.Status != RunAbsent {
				spent = 0
			}
			return s, last, spent, nil
		}
		last, s.Token = head, nextToken(d.ARN, s.Token)
	}
}

// lastRun is a run's last generation, or an absent one.
func (r *Rotator) lastRun(ctx context.Context, secret, name string) (last Run, generation int, err error) {
	last = Run{Status: RunAbsent}
	for ; ; generation++ {
		run, err := r.describeRun(ctx, secret, name, generation+1)
		if err != nil || run.Status == RunAbsent {
			return last, generation, err
		}
		last = run
	}
}

// nextToken derives a version id from another one, or from the version that is
// to be replaced.
func nextToken(secret, from string) string {
	sum := sha256.Sum256([]byte("replacement\x00" + secret + "\x00" + from))
	id := sum[:16]
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // RFC 9562, version 8
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// worthAnother is restartable; so is a head that only the end of another run was in
// the way of, since the labels ask for it. While a stolen credential waits for it,
// any run is that something else was in the way of, or that took too long. Rotation
// that is off is in the way, too: nothing is started before it is on, see
// cantReplace.
func (s Situation) worthAnother(run Run) bool {
	why := fault.Name(causeOf(run))
	passes := []fault.Name{fault.HeadExpired, fault.RotationInProgress, fault.DrainInProgress, fault.RotationDisabled}
	return restartable(run) || (s.Direction == Head && why == fault.DrainInProgress) ||
		(s.Need == NeedReplace && slices.Contains(passes, why))
}

package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
)

// secretMark names a secret in a login's comment: 16 hex digits of its ARN's
// SHA-256. Version ids are unique within one secret only.
func secretMark(arn string) string {
	sum := sha256.Sum256([]byte(arn))
	return hex.EncodeToString(sum[:8])
}

// foreign reports a login that another secret's rotations have made or taken over.
func (t *target) foreign(r *role) bool {
	return r != nil && r.ours != nil && r.ours.Secret != "" && r.ours.Secret != secretMark(t.c.Secret)
}

// commented refuses a login whose comment names another version or secret.
func (t *target) commented(r *role, version string) error {
	switch {
	case r == nil || r.ours == nil:
		return nil
	case t.foreign(r):
		return fault.New(fault.PolicyViolation, "login %s belongs to another secret", r.name).
			WithHint("two secrets must not name one login; store a login of its own in one of them")
	case r.ours.Token != version:
		return fault.New(fault.Fenced, "login %s belongs to version %s, not to %s", r.name, r.ours.Token, version).
			WithHint("another rotation has taken it over; this run is over")
	}
	return nil
}

// known reports that a login is this secret's by what the database itself says:
// our comment on it, or on the login that stays, whose identity or clone it is.
// The secret's own value proves nothing: whoever may write it may name anybody.
func (t *target) known(ctx context.Context, q querier, r *role) (bool, error) {
	if r == nil || r.ours != nil {
		return true, nil // see commented
	}
	if t.to == nil {
		return false, nil
	}
	stays, err := readRole(ctx, q, t.to.username)
	if err != nil || stays == nil {
		return false, err
	}
	base := identityOf(stays, stays.name)
	return r.name == base || r.name == base+t.set.CloneSuffix || base == r.name+t.set.CloneSuffix, nil
}

// mayEnd refuses to take anything from a login that isn't known to be this
// secret's, unless it is alive and the secret's password opens it: then whoever
// stored the version holds the login. So it is with a login whose comment names
// another version of this secret, under which it was stored before. It reports
// whether our comment has to say so from now on.
func (t *target) mayEnd(ctx context.Context) (claim bool, err error) {
	s, err := t.asAdmin(ctx, "")
	if err != nil {
		return false, err
	}
	defer s.close()
	r, err := readRole(ctx, s, t.from.username)
	if err != nil {
		return false, err
	}
	taken := t.commented(r, t.c.From)
	if taken != nil && !fault.Is(taken, fault.Fenced) {
		return false, taken
	}
	if taken == nil {
		if known, err := t.known(ctx, s, r); err != nil || known {
			return false, err
		}
	}
	if r.super {
		return false, fault.New(fault.Blocked, "login %s is a superuser", r.name)
	}
	own, err := t.dial.connect(ctx, t.primary, t.from.login())
	switch {
	case err == nil:
		own.close()
		return true, nil
	case taken != nil:
		return false, taken
	case code(err) == "28P01" || notPermitted(err):
		return false, t.notOurs()
	}
	return false, named(err, "trying "+t.from.username+" on "+t.primary)
}

func (t *target) notOurs() error {
	return fault.New(fault.PolicyViolation, "login %s isn't known to be this secret's: nothing was done to it", t.from.username).
		WithHint("version %s names a login that keyturn hasn't made and whose password it doesn't hold; "+
			"find out who stored it, and take its KEYTURN_ labels off", t.c.From)
}

// takeIn writes our comment on a login that was proven to be the secret's. Ranks
// are compared within one rotation: another one's would fence From's own runs.
func (t *target) takeIn(ctx context.Context, tx pgx.Tx, r *role) error {
	rank := 0
	if t.c.Rotation == t.c.From {
		rank = t.c.Rank
	}
	return writeComment(ctx, tx, r, r.name, comment{
		Identity: identityOf(r, r.name), Token: t.c.From, Gen: rank, Secret: secretMark(t.c.Secret),
	})
}

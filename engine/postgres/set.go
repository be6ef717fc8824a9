package postgres

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// Set implements rotation.Engine: the database accepts To beside From. It tries
// To before it makes it, so that a repetition and an attempt whose answer was
// lost end here (rule C4.2); what it sends is never a password.
//
// In pair mode the login that comes may still be used under its older password.
// Then Set answers Wait or Unknown until that is drained.
func (e *Engine) Set(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	t, err := e.open(ctx, c)
	if err != nil {
		return rotation.Result{}, err
	}
	defer t.release()
	switch {
	case t.to == nil:
		return rotation.Result{}, fault.New(fault.InvalidStage, "version %s has no value yet", c.To).
			WithHint("create comes first; right after it the store may lag: try again")
	case t.from == nil:
		return rotation.Result{}, fault.New(fault.InvalidStage, "version %s has no value", c.From)
	case t.set.Mode == Pair && t.from.username == t.to.username:
		return rotation.Result{}, fault.New(fault.InvalidInput, "both versions use login %s", t.to.username)
	}
	if t.set.Mode == Pair {
		return t.setPair(ctx)
	}
	return t.setFresh(ctx)
}

// setFresh tries To before it makes it, and counts a refusal only if that login
// existed: otherwise there was no account to lock. Both logins' budgets are asked
// first, so that retries don't go on trying To while From's is spent.
func (t *target) setFresh(ctx context.Context) (rotation.Result, error) {
	for _, login := range []string{t.from.username, t.to.username} {
		if err := t.dial.budget.allows(ctx, login); err != nil {
			return rotation.Result{}, err
		}
	}
	pending, refusal := t.dial.attempt(ctx, t.to.address(), t.to.login())
	if refusal == nil {
		pending.close()
		return done(t.e.behaved(t.to.address(), t.to.username, "login accepted, nothing was left to do")), nil
	}
	if err := named(refusal, "trying the new login on "+t.to.address()); !fault.Is(err, fault.CredentialRejected) {
		return rotation.Result{}, err
	}
	s, err := t.mayUseAdmin(ctx)
	if err != nil {
		return rotation.Result{}, err
	}
	existed := false
	_, err = t.locked(ctx, s.identity, func(ctx context.Context, tx pgx.Tx) error {
		to, err := readRole(ctx, tx, s.to)
		if err != nil {
			return err
		}
		existed = to != nil
		return t.makeOrMend(ctx, tx, s, to)
	})
	if existed {
		t.dial.budget.spend(ctx, t.to.username, refusal)
	}
	if err != nil {
		return rotation.Result{}, err
	}
	return t.accepted(ctx)
}

// mayUseAdmin is the guard against being steered: the current credential has to
// log in, and the new login has to be the one that this rotation would make.
//
// The login's own session is believed where it says no. Where it says yes the
// admin looks again: whoever holds the login chooses its search path, and so what
// the catalogue's names mean to it.
func (t *target) mayUseAdmin(ctx context.Context) (shape, error) {
	own, err := t.holds(ctx)
	if err != nil {
		return shape{}, fault.Wrap(fault.CredentialRejected, err, "neither the new nor the current credential logs in")
	}
	if own != nil {
		defer own.close()
		if s, err := t.mayMake(ctx, own); err != nil {
			return s, err
		}
	}
	admin, err := t.asAdmin(ctx, "")
	if err != nil {
		return shape{}, err
	}
	defer admin.close()
	return t.mayMake(ctx, admin)
}

// holds logs in as the current credential. One that an emergency has cut off is
// told apart from a wrong password: the server looks at LOGIN only after it has
// accepted that. Then there is no session, and no error.
func (t *target) holds(ctx context.Context) (*session, error) {
	if !t.c.Emergency {
		return t.dial.try(ctx, t.from.address(), t.from.login())
	}
	own, err := t.dial.connect(ctx, t.from.address(), t.from.login())
	if notPermitted(err) {
		return nil, nil //nolint:nilnil // see above
	}
	return own, named(err, "logging in on "+t.from.address())
}

// mayMake derives who is who and refuses a new login that isn't this rotation's.
func (t *target) mayMake(ctx context.Context, q querier) (shape, error) {
	s, err := t.derive(ctx, q, t.from.username, t.c.To)
	if err != nil {
		return s, err
	}
	if s.to != t.to.username {
		return s, fault.New(fault.PolicyViolation, "version %s names login %s, this rotation makes %s", t.c.To, t.to.username, s.to).
			WithHint("somebody else has stored this version; roll it back and rotate again")
	}
	if s.from.super {
		return s, fault.New(fault.Blocked, "login %s is a superuser", s.from.name)
	}
	return s, nil
}

// makeOrMend makes the login in the locked transaction, or puts right one that
// an earlier attempt or a restored backup has left.
func (t *target) makeOrMend(ctx context.Context, tx pgx.Tx, s shape, to *role) error {
	if to != nil && to.ours == nil {
		return fault.New(fault.Blocked, "role %s exists and isn't ours", s.to).WithHint("rename or drop it")
	}
	from, err := readRole(ctx, tx, s.from.name)
	if err != nil {
		return err
	}
	if from == nil {
		return fault.New(fault.Conflict, "login %s has gone since we logged in", s.from.name)
	}
	if err := t.guard(ctx, tx, to, t.c.To); err != nil {
		return err
	}
	if err := t.claim(ctx, tx, from); err != nil {
		return err
	}
	if s.rename {
		if from, err = t.moveIdentity(ctx, tx, s, from); err != nil {
			return err
		}
	}
	if to != nil {
		v, err := verifier(s.to, t.to.password)
		if err != nil {
			return err
		}
		return run(ctx, tx, "restoring login "+s.to,
			"ALTER ROLE "+ident(s.to)+" LOGIN INHERIT PASSWORD "+literal(v)+" VALID UNTIL 'infinity'")
	}
	return t.makeLogin(ctx, tx, s.to, t.to.password, s.identity, t.c.To, from)
}

// claim says in the current login's comment that From is the version that it
// belongs to now: somebody may have stored the same login again under another
// version id. We have logged in with From, so it is true; and runs of the
// version that it belonged to are fenced from here on.
func (t *target) claim(ctx context.Context, tx pgx.Tx, from *role) error {
	if from.ours == nil || (from.ours.Token == t.c.From && !t.foreign(from)) {
		return nil
	}
	claimed := *from.ours
	if claimed.Token != t.c.From {
		claimed.Gen = 0 // of another rotation, see takeIn
	}
	claimed.Token, claimed.Secret = t.c.From, secretMark(t.c.Secret)
	return writeComment(ctx, tx, from, from.name, claimed)
}

// makeLogin creates a login that acts as the identity and otherwise equals the
// model: its settings in both scopes and its limit, but INHERIT in any case,
// because CONNECT is checked for the session's user.
func (t *target) makeLogin(ctx context.Context, tx pgx.Tx, name string, password rotation.Value, identity, version string, model *role) error {
	v, err := verifier(name, password)
	if err != nil {
		return err
	}
	if err := run(ctx, tx, "making login "+name, "CREATE ROLE "+ident(name)+" LOGIN INHERIT PASSWORD "+literal(v)+
		" CONNECTION LIMIT "+strconv.Itoa(model.limit)+" VALID UNTIL 'infinity' IN ROLE "+ident(identity)); err != nil {
		return err
	}
	if err := copySettings(ctx, tx, model.oid, name); err != nil {
		return err
	}
	if err := actAs(ctx, tx, name, identity); err != nil {
		return err
	}
	return writeComment(ctx, tx, nil, name, comment{Identity: identity, Token: version, Gen: t.c.Rank, Secret: secretMark(t.c.Secret)})
}

// actAs comes after the copies: from then on every session of the login has the
// identity's rights and name.
func actAs(ctx context.Context, tx pgx.Tx, login, identity string) error {
	return run(ctx, tx, "making "+login+" act as "+identity, "ALTER ROLE "+ident(login)+" SET role = "+literal(identity))
}

// moveIdentity lets the identity go on under another name, and makes a login of
// the old name with the old password: nobody notices. A login that an emergency
// has cut off stays cut off. It returns the new login.
func (t *target) moveIdentity(ctx context.Context, tx pgx.Tx, s shape, from *role) (*role, error) {
	if from.ours != nil && from.ours.Identity == s.identity {
		return from, nil // an earlier attempt has done it
	}
	taken, err := readRole(ctx, tx, s.identity)
	if err != nil {
		return nil, err
	}
	if taken != nil {
		return nil, fault.New(fault.Blocked, "role %s exists already", s.identity).WithHint("choose another owner in keyturn.yaml")
	}
	if err := run(ctx, tx, "renaming "+from.name, "ALTER ROLE "+ident(from.name)+" RENAME TO "+ident(s.identity)); err != nil {
		return nil, err
	}
	if err := t.makeLogin(ctx, tx, from.name, t.from.password, s.identity, t.c.From, from); err != nil {
		return nil, err
	}
	if !from.login {
		if err := run(ctx, tx, "closing "+from.name, "ALTER ROLE "+ident(from.name)+" NOLOGIN"); err != nil {
			return nil, err
		}
	}
	if from.ours != nil { // written by the cut, when the identity was the login
		if err := run(ctx, tx, "clearing the comment of "+s.identity, "COMMENT ON ROLE "+ident(s.identity)+" IS NULL"); err != nil {
			return nil, err
		}
	}
	if err := run(ctx, tx, "closing "+s.identity, "ALTER ROLE "+ident(s.identity)+" NOLOGIN PASSWORD NULL"); err != nil {
		return nil, err
	}
	return readRole(ctx, tx, from.name)
}

// accepted proves that the new login works on the primary.
func (t *target) accepted(ctx context.Context) (rotation.Result, error) {
	if err := t.dial.proves(ctx, t.primary, t.to.login()); err != nil {
		return rotation.Result{}, err
	}
	t.e.log.InfoContext(ctx, "the database accepts the new login", "secret", t.c.Secret, "login", t.to.username)
	return done(t.e.behaved(t.primary, t.to.username, "login accepted")), nil
}

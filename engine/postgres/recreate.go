package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

var _ rotation.Recreator = (*Engine)(nil)

// suffixLength is that of freshName: an underscore and eight characters.
const suffixLength = 9

// Recreate implements rotation.Recreator: a database that was restored from a
// snapshot has the logins of that time, and lacks To's, or has it with an older
// password.
//
// Nobody can prove that he holds a login which isn't there. In place of that proof
// stands what an earlier rotation, or the operator, has said: the login's name has
// to be the one that this version's login has, and its identity the one that a
// login of this secret acts as, or that keyturn.yaml names. From is the version
// before, if there is one: where it logs in it says so, too.
func (e *Engine) Recreate(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	t, err := e.open(ctx, c)
	if err != nil {
		return rotation.Result{}, err
	}
	defer t.release()
	if t.to == nil {
		return rotation.Result{}, fault.New(fault.InvalidStage, "version %s has no value", c.To).
			WithHint("store the working credential as AWSCURRENT; there is no password to make a login with")
	}
	if err := t.dial.budget.allows(ctx, t.to.username); err != nil {
		return rotation.Result{}, err
	}
	own, refusal := t.dial.attempt(ctx, t.to.address(), t.to.login())
	if refusal == nil {
		own.close()
		return t.proven(ctx, "login "+t.to.username+" exists and works: nothing was done", true)
	}
	err = named(refusal, "trying "+t.to.username+" on "+t.to.address())
	if !fault.Is(err, fault.CredentialRejected) && !notPermitted(refusal) {
		return rotation.Result{}, err
	}
	if err := t.remake(ctx, refusal); err != nil {
		return rotation.Result{}, err
	}
	return t.proven(ctx, "login "+t.to.username+" was made again", false)
}

// proven is Test of the login that is there now.
func (t *target) proven(ctx context.Context, note string, untouched bool) (rotation.Result, error) {
	res, err := t.e.Test(ctx, t.c)
	if err != nil {
		return rotation.Result{}, fault.Wrap(fault.CredentialRejected, err, "proving the login")
	}
	res.Notes, res.Untouched = append(res.Notes, note), untouched
	return res, nil
}

// remake makes the login under the identity's lock. A refusal of one that existed
// counts, as everywhere.
func (t *target) remake(ctx context.Context, refusal error) error {
	admin, err := t.asAdmin(ctx, "")
	if err != nil {
		return err
	}
	r, err := readRole(ctx, admin, t.to.username)
	if err != nil {
		return err
	}
	if r != nil {
		t.dial.budget.spend(ctx, t.to.username, refusal)
	}
	identity, err := t.identityLost(r)
	if err != nil {
		return err
	}
	_, err = t.locked(ctx, identity, func(ctx context.Context, tx pgx.Tx) error { return t.makeAgain(ctx, tx, identity) })
	return err
}

// identityLost is whose rights the login has to have.
func (t *target) identityLost(r *role) (string, error) {
	name := t.to.username
	switch {
	case r != nil && r.ours == nil:
		return "", fault.New(fault.Blocked, "role %s exists, refuses the stored password and isn't ours", name).
			WithHint("give it the stored password by hand, or store the password that it has as AWSCURRENT; nothing was changed")
	case r != nil && (t.foreign(r) || r.ours.Secret == ""):
		return "", fault.New(fault.PolicyViolation, "login %s isn't known to belong to this secret", name).
			WithHint("two secrets must not name one login; nothing was changed")
	case r != nil:
		return r.ours.Identity, nil
	case t.set.Mode == Pair && strings.HasSuffix(name, t.set.CloneSuffix):
		return strings.TrimSuffix(name, t.set.CloneSuffix), nil
	}
	if identity := name[:max(0, len(name)-suffixLength)]; identity != "" {
		if made, err := freshName(identity, t.c.To); err == nil && made == name {
			return identity, nil
		}
	}
	return "", fault.New(fault.Blocked, "login %s doesn't exist, and its name isn't one that a rotation of version %s gives", name, t.c.To).
		WithHint("only you know what rights it has: make it by hand with the stored password; nothing was changed")
}

// makeAgain is the locked part. Everything is read again: somebody may have been
// quicker.
func (t *target) makeAgain(ctx context.Context, tx pgx.Tx, identity string) error {
	owner, err := readRole(ctx, tx, identity)
	if err != nil {
		return err
	}
	r, err := readRole(ctx, tx, t.to.username)
	if err != nil {
		return err
	}
	switch {
	case owner == nil:
		return fault.New(fault.Blocked, "role %s, whose rights login %s has, doesn't exist", identity, t.to.username).
			WithHint("is this the right database, and the right snapshot? nothing was changed")
	case owner.super || (r != nil && r.super):
		return fault.New(fault.Blocked, "%s or %s is a superuser", identity, t.to.username)
	case r != nil && (r.ours == nil || r.ours.Secret != secretMark(t.c.Secret)):
		return fault.New(fault.Conflict, "role %s has been made by somebody else meanwhile", t.to.username)
	}
	model, err := t.kin(ctx, tx, owner)
	if err != nil {
		return err
	}
	if err := t.c.Fence(ctx); err != nil {
		return err
	}
	if r == nil {
		return t.makeLogin(ctx, tx, t.to.username, t.to.password, identity, t.c.To, model)
	}
	v, err := verifier(r.name, t.to.password)
	if err != nil {
		return err
	}
	if err := run(ctx, tx, "restoring login "+r.name, "ALTER ROLE "+ident(r.name)+" LOGIN INHERIT PASSWORD "+literal(v)+" VALID UNTIL 'infinity'"); err != nil {
		return err
	}
	claimed := *r.ours
	if claimed.Token != t.c.To {
		claimed.Token, claimed.Gen = t.c.To, 0
	}
	return writeComment(ctx, tx, r, r.name, claimed)
}

// kin is a login of this secret that acts as the identity: it has the settings
// that the lost one had. It is one that an earlier rotation has made, or that of
// From. Without one the policy has to name the identity, which is the model itself
// then.
func (t *target) kin(ctx context.Context, q querier, owner *role) (*role, error) {
	rows, err := q.Query(ctx, `SELECT r.rolname FROM pg_roles r JOIN pg_auth_members m ON m.member = r.oid
		WHERE m.roleid = $1 ORDER BY r.oid DESC`, owner.oid)
	if err != nil {
		return nil, named(err, "looking for the logins of "+owner.name)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, named(err, "looking for the logins of "+owner.name)
	}
	for _, name := range append(names, owner.name) {
		r, err := readRole(ctx, q, name)
		if err != nil {
			return nil, err
		}
		if r != nil && r.ours != nil && r.ours.Identity == owner.name && r.ours.Secret == secretMark(t.c.Secret) {
			return r, nil
		}
	}
	if r, err := t.before(ctx, q, owner.name); err != nil || r != nil {
		return r, err
	}
	if t.set.Identity == owner.name || (t.set.Adopt == AdoptRename && t.set.Owner == owner.name) {
		return owner, nil
	}
	return nil, fault.New(fault.Blocked, "nothing in this database says that login %s may have the rights of %s", t.to.username, owner.name).
		WithHint("no login of an earlier rotation is there, and the version before doesn't log in: name %s as identity in keyturn.yaml and deploy, if that is right; nothing was changed", owner.name)
}

// before is the login of the version before, if that logs in and has the identity's
// rights: who stored this secret held it.
func (t *target) before(ctx context.Context, q querier, identity string) (*role, error) {
	if t.from == nil {
		return nil, nil //nolint:nilnil // nobody vouches
	}
	r, err := readRole(ctx, q, t.from.username)
	if err != nil || r == nil || r.super || t.foreign(r) || identityOf(r, r.name) != identity {
		return nil, err
	}
	own, err := t.dial.try(ctx, t.from.address(), t.from.login())
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // it doesn't log in: it vouches for nothing
	}
	own.close()
	return r, nil
}

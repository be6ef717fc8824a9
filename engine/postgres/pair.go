package postgres

import (
	"context"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// setPair tries To only where its comment says that it has To's password, or
// where From, which has to log in before the admin may look, doesn't: under its
// older password the standby is an account that somebody may be using, and a
// drain asks many times.
func (t *target) setPair(ctx context.Context) (rotation.Result, error) {
	s, err := t.mayUseAdmin(ctx)
	if fault.Is(err, fault.CredentialRejected) || fault.Is(err, fault.Blocked) {
		if t.dial.proves(ctx, t.to.address(), t.to.login()) == nil {
			return t.finishPair(ctx, t.to.username)
		}
	}
	if err != nil {
		return rotation.Result{}, err
	}
	return t.takeOverStandby(ctx, s)
}

// takeOverStandby gives To the login that stands by. AWS's samples leave it alive
// under its older password, so somebody may be using it: it is drained first.
func (t *target) takeOverStandby(ctx context.Context, s shape) (rotation.Result, error) {
	admin, err := t.asAdmin(ctx, "")
	if err != nil {
		return rotation.Result{}, err
	}
	standby, err := readRole(ctx, admin, s.to)
	admin.close()
	if err != nil {
		return rotation.Result{}, err
	}
	if standby != nil && standby.login && belongs(standby, t.c.To) && t.dial.proves(ctx, t.to.address(), t.to.login()) == nil {
		return t.finishPair(ctx, s.to)
	}
	var proof []rotation.Evidence
	if standby != nil && standby.login && !belongs(standby, t.c.To) {
		if standby.super {
			return rotation.Result{}, fault.New(fault.Blocked, "role %s is a superuser", standby.name)
		}
		seen, err := t.observe(ctx, "standby "+s.to, s.to, s.from.name, t.c.From)
		if err != nil {
			return rotation.Result{}, err
		}
		res, err := rotation.JudgeDrain(t.c.Policy, t.c.Cursor, t.e.now(), seen)
		if err != nil || res.Outcome != rotation.Done {
			return res, err
		}
		proof = res.Evidence
	}
	if _, err := t.locked(ctx, s.identity, func(ctx context.Context, tx pgx.Tx) error { return t.takeOver(ctx, tx, s, standby) }); err != nil {
		return rotation.Result{}, err
	}
	res, err := t.finishPair(ctx, s.to)
	res.Evidence = append(proof, res.Evidence...)
	return res, err
}

// belongs reports whether a login has the password of a version.
func belongs(r *role, version string) bool { return r.ours != nil && r.ours.Token == version }

// takeOver gives the standby login To's password and everything that makes it
// equal to the current one, in the locked transaction.
func (t *target) takeOver(ctx context.Context, tx pgx.Tx, s shape, seen *role) error {
	to, err := readRole(ctx, tx, s.to)
	if err != nil {
		return err
	}
	from, err := readRole(ctx, tx, s.from.name)
	if err != nil {
		return err
	}
	if from == nil || !same(to, seen) {
		return fault.New(fault.Conflict, "logins %s and %s have changed since we looked", s.from.name, s.to)
	}
	version := t.c.To
	if to != nil && to.ours != nil {
		version = to.ours.Token // its earlier version is revoked or drained
	}
	if err := t.guard(ctx, tx, to, version); err != nil {
		return err
	}
	if err := t.claim(ctx, tx, from); err != nil {
		return err
	}
	if to == nil {
		return t.makeLogin(ctx, tx, s.to, t.to.password, s.identity, t.c.To, from)
	}
	v, err := verifier(s.to, t.to.password)
	if err != nil {
		return err
	}
	if err := run(ctx, tx, "opening login "+s.to, "ALTER ROLE "+ident(s.to)+" LOGIN INHERIT PASSWORD "+literal(v)+
		" CONNECTION LIMIT "+strconv.Itoa(from.limit)+" VALID UNTIL 'infinity'"); err != nil {
		return err
	}
	for _, member := range []string{s.from.name, s.to} {
		if err := join(ctx, tx, member, s.identity); err != nil {
			return err
		}
	}
	if err := resetSettings(ctx, tx, to); err != nil {
		return err
	}
	if err := copySettings(ctx, tx, from.oid, s.to); err != nil {
		return err
	}
	if s.to != s.identity {
		if err := actAs(ctx, tx, s.to, s.identity); err != nil {
			return err
		}
	}
	return writeComment(ctx, tx, to, s.to, comment{Identity: s.identity, Token: t.c.To, Gen: t.c.Rank, Secret: secretMark(t.c.Secret)})
}

func same(a, b *role) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.oid == b.oid && a.login == b.login && a.text == b.text
}

// join makes a login a member of the identity, once.
func join(ctx context.Context, tx pgx.Tx, member, identity string) error {
	if member == identity {
		return nil
	}
	already, err := isMember(ctx, tx, member, identity)
	if err != nil || already {
		return err
	}
	return run(ctx, tx, "making "+member+" a member of "+identity, "GRANT "+ident(identity)+" TO "+ident(member))
}

// finishPair repairs the ownership of what the clone has made under its own
// name, then proves the new login. Repeating it repairs what is left.
func (t *target) finishPair(ctx context.Context, login string) (rotation.Result, error) {
	if err := t.useAdmin(ctx); err != nil {
		return rotation.Result{}, err
	}
	own, err := t.dial.try(ctx, t.primary, t.to.login())
	if err != nil {
		return rotation.Result{}, err
	}
	defer own.close()
	to, err := readRole(ctx, own, login)
	if err != nil {
		return rotation.Result{}, err
	}
	if to == nil || to.ours == nil {
		return rotation.Result{}, fault.New(fault.Conflict, "login %s has lost our comment", login)
	}
	identity := to.ours.Identity
	var notes []string
	for _, d := range []*document{t.from, t.to} {
		if d == nil || d.username == identity {
			continue
		}
		r, err := readRole(ctx, own, d.username)
		if err != nil {
			return rotation.Result{}, err
		}
		if r == nil {
			continue
		}
		left, err := t.repair(ctx, own, d, r, identity)
		if err != nil {
			return rotation.Result{}, err
		}
		notes = append(notes, left...)
	}
	slices.Sort(notes)
	res := done(t.e.behaved(t.primary, login, "login accepted"))
	res.Notes = slices.Compact(notes)
	return res, nil
}

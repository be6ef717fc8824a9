package postgres

import (
	"context"
	"strings"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// shape is who is who in one rotation.
type shape struct {
	identity string // whose rights every login has, after this rotation's Set
	from     *role  // the login that goes
	to       string // the login that comes
	rename   bool   // Set first moves the identity away from the login's name
}

// derive finds out who is who from what is in the database: our comment on the
// login, or else the login itself.
func (t *target) derive(ctx context.Context, q querier, login, version string) (shape, error) {
	from, err := readRole(ctx, q, login)
	if err != nil {
		return shape{}, err
	}
	if from == nil {
		return shape{}, fault.New(fault.CredentialRejected, "login %s doesn't exist", login)
	}
	s := shape{from: from, identity: login}
	switch {
	case from.ours != nil:
		s.identity = from.ours.Identity
	case t.set.Mode == Pair && strings.HasSuffix(login, t.set.CloneSuffix):
		base, err := readRole(ctx, q, strings.TrimSuffix(login, t.set.CloneSuffix))
		if err != nil {
			return s, err
		}
		if base != nil {
			s.identity = base.name
		}
	}
	if err := t.assertIdentity(&s); err != nil {
		return s, err
	}
	if t.set.Adopt == AdoptRename && s.identity == login {
		s.identity, s.rename = t.set.Owner, true
	}
	if t.set.Mode == Pair {
		s.to, err = pairName(login, s.identity, t.set.CloneSuffix)
	} else {
		s.to, err = freshName(s.identity, version)
	}
	return s, err
}

// assertIdentity compares what was found with what the policy says.
func (t *target) assertIdentity(s *shape) error {
	if t.set.Identity == "" || t.set.Identity == s.identity {
		return nil
	}
	if t.set.Adopt == AdoptRename && t.set.Identity == t.set.Owner && s.identity == s.from.name {
		return nil
	}
	return fault.New(fault.Blocked, "login %s has the rights of %s, the policy says %s", s.from.name, s.identity, t.set.Identity).
		WithHint("remove identity from keyturn.yaml, or store a login of %s as AWSCURRENT", t.set.Identity)
}

// pairName is the other login of a pair: the clone for its base, the base for
// everything else.
func pairName(login, identity, suffix string) (string, error) {
	if login != identity {
		return identity, nil
	}
	return checkedName(identity, suffix)
}

// Create implements rotation.Engine: it makes and stores To's value, after a
// preflight that changes nothing. A value that is there already is kept: only
// "no such value" leads to making one (rule C3.3).
func (e *Engine) Create(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	t, err := e.open(ctx, c)
	if err != nil {
		return rotation.Result{}, err
	}
	defer t.release()
	if t.to != nil {
		return done(rotation.Evidence{Party: c.To, Digest: t.to.username, By: "the value was stored already", Proof: rotation.Written, At: e.now().UTC()}), nil
	}
	s, found, err := t.preflight(ctx)
	if err != nil {
		return rotation.Result{}, err
	}
	if err := found.fault(); err != nil {
		return rotation.Result{}, err
	}
	password, err := newPassword(e.random)
	if err != nil {
		return rotation.Result{}, err
	}
	value, err := t.from.with(s.to, password)
	if err != nil {
		return rotation.Result{}, err
	}
	by := "the value was stored"
	if err := e.values.Put(ctx, c, value); fault.Is(err, fault.Conflict) {
		// An earlier attempt has stored its value after all: that one is used.
		stored, err := e.version(ctx, c.Secret, c.To)
		if err != nil {
			return rotation.Result{}, err
		}
		if stored == nil {
			return rotation.Result{}, fault.New(fault.Conflict, "version %s is being stored by somebody else", c.To)
		}
		by = "another attempt had stored the value"
	} else if err != nil {
		return rotation.Result{}, fault.Wrap(fault.Ambiguous, err, "storing version %s", c.To)
	}
	e.log.InfoContext(ctx, "made a new value", "secret", c.Secret, "version", c.To, "login", s.to)
	return done(rotation.Evidence{Party: c.To, Digest: s.to, By: by, Proof: rotation.Written, At: e.now().UTC()}), nil
}

// Plan implements rotation.Engine: who takes part, what breaks, what blocks.
func (e *Engine) Plan(ctx context.Context, c rotation.Change) (rotation.Plan, error) {
	t, err := e.open(ctx, c)
	if err != nil {
		return rotation.Plan{}, err
	}
	defer t.release()
	s, found, err := t.preflight(ctx)
	if err != nil {
		return rotation.Plan{}, err
	}
	p := rotation.Plan{Blockers: found.all()}
	for _, node := range t.nodes {
		p.Parties = append(p.Parties, "node "+node)
	}
	for _, pooler := range t.set.Poolers {
		p.Parties = append(p.Parties, "pooler "+pooler.Address)
	}
	for _, party := range c.Policy.Parties {
		p.Parties = append(p.Parties, party.Name)
	}
	switch {
	case s.rename:
		p.Breaks = append(p.Breaks, `role `+s.from.name+` is renamed to `+s.identity+`: what names it (pg_hba.conf, "$user", SECURITY LABELs, scripts) has to follow`)
	case t.set.Mode == Pair:
		p.Breaks = append(p.Breaks, "whoever still uses an older password of "+s.to+" is locked out; its sessions are waited for first")
	}
	if len(c.Policy.Parties) == 0 && t.loginLogs() == 0 {
		p.Breaks = append(p.Breaks, "no consumer is registered and there is no login log: the drain will stay unknown")
	}
	return p, nil
}

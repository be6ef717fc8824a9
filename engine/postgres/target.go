package postgres

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// target is one order, read and checked against the policy. Nothing has been
// connected to yet.
type target struct {
	e        *Engine
	c        rotation.Change
	set      Settings
	dial     *dialer
	from, to *document // nil: the version has no value
	admin    *document // after useAdmin
	primary  string    // after useAdmin: where DDL goes
	nodes    []string  // after useAdmin: the primary first
	admins   map[string]*session
	stays    *role // after lockName: To's login, if it is there
}

// open reads both versions and refuses what the policy doesn't allow, before
// the admin's secret is read or anything is connected to: whoever may write the
// secret must not steer our admin's rights.
func (e *Engine) open(ctx context.Context, c rotation.Change) (*target, error) {
	set, err := ParseSettings(c.Policy.Settings)
	if err != nil {
		return nil, err
	}
	t := &target{e: e, c: c, set: set, admins: map[string]*session{}}
	if t.from, err = e.version(ctx, c.Secret, c.From); err != nil {
		return nil, err
	}
	if t.to, err = e.version(ctx, c.Secret, c.To); err != nil {
		return nil, err
	}
	for _, d := range []*document{t.from, t.to} {
		if d == nil {
			continue
		}
		if err := set.allows(d); err != nil {
			return nil, err
		}
	}
	one := t.from
	switch {
	case t.from == nil && t.to == nil:
		return nil, fault.New(fault.InvalidStage, "neither version %q nor %q of %s has a value", c.From, c.To, c.Secret)
	case t.from == nil:
		one = t.to
	case t.to != nil && (t.from.address() != t.to.address() || t.from.engine != t.to.engine || t.from.dbname != t.to.dbname):
		return nil, fault.New(fault.PolicyViolation, "versions %s and %s name different databases: %s and %s",
			c.From, c.To, t.from.address(), t.to.address()).
			WithHint("a rotation changes the login and nothing else; move the host in a change of its own")
	}
	if t.dial, err = newDialer(set, one.plaintext); err != nil {
		return nil, err
	}
	t.dial.budget = t.bound()
	return t, nil
}

// version reads one version; no value is nil and no error.
func (e *Engine) version(ctx context.Context, secret, id string) (*document, error) {
	if id == "" {
		return nil, nil //nolint:nilnil // no version: no document
	}
	v, err := e.values.Value(ctx, secret, id)
	if fault.Is(err, fault.InvalidStage) {
		return nil, nil //nolint:nilnil // a version without a value
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "reading version %s", id)
	}
	d, err := parseDocument(v)
	return d, fault.Wrap(fault.InvalidInput, err, "reading version %s of %s", id, secret)
}

// allows compares a secret's value with the policy.
func (s *Settings) allows(d *document) error {
	switch {
	case !slices.Contains(s.Hosts, d.address()):
		return fault.New(fault.PolicyViolation, "the secret names %s, which the policy doesn't allow", d.address()).
			WithHint("allowed are %v; add it to hosts in keyturn.yaml if it is right", s.Hosts)
	case d.masterARN != "" && d.masterARN != s.Admin:
		return fault.New(fault.PolicyViolation, "the secret names the admin secret %s, which the policy doesn't allow", d.masterARN).
			WithHint("the policy's admin secret is %s", s.Admin)
	case d.plaintext && !s.AllowPlaintext:
		return fault.New(fault.PolicyViolation, "the secret asks for plaintext (\"ssl\": false)").
			WithHint("remove the field, or set allow_plaintext in keyturn.yaml")
	}
	return nil
}

// any is a document of this secret, whichever version has one.
func (t *target) any() *document {
	if t.from != nil {
		return t.from
	}
	return t.to
}

// useAdmin reads the admin's secret and works out the nodes.
func (t *target) useAdmin(ctx context.Context) error {
	if t.admin != nil {
		return nil
	}
	v, _, err := t.e.values.Current(ctx, t.set.Admin)
	if err != nil {
		return &rotation.OwnLoginError{Err: fault.Wrap(fault.Unavailable, err, "reading the admin's secret")}
	}
	admin, err := parseAdmin(v)
	if err != nil {
		return fault.Wrap(fault.InvalidInput, err, "reading the admin's secret %s", t.set.Admin)
	}
	endpoint := t.any().address()
	primary := endpoint
	if admin.host != "" {
		primary = admin.address()
	}
	pooled := slices.ContainsFunc(t.set.Poolers, func(p PoolerSettings) bool { return p.Address == primary })
	switch {
	case primary != endpoint && !slices.Contains(t.set.Hosts, primary):
		return fault.New(fault.PolicyViolation, "the admin's secret names %s, which the policy doesn't allow", primary).
			WithHint("allowed are %v", t.set.Hosts)
	case pooled:
		return fault.New(fault.PolicyViolation, "the admin would reach %s, which is a pooler", primary).
			WithHint("let the admin's secret name the primary's host and port, and add it to hosts")
	}
	t.admin, t.primary = admin, primary
	t.nodes = []string{primary}
	for _, node := range append([]string{endpoint}, t.set.Replicas...) {
		isPooler := slices.ContainsFunc(t.set.Poolers, func(p PoolerSettings) bool { return p.Address == node })
		if !isPooler && !slices.Contains(t.nodes, node) {
			t.nodes = append(t.nodes, node)
		}
	}
	return nil
}

// asAdmin connects to a node, "" for the primary, with the admin's login. One
// step uses one session per node; release ends them.
func (t *target) asAdmin(ctx context.Context, node string) (*session, error) {
	if err := t.useAdmin(ctx); err != nil {
		return nil, err
	}
	if node == "" {
		node = t.primary
	}
	if s, ok := t.admins[node]; ok && !s.IsClosed() && s.PgConn().TxStatus() == 'I' {
		return s, nil
	}
	as := t.admin.login()
	s, err := t.dial.connect(ctx, node, as, asAdministrator(time.Duration(t.set.StatementTimeout), idleLimit(t.c.Policy.FunctionLimit)))
	if err != nil {
		return nil, t.adminFailed(node, err)
	}
	s.kept = true
	if old, ok := t.admins[node]; ok {
		old.kept = false
		old.close()
	}
	t.admins[node] = s
	return s, nil
}

// adminFailed says whose login it is that failed, and which secret mends a refused
// password: its hint would name the one that is rotated.
func (t *target) adminFailed(node string, err error) error {
	refused := code(err) == "28P01"
	err = named(err, "logging in on "+node)
	f := fault.New(fault.NameOf(err), "using the admin's login %s: %s", t.admin.username, err).WithHint("%s", fault.HintOf(err))
	if refused {
		f = f.WithHint("the admin's password isn't the database's; store the working one as AWSCURRENT of %s", t.set.Admin)
	}
	return &rotation.OwnLoginError{Err: f}
}

// mostIdle is less than a step's repetitions take while they wait for a lock, 6
// times the default lock_timeout: what a function held that was killed is free
// before whoever calls it again gives up.
const mostIdle = 15 * time.Second

// idleLimit is how long one of our transactions may lie open between two
// statements: no function lives longer.
func idleLimit(functionLimit time.Duration) time.Duration {
	if functionLimit < time.Second {
		return mostIdle
	}
	return min(functionLimit, mostIdle)
}

// release ends the step's admin sessions, side by side: some may be silent.
func (t *target) release() {
	var all sync.WaitGroup
	for _, s := range t.admins {
		s.kept = false
		all.Go(s.close)
	}
	all.Wait()
}

// terminates reports whether sessions are ended rather than waited for.
func (t *target) terminates() bool {
	return t.c.Policy.OnTimeout == rotation.Terminate || t.c.Emergency
}

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

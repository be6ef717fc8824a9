package rotation_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// role is a login at the modelled target, with what Keyturn's comment on it says.
type role struct {
	password string
	open     bool   // LOGIN
	token    string // the version that it belongs to; "" without our comment
	rank     int    // the highest that has acted on it
	byHand   bool   // a person has made it
}

// belongs writes From's name on a login, with no rank of another rotation.
func (r *role) belongs(c rotation.Change) {
	r.token, r.rank = c.From, 0
	if c.Rotation == c.From {
		r.rank = c.Rank
	}
}

// database is a target with roles, sessions and one lock, fenced as
// engine/postgres is. In pair mode two roles take turns; else each version has a
// role of its own.
type database struct {
	pair  bool
	roles map[string]*role
	held  *process // who has the lock
}

// pair of a login name and a password; a secret value is their text.
type credential struct{ login, password string }

func (c credential) String() string { return c.login + "/" + c.password }

func parse(value string) credential {
	login, password, _ := strings.Cut(value, "/")
	return credential{login, password}
}

// accepts is a login on a fresh connection.
func (d *database) accepts(c credential) bool {
	r := d.roles[c.login]
	return r != nil && r.open && c.password != "" && r.password == c.password
}

// locked reports a login that has this password and is refused all the same.
func (d *database) locked(c credential) bool {
	r := d.roles[c.login]
	return r != nil && !r.open && c.password != "" && r.password == c.password
}

const clone = "_clone"

// atCommit is where an act at the target can't be called back any more.
const atCommit = "commit at the target"

// standby is the other login of a pair.
func standby(login string) string {
	if base, ok := strings.CutSuffix(login, clone); ok {
		return base
	}
	return login + clone
}

// foreign reports a login that nothing at the target says to be this secret's.
func foreign(login string, r *role) bool { return r.token == "" && !strings.HasPrefix(login, "app") }

// modelEngine is the engine of that target, as one process runs it.
type modelEngine struct {
	m *model
	p *process
}

func (e modelEngine) Engine(string) (rotation.Engine, error) { return e, nil }

func (modelEngine) Defaults() rotation.Policy { return rotation.Policy{} }

func (modelEngine) Plan(context.Context, rotation.Change) (rotation.Plan, error) {
	return rotation.Plan{}, nil
}

func (e modelEngine) Identity(ctx context.Context, secret, version string) (string, error) {
	v, err := e.m.store.Value(ctx, secret, version)
	return parse(v.Reveal()).login, err
}

var (
	modelDone = rotation.Result{Outcome: rotation.Done}
	noResult  rotation.Result
)

// Create makes a password of its own at each attempt: the store keeps the first.
func (e modelEngine) Create(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	from, there := e.m.credential(c.From), e.m.credential(c.To)
	if there.login != "" {
		return modelDone, nil
	}
	made := credential{"app-" + e.m.short(c.To), e.m.password()}
	if e.m.db.pair {
		made.login = standby(from.login)
	}
	err := modelStore(e).Put(ctx, c, rotation.NewValue(made.String()))
	if fault.Is(err, fault.Conflict) && e.m.credential(c.To).login != "" {
		err = nil
	}
	return modelDone, fault.Wrap(fault.Ambiguous, err, "storing the value")
}

// locks runs an act under the target's lock: check, fence, then the commit.
func (e modelEngine) locks(ctx context.Context, c rotation.Change, login string, version func(*role) string, act func(*role) error) error {
	db := e.m.db
	if db.held != nil {
		return fault.New(fault.Unavailable, "another process has the lock")
	}
	db.held = e.p
	defer func() { db.held = nil }()
	r := db.roles[login]
	if r != nil && r.token != "" && r.token != version(r) {
		return fault.New(fault.Fenced, "login %s belongs to version %s", login, e.m.short(r.token))
	}
	mark := e.mark(c)
	rank := c.Rank
	if mark != nil && mark.rank > rank {
		return fault.New(fault.Fenced, "rank %d has acted, this run has %d", mark.rank, rank)
	}
	if err := c.Fence(ctx); err != nil {
		return err
	}
	if err := e.p.gate(atCommit); err != nil {
		return err
	}
	if mark != nil {
		mark.rank = rank
	}
	return e.p.heard(act(r))
}

// mark is the role that carries the rank of this rotation.
func (e modelEngine) mark(c rotation.Change) *role {
	version := c.To
	if c.Rotation == c.From {
		version = c.From
	}
	r := e.m.db.roles[e.m.credential(version).login]
	if r == nil || r.token != c.Rotation {
		return nil
	}
	return r
}

func exactly(version string) func(*role) string { return func(*role) string { return version } }

// Set tries the new login first, as a repetition finds it.
func (e modelEngine) Set(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	from, to := e.m.credential(c.From), e.m.credential(c.To)
	db := e.m.db
	if err := e.p.gate("log in with the new one"); err != nil {
		return noResult, err
	}
	switch {
	case to.login == "":
		return noResult, fault.New(fault.InvalidStage, "version %s has no value yet", c.To)
	case db.pair && from.login == to.login:
		return noResult, fault.New(fault.InvalidInput, "both versions use login %s", to.login)
	case db.accepts(to):
		return modelDone, nil
	case !db.accepts(from) && (!c.Emergency || !db.locked(from)):
		return noResult, fault.New(fault.CredentialRejected, "neither logs in")
	case db.pair && standby(from.login) != to.login:
		return noResult, fault.New(fault.PolicyViolation, "this rotation makes another login than %s", to.login)
	}
	seen := db.roles[to.login]
	if db.pair && seen != nil && seen.open && seen.token != c.To {
		o := e.m.observe("standby "+to.login, to.login, from.login, "", c.From)
		if res, err := rotation.JudgeDrain(c.Policy, c.Cursor, e.m.now, o); err != nil || res.Outcome != rotation.Done {
			return res, err
		}
	}
	version := exactly(c.To)
	if db.pair {
		version = func(r *role) string { return r.token }
	}
	return modelDone, e.locks(ctx, c, to.login, version, func(r *role) error {
		if r != nil && r.token == "" && !db.pair {
			return fault.New(fault.Blocked, "role %s exists and isn't ours", to.login)
		}
		db.roles[to.login] = &role{password: to.password, open: true, token: c.To, rank: c.Rank}
		if was := db.roles[from.login]; was.token != "" && was.token != c.From {
			was.belongs(c) // somebody may have stored the same login again
		}
		return nil
	})
}

func (e modelEngine) Test(_ context.Context, c rotation.Change) (rotation.Result, error) {
	if err := e.p.gate("prove the new login"); err != nil {
		return noResult, err
	}
	if !e.m.db.accepts(e.m.credential(c.To)) {
		return noResult, fault.New(fault.CredentialRejected, "the new login is refused")
	}
	return modelDone, nil
}

func (modelEngine) Adopt(context.Context, rotation.Change) (rotation.Result, error) {
	return modelDone, nil
}

// Drain is one look at all sessions, judged as engine/postgres has it judged.
func (e modelEngine) Drain(_ context.Context, c rotation.Change) (rotation.Result, error) {
	from, to := e.m.credential(c.From), e.m.credential(c.To)
	if from.login == "" {
		return modelDone, nil
	}
	if err := e.p.gate("look at the sessions"); err != nil {
		return noResult, err
	}
	seen := rotation.Observation{Subject: "version " + c.From}
	if !e.neverSet(c, from) {
		seen = e.m.observe(seen.Subject, from.login, to.login, c.From, c.To)
	}
	seen.Unpresented, seen.Back, seen.Emergency = c.Unpresented, c.Back, c.Emergency
	res, err := rotation.JudgeDrain(c.Policy, c.Cursor, e.m.now, seen)
	if !e.p.zombie { // else nobody hears of this look
		e.m.looked(c, seen, err == nil && res.Outcome == rotation.Done)
	}
	return res, err
}

// neverSet: the login of a version that was never current is an earlier one's.
func (e modelEngine) neverSet(c rotation.Change, from credential) bool {
	r := e.m.db.roles[from.login]
	return c.Unpresented && r != nil && r.token != c.From
}

// ends says whether a step that takes From away has anything to take, and
// refuses what it may not touch. A login that nothing, or that another version,
// is known to be the owner of is From's if its password opens it.
func (e modelEngine) ends(c rotation.Change) (ended, claim bool, err error) {
	from, to := e.m.credential(c.From), e.m.credential(c.To)
	r := e.m.db.roles[from.login]
	cut := c.Emergency && c.To == ""
	switch {
	case from.login == "":
		return true, false, nil
	case to.login == "" && !cut:
		return false, false, fault.New(fault.InvalidStage, "version %s has no value", c.To)
	case from.login == to.login:
		return false, false, fault.New(fault.IdentityInUse, "both use %s", to.login)
	case e.neverSet(c, from):
		return true, false, nil
	case r != nil && r.token != "" && r.token != c.From:
		if claim = e.m.db.accepts(from); !claim {
			return false, false, fault.New(fault.Fenced, "login %s belongs to another version", from.login)
		}
	case r != nil && foreign(from.login, r):
		if claim = e.m.db.accepts(from); !claim {
			return false, false, fault.New(fault.PolicyViolation, "login %s isn't known to be the secret's", from.login)
		}
	}
	if !cut && !e.m.db.accepts(to) && (!c.Emergency || !e.m.db.locked(to)) {
		return false, false, fault.New(fault.CredentialRejected, "the login that stays is refused")
	}
	return false, claim, nil
}

// terminate ends the sessions of a stolen login.
func (e modelEngine) terminate(c rotation.Change, login string) {
	for _, consumer := range e.m.consumers {
		if c.Emergency && consumer.session == login {
			consumer.session = ""
		}
	}
}

// Disable takes LOGIN away and gives it back if a session has outlived it.
func (e modelEngine) Disable(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	from := e.m.credential(c.From)
	if err := e.p.gate("prove the login that stays"); err != nil {
		return noResult, err
	}
	ended, claim, err := e.ends(c)
	if err != nil || ended {
		return modelDone, err
	}
	// While AWSCURRENT is stolen whatever keeps it from being replaced goes in haste.
	e.m.hasty[from] = e.m.hasty[from] || (c.Emergency && e.m.isStolen(c.To))
	// Its password has proven that it is the secret's.
	owner := func(r *role) string {
		if claim && r.open {
			return r.token
		}
		return c.From
	}
	set := func(open bool) error {
		return e.locks(ctx, c, from.login, owner, func(r *role) error {
			if r == nil {
				return nil
			}
			if claim && r.open {
				r.belongs(c)
			}
			if r.open = open; c.To == "" && e.m.asksForCut() && e.m.stolen[from] {
				e.m.hit("a stolen login is cut")
				e.m.cut[from] = true
			}
			return nil
		})
	}
	if err := set(false); err != nil {
		return noResult, err
	}
	if err := e.p.gate("look at what is left"); err != nil {
		return noResult, err
	}
	e.terminate(c, from.login)
	if left := e.m.sessions(from.login); len(left) > 0 {
		e.m.hit("disable looks again and undoes itself")
		return rotation.Result{Outcome: rotation.Reopened, Missing: left}, set(true)
	}
	if e.m.db.accepts(from) {
		return rotation.Result{Outcome: rotation.Wait, Missing: []string{from.login + " is still accepted"}}, nil
	}
	return modelDone, nil
}

func (e modelEngine) Enable(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	from := e.m.credential(c.From)
	r := e.m.db.roles[from.login]
	if r == nil || r.password != from.password {
		return noResult, fault.New(fault.TooLate, "login %s is destroyed", from.login)
	}
	// Whichever version it was made for: its password has proven that it is From's.
	owner := func(r *role) string {
		if e.m.db.accepts(from) {
			return r.token
		}
		return c.From
	}
	fence := c.Fence
	c.Fence = func(ctx context.Context) error {
		err := fence(ctx)
		if err == nil && e.m.isStolen(c.From) {
			e.m.broken = fmt.Sprintf("%s lets the stolen login %s in again: %s", e.p.name, from.login, e.m.describe())
		}
		return err
	}
	err := e.locks(ctx, c, from.login, owner, func(r *role) error {
		if r == nil {
			return fault.New(fault.TooLate, "login %s is dropped", from.login)
		}
		if r.token != "" && r.token != c.From {
			r.belongs(c)
		}
		if c.Rotation == "" && !r.open {
			e.m.hit("a held login is let in again")
		}
		r.open = true
		return nil
	})
	if err == nil && !e.m.db.accepts(from) {
		err = fault.New(fault.CredentialRejected, "login %s is refused", from.login)
	}
	return modelDone, err
}

func (e modelEngine) Revoke(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	from := e.m.credential(c.From)
	if err := e.p.gate("prove the login that stays"); err != nil {
		return noResult, err
	}
	if ended, _, err := e.ends(c); err != nil || ended {
		return rotation.Result{Outcome: rotation.Done, Untouched: true}, err
	}
	e.terminate(c, from.login)
	if left := e.m.sessions(from.login); len(left) > 0 {
		return rotation.Result{Outcome: rotation.Wait, Missing: left}, nil
	}
	reopened := false
	err := e.locks(ctx, c, from.login, exactly(c.From), func(r *role) error {
		switch {
		case r == nil:
		case r.open && !c.Unpresented:
			reopened = true
		default:
			r.open, r.password = false, ""
		}
		return nil
	})
	if err == nil && reopened {
		e.m.hit("revoke finds an open login")
		return rotation.Result{Outcome: rotation.Reopened, Missing: []string{from.login + " isn't disabled"}}, nil
	}
	if err != nil || e.m.db.pair || strings.HasPrefix(from.login, "hand") || from.login == "app" {
		return modelDone, err
	}
	return modelDone, e.locks(ctx, c, from.login, exactly(c.From), func(*role) error {
		delete(e.m.db.roles, from.login)
		return nil
	})
}

package postgres

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// note is what one look leaves for the next, in the drain's cursor.
type note struct {
	OIDs []uint32             `json:"oids"` // under which the login's sessions live
	At   map[string]time.Time `json:"at"`   // each node's own clock
}

// Drain implements rotation.Engine: one look at every node and pooler, judged
// by rotation.JudgeDrain.
func (e *Engine) Drain(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	t, err := e.open(ctx, c)
	if err != nil {
		return rotation.Result{}, err
	}
	defer t.release()
	if t.from == nil {
		return e.neverMade(c), nil
	}
	stays := ""
	if t.to != nil {
		stays = t.to.username
	}
	never := false
	if c.Unpresented {
		if never, err = t.neverSet(ctx); err != nil {
			return rotation.Result{}, err
		}
	}
	subject := "version " + c.From
	seen := rotation.Observation{Subject: subject, Looked: e.neverMade(c).Evidence}
	if !never {
		if seen, err = t.observe(ctx, subject, t.from.username, stays, c.To); err != nil {
			return rotation.Result{}, err
		}
	}
	seen.Unpresented, seen.Back, seen.Emergency = c.Unpresented, c.Back, c.Emergency
	return rotation.JudgeDrain(c.Policy, c.Cursor, e.now(), seen)
}

// neverMade is the end of a version that the database has never heard of.
func (e *Engine) neverMade(c rotation.Change) rotation.Result {
	return done(rotation.Evidence{Party: c.From, By: "this version was never set at the database", Proof: rotation.Written, At: e.now().UTC()})
}

// neverSet reports that the login of a version that was never current doesn't
// have that version's password: it is an earlier version's, and none of our
// business. A Set that has passed its fence may give it that still: the drain waits
// until none can be left before disable and revoke believe it.
func (t *target) neverSet(ctx context.Context) (bool, error) {
	s, err := t.asAdmin(ctx, "")
	if err != nil {
		return false, err
	}
	defer s.close()
	r, err := readRole(ctx, s, t.from.username)
	return r != nil && !belongs(r, t.c.From), err
}

// observe looks at every source. What can't be looked at is part of the answer,
// not an error: it makes the look unknown.
func (t *target) observe(ctx context.Context, subject, goes, stays, staysVersion string) (rotation.Observation, error) {
	o := rotation.Observation{Subject: subject, Logged: true, Sessions: new(int)}
	var before note
	_ = json.Unmarshal([]byte(rotation.DrainMark(t.c.Cursor, subject)), &before) // "" on the first look
	if err := t.useAdmin(ctx); err != nil {
		return o, err
	}
	admin, err := t.asAdmin(ctx, "")
	if err != nil {
		o.Unseen = append(o.Unseen, unseen(t.primary, err))
		o.Mark = encode(before)
		return o, nil
	}
	g, err := t.identify(ctx, admin, goes, before.OIDs)
	admin.close()
	if err != nil {
		return o, err
	}
	now := note{OIDs: g.oids, At: map[string]time.Time{}}
	for _, node := range t.nodes {
		t.observeNode(ctx, &o, node, g, stays, before, now)
	}
	for _, p := range t.set.Poolers {
		l, err := t.lookAtPooler(ctx, p, goes, stays)
		if err != nil {
			o.Unseen = append(o.Unseen, unseen("pooler "+p.Address, err))
			continue
		}
		o.Holders = append(o.Holders, l.holders...)
		*o.Sessions += l.clients
		for application := range l.seen {
			o.Sighted = append(o.Sighted, t.e.behaved(application, stays, "SHOW CLIENTS of pooler "+p.Address))
		}
		o.Looked = append(o.Looked, t.e.behaved("pooler "+p.Address, goes, "SHOW CLIENTS: no client of the old login"))
	}
	o.Mark = encode(now)
	if t.e.evidence == nil {
		return o, nil
	}
	t.observeTries(ctx, &o)
	if staysVersion == "" {
		return o, nil
	}
	reported, err := t.e.evidence.Seen(ctx, t.c.Secret, staysVersion)
	if err != nil {
		// Reports only add to what is known; without them the parties are missing.
		t.e.log.WarnContext(ctx, "reading the parties' own reports", "secret", t.c.Secret, "error", err)
		return o, nil
	}
	o.Sighted = append(o.Sighted, reported...)
	return o, nil
}

// observeTries adds who has tried the login that goes while it was refused: its
// consumer connects too seldom for a look to meet it.
func (t *target) observeTries(ctx context.Context, o *rotation.Observation) {
	tries, err := t.e.evidence.Seen(ctx, t.c.Secret, t.c.From)
	if err != nil {
		o.Unseen = append(o.Unseen, unseen("whether the old login was tried while it was refused", err))
		return
	}
	o.Holders = append(o.Holders, rotation.Present(t.e.now(), tries)...)
}

// observeNode adds one node's sessions and login log.
func (t *target) observeNode(ctx context.Context, o *rotation.Observation, node string, g goer, stays string, before, now note) {
	l, err := t.lookAt(ctx, node, g, stays)
	if err != nil {
		o.Unseen = append(o.Unseen, unseen(node, err))
		return
	}
	now.At[node] = l.at
	*o.Sessions += len(l.pids)
	o.Holders = append(o.Holders, l.holders...)
	for _, p := range l.seen {
		o.Sighted = append(o.Sighted, t.e.behaved(p.application, stays, "pg_stat_activity of "+node))
	}
	o.Looked = append(o.Looked, t.e.behaved(node, g.name, "pg_stat_activity, pg_prepared_xacts, pg_stat_replication: nobody on the old login"))
	log := t.loginLog(node)
	if log == nil || !l.logging {
		o.Logged = false
		return
	}
	since, ok := before.At[node]
	if !ok {
		since = l.at
	}
	// A login's line may be written a moment after the time that it carries.
	count, last, complete, err := log.Logins(ctx, g.name, since.Add(-time.Second))
	switch {
	case err != nil:
		t.e.log.WarnContext(ctx, "reading the login log", "node", node, "error", err)
		o.Logged = false
	case count > 0 && ok:
		o.Holders = append(o.Holders, g.name+" logged in on "+node+" at "+last.UTC().Format(time.RFC3339))
	default:
		o.Logged = o.Logged && complete
		o.Looked = append(o.Looked, t.e.behaved(node, g.name, "login log: no login of the old one"))
	}
}

// loginLog finds the login log of a node, or nil.
func (t *target) loginLog(node string) LoginLog {
	if t.e.loginLogs != nil {
		return t.e.loginLogs(node)
	}
	path, ok := t.set.LoginLog[node]
	if !ok && node == t.primary {
		path, ok = t.set.LoginLog[""]
	}
	if !ok {
		return nil
	}
	return LogFile{Path: path}
}

// loginLogs counts the nodes that have a login log.
func (t *target) loginLogs() int {
	n := 0
	for _, node := range t.nodes {
		if t.loginLog(node) != nil {
			n++
		}
	}
	return n
}

func unseen(what string, err error) string { return what + " can't be seen: " + err.Error() }

func encode(n note) string {
	text, err := json.Marshal(n)
	if err != nil {
		return ""
	}
	return string(text)
}

// adoption is what Adopt remembers between two calls.
type adoption struct {
	Step    string            `json:"step"`
	To      string            `json:"to"`
	Done    []string          `json:"done,omitempty"`
	Cursors map[string]string `json:"cursors,omitempty"`
}

// Adopt implements rotation.Engine: parties that have to be told are told, in
// waves; the others follow by themselves, and Drain sees whether they did.
func (e *Engine) Adopt(ctx context.Context, c rotation.Change) (rotation.Result, error) {
	a := adoption{Step: "adopt", To: c.To}
	var before adoption
	if json.Unmarshal([]byte(c.Cursor), &before) == nil && before.Step == a.Step && before.To == a.To {
		a = before
	}
	if a.Cursors == nil {
		a.Cursors = map[string]string{}
	}
	total := rotation.Result{Outcome: rotation.Done}
	for _, party := range c.Policy.Parties {
		if len(party.Follow) == 0 || slices.Contains(a.Done, party.Name) {
			continue
		}
		if e.presenters == nil {
			return rotation.Result{}, fault.New(fault.InvalidInput, "party %s is to be told, and nothing here tells parties", party.Name).
				WithHint("remove its follow URLs, or configure what reaches them")
		}
		one := c
		one.Cursor = a.Cursors[party.Name]
		res, err := e.presenters.Follow(ctx, one, party)
		if err != nil {
			return rotation.Result{}, fault.Wrap(fault.Unavailable, err, "letting %s follow", party.Name)
		}
		if res.Outcome == rotation.Done {
			a.Done = append(a.Done, party.Name)
			delete(a.Cursors, party.Name)
		} else {
			a.Cursors[party.Name] = res.Cursor
			total.Missing = append(total.Missing, party.Name+" is following: "+strings.Join(res.Missing, ", "))
			if total.Outcome != rotation.Unknown {
				total.Outcome = res.Outcome
			}
			total.After = max(total.After, res.After)
		}
		total.Evidence = append(total.Evidence, res.Evidence...)
		total.Notes = append(total.Notes, res.Notes...)
	}
	if total.Outcome != rotation.Done {
		text, err := json.Marshal(a)
		if err != nil {
			return rotation.Result{}, fault.New(fault.Internal, "encoding the cursor of adopt")
		}
		total.Cursor = string(text)
	}
	return total, nil
}

package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
)

// presence is one group of sessions of a login on one node.
type presence struct {
	application, address string
	sessions             int
	pids                 []int32
}

// holderName is how a holder stands in Result.Missing.
func holderName(application, address string) string {
	if application == "" {
		application = "unnamed"
	}
	return application + "@" + address
}

// look is what one node shows of a login that goes, and of the one that stays.
type look struct {
	at      time.Time // the node's clock, before anything was counted
	holders []string
	pids    []int32 // sessions that can be ended
	seen    []presence
	logging bool // the node logs connections
}

// lookAt counts on one node by OID: names are masked or gone where it matters.
// Without pg_read_all_stats a live session reads as zero, so that is an error.
func (t *target) lookAt(ctx context.Context, node string, g goer, stays string) (look, error) {
	var l look
	s, err := t.asAdmin(ctx, node)
	if err != nil {
		return l, err
	}
	defer s.close()
	var mayRead bool
	var logs string
	err = s.QueryRow(ctx, `SELECT clock_timestamp(), pg_has_role('pg_read_all_stats', 'USAGE') OR
		(SELECT rolsuper FROM pg_roles WHERE rolname = current_user), current_setting('log_connections')`).Scan(&l.at, &mayRead, &logs)
	if err != nil {
		return l, named(err, "looking at "+node)
	}
	if !mayRead {
		return l, fault.New(fault.PermissionDenied, "the admin isn't a member of pg_read_all_stats on %s: sessions can't be seen", node)
	}
	l.logging = logsLogins(logs)
	groups, err := sessions(ctx, s, node, `a.usesysid = ANY($1::oid[])
		OR ($2 AND a.usesysid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = a.usesysid))`, g.oids, g.gone)
	if err != nil {
		return l, err
	}
	for _, p := range groups {
		l.holders = append(l.holders, fmt.Sprintf("%s on %s (%d sessions)", holderName(p.application, p.address), node, p.sessions))
		l.pids = append(l.pids, p.pids...)
	}
	others, err := t.otherHolders(ctx, s, node, g)
	if err != nil {
		return l, err
	}
	l.holders = append(l.holders, others...)
	if stays != "" {
		l.seen, err = sessions(ctx, s, node, "a.usesysid = (SELECT oid FROM pg_roles WHERE rolname = $1) OR a.usesysid = $2", stays, g.older)
		if err != nil {
			return l, err
		}
	}
	return l, nil
}

// logsLogins reads log_connections: a switch up to PostgreSQL 17, then also a
// list of aspects.
func logsLogins(value string) bool {
	for _, v := range strings.Split(strings.ToLower(value), ",") {
		if slices.Contains([]string{"on", "true", "yes", "1", "all", "authorization"}, strings.TrimSpace(v)) {
			return true
		}
	}
	return false
}

// sessions groups the sessions that match a condition; our own don't count.
func sessions(ctx context.Context, q querier, node, where string, args ...any) ([]presence, error) {
	rows, err := q.Query(ctx, `SELECT coalesce(a.application_name, ''), coalesce(host(a.client_addr), 'local'), count(*)::int, array_agg(a.pid)
		FROM pg_stat_activity a WHERE a.backend_type NOT IN ('walsender', 'parallel worker') AND a.pid <> pg_backend_pid() AND (`+where+`)
		GROUP BY 1, 2 ORDER BY 1, 2`, args...)
	if err != nil {
		return nil, named(err, "counting sessions on "+node)
	}
	groups, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (presence, error) {
		var p presence
		err := row.Scan(&p.application, &p.address, &p.sessions, &p.pids)
		return p, err
	})
	return groups, named(err, "counting sessions on "+node)
}

// otherHolders don't stand in pg_stat_activity, or end in another way: walsenders
// and prepared transactions. A prepared transaction of the identity belongs to
// all its logins, and any of them can finish it: it counts only when forgotten.
func (t *target) otherHolders(ctx context.Context, q querier, node string, g goer) ([]string, error) {
	var grace float64
	if g.identity {
		grace = time.Duration(t.set.PreparedGrace).Seconds()
	}
	senders, err := texts(ctx, q, `SELECT coalesce(application_name, '') || '@' || coalesce(host(client_addr), 'local')
		FROM pg_stat_replication WHERE usesysid = ANY($1::oid[])`, g.oids)
	if err != nil {
		return nil, err
	}
	// Prepared transactions exist on the primary only; elsewhere the view is empty.
	prepared, err := texts(ctx, q, `SELECT gid FROM pg_prepared_xacts WHERE owner = $1::name
		AND prepared <= clock_timestamp() - make_interval(secs => $2)`, g.name, grace)
	if err != nil {
		return nil, err
	}
	var holders []string
	for _, s := range senders {
		holders = append(holders, "walsender "+s+" on "+node)
	}
	for _, gid := range prepared {
		holders = append(holders, "prepared transaction "+gid+" on "+node)
	}
	return holders, nil
}

// goer is the login that goes, as it is counted: every OID under which one of
// its sessions may live.
type goer struct {
	name     string
	oids     []uint32
	identity bool   // it is the identity itself
	older    uint32 // the identity's OID, where its sessions are of the login that stays; or 0
	gone     bool   // the role doesn't exist and no look knows its OIDs: sessions without a role count
}

// identify finds the OIDs of a login. The identity's sessions count too where
// it can't log in: they are older than a rename, and belong to this login. If this
// rotation has made it and is turned back, they belong to the login that stays.
// Known are the OIDs that earlier looks have used.
func (t *target) identify(ctx context.Context, q querier, login string, known []uint32) (goer, error) {
	g := goer{name: login, oids: slices.Clone(known)}
	r, err := readRole(ctx, q, login)
	if err != nil {
		return g, err
	}
	if r == nil {
		g.gone = len(known) == 0
		return g, nil
	}
	g.identity = r.ours == nil || r.ours.Identity == login
	add := func(oid uint32) {
		if !slices.Contains(g.oids, oid) {
			g.oids = append(g.oids, oid)
		}
	}
	add(r.oid)
	if g.identity {
		return g, nil
	}
	identity, err := readRole(ctx, q, r.ours.Identity)
	switch {
	case err != nil:
		return g, err
	case identity == nil || identity.login:
	case t.c.Rotation == t.c.From:
		g.older = identity.oid
	default:
		add(identity.oid)
	}
	return g, nil
}

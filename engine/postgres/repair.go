package postgres

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
)

// owned is one object that the clone owns instead of the identity.
type owned struct {
	kind, name string
	class, oid uint32
}

// grantable maps an object's kind to what GRANT ALL ON calls it.
var grantable = map[string]string{
	"table": "TABLE", "view": "TABLE", "materialized view": "TABLE", "foreign table": "TABLE",
	"sequence": "SEQUENCE", "schema": "SCHEMA", "function": "FUNCTION", "aggregate": "FUNCTION",
	"procedure": "PROCEDURE", "type": "TYPE", "composite type": "TYPE", "domain": "DOMAIN",
}

// alterable maps an object's kind to what ALTER … OWNER TO calls it.
var alterable = map[string]string{
	"table": "TABLE", "view": "VIEW", "materialized view": "MATERIALIZED VIEW", "foreign table": "FOREIGN TABLE",
	"sequence": "SEQUENCE", "schema": "SCHEMA", "function": "FUNCTION", "aggregate": "AGGREGATE",
	"procedure": "PROCEDURE", "type": "TYPE", "composite type": "TYPE", "domain": "DOMAIN",
	"operator": "OPERATOR", "operator class": "OPERATOR CLASS", "operator family": "OPERATOR FAMILY",
	"collation": "COLLATION", "conversion": "CONVERSION", "statistics object": "STATISTICS",
	"text search configuration": "TEXT SEARCH CONFIGURATION", "text search dictionary": "TEXT SEARCH DICTIONARY",
}

const (
	repairTries  = 60
	repairBudget = 15 * time.Second // of one call; what is left is noted
)

// repair gives what the clone owns to the identity, object by object, each in
// a transaction of its own that gives up a lock after 50 ms: changing everything
// at once stalls the application behind its slowest reader. Rights are granted
// first, so that both logins work whatever is still to be repaired.
func (t *target) repair(ctx context.Context, q querier, clone *document, r *role, identity string) (notes []string, err error) {
	databases, err := texts(ctx, q, `SELECT DISTINCT d.datname::text FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid
		WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1 AND s.deptype = 'o'`, r.oid)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(repairBudget)
	for _, db := range databases {
		as := clone.login()
		as.database = db
		s, err := t.dial.connect(ctx, t.primary, as)
		if err = named(err, "logging in"); passes(err) {
			return notes, fault.Wrap(fault.Unavailable, err, "repairing what %s owns in %s", clone.username, db)
		}
		if err != nil {
			notes = append(notes, fmt.Sprintf("objects of %s in database %s can't be repaired: %s", clone.username, db, err))
			continue
		}
		left, err := t.repairDatabase(ctx, s, db, r, identity, deadline)
		s.close()
		if err != nil {
			return notes, err
		}
		notes = append(notes, left...)
	}
	return notes, nil
}

func (t *target) repairDatabase(ctx context.Context, s *session, db string, r *role, identity string, deadline time.Time) (notes []string, err error) {
	if _, err := s.Exec(ctx, "SET ROLE NONE"); err != nil {
		return nil, named(err, "acting as "+r.name)
	}
	objects, err := listOwned(ctx, s, r.oid)
	if err != nil {
		return nil, err
	}
	for _, o := range grant(ctx, s, objects, identity) {
		why, err := grantAlone(ctx, s, o, identity)
		if err != nil {
			return notes, fault.Wrap(fault.Unavailable, err, "%s %s in %s", o.kind, o.name, db)
		}
		if why != "" {
			notes = append(notes, fmt.Sprintf("%s %s in %s: %s", o.kind, o.name, db, why))
		}
	}
	if r.name == t.from.username {
		// It goes on making objects under its own name until it is drained.
		for _, kind := range []string{"TABLES", "SEQUENCES", "FUNCTIONS", "TYPES", "SCHEMAS"} {
			if _, err := s.Exec(ctx, "ALTER DEFAULT PRIVILEGES GRANT ALL ON "+kind+" TO "+ident(identity)); err != nil {
				return notes, named(err, "granting later objects of "+r.name)
			}
		}
	}
	for _, o := range objects {
		if why := t.repairOne(ctx, s, o, db, identity, deadline); why != "" {
			notes = append(notes, fmt.Sprintf("%s %s in %s still belongs to %s: %s", o.kind, o.name, db, r.name, why))
		}
	}
	return notes, ctx.Err()
}

// grantsAtOnce bounds a group: its rows of the catalogue are held until its end.
const grantsAtOnce = 100

// grant gives the identity all rights, on a group of objects at once: tens of
// thousands one by one would outlast the function, and the next would begin anew.
// It returns the objects that somebody holds, or that can't be granted.
func grant(ctx context.Context, s *session, objects []owned, identity string) (late []owned) {
	kinds := map[string][]owned{}
	for _, o := range objects {
		if kind, ok := grantable[o.kind]; ok {
			kinds[kind] = append(kinds[kind], o)
		}
	}
	var try func(group []owned)
	try = func(group []owned) {
		_, err := s.PgConn().Exec(ctx, "SET LOCAL lock_timeout = '50ms'; "+grantSQL(identity, group...)).ReadAll()
		switch half := len(group) / 2; {
		case err == nil:
		case half == 0 || ctx.Err() != nil || s.IsClosed():
			late = append(late, group...)
		default:
			try(group[:half])
			try(group[half:])
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		for group := range slices.Chunk(kinds[kind], grantsAtOnce) {
			try(group)
		}
	}
	return late
}

// grantAlone gives the identity all rights on one object, and waits for whoever
// holds it. It returns why that can't be done. What merely passes is an error: the
// new login would fail without that right.
func grantAlone(ctx context.Context, s *session, o owned, identity string) (why string, err error) {
	_, err = s.Exec(ctx, grantSQL(identity, o))
	if code(err) == "XX000" {
		_, err = s.Exec(ctx, grantSQL(identity, o)) // it has to look at what they made of it
	}
	switch err = named(err, "granting it to "+identity); {
	case err == nil:
		return "", nil
	case passes(err):
		return "", err
	}
	return err.Error(), nil
}

// passes reports a fault that a later try may not meet.
func passes(err error) bool { return fault.NameOf(err).Class() == fault.Retry }

// grantSQL is one statement for objects of one grantable kind.
func grantSQL(identity string, group ...owned) string {
	names := make([]string, len(group))
	for i, o := range group {
		names[i] = o.name
	}
	return "GRANT ALL ON " + grantable[group[0].kind] + " " + strings.Join(names, ", ") + " TO " + ident(identity)
}

func listOwned(ctx context.Context, q querier, oid uint32) ([]owned, error) {
	rows, err := q.Query(ctx, `SELECT o.type, o.identity, s.classid, s.objid
		FROM pg_shdepend s, pg_identify_object(s.classid, s.objid, s.objsubid) o
		WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1 AND s.deptype = 'o' AND o.type <> 'default acl'
		AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_class c ON c.oid = d.objid WHERE d.classid = 'pg_class'::regclass
			AND s.classid = d.classid AND d.objid = s.objid AND c.relkind = 'S' AND d.deptype IN ('a', 'i') AND d.refobjsubid <> 0)
		ORDER BY o.type = 'schema' DESC, o.identity`, oid)
	if err != nil {
		return nil, named(err, "listing what the clone owns")
	}
	objects, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (owned, error) {
		var o owned
		err := row.Scan(&o.kind, &o.name, &o.class, &o.oid)
		return o, err
	})
	return objects, named(err, "listing what the clone owns")
}

// repairOne returns why an object couldn't be given to the identity, or "".
func (t *target) repairOne(ctx context.Context, s *session, o owned, db, identity string, deadline time.Time) string {
	kind, ok := alterable[o.kind]
	if !ok {
		return "keyturn doesn't know how to change the owner of a " + o.kind
	}
	sql := "ALTER " + kind + " " + o.name + " OWNER TO " + ident(identity)
	for range repairTries {
		held, err := t.oldReader(ctx, db, o)
		if err != nil {
			return err.Error()
		}
		if held {
			return "a transaction older than 30 s is using it"
		}
		// One message is one transaction: the server ends it whatever becomes of
		// us, and nobody waits for a lock that a dead function holds.
		_, err = s.PgConn().Exec(ctx, "SET LOCAL lock_timeout = '50ms'; "+sql).ReadAll()
		if err == nil {
			return ""
		}
		if fault.NameOf(named(err, "")) != fault.Conflict {
			return named(err, "changing its owner").Error()
		}
		pause := 200*time.Millisecond + rand.N(300*time.Millisecond) //nolint:gosec // jitter
		if time.Now().Add(pause).After(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			return "the call ran out of time"
		case <-time.After(pause):
		}
	}
	return "somebody was always using it; the next rotation tries again"
}

// oldReader reports whether a long transaction holds the object: everybody
// would queue up behind our waiting lock. The admin looks: to the clone the
// transactions of other logins have no age (TestTrap5…).
func (t *target) oldReader(ctx context.Context, db string, o owned) (bool, error) {
	admin, err := t.asAdmin(ctx, "")
	if err != nil {
		return false, err
	}
	var held bool
	err = admin.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE l.relation = $1 AND l.database = (SELECT oid FROM pg_database WHERE datname = $2)
		AND a.xact_start < now() - interval '30 s')`, o.oid, db).Scan(&held)
	return held, named(err, "looking for long transactions")
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
)

// findings collects what is in the way of a rotation.
type findings struct {
	blockers []string // each says what it is about and how to mend it
	unseen   []error  // who couldn't be reached, and may be the next time
}

func (f *findings) add(format string, args ...any) {
	f.blockers = append(f.blockers, fmt.Sprintf(format, args...))
}

// missed adds somebody who couldn't be asked.
func (f *findings) missed(who string, err error) {
	if passes(err) {
		f.unseen = append(f.unseen, fault.Wrap(fault.Unavailable, err, "%s", who))
		return
	}
	f.add("%s: %s", who, err)
}

// all is everything that is in the way, at present or until it is mended.
func (f *findings) all() []string {
	texts := slices.Clone(f.blockers)
	for _, err := range f.unseen {
		texts = append(texts, err.Error())
	}
	return texts
}

// fault names what stops a rotation: what only somebody's work mends is
// fault.Blocked; that a node doesn't answer passes.
func (f *findings) fault() error {
	switch {
	case len(f.blockers) > 0:
		return fault.New(fault.Blocked, "preflight: %s", strings.Join(f.all(), "; ")).
			WithHint("nothing was changed; mend these and rotate again")
	case len(f.unseen) > 0:
		return fault.Wrap(fault.Unavailable, errors.Join(f.unseen...), "preflight")
	}
	return nil
}

// preflight looks for everything that would make this rotation unsafe. It
// changes nothing. The admin is used only after the current credential has
// logged in: whoever stored the secret must hold the login (rule C4.6).
func (t *target) preflight(ctx context.Context) (shape, *findings, error) {
	if t.from == nil {
		return shape{}, nil, fault.New(fault.InvalidStage, "version %s of %s has no value", t.c.From, t.c.Secret).
			WithHint("store the working credential as AWSCURRENT first")
	}
	own, err := t.holds(ctx)
	if err != nil {
		return shape{}, nil, fault.Wrap(fault.CredentialRejected, err, "using the current credential")
	}
	if own != nil {
		defer own.close()
	}
	admin, err := t.asAdmin(ctx, "")
	if err != nil {
		return shape{}, nil, err
	}
	defer admin.close()
	// Not asked of the login itself: whoever holds it chooses its search path.
	s, err := t.derive(ctx, admin, t.from.username, t.c.To)
	if err != nil {
		return s, nil, err
	}
	f := &findings{}
	if own != nil {
		if err := f.database(ctx, own, s); err != nil {
			return s, nil, err
		}
	}
	for _, check := range []func(context.Context, querier, *target, shape) error{
		f.attributes, f.names, f.rights, f.parameters, f.room, f.holders, f.hba, f.renaming,
	} {
		if err := check(ctx, admin, t, s); err != nil {
			return s, nil, err
		}
	}
	as := t.from.login()
	if own == nil { // cut off; the nodes have to be reached all the same
		as = t.admin.login()
	}
	if err := f.endpoints(ctx, t, as); err != nil {
		return s, nil, err
	}
	return s, f, nil
}

// attributes belong to the login alone and aren't inherited by a member.
func (f *findings) attributes(_ context.Context, _ querier, _ *target, s shape) error {
	if s.from.super {
		f.add("login %s is a superuser: superusers aren't rotated; give the application a login of its own", s.from.name)
	}
	if s.from.replication {
		f.add("login %s has REPLICATION, which a member doesn't inherit: move replication to a login of its own", s.from.name)
	}
	if s.from.bypass {
		f.add("login %s has BYPASSRLS, which a member doesn't inherit: move it to a role of its own", s.from.name)
	}
	if s.from.expires {
		f.add("login %s has VALID UNTIL: it ends by the clock, used or not; ALTER ROLE … VALID UNTIL 'infinity'", s.from.name)
	}
	return nil
}

// names must be free, or ours.
func (f *findings) names(ctx context.Context, q querier, t *target, s shape) error {
	to, err := readRole(ctx, q, s.to)
	if err != nil || to == nil {
		return err
	}
	switch {
	case to.super:
		f.add("role %s is a superuser", to.name)
	case t.set.Mode == Pair && to.text != "" && to.ours == nil:
		f.add("role %s has a comment that isn't ours, and keyturn keeps its fence there: COMMENT ON ROLE … IS NULL", to.name)
	case t.set.Mode == Fresh && to.ours == nil:
		f.add("role %s exists and isn't ours: rename or drop it", to.name)
	case t.set.Mode == Fresh && to.ours.Token != t.c.To:
		f.add("role %s belongs to another version", to.name)
	}
	return nil
}

// rights of the admin, without which the rotation would stop half-way.
func (f *findings) rights(ctx context.Context, q querier, t *target, s shape) error {
	var version int
	var createRole, super, stats, signal bool
	err := q.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, r.rolcreaterole, r.rolsuper,
		pg_has_role('pg_read_all_stats', 'USAGE'), pg_has_role('pg_signal_backend', 'USAGE')
		FROM pg_roles r WHERE rolname = current_user`).Scan(&version, &createRole, &super, &stats, &signal)
	if err != nil {
		return named(err, "reading the admin's rights")
	}
	if super {
		return nil
	}
	if !createRole {
		f.add("the admin %s has no CREATEROLE", t.admin.username)
	}
	if !stats {
		f.add("the admin %s isn't a member of pg_read_all_stats: sessions can't be seen", t.admin.username)
	}
	if !signal && t.terminates() {
		f.add("the admin %s isn't a member of pg_signal_backend: sessions can't be ended", t.admin.username)
	}
	if version < 160000 {
		return nil
	}
	for _, name := range []string{s.identity, s.from.name, s.to} {
		r, err := readRole(ctx, q, name)
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		var may bool
		if err := q.QueryRow(ctx, "SELECT pg_has_role($1::name, 'MEMBER WITH ADMIN OPTION')", name).Scan(&may); err != nil {
			return named(err, "reading the admin's rights")
		}
		if !may {
			f.add("the admin may not administer %s: GRANT %s TO %s WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", name, ident(name), ident(t.admin.username))
		}
	}
	return nil
}

// parameters whose value only a superuser may set for a role, unless it was
// granted: they can't be carried over to a new login.
func (f *findings) parameters(ctx context.Context, q querier, _ *target, s shape) error {
	settings, err := readSettings(ctx, q, s.from.oid)
	if err != nil {
		return err
	}
	for _, one := range settings {
		var may bool
		err := q.QueryRow(ctx, `SELECT has_parameter_privilege($1, 'SET') OR EXISTS (
			SELECT FROM pg_settings WHERE lower(name) = lower($1) AND context IN ('user', 'backend'))`, one.name).Scan(&may)
		if err != nil {
			return named(err, "asking for the right to set "+one.name)
		}
		if !may {
			f.add("the admin may not set %s, which login %s has: GRANT SET ON PARAMETER %s TO the admin, or set it for the database", one.name, s.from.name, one.name)
		}
	}
	return nil
}

// room for the overlap, in which the connections of both logins add up.
func (f *findings) room(ctx context.Context, q querier, t *target, s shape) error {
	var encryption string
	var used, own, maximum, inDatabase, databaseLimit int
	err := q.QueryRow(ctx, `SELECT current_setting('password_encryption'),
		(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
		(SELECT count(*) FROM pg_stat_activity WHERE usesysid = $1),
		current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
			- coalesce(current_setting('reserved_connections', true)::int, 0),
		(SELECT count(*) FROM pg_stat_activity WHERE datname = $2), coalesce((SELECT datconnlimit FROM pg_database WHERE datname = $2), -1)`,
		s.from.oid, t.from.dbname).Scan(&encryption, &used, &own, &maximum, &inDatabase, &databaseLimit)
	if err != nil {
		return named(err, "reading the connection limits")
	}
	if encryption == "md5" {
		f.add("password_encryption is md5: set it to scram-sha-256, and see that no client needs md5")
	}
	if used+own > maximum {
		f.add("%d connections are open and %s holds %d of them: a second set doesn't fit into max_connections (%d for clients)", used, s.from.name, own, maximum)
	}
	if databaseLimit >= 0 && inDatabase+own > databaseLimit {
		f.add("database %s has CONNECTION LIMIT %d and %d connections: a second set of %d doesn't fit", t.from.dbname, databaseLimit, inDatabase, own)
	}
	return nil
}

// holders outside pg_stat_activity (TestTrap9…).
func (f *findings) holders(ctx context.Context, q querier, t *target, s shape) error {
	subscriptions, err := texts(ctx, q, "SELECT subname::text FROM pg_subscription WHERE subowner = $1", s.from.oid)
	if err != nil {
		return err
	}
	if len(subscriptions) > 0 {
		f.add("login %s owns subscriptions, which stop silently without LOGIN: %s; give them another owner", s.from.name, strings.Join(subscriptions, ", "))
	}
	prepared, err := texts(ctx, q, "SELECT gid FROM pg_prepared_xacts WHERE owner = $1::name AND prepared < now() - make_interval(secs => $2)",
		s.from.name, time.Duration(t.set.PreparedGrace).Seconds())
	if err != nil {
		return err
	}
	if len(prepared) > 0 {
		f.add("login %s has forgotten prepared transactions: %s; COMMIT or ROLLBACK PREPARED them", s.from.name, strings.Join(prepared, ", "))
	}
	return nil
}

// hba lines that name the login don't fit a new one. Reading the file needs a
// right that few admins have; without it Test finds out.
func (f *findings) hba(ctx context.Context, q querier, _ *target, s shape) error {
	var may bool
	err := q.QueryRow(ctx, `SELECT has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT')
		AND has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE')`).Scan(&may)
	if err != nil || !may {
		return named(err, "asking for the right to read pg_hba.conf")
	}
	lines, err := texts(ctx, q, "SELECT line_number::text FROM pg_hba_file_rules WHERE $1 = ANY(user_name) AND type <> 'local'", s.from.name)
	if err != nil {
		return err
	}
	if len(lines) > 0 {
		f.add("pg_hba.conf names login %s in line %s: write +%s there, which every new login is a member of", s.from.name, strings.Join(lines, ", "), s.identity)
	}
	return nil
}

// renaming changes what "$user" means, and needs a free name.
func (f *findings) renaming(ctx context.Context, q querier, _ *target, s shape) error {
	if !s.rename {
		return nil
	}
	owner, err := readRole(ctx, q, s.identity)
	if err != nil {
		return err
	}
	if owner != nil {
		f.add("role %s exists already: adopt rename needs a free name for the identity", s.identity)
	}
	return nil
}

// database looks at what only the login's own database knows.
func (f *findings) database(ctx context.Context, q querier, s shape) error {
	triggers, err := texts(ctx, q, "SELECT evtname::text FROM pg_event_trigger WHERE evtowner = $1", s.from.oid)
	if err != nil {
		return err
	}
	if len(triggers) > 0 {
		f.add("login %s owns event triggers: %s; give them another owner", s.from.name, strings.Join(triggers, ", "))
	}
	if s.rename {
		schemas, err := texts(ctx, q, "SELECT nspname::text FROM pg_namespace WHERE nspname = $1", s.from.name)
		if err != nil {
			return err
		}
		if len(schemas) > 0 {
			f.add(`schema %s is found by "$user", which a rename changes: name it in search_path instead, then rename it`, s.from.name)
		}
	}
	jobs, err := cronJobs(ctx, q, s.from.name)
	if err != nil {
		return err
	}
	if jobs > 0 {
		f.add("login %s has %d pg_cron jobs, which log in by themselves: give them another user", s.from.name, jobs)
	}
	return nil
}

// cronJobs counts a login's pg_cron jobs, where that extension is.
func cronJobs(ctx context.Context, q querier, login string) (int, error) {
	var there bool
	err := q.QueryRow(ctx, `SELECT coalesce(has_table_privilege(to_regclass('cron.job'), 'SELECT')
		AND has_schema_privilege(to_regnamespace('cron')::oid, 'USAGE'), false)`).Scan(&there)
	if err != nil || !there {
		return 0, named(err, "looking for pg_cron")
	}
	var n int
	err = q.QueryRow(ctx, "SELECT count(*) FROM cron.job WHERE username = $1", login).Scan(&n)
	return n, named(err, "counting pg_cron jobs")
}

// endpoints must all be reachable with the current credential, or with the
// admin's if that is cut off: a node that can't be seen now can't be drained later.
func (f *findings) endpoints(ctx context.Context, t *target, as credential) error {
	for _, node := range t.nodes {
		if node == t.from.address() {
			continue
		}
		if err := t.dial.proves(ctx, node, as); err != nil {
			f.missed("node "+node, err)
		}
	}
	for _, p := range t.set.Poolers {
		if err := f.pooler(ctx, t, p); err != nil {
			return err
		}
	}
	return nil
}

func (f *findings) pooler(ctx context.Context, t *target, p PoolerSettings) error {
	console, err := t.console(ctx, p)
	if err != nil {
		f.missed("pooler "+p.Address, err)
		return nil
	}
	defer console.close()
	config, err := showRows(ctx, console, "SHOW CONFIG")
	if err != nil {
		return err
	}
	for _, row := range config {
		if row["key"] == "so_reuseport" && row["value"] == "1" {
			f.add("pooler %s shares its port with other processes (so_reuseport), of which a look sees one by chance: list each by an address of its own", p.Address)
		}
		if row["key"] == "auth_user" && row["value"] == "" && t.set.Mode == Fresh {
			f.add("pooler %s knows its logins from userlist.txt: a new login can't get in; use mode pair, or auth_query", p.Address)
		}
	}
	return nil
}

// texts collects one column of strings.
func texts(ctx context.Context, q querier, sql string, args ...any) ([]string, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, named(err, "reading the catalogue")
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return found, named(err, "reading the catalogue")
}

package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
)

// comment is what we keep on a login that we made or took over. COMMENT ON
// ROLE is shared by all databases and transactional.
type comment struct {
	Keyturn  int    `json:"keyturn"` // 1
	Identity string `json:"identity"`
	// Token is the version whose password the login has.
	Token string `json:"token"`
	// Gen is the highest Change.Rank that has acted for that version.
	Gen int `json:"gen"`
	// Secret is whose login it is, see secretMark; comments of older releases
	// don't say.
	Secret string `json:"secret,omitempty"`
}

const commentVersion = 1

// role is a row of pg_roles, with our comment if there is one.
type role struct {
	oid                                        uint32
	name                                       string
	login, super, inherit, replication, bypass bool
	limit                                      int
	expires                                    bool // VALID UNTIL is set, and isn't infinity
	text                                       string
	ours                                       *comment
	config                                     []string // "name=value", those of all databases
}

// readRole returns nil for a role that doesn't exist.
func readRole(ctx context.Context, q querier, name string) (*role, error) {
	r := &role{name: name}
	err := q.QueryRow(ctx, `SELECT oid, rolcanlogin, rolsuper, rolinherit, rolreplication, rolbypassrls, rolconnlimit,
		coalesce(rolvaliduntil <> 'infinity', false), coalesce(shobj_description(oid, 'pg_authid'), ''), rolconfig
		FROM pg_roles WHERE rolname = $1`, name).
		Scan(&r.oid, &r.login, &r.super, &r.inherit, &r.replication, &r.bypass, &r.limit, &r.expires, &r.text, &r.config)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // no such role
	}
	if err != nil {
		return nil, named(err, "reading role "+name)
	}
	var c comment
	if json.Unmarshal([]byte(r.text), &c) == nil && c.Keyturn == commentVersion {
		r.ours = &c
	}
	return r, nil
}

// astray reports a login that we made and that no longer acts as its identity:
// somebody has taken its default role away, which no login warns of.
func (r *role) astray() bool {
	return r != nil && r.ours != nil && r.ours.Identity != r.name && !slices.Contains(r.config, "role="+r.ours.Identity)
}

// writeComment puts our comment on a role. A foreign one is never overwritten.
func writeComment(ctx context.Context, tx pgx.Tx, r *role, name string, c comment) error {
	if r != nil && r.ours == nil && r.text != "" {
		return fault.New(fault.Blocked, "role %s has a comment that isn't ours", name).
			WithHint("keyturn keeps its fence there; clear it with COMMENT ON ROLE … IS NULL")
	}
	c.Keyturn = commentVersion
	text, err := json.Marshal(c)
	if err != nil {
		return fault.New(fault.Internal, "encoding the comment of %s", name)
	}
	return run(ctx, tx, "commenting role "+name, "COMMENT ON ROLE "+ident(name)+" IS "+literal(string(text)))
}

// run executes one statement; the text of doing goes into the error, the
// statement doesn't.
func run(ctx context.Context, tx pgx.Tx, doing, sql string) error {
	_, err := tx.Exec(ctx, sql)
	return named(err, doing)
}

// setting is one element of a pg_db_role_setting row.
type setting struct{ database, name, value string }

// readSettings lists a role's settings in both scopes, but for role itself.
func readSettings(ctx context.Context, q querier, oid uint32) ([]setting, error) {
	rows, err := q.Query(ctx, `SELECT coalesce(d.datname, ''), c FROM pg_db_role_setting s
		LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c
		WHERE s.setrole = $1 ORDER BY 1, 2`, oid)
	if err != nil {
		return nil, named(err, "reading the login's settings")
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (setting, error) {
		var s setting
		var pair string
		err := row.Scan(&s.database, &pair)
		s.name, s.value, _ = strings.Cut(pair, "=")
		return s, err
	})
	if err != nil {
		return nil, named(err, "reading the login's settings")
	}
	kept := all[:0]
	for _, s := range all {
		if s.name != "role" {
			kept = append(kept, s)
		}
	}
	return kept, nil
}

// listSettings hold lists whose stored form is quoted already (GUC_LIST_QUOTE);
// pg_dump knows the same ones.
var listSettings = map[string]bool{
	"local_preload_libraries": true, "search_path": true, "session_preload_libraries": true,
	"shared_preload_libraries": true, "temp_tablespaces": true, "unix_socket_directories": true,
}

// assignment is the right-hand side of ALTER ROLE … SET.
func (s setting) assignment() string {
	if !listSettings[strings.ToLower(s.name)] {
		return literal(s.value)
	}
	elements := splitList(s.value)
	if len(elements) == 0 {
		return "''"
	}
	for i, e := range elements {
		elements[i] = literal(e)
	}
	return strings.Join(elements, ", ")
}

// splitList undoes the quoting of a stored list of identifiers.
func splitList(text string) []string {
	var out []string
	var b strings.Builder
	quoted, any := false, false
	for i := 0; i < len(text); i++ {
		switch ch := text[i]; {
		case ch == '"' && quoted && i+1 < len(text) && text[i+1] == '"':
			b.WriteByte('"')
			i++
		case ch == '"':
			quoted, any = !quoted, true
		case ch == ',' && !quoted:
			out = append(out, b.String())
			b.Reset()
			any = false
		case (ch == ' ' || ch == '\t') && !quoted:
		default:
			b.WriteByte(ch)
			any = true
		}
	}
	if any {
		out = append(out, b.String())
	}
	return out
}

// name of a setting may be extension.parameter.
func (s setting) quotedName() string {
	parts := strings.Split(s.name, ".")
	return pgx.Identifier(parts).Sanitize()
}

// copySettings gives a login the settings of another one, in both scopes. What
// can't be copied is named, and the transaction is over.
func copySettings(ctx context.Context, tx pgx.Tx, from uint32, to string) error {
	settings, err := readSettings(ctx, tx, from)
	if err != nil {
		return err
	}
	for _, s := range settings {
		scope := ""
		if s.database != "" {
			scope = " IN DATABASE " + ident(s.database)
		}
		if _, err := tx.Exec(ctx, "ALTER ROLE "+ident(to)+scope+" SET "+s.quotedName()+" = "+s.assignment()); err != nil {
			if passing := named(err, "carrying over setting "+s.name); passes(passing) {
				return passing
			}
			return fault.New(fault.Blocked, "setting %s%s of the old login can't be carried over (SQLSTATE %s)", s.name, strings.ToLower(scope), code(err)).
				WithHint("set it for the database instead, or let a superuser GRANT SET ON PARAMETER %s to the admin", s.name)
		}
	}
	return nil
}

// resetSettings clears every scope that a login has settings in.
func resetSettings(ctx context.Context, tx pgx.Tx, r *role) error {
	settings, err := readSettings(ctx, tx, r.oid)
	if err != nil {
		return err
	}
	cleared := map[string]bool{}
	for _, s := range append(settings, setting{}) {
		if cleared[s.database] {
			continue
		}
		cleared[s.database] = true
		scope := ""
		if s.database != "" {
			scope = " IN DATABASE " + ident(s.database)
		}
		if err := run(ctx, tx, "clearing the settings of "+r.name, "ALTER ROLE "+ident(r.name)+scope+" RESET ALL"); err != nil {
			return err
		}
	}
	return nil
}

// isMember reports direct or indirect membership.
func isMember(ctx context.Context, q querier, member, of string) (bool, error) {
	var is bool
	err := q.QueryRow(ctx, "SELECT pg_has_role($1::name, $2::name, 'MEMBER')", member, of).Scan(&is)
	return is, named(err, "reading the memberships of "+member)
}

package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
)

// console connects to a PgBouncer's admin console.
func (t *target) console(ctx context.Context, p PoolerSettings) (*session, error) {
	v, _, err := t.e.values.Current(ctx, p.Admin)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "reading the secret of pooler %s", p.Address)
	}
	admin, err := parseAdmin(v)
	if err != nil {
		return nil, fault.Wrap(fault.InvalidInput, err, "reading the secret of pooler %s", p.Address)
	}
	as := admin.login()
	as.database = "pgbouncer"
	s, err := t.dial.connect(ctx, p.Address, as, simple)
	return s, named(err, "logging in on the console of pooler "+p.Address)
}

// showRows reads a SHOW command by column name: columns differ between versions.
func showRows(ctx context.Context, s *session, command string) ([]map[string]string, error) {
	rows, err := s.Query(ctx, command)
	if err != nil {
		return nil, named(err, command+" on "+s.address)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (map[string]string, error) {
		values := map[string]string{}
		for i, raw := range row.RawValues() {
			values[row.FieldDescriptions()[i].Name] = string(raw)
		}
		return values, nil
	})
	return found, named(err, command+" on "+s.address)
}

// poolerLook is what one pooler's console shows of two logins.
type poolerLook struct {
	clients int              // on the login that goes
	holders []string         // clients on the login that goes
	seen    map[string]int64 // application names on the login that stays
}

// lookAtPooler counts clients, which the database can't see: a pooler keeps no
// session open for a client that is idle. Server connections that nobody uses
// any more are closed by a RECONNECT; it disturbs nobody.
func (t *target) lookAtPooler(ctx context.Context, p PoolerSettings, goes, stays string) (poolerLook, error) {
	look := poolerLook{seen: map[string]int64{}}
	console, err := t.console(ctx, p)
	if err != nil {
		return look, err
	}
	defer console.close()
	clients, err := showRows(ctx, console, "SHOW CLIENTS")
	if err != nil {
		return look, err
	}
	counts := map[string]int{}
	for _, c := range clients {
		switch c["user"] {
		case goes:
			counts[holderName(c["application_name"], c["addr"])+" through pooler "+p.Address]++
		case stays:
			look.seen[c["application_name"]]++
		}
	}
	for who, n := range counts {
		look.holders = append(look.holders, fmt.Sprintf("%s (%d sessions)", who, n))
		look.clients += n
	}
	slices.Sort(look.holders)
	if len(look.holders) > 0 {
		return look, nil
	}
	return look, reconnect(ctx, console, goes)
}

// reconnect closes a login's idle server connections, database by database.
func reconnect(ctx context.Context, console *session, login string) error {
	servers, err := showRows(ctx, console, "SHOW SERVERS")
	if err != nil {
		return err
	}
	asked := map[string]bool{}
	for _, s := range servers {
		db := s["database"]
		if s["user"] != login || asked[db] {
			continue
		}
		asked[db] = true
		if _, err := console.Exec(ctx, "RECONNECT "+ident(db)); err != nil {
			return named(err, "RECONNECT on "+console.address)
		}
	}
	return nil
}

// refresh makes poolers forget a cached login failure.
func (t *target) refresh(ctx context.Context) error {
	for _, p := range t.set.Poolers {
		console, err := t.console(ctx, p)
		if err != nil {
			return err
		}
		for _, command := range []string{"RELOAD", "RECONNECT"} {
			if _, err = console.Exec(ctx, command); err != nil {
				break
			}
		}
		console.close()
		if err != nil {
			return named(err, "refreshing pooler "+p.Address)
		}
	}
	return nil
}

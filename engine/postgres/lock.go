package postgres

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/fault"
)

// errNothing ends a locked transaction that found nothing to do.
var errNothing = errors.New("nothing to do")

// locked runs one transaction on the primary, in the admin's database, under
// the identity's lock. Advisory locks are per database: this is always the same
// one. It returns the WAL position that other nodes have to reach before they
// know of it.
func (t *target) locked(ctx context.Context, identity string, act func(context.Context, pgx.Tx) error) (lsn string, err error) {
	s, err := t.asAdmin(ctx, "")
	if err != nil {
		return "", err
	}
	defer s.close()
	tx, err := s.Begin(ctx)
	if err != nil {
		return "", named(err, "beginning a transaction on "+s.address)
	}
	defer undo(ctx, tx)
	for _, sql := range []string{ // statement_timeout is the session's, see asAdministrator
		"SET LOCAL lock_timeout = " + strconv.FormatInt(time.Duration(t.set.LockTimeout).Milliseconds(), 10),
		"SELECT pg_advisory_xact_lock(hashtextextended(" + literal("keyturn/"+identity) + ", 0))",
	} {
		if err := run(ctx, tx, "taking the lock of "+identity, sql); err != nil {
			return "", err
		}
	}
	err = act(ctx, tx)
	if err != nil && !errors.Is(err, errNothing) {
		return "", err
	}
	if err == nil {
		if err := commit(ctx, tx); err != nil {
			return "", err
		}
	} else if err := tx.Rollback(ctx); err != nil {
		return "", named(err, "ending a transaction")
	}
	err = s.QueryRow(ctx, "SELECT pg_current_wal_lsn()::text").Scan(&lsn)
	return lsn, named(err, "reading the position of the write-ahead log")
}

// commit tells a refusal, which is definite, from a lost answer, which isn't.
func commit(ctx context.Context, tx pgx.Tx) error {
	err := tx.Commit(ctx)
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &pg) && !strings.HasPrefix(pg.Code, "57") && !strings.HasPrefix(pg.Code, "08"):
		return named(err, "committing")
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return fault.New(fault.Conflict, "the transaction was rolled back at its commit")
	}
	return fault.New(fault.Ambiguous, "the commit was sent and its answer never came").
		WithHint("nothing else is done; the next attempt looks what became of it")
}

// guard is the fence. It is called inside the lock, as the last thing before
// acting on a login: it refuses a login that another version has taken over and
// a run that a later one has outranked, and re-reads the labels.
func (t *target) guard(ctx context.Context, tx pgx.Tx, r *role, version string) error {
	if err := t.commented(r, version); err != nil {
		return err
	}
	mark, err := t.mark(ctx, tx)
	if err != nil {
		return err
	}
	if mark != nil && mark.ours.Gen > t.c.Rank {
		return fault.New(fault.Fenced, "a run of rank %d has acted on login %s, this one has rank %d", mark.ours.Gen, mark.name, t.c.Rank).
			WithHint("a later run owns the target; this one is over")
	}
	if err := t.c.Fence(ctx); err != nil {
		return err
	}
	if mark == nil || mark.ours.Gen == t.c.Rank {
		return nil
	}
	raised := *mark.ours
	raised.Gen = t.c.Rank
	return writeComment(ctx, tx, mark, mark.name, raised)
}

// mark is the login that this rotation made: its comment carries the rank. It
// is nil before Set and after the login was dropped.
func (t *target) mark(ctx context.Context, tx pgx.Tx) (*role, error) {
	doc := t.to
	if t.c.Rotation != "" && t.c.Rotation == t.c.From {
		doc = t.from
	}
	if doc == nil {
		return nil, nil //nolint:nilnil // no value, no login
	}
	r, err := readRole(ctx, tx, doc.username)
	if err != nil || r == nil || r.ours == nil || r.ours.Token != t.c.Rotation {
		return nil, err
	}
	return r, nil
}

// settle is how long one call waits for a replica or a session. The pause
// between two looks doubles: what is awaited mostly takes a few milliseconds.
// Longer waits are the machine's.
const (
	settle     = 2 * time.Second
	firstPause = 2 * time.Millisecond
	mostPause  = 25 * time.Millisecond
)

// eventually looks until ready or until settle has passed.
func eventually(ctx context.Context, look func(context.Context) (bool, error)) (bool, error) {
	deadline := time.Now().Add(settle)
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		ready, err := look(ctx)
		if ready || err != nil || time.Now().After(deadline) {
			return ready, err
		}
		select {
		case <-ctx.Done():
			return false, fault.New(fault.Unavailable, "the call ran out of time")
		case <-time.After(pause):
		}
	}
}

// replayed lists the nodes that haven't replayed a position yet.
func (t *target) replayed(ctx context.Context, lsn string) ([]string, error) {
	var behind []string
	for _, node := range t.nodes[1:] {
		s, err := t.asAdmin(ctx, node)
		if err != nil {
			return nil, err
		}
		ok, err := eventually(ctx, func(ctx context.Context) (bool, error) {
			var there bool
			err := s.QueryRow(ctx, `SELECT CASE WHEN pg_is_in_recovery()
				THEN coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false) ELSE true END`, lsn).Scan(&there)
			return there, named(err, "reading how far "+node+" is")
		})
		s.close()
		if err != nil {
			return nil, err
		}
		if !ok {
			behind = append(behind, node+" hasn't replayed "+lsn+" yet")
		}
	}
	return behind, nil
}

package postgres_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
)

// refusing is a transaction in which no role can be altered.
type refusing struct {
	pgx.Tx
	err error
}

func (r refusing) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if strings.HasPrefix(sql, "ALTER ROLE") {
		return pgconn.CommandTag{}, r.err
	}
	return r.Tx.Exec(ctx, sql, args...)
}

// A setting that can't be written just now isn't one that can't be carried over:
// that would end the rotation.
func TestASettingThatCantBeWrittenJustNowIsTriedAgain(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		root := w.root("postgres")
		for want, err := range map[fault.Name]error{
			fault.Conflict:    &pgconn.PgError{Code: "55P03", Message: "canceling statement due to lock timeout"},
			fault.Unavailable: io.ErrUnexpectedEOF,
			fault.Blocked:     &pgconn.PgError{Code: "42501", Message: "permission denied to set parameter"},
		} {
			tx, begun := root.Begin(w.ctx)
			if begun != nil {
				t.Fatal(begun)
			}
			got := postgres.CopySettings(w.ctx, refusing{tx, err}, w.app.User, "other")
			if !fault.Is(got, want) || !strings.Contains(got.Error(), "setting ") {
				t.Errorf("%v is told as %v (%s), want %s", err, got, fault.NameOf(got), want)
			}
			if err := tx.Rollback(w.ctx); err != nil {
				t.Fatal(err)
			}
		}
	})
}

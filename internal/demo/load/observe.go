package load

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

// observer counts the consumers' connections from the server's side.
type observer struct {
	cfg     *pgx.ConnConfig
	parties []string
	logger  *slog.Logger
	conn    *pgx.Conn
}

// observeLimit keeps a slow look from delaying the series.
const observeLimit = 800 * time.Millisecond

// logins counts connections by login, or returns nil if it can't look.
func (o *observer) logins(ctx context.Context) map[string]int {
	if o.cfg == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, observeLimit)
	defer cancel()
	counts, err := o.look(ctx)
	if err != nil {
		o.logger.Warn("connections not counted", "error", err)
		o.close(ctx)
		return nil
	}
	return counts
}

func (o *observer) look(ctx context.Context) (map[string]int, error) {
	if o.conn == nil {
		conn, err := pgx.ConnectConfig(ctx, o.cfg)
		if err != nil {
			return nil, err
		}
		o.conn = conn
	}
	rows, err := o.conn.Query(ctx,
		`SELECT usename::text, count(*)::int FROM pg_stat_activity
		 WHERE application_name = ANY($1) AND usename IS NOT NULL GROUP BY 1`, o.parties)
	if err != nil {
		return nil, err
	}
	counts := make(map[string]int)
	var login string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&login, &n}, func() error {
		counts[login] = n
		return nil
	})
	return counts, err
}

// close ends the connection, also when ctx is over.
func (o *observer) close(ctx context.Context) {
	if o.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), observeLimit)
	defer cancel()
	_ = o.conn.Close(ctx) // it only looked
	o.conn = nil
}

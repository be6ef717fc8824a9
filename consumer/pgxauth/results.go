package pgxauth

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }

// row returns its connection to the pool when it is scanned.
type row struct {
	pgx.Row
	conn *pgxpool.Conn
}

func (r *row) Scan(dest ...any) error {
	defer r.conn.Release()
	return r.Row.Scan(dest...)
}

// batchResults returns its connection when it is closed, unless a transaction
// of the batch still needs it.
type batchResults struct {
	pgx.BatchResults
	conn *pgxpool.Conn
	tx   *batchTx
}

func (r *batchResults) Close() error {
	err := r.BatchResults.Close()
	if r.tx == nil {
		r.conn.Release()
	}
	return err
}

func (r *batchResults) Tx() pgx.Tx {
	if r.tx == nil {
		return nil
	}
	return r.tx
}

// batchTx returns its connection when the transaction ends.
type batchTx struct {
	pgx.Tx
	conn *pgxpool.Conn
}

func (t *batchTx) Commit(ctx context.Context) error {
	defer t.conn.Release()
	return t.Tx.Commit(ctx)
}

func (t *batchTx) Rollback(ctx context.Context) error {
	defer t.conn.Release()
	return t.Tx.Rollback(ctx)
}

package load

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// The reason classes of a failed request. A SQLSTATE follows where the server
// gave one; its text never does.
const (
	reasonLate       = "late"              // answered, or given up, after the deadline
	reasonTerminated = "terminated 57P01"  // the server ended the connection
	reasonLogin      = "login refused "    // class 28
	reasonServer     = "server error "     // any other SQLSTATE
	reasonConnect    = "no connection"     // the server couldn't be reached
	reasonBroken     = "connection broken" // in the middle of a request
	classAuth        = "28"                // invalid authorization specification
	adminShutdown    = "57P01"             // admin_shutdown
)

// reasonOf classes an error; empty means success.
func reasonOf(err error, late bool) string {
	var answer *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case err == nil && !late:
		return ""
	case errors.As(err, &answer) && answer.Code == adminShutdown:
		return reasonTerminated
	case errors.As(err, &answer) && strings.HasPrefix(answer.Code, classAuth):
		return reasonLogin + answer.Code
	case errors.As(err, &answer):
		return reasonServer + answer.Code
	case late, errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err):
		return reasonLate
	case errors.As(err, &connect):
		return reasonConnect
	default:
		return reasonBroken
	}
}

// errNoConnection marks what failed before a request had a connection.
var errNoConnection = errors.New("no connection yet")

// where says what a late request was waiting for when its time was over.
func where(err error) string {
	var connect *pgconn.ConnectError
	switch {
	case err == nil:
		return ", answered"
	case errors.As(err, &connect):
		return ", logging in"
	case errors.Is(err, errNoConnection):
		return ", waiting for a connection"
	default:
		return ", in a statement"
	}
}

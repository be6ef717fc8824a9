package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/fault"
)

// nameOf maps what the server says (PostgreSQL's appendix of SQLSTATEs) to the
// name of a fault.
func nameOf(e *pgconn.PgError) fault.Name {
	switch e.Code {
	case "28P01", "28000":
		return fault.CredentialRejected
	case "42501":
		return fault.PermissionDenied
	case "3D000":
		return fault.InvalidInput
	case "23505", "42710", "55P03", "40001", "40P01", "57014":
		// Somebody was quicker, or holds the lock: look again.
		return fault.Conflict
	case "25006", "25P03", "25P04":
		// Not the primary, or not any more; or our transaction lay open too long.
		return fault.Unavailable
	case "XX000":
		if strings.Contains(e.Message, "tuple concurrently") {
			return fault.Conflict
		}
		return fault.Internal
	}
	if len(e.Code) == 5 {
		switch e.Code[:2] {
		case "08", "53", "57", "58":
			return fault.Unavailable
		}
	}
	return fault.Internal
}

// named turns a driver's error into a fault. The driver's own error isn't kept
// in the chain: it may know connection strings.
func named(err error, doing string) error {
	if err == nil {
		return nil
	}
	var already *fault.Error
	if errors.As(err, &already) {
		return fault.Wrap(already.Name, err, "%s", doing)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		f := fault.New(nameOf(pg), "%s: %s (SQLSTATE %s)", doing, pg.Message, pg.Code)
		if notPermitted(err) {
			f = fault.New(fault.CredentialRejected, "%s: the login is locked (NOLOGIN, SQLSTATE 28000)", doing)
		}
		return withHint(f, pg)
	}
	text, hint := transport(err)
	f := fault.New(fault.Unavailable, "%s: %s", doing, text)
	if hint != "" {
		f = f.WithHint("%s", hint)
	}
	return f
}

func withHint(f *fault.Error, pg *pgconn.PgError) *fault.Error {
	switch pg.Code {
	case "28P01":
		return f.WithHint("the secret's password isn't the database's; store the working credential as AWSCURRENT")
	case "28000":
		if pg.Routine == "ClientAuthentication" {
			return f.WithHint("pg_hba.conf has no line for this login, address and TLS; prefer a line for +identity")
		}
		return f.WithHint("ALTER ROLE … LOGIN, if it is meant to be alive")
	case "53300":
		return f.WithHint("no connection is free; raise max_connections or the login's CONNECTION LIMIT")
	case "42501":
		return f.WithHint("the admin needs CREATEROLE, pg_read_all_stats, pg_signal_backend and, from PostgreSQL 16 on, ADMIN on the role")
	}
	return f
}

// transport says in words why there was no answer.
func transport(err error) (text, hint string) {
	var (
		op        *net.OpError
		dns       *net.DNSError
		unknownCA x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
	)
	const tlsHint = "set root_ca_file to the authority of the server's certificate; there is no fallback to less"
	switch {
	case errors.As(err, &unknownCA), errors.As(err, &hostname), errors.As(err, &invalid), errors.As(err, &verify):
		return "TLS: the server's certificate isn't valid for its name", tlsHint
	case strings.Contains(err.Error(), "server refused TLS"):
		return "TLS: the server has ssl switched off", "switch ssl on; plaintext needs \"ssl\": false and allow_plaintext"
	case errors.As(err, &dns):
		return "network: no such host " + dns.Name, ""
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "network: no answer in time", "is the database reachable from here (security group, subnet)?"
	case errors.Is(err, context.Canceled):
		return "the call was cancelled", ""
	case errors.As(err, &op):
		return "network: " + op.Error(), ""
	}
	return "the connection broke", ""
}

// code is the SQLSTATE that an error carries, or "".
func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// notPermitted tells a NOLOGIN role from a pg_hba rejection, which has the same
// SQLSTATE. The server's routine isn't translated, its message may be.
func notPermitted(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "28000" &&
		(pg.Routine == "InitializeSessionUserId" || strings.Contains(pg.Message, "is not permitted to log in"))
}

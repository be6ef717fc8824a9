package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// LoginLog is a cumulative record of logins on one node. Polls of
// pg_stat_activity miss whoever connects and leaves between two of them.
type LoginLog interface {
	// Logins counts the logins of a name since a moment of the server's clock,
	// and when the last one was. complete says that the record covers all of
	// that time; without it, a count of zero says nothing.
	Logins(ctx context.Context, login string, since time.Time) (count int, last time.Time, complete bool, err error)
}

// LogFile reads the server's own log as written with log_connections=on, a
// log_line_prefix that begins with %m or %t, and log_timezone UTC or GMT.
type LogFile struct{ Path string }

var _ LoginLog = LogFile{}

// Logins implements LoginLog. The record is complete if its first dated line is
// no later than since.
func (f LogFile) Logins(ctx context.Context, login string, since time.Time) (count int, last time.Time, complete bool, err error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return 0, time.Time{}, false, fmt.Errorf("opening the login log: %w", err)
	}
	defer func() { _ = file.Close() }()
	r := bufio.NewReader(file)
	first := true
	for {
		line, readErr := r.ReadString('\n')
		if at, ok := lineTime(line); ok {
			if first {
				first, complete = false, !at.After(since)
			}
			if !at.Before(since) && isLogin(line, login) {
				count, last = count+1, at
			}
		}
		if errors.Is(readErr, io.EOF) {
			return count, last, complete, ctx.Err()
		}
		if readErr != nil {
			return 0, time.Time{}, false, fmt.Errorf("reading the login log: %w", readErr)
		}
	}
}

// lineTime reads the time that a line begins with.
func lineTime(line string) (time.Time, bool) {
	fields := strings.SplitN(line, " ", 4)
	if len(fields) < 4 || (fields[2] != "UTC" && fields[2] != "GMT") {
		return time.Time{}, false
	}
	at, err := time.Parse("2006-01-02 15:04:05", fields[0]+" "+fields[1])
	return at, err == nil
}

// isLogin recognises the line that log_connections writes after a login. The
// name may hold any character, so what follows it is compared too.
func isLogin(line, login string) bool {
	_, rest, ok := strings.Cut(line, "connection authorized: user="+login)
	return ok && (strings.HasPrefix(rest, " database=") || strings.HasPrefix(rest, " application_name=") ||
		strings.TrimRight(rest, "\n") == "")
}

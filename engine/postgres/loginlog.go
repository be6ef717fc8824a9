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
	first, err := firstDated(file, 0)
	if err != nil {
		return 0, time.Time{}, false, err
	}
	// A name with a line break never stands in one line.
	complete = !first.IsZero() && !first.After(since) && !strings.ContainsAny(login, "\r\n")
	r, err := seekTime(file, since)
	if err != nil {
		return 0, time.Time{}, false, err
	}
	for {
		line, readErr := r.ReadString('\n')
		if at, ok := lineTime(line); ok {
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

// seekTime finds a place before which every line is older than since: a busy
// server's log is long, and only its end is of interest. Lines are written a
// little out of order.
func seekTime(file *os.File, since time.Time) (*bufio.Reader, error) {
	const near, disorder = 64 << 10, 10 * time.Second
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("measuring the login log: %w", err)
	}
	from, to := int64(0), info.Size()
	for to-from > near {
		middle := from + (to-from)/2
		at, err := firstDated(file, middle)
		if err != nil {
			return nil, err
		}
		if !at.IsZero() && at.Before(since.Add(-disorder)) {
			from = middle
		} else {
			to = middle
		}
	}
	if _, err := file.Seek(from, io.SeekStart); err != nil {
		return nil, fmt.Errorf("reading the login log: %w", err)
	}
	return bufio.NewReader(file), nil
}

// firstDated is the time of the first dated line that begins at or after an
// offset; zero if there is none.
func firstDated(file *os.File, offset int64) (time.Time, error) {
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return time.Time{}, fmt.Errorf("reading the login log: %w", err)
	}
	r := bufio.NewReader(file)
	for {
		line, err := r.ReadString('\n')
		if at, ok := lineTime(line); ok {
			return at, nil
		}
		if errors.Is(err, io.EOF) {
			return time.Time{}, nil
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("reading the login log: %w", err)
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

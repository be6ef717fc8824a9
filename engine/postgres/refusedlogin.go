package postgres

import (
	"regexp"
	"strings"
	"time"
)

// RefusedLogin is a line of PostgreSQL's log: somebody had the right password of a
// login that has no LOGIN. The server looks at LOGIN after it has checked the
// password (InitializeSessionUserId), so that the line proves who holds what.
type RefusedLogin struct {
	Login   string
	Address string    // of the client, where the prefix is RDS's; else empty
	At      time.Time // as the line says it, to the second at least; zero: it doesn't
}

const (
	beforeLogin = `FATAL:  role "`
	afterLogin  = `" is not permitted to log in`
	mostLine    = 64 << 10 // bytes; a longer line isn't this one
)

// severity begins every message, in English; whatever stands before the first one
// is the prefix of the line.
var severity = regexp.MustCompile(`(?:DEBUG[1-5]?|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|DETAIL|HINT|QUERY|CONTEXT|LOCATION|BACKTRACE|STATEMENT):  `)

// rdsPrefix is that of RDS and Aurora, %t:%r:%u@%d:[%p]: (Amazon RDS user guide,
// "RDS for PostgreSQL database log files").
var rdsPrefix = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}(?:\.[0-9]{1,6})? [A-Z]{3,5}:([0-9A-Za-z:.%_-]{1,255})\([0-9]{1,5}\):`)

// ParseRefusedLogin reads such a line, whatever its prefix. Texts of others that
// a line may quote (a statement, an application's name) don't pass for one: the
// message has to be the whole of the line after its prefix. A name that holds
// quotes is taken as it stands.
func ParseRefusedLogin(line string) (RefusedLogin, bool) {
	line = strings.TrimRight(line, "\r\n")
	if len(line) > mostLine || strings.ContainsAny(line, "\r\n\x00") {
		return RefusedLogin{}, false
	}
	first := severity.FindStringIndex(line)
	if first == nil || !strings.HasPrefix(line[first[0]:], beforeLogin) {
		return RefusedLogin{}, false
	}
	login, ok := strings.CutSuffix(line[first[0]+len(beforeLogin):], afterLogin)
	if !ok || login == "" || len(login) > maxName {
		return RefusedLogin{}, false
	}
	r := RefusedLogin{Login: login, At: beganAt(line[:first[0]])}
	if at := rdsPrefix.FindStringSubmatch(line[:first[0]]); at != nil {
		r.Address = at[1]
	}
	return r, true
}

// beganAt reads %t or %m at the beginning of a prefix, in UTC.
func beganAt(prefix string) time.Time {
	const layout = "2006-01-02 15:04:05"
	date, rest, _ := strings.Cut(prefix, " ")
	clock, rest, _ := strings.Cut(rest, " ")
	if !strings.HasPrefix(rest, "UTC") && !strings.HasPrefix(rest, "GMT") {
		return time.Time{}
	}
	at, err := time.Parse(layout, date+" "+clock)
	if err != nil {
		return time.Time{}
	}
	return at
}

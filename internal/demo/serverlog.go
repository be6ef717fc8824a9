package demo

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
)

// refusal is how PostgreSQL logs a login that it refuses; failed logins are
// nowhere but in the log.
var refusal = regexp.MustCompile(`(?m)^(\S+ \S+ UTC) .*FATAL:  (?:password authentication failed for user|role) "([^"]+)"(?: is not permitted to log in)?`)

// life is when a login has to be accepted: from the end of its set to the
// beginning of its disable. Outside of it, Keyturn itself is refused on purpose.
type life struct{ from, to time.Time }

func (s *stage) lives(records []audit.Record) map[string]life {
	lives := map[string]life{}
	for _, t := range s.turns {
		for _, login := range []string{t.From.Username, t.To.Username} {
			if _, ok := lives[login]; !ok {
				lives[login] = life{from: s.started, to: time.Now()}
			}
		}
		if s.options.Naive {
			continue
		}
		for _, r := range records {
			if r.RotationID != t.Token {
				continue
			}
			switch {
			case r.Step == "set" && r.Phase == audit.ResultPhase && r.Outcome == "done":
				l := lives[t.To.Username]
				l.from = r.Time
				lives[t.To.Username] = l
			case r.Step == "disable" && r.Phase == audit.Intent:
				l := lives[t.gone().Username]
				if r.Time.Before(l.to) {
					l.to = r.Time
				}
				lives[t.gone().Username] = l
			}
		}
	}
	return lives
}

// serverRejections counts, in the servers' own logs, refusals of logins that
// had to be accepted. It is the cross-check of what the consumers count.
func (s *stage) serverRejections(records []audit.Record) (int, error) {
	lives := s.lives(records)
	n := 0
	for _, node := range []*pgtest.Server{s.cluster.Primary, s.cluster.Replica} {
		refused, err := rejections(node.LogFile, lives)
		if err != nil {
			return 0, fault.Wrap(fault.Internal, err, "reading the server's log")
		}
		n += refused
	}
	return n, nil
}

// rejections reads a log line by line: under load it is larger than memory
// should be.
func rejections(path string, lives map[string]life) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // only read
	n := 0
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return n, nil
		case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull):
			return n, err
		}
		m := refusal.FindSubmatch(line)
		if m == nil {
			continue
		}
		at, err := time.Parse("2006-01-02 15:04:05.999 MST", string(m[1]))
		if err != nil {
			return n, fmt.Errorf("reading a time: %w", err)
		}
		if l, ok := lives[string(m[2])]; ok && at.After(l.from) && at.Before(l.to) {
			n++
		}
	}
}

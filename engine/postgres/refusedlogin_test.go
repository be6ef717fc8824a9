package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/engine/postgres"
)

func TestParseRefusedLogin(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 22, 0, 1, 0, time.UTC)
	const message = `FATAL:  role "app" is not permitted to log in`
	for line, want := range map[string]postgres.RefusedLogin{
		"2026-11-23 22:00:01 UTC:10.0.0.5(51234):app@orders:[1234]:" + message + "\n": {Login: "app", Address: "10.0.0.5", At: at},
		"2026-11-23 22:00:01 UTC:2001:db8::5(51234):app@orders:[1234]:" + message:     {Login: "app", Address: "2001:db8::5", At: at},
		"2026-11-23 22:00:01 UTC:[local]:app@orders:[1234]:" + message:                {Login: "app", At: at},
		"2026-11-23 22:00:01.500 UTC [7] " + message:                                  {Login: "app", At: at.Add(500 * time.Millisecond)},
		"2026-11-23 23:00:01 CET:10.0.0.5(5):app@orders:[1]:" + message:               {Login: "app", Address: "10.0.0.5"},
		message: {Login: "app"},
		`x FATAL:  role "a"b" is not permitted to log in" is not permitted to log in`: {Login: `a"b" is not permitted to log in`},
		// A user's name in the prefix that looks like the message: the rest of it follows.
		`2026-11-23 22:00:01 UTC:10.0.0.5(5):FATAL:  role "old@db:[1]:FATAL:  role "new" is not permitted to log in`: {
			Login: `old@db:[1]:FATAL:  role "new`, Address: "10.0.0.5", At: at,
		},
	} {
		if got, ok := postgres.ParseRefusedLogin(line); !ok || got != want {
			t.Errorf("%q: %+v %v, want %+v", line, got, ok, want)
		}
	}
	for _, line := range []string{
		"", "FATAL:  ", `FATAL:  role "app" does not exist`, `FATAL:  role "" is not permitted to log in`,
		`FATAL:  password authentication failed for user "app"`,
		`2026-11-23 22:00:01 UTC:1.2.3.4(5):x@y:[1]:LOG:  statement: SELECT 'FATAL:  role "app" is not permitted to log in`,
		`LOG:  connection authorized: user=x database=y application_name=` + message,
		"\t" + `LOG:  a` + "\n" + message, message + " ", message + "\nDETAIL:  x",
		`FATAL:  role "` + strings.Repeat("a", 64) + `" is not permitted to log in`,
		strings.Repeat(" ", 70_000) + message,
	} {
		if got, ok := postgres.ParseRefusedLogin(line); ok {
			t.Errorf("%q is taken for %+v", line, got)
		}
	}
}

// A real server writes the line for the right password only, and as it is read here.
func TestServersWriteTheLineOfARefusedLogin(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		root := w.root("postgres")
		for _, name := range []string{w.app.User + " late", w.app.User + ` la"te 'x' is not`} {
			login := pgx.Identifier{name}.Sanitize()
			execute(t, root, "CREATE ROLE "+login+" NOLOGIN PASSWORD 'right'")
			t.Cleanup(func() { execute(t, w.root("postgres"), "DROP ROLE "+login) })
			for _, password := range []string{"wrong", "right"} {
				who := w.app
				who.User, who.Password, who.Database = name, password, "postgres"
				if conn, err := pgx.Connect(w.ctx, s.DSN(s.Primary, who)); err == nil {
					_ = conn.Close(w.ctx)
					t.Fatalf("%s is let in", login)
				}
			}
			var found []postgres.RefusedLogin
			for len(found) == 0 && w.ctx.Err() == nil {
				text, err := s.Primary.Log()
				if err != nil {
					t.Fatal(err)
				}
				for line := range strings.Lines(text) {
					if r, ok := postgres.ParseRefusedLogin(line); ok && r.Login == name {
						found = append(found, r)
					}
				}
			}
			if len(found) != 1 || time.Since(found[0].At).Abs() > 10*time.Minute {
				t.Errorf("the log tells of %+v, want one", found)
			}
		}
	})
}

// FuzzParseRefusedLogin: whatever is read stands in the line where the message is.
func FuzzParseRefusedLogin(f *testing.F) {
	f.Add(`2026-11-23 22:00:01 UTC:10.0.0.5(51234):app@orders:[1234]:FATAL:  role "app" is not permitted to log in`)
	f.Add(`LOG:  FATAL:  role "app" is not permitted to log in`)
	f.Fuzz(func(t *testing.T, line string) {
		r, ok := postgres.ParseRefusedLogin(line)
		if !ok {
			return
		}
		prefix, found := strings.CutSuffix(strings.TrimRight(line, "\r\n"), `FATAL:  role "`+r.Login+`" is not permitted to log in`)
		if !found || strings.Contains(prefix, ":  ") && strings.Contains(prefix, "LOG:  ") {
			t.Errorf("%q is read as %+v", line, r)
		}
		if strings.ContainsAny(r.Address, " \"\n()") || len(r.Login) > 63 {
			t.Errorf("%q gives address %q, login %q", line, r.Address, r.Login)
		}
	})
}

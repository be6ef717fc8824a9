package postgres_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// hostile draws from the characters that break connection strings and SQL.
var hostile = rapid.StringOfN(rapid.RuneFrom([]rune(`'"\:@/%; $-_.,{}()=?&#äöß日本語ﬁ①🔑aB1`+"\t\n")), 1, 12, 40)

func TestAnyNameAndTextIsQuoted(t *testing.T) {
	t.Parallel()
	s := servers["15"]
	conn, err := s.Superuser(t.Context(), s.Primary, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, conforming := range []string{"on", "off"} {
		execute(t, conn, "SET standard_conforming_strings = "+conforming, "SET backslash_quote = on")
		rapid.Check(t, func(rt *rapid.T) {
			name, text := hostile.Draw(rt, "name"), hostile.Draw(rt, "text")
			check := func(sql, want string, args ...any) {
				var got string
				if err := conn.QueryRow(context.Background(), sql, args...).Scan(&got); err != nil || got != want {
					rt.Fatalf("%s: got %q (%v), want %q", sql, got, err, want)
				}
			}
			check("SELECT "+postgres.Literal(text), text)
			check("SELECT x."+postgres.Ident(name)+" FROM (SELECT "+postgres.Literal(text)+" AS "+postgres.Ident(name)+") x", text)
			check("SELECT array_to_string($1::text[], chr(1))", strings.Join(postgres.SplitList(postgres.Ident(name)+", "+postgres.Ident("b")), "\x01"), []string{name, "b"})
		})
	}
}

func TestHostileNamesRotate(t *testing.T) {
	names := []string{`o'reilly "x"`, `back\slash;--$1`, `a:b@c/d%20`, `日本 語 UPPER`}
	each(t, func(t *testing.T, s *server) {
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newLogin(t, s)
				renamed := name + " " + w.app.User
				password := `p'"\:@/% ß` + renamed
				root := w.root("postgres")
				v, err := postgres.Verifier(renamed, rotation.NewValue(password))
				if err != nil {
					t.Fatal(err)
				}
				execute(t, root, "ALTER ROLE "+w.app.User+" RENAME TO "+postgres.Ident(renamed),
					"ALTER ROLE "+postgres.Ident(renamed)+" PASSWORD "+postgres.Literal(v))
				if err := s.CaughtUp(w.ctx); err != nil {
					t.Fatal(err)
				}
				w.app.User, w.app.Password = renamed, password
				w.fields["username"], w.fields["password"] = renamed, password
				w.store.Add(w.arn, version1, encodeJSON(t, w.fields))
				w.set["login_log"] = map[string]string{s.Primary.Address(): s.Primary.LogFile, s.Replica.Address(): s.Replica.LogFile}
				w.head(version1, version2)
				_ = w.connect(w.login(version2), "web").Close(w.ctx)
				w.tail(version1, version2)
				if err := w.works(w.ctx, version2); err != nil {
					t.Error(err)
				}
				w.head(version2, version3)
				w.tail(version2, version3)
				if got := ask(t, root, "SELECT count(*)::text FROM pg_roles WHERE strpos(rolname, $1) = 1", renamed); got != "2" {
					t.Errorf("%s roles are left, want the identity and one login", got)
				}
			})
		}
	})
}

func TestFreshNames(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		identity, version := hostile.Draw(rt, "identity"), rapid.String().Draw(rt, "version")
		name, err := postgres.FreshName(identity, version)
		if len(identity)+9 > 63 {
			if !fault.Is(err, fault.InvalidInput) {
				rt.Fatalf("a name of %d bytes was made: %v", len(name), err)
			}
			return
		}
		again, _ := postgres.FreshName(identity, version)
		if err != nil || len(name) > 63 || name != again || !strings.HasPrefix(name, identity+"_") {
			rt.Fatalf("got %q, %q (%v)", name, again, err)
		}
		if other, _ := postgres.FreshName(identity, version+"x"); other == name {
			rt.Fatalf("two versions share %q", name)
		}
	})
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 200 {
		v, err := postgres.Password(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		p := v.Reveal()
		if len(p) != 32 || strings.ContainsAny(p, `:/@"'\ `) || seen[p] {
			t.Fatal("a password breaks the rules")
		}
		for _, r := range p {
			if r < '!' || r > '~' {
				t.Fatalf("a password holds %q", r)
			}
		}
		seen[p] = true
	}
	if _, err := postgres.Password(strings.NewReader("")); err == nil {
		t.Fatal("a password without randomness")
	}
}

func TestAVerifierIsWhatTheServerWouldStore(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		// pgx itself can't log in with what SASLprep maps ("ﬁre①"); psql can.
		for _, password := range []string{"ascii", "ß and 日本", "'\"\\:@/%"} {
			v, err := postgres.Verifier(w.app.User, rotation.NewValue(password))
			if err != nil {
				t.Fatal(err)
			}
			execute(t, w.root("postgres"), "ALTER ROLE "+w.app.User+" PASSWORD "+postgres.Literal(v))
			cfg, err := pgx.ParseConfig(s.DSN(s.Primary, w.app))
			if err != nil {
				t.Fatal(err)
			}
			cfg.Password = password
			conn, err := pgx.ConnectConfig(w.ctx, cfg)
			if err != nil {
				t.Errorf("%q: %v", password, err)
				continue
			}
			_ = conn.Close(w.ctx)
		}
	})
}

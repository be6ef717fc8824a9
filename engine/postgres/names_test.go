package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// secretText draws passwords that pgx and PostgreSQL prepare alike (RFC 4013 and
// RFC 8265 differ in compatibility characters, which quoting_test.go names).
var secretText = rapid.StringOfN(rapid.RuneFrom([]rune(`'"\:@/%; $-_.,{}()=?&#äöß日本語🔑aB1`+"\t\n\x7f")), 1, 40, -1)

// Any name and password that PostgreSQL takes: the login is made under just that
// name, and opens with just that password, whatever their characters.
func TestAnyLoginCanBeMadeAndUsed(t *testing.T) {
	t.Parallel()
	s := servers["18"]
	conn, err := s.Superuser(t.Context(), s.Primary, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	ctx := context.Background()
	rapid.Check(t, func(rt *rapid.T) {
		name := "n" + hostile.Draw(rt, "name") + fmt.Sprint(numbers.Add(1))
		password := secretText.Draw(rt, "password")
		if rapid.Bool().Draw(rt, "long") {
			password += strings.Repeat("x'\"\\", 2500)
		}
		v, err := postgres.Verifier(name, rotation.NewValue(password))
		if err != nil {
			rt.Fatal(err)
		}
		for _, sql := range []string{
			"CREATE ROLE " + postgres.Ident(name) + " LOGIN PASSWORD " + postgres.Literal(v),
			"COMMENT ON ROLE " + postgres.Ident(name) + " IS " + postgres.Literal(password),
		} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				rt.Fatalf("%s: %v", sql, err)
			}
		}
		defer func() { _, _ = conn.Exec(ctx, "DROP ROLE "+postgres.Ident(name)) }()
		var there, comment string
		if err := conn.QueryRow(ctx, "SELECT rolname::text, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1", name).Scan(&there, &comment); err != nil || there != name || comment != password {
			rt.Fatalf("the role is %q with the comment %q, %v", there, comment, err)
		}
		cfg, err := pgx.ParseConfig(s.DSN(s.Primary, s.admin))
		if err != nil {
			rt.Fatal(err)
		}
		cfg.User, cfg.Password = name, password
		own, err := pgx.ConnectConfig(ctx, cfg)
		if err != nil {
			rt.Fatalf("%q with a password of %d bytes: %v", name, len(password), err)
		}
		_ = own.Close(ctx)
		cfg.Password += " "
		if own, err := pgx.ConnectConfig(ctx, cfg); err == nil {
			_ = own.Close(ctx)
			rt.Fatalf("%q opens with another password", name)
		}
	})
}

// rename gives the world's login another name and password, and stores both.
func (w *world) rename(name, password string) {
	w.t.Helper()
	v, err := postgres.Verifier(name, rotation.NewValue(password))
	if err != nil {
		w.t.Fatal(err)
	}
	execute(w.t, w.root("postgres"), "ALTER ROLE "+w.app.User+" RENAME TO "+postgres.Ident(name),
		"ALTER ROLE "+postgres.Ident(name)+" PASSWORD "+postgres.Literal(v))
	if err := w.s.CaughtUp(w.ctx); err != nil {
		w.t.Fatal(err)
	}
	w.app.User, w.app.Password = name, password
	w.fields["username"], w.fields["password"] = name, password
	w.store.Add(w.arn, version1, encodeJSON(w.t, w.fields))
}

// Drawn names and passwords go through whole rotations, in every mode.
func TestDrawnLoginsRotate(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		for i, mode := range []string{"fresh", "pair", "rename"} {
			t.Run(mode, func(t *testing.T) {
				t.Parallel()
				w := newLogin(t, s)
				name := hostile.Example(7*i) + " " + w.app.User
				password := secretText.Example(i) + strings.Repeat(`%'"\$1`, 1700)
				w.rename(name, password)
				switch mode {
				case "pair":
					w.set["mode"], w.set["clone_suffix"] = mode, `_'"\c`
				case "rename":
					w.set["adopt"], w.set["owner"] = mode, `o'"\$$`+w.app.User[len(w.app.User)-8:]
				}
				w.head(version1, version2)
				if err := w.works(w.ctx, version1); err != nil {
					t.Errorf("%q: the old login during the overlap: %v", name, err)
				}
				w.tail(version1, version2)
				if err := w.works(w.ctx, version1); err == nil {
					t.Errorf("%q: the old login still works", name)
				}
				if err := w.works(w.ctx, version2); err != nil {
					t.Errorf("%q: %v", name, err)
				}
			})
		}
	})
}

// PostgreSQL counts a name's bytes, and cuts what is over 63 without a word.
func TestNamesAreCountedInBytes(t *testing.T) {
	t.Parallel()
	s := servers["15"]
	for name, fits := range map[string]bool{
		strings.Repeat("é", 25) + "1234":     true,  // 54 bytes and a suffix of 9
		strings.Repeat("é", 25) + "12345":    false, // 30 characters
		strings.Repeat("日", 18):              true,
		" " + strings.Repeat("n", 52) + " ":  true,
		" " + strings.Repeat("n", 53) + "$1": false,
	} {
		w := newLogin(t, s)
		w.rename(name, "p")
		w.begin(version2)
		c := w.change(version1, version2, 1)
		if !fits {
			if err := w.fails(rotation.Engine.Create, c, fault.InvalidInput); !strings.Contains(err.Error(), "63 bytes") {
				t.Errorf("%q: %v", name, err)
			}
			continue
		}
		w.until(rotation.Engine.Create, c, rotation.Done)
		w.until(rotation.Engine.Set, c, rotation.Done)
		if made := w.login(version2).User; len(made) > 63 || !strings.HasPrefix(made, name+"_") {
			t.Errorf("%q became %q", name, made)
		}
		if err := w.works(w.ctx, version2); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// What PostgreSQL can't hold is refused by the field's name, before anything.
func TestNamesThatNoDatabaseTakes(t *testing.T) {
	t.Parallel()
	w := newLogin(t, servers["15"])
	for _, tc := range []struct{ field, value, want string }{
		{"username", "app\x00x", "zero byte"}, {"password", "pass\x00word", "zero byte"}, {"dbname", "shop\x00", "zero byte"},
		{"username", strings.Repeat("é", 32), "63 bytes"}, {"dbname", strings.Repeat("d", 64), "63 bytes"},
		{"username", "", "is empty"}, {"password", "", "is empty"},
	} {
		x := worldFor(w.ctx, t, w.s, w.app)
		x.fields[tc.field] = tc.value
		x.store.Add(x.arn, version1, encodeJSON(t, x.fields))
		x.begin(version2)
		err := x.fails(rotation.Engine.Create, x.change(version1, version2, 1), fault.InvalidInput)
		if text := err.Error(); !strings.Contains(text, tc.want) || !strings.Contains(text, `"`+tc.field+`"`) || strings.Contains(text, "pass\x00") || usedAdmin(x) {
			t.Errorf("%s %q: %v", tc.field, tc.value, err)
		}
	}
}

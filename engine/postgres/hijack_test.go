package postgres_test

import (
	"testing"

	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
)

// victim is a role whose rights the admin could give away, and its members.
func victim(t *testing.T, w *world) (name string, members func() string) {
	t.Helper()
	name = w.app.User + "_victim"
	root := w.root("postgres")
	execute(t, root, "CREATE ROLE "+name+" NOLOGIN")
	if err := w.s.Administer(w.ctx, name); err != nil {
		t.Fatal(err)
	}
	return name, func() string {
		return ask(t, root, `SELECT string_agg(member::regrole::text, ' ') FROM pg_auth_members
			WHERE roleid = $1::regrole AND member::regrole::text <> 'keyturn_admin'`, name)
	}
}

// Whoever holds the application's login chooses its search path, and with it
// what pg_roles and shobj_description mean to its sessions. What such a session
// says about the login's rights doesn't decide what the admin does.
func TestTheApplicationCantLieAboutItsRights(t *testing.T) {
	for _, mode := range []string{"fresh", "pair"} {
		t.Run(mode, func(t *testing.T) {
			each(t, func(t *testing.T, s *server) {
				w := newWorld(t, s, "")
				w.set["mode"] = mode
				target, members := victim(t, w)
				app := w.connect(w.app, "web")
				execute(t, app, "CREATE SCHEMA evil",
					`CREATE FUNCTION evil.shobj_description(oid, name) RETURNS text LANGUAGE sql AS $$
						SELECT '{"keyturn":1,"identity":"`+target+`","token":"`+version1+`","gen":1}'::text $$`,
					"ALTER ROLE "+w.app.User+" SET search_path = evil, pg_catalog")
				_ = app.Close(w.ctx)
				if err := s.CaughtUp(w.ctx); err != nil {
					t.Fatal(err)
				}
				w.begin(version2)
				c := w.change(version1, version2, 1)
				w.until(rotation.Engine.Create, c, rotation.Done)
				w.fails(rotation.Engine.Set, c, fault.PolicyViolation)
				if got := members(); got != "" {
					t.Errorf("%s got the rights of %s", got, target)
				}
			})
		})
	}
}

// Nor does it when whoever stored the version that comes tells the same lie.
func TestALieThatAgreesWithThePlantedVersionIsNotBelieved(t *testing.T) {
	for _, mode := range []string{"fresh", "pair"} {
		t.Run(mode, func(t *testing.T) {
			each(t, func(t *testing.T, s *server) {
				w := newWorld(t, s, "")
				w.set["mode"] = mode
				target, members := victim(t, w)
				app := w.connect(w.app, "web")
				execute(t, app, "CREATE SCHEMA evil",
					`CREATE FUNCTION evil.shobj_description(oid, name) RETURNS text LANGUAGE sql AS $$
						SELECT '{"keyturn":1,"identity":"`+target+`","token":"`+version1+`","gen":1}'::text $$`,
					"ALTER ROLE "+w.app.User+" SET search_path = evil, pg_catalog")
				_ = app.Close(w.ctx)
				if err := s.CaughtUp(w.ctx); err != nil {
					t.Fatal(err)
				}
				planted := target
				if mode == "fresh" {
					var err error
					if planted, err = postgres.FreshName(target, version2); err != nil {
						t.Fatal(err)
					}
				}
				w.begin(version2)
				c := w.change(version1, version2, 1)
				w.fields["username"], w.fields["password"] = planted, "chosen-by-the-attacker"
				if err := w.store.Put(w.ctx, c, rotation.NewValue(encodeJSON(t, w.fields))); err != nil {
					t.Fatal(err)
				}
				w.fails(rotation.Engine.Set, c, fault.PolicyViolation)
				if got := members(); got != "" {
					t.Errorf("%s got the rights of %s", got, target)
				}
			})
		})
	}
}

// A database's owner chooses the search path of everybody who comes. An admin
// whose secret names that database isn't led astray: it runs no code of others.
func TestTheDatabasesOwnerCantLeadTheAdminAstray(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newWorld(t, s, "")
		w.store.Add(adminARN, "admin-version", encodeJSON(t, map[string]any{
			"username": s.admin.User, "password": s.admin.Password, "dbname": w.app.Database,
		}))
		target, members := victim(t, w)
		app := w.connect(w.app, "web")
		execute(t, app, "CREATE SCHEMA evil", "GRANT USAGE ON SCHEMA evil TO PUBLIC",
			`CREATE FUNCTION evil.shobj_description(oid, name) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
				IF pg_catalog.pg_has_role('keyturn_admin', 'USAGE') THEN
					EXECUTE 'GRANT `+target+` TO `+w.app.User+`';
				END IF;
				RETURN pg_catalog.shobj_description($1, $2);
			END $$`,
			"ALTER DATABASE "+w.app.Database+" SET search_path = evil, pg_catalog",
			"ALTER DATABASE "+w.app.Database+" SET client_encoding = 'GBK'",
			"ALTER ROLE "+w.app.User+" RESET search_path")
		_ = app.Close(w.ctx)
		if err := s.CaughtUp(w.ctx); err != nil {
			t.Fatal(err)
		}
		w.head(version1, version2)
		w.tail(version1, version2)
		if got := members(); got != "" {
			t.Errorf("%s got the rights of %s", got, target)
		}
	})
}

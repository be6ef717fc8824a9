package postgres_test

import (
	"testing"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/rotation"
)

// tailSteps are the steps that take something from a login, or give it back.
var tailSteps = map[string]step{
	"Disable": rotation.Engine.Disable, "Enable": rotation.Engine.Enable, "Revoke": rotation.Engine.Revoke,
}

// plant stores a version that names somebody else's login, as whoever may write
// the secret can, and returns the order that its labels would ask for.
func (w *world) plant(version, user, password string) rotation.Change {
	w.t.Helper()
	w.fields["username"], w.fields["password"] = user, password
	w.store.PutByHand(w.arn, version, encodeJSON(w.t, w.fields))
	w.store.Finish(w.arn, version2)
	return w.change(version, version2, 9)
}

// Whoever may write the secret may store a version that names another login of
// the same server, and labels that ask for its end. Nothing is done to a login
// that isn't known to be the secret's.
func TestALoginThatIsntTheSecretsStaysAsItIs(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		for name, tc := range map[string]struct {
			role    string // how the other login stands there
			guessed bool   // the attacker doesn't know its password
		}{
			"alive":                    {"LOGIN VALID UNTIL 'infinity'", true},
			"expired":                  {"LOGIN VALID UNTIL '2001-01-01'", false},
			"locked, password known":   {"NOLOGIN", false},
			"locked, password guessed": {"NOLOGIN", true},
			"a superuser":              {"SUPERUSER", true},
		} {
			w, other := newLogin(t, s), newLogin(t, s)
			w.policy.OnTimeout = rotation.Terminate
			w.head(version1, version2)
			w.tail(version1, version2)
			conn := other.connect(other.app, "busy")
			execute(t, w.root("postgres"), "ALTER ROLE "+other.app.User+" "+tc.role)
			if err := s.CaughtUp(w.ctx); err != nil {
				t.Fatal(err)
			}
			password := other.app.Password
			if tc.guessed {
				password = "a-guess"
			}
			before, _ := other.picture(w.ctx)
			for what, act := range tailSteps {
				res, err := act(w.engine, w.ctx, w.plant(version3, other.app.User, password))
				if name := fault.NameOf(err); err == nil || name == fault.Internal || name == fault.Unavailable {
					t.Errorf("%s: %s ends %q, %v", name, what, res.Outcome, err)
				}
				if after, _ := other.picture(w.ctx); after != before {
					t.Errorf("%s: %s has changed somebody else's login:\n%s\n%s", name, what, before, after)
					before = after
				}
			}
			execute(t, conn, "SELECT 1") // its session is alive
		}
	})
}

// Version ids are unique within one secret only: an attacker may give a planted
// version the id under which another secret's login was made.
func TestAnotherSecretsLoginStaysAsItIs(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w, other := newLogin(t, s), newLogin(t, s)
		w.head(version1, version2)
		w.tail(version1, version2)
		other.head(version1, version3)
		other.tail(version1, version3)
		theirs := other.login(version3)
		for what, act := range tailSteps {
			if _, err := act(w.engine, w.ctx, w.plant(version3, theirs.User, theirs.Password)); !fault.Is(err, fault.PolicyViolation) {
				t.Errorf("%s: %v", what, err)
			}
			if err := other.works(w.ctx, version3); err != nil {
				t.Fatalf("%s has ended another secret's login: %v", what, err)
			}
		}
	})
}

// A login that others have made, and whose password the secret holds, is the
// secret's: it is retired, and comes back on a rollback.
func TestALoginThatOthersMadeIsRetired(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w, old := newLogin(t, s), newLogin(t, s)
		w.head(version1, version2)
		w.tail(version1, version2)
		c := w.plant(version3, old.app.User, old.app.Password)
		execute(t, w.root("postgres"), "ALTER ROLE "+old.app.User+" SUPERUSER")
		w.fails(rotation.Engine.Disable, c, fault.Blocked)
		execute(t, w.root("postgres"), "ALTER ROLE "+old.app.User+" NOSUPERUSER")
		w.until(rotation.Engine.Disable, c, rotation.Done)
		if err := w.works(w.ctx, version3); err == nil {
			t.Error("it still works")
		}
		// From now on other secrets keep away from it.
		if got := ask(t, w.root("postgres"), `SELECT count(DISTINCT shobj_description(oid, 'pg_authid')::json->>'secret')::text || count(*)
			FROM pg_roles WHERE rolname IN ($1, $2) AND shobj_description(oid, 'pg_authid')::json->>'secret' <> ''`, old.app.User, w.login(version2).User); got != "12" {
			t.Errorf("the comments don't name one secret: %s", got)
		}
		w.until(rotation.Engine.Disable, c, rotation.Done)
		w.until(rotation.Engine.Enable, c, rotation.Done)
		if err := w.works(w.ctx, version3); err != nil {
			t.Errorf("it doesn't work again: %v", err)
		}
		w.until(rotation.Engine.Disable, c, rotation.Done)
		w.until(rotation.Engine.Revoke, c, rotation.Done)
		w.until(rotation.Engine.Revoke, c, rotation.Done)
		if got := ask(t, w.root("postgres"), "SELECT rolcanlogin::text FROM pg_roles WHERE rolname = $1", old.app.User); got != "false" {
			t.Errorf("rolcanlogin is %s: the role of others is kept, without LOGIN", got)
		}
	})
}

// A login that was stored again under another version, and then replaced by
// hand, is still the secret's: its password opens it.
func TestALoginStoredAgainAndReplacedByHandIsRetired(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.head(version1, version2)
		w.tail(version1, version2)
		again := w.login(version2)
		w.plant(version3, again.User, again.Password)
		const version4, hand = "44444444-4444-4444-8444-444444444444", "stored-by-hand"
		execute(t, w.root("postgres"), "CREATE ROLE "+w.app.User+"_hand LOGIN PASSWORD "+pgtest.Literal(pgtest.Verifier(hand))+" IN ROLE "+w.app.User)
		if err := s.CaughtUp(w.ctx); err != nil {
			t.Fatal(err)
		}
		w.plant(version4, w.app.User+"_hand", hand)
		zombie := w.change(version2, version4, 9)
		c := w.change(version3, version4, 9)
		w.until(rotation.Engine.Disable, c, rotation.Done)
		w.fails(rotation.Engine.Disable, zombie, fault.Fenced) // the version that had it before
		w.until(rotation.Engine.Revoke, c, rotation.Done)
	})
}

// A login that can't be tried for another reason than its password isn't a
// stranger's for that: the step is called again.
func TestALoginThatCantBeTriedIsNotDisowned(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w, old := newLogin(t, s), newLogin(t, s)
		w.head(version1, version2)
		w.tail(version1, version2)
		c := w.plant(version3, old.app.User, old.app.Password)
		root := w.root("postgres")
		execute(t, root, "ALTER ROLE "+old.app.User+" CONNECTION LIMIT 0")
		w.fails(rotation.Engine.Disable, c, fault.Unavailable)
		w.fails(rotation.Engine.Revoke, c, fault.Unavailable)
		execute(t, root, "ALTER ROLE "+old.app.User+" CONNECTION LIMIT -1")
		w.until(rotation.Engine.Disable, c, rotation.Done)
	})
}

// So it is when the one that replaced it is turned back: what comes back is open
// all the while, and only its password says that it is this version's.
func TestALoginStoredAgainComesBackOnARollback(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		w.head(version1, version2)
		w.tail(version1, version2)
		again := w.login(version2)
		w.plant(version3, again.User, again.Password)
		const version4, hand = "44444444-4444-4444-8444-444444444444", "stored-by-hand"
		execute(t, w.root("postgres"), "CREATE ROLE "+w.app.User+"_hand LOGIN PASSWORD "+pgtest.Literal(pgtest.Verifier(hand))+" IN ROLE "+w.app.User)
		if err := s.CaughtUp(w.ctx); err != nil {
			t.Fatal(err)
		}
		w.plant(version4, w.app.User+"_hand", hand)
		c := w.change(version3, version4, 9)
		w.until(rotation.Engine.Enable, c, rotation.Done)
		w.until(rotation.Engine.Disable, c, rotation.Done) // its comment says so
		w.fails(rotation.Engine.Enable, w.change(version2, version4, 9), fault.Fenced)
		w.until(rotation.Engine.Enable, c, rotation.Done)
		// The rank of the rollback's run isn't one of the version that has come back.
		w.until(rotation.Engine.Disable, w.change(version1, version3, 1), rotation.Done)
	})
}

package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
)

// usedAdmin reports whether the admin's secret was read.
func usedAdmin(w *world) bool {
	return slices.ContainsFunc(w.store.Calls(), func(c rotationtest.Call) bool { return c.Secret == adminARN })
}

func TestTheAdminIsOutOfReachOfTheSecret(t *testing.T) {
	t.Parallel()
	s := servers["15"]
	w := newLogin(t, s)
	for name, tc := range map[string]struct {
		field string
		value any
		want  fault.Name
		text  string
	}{
		"another host":         {"host", "db.example", fault.PolicyViolation, "db.example:"},
		"another port":         {"port", 1, fault.PolicyViolation, ":1,"},
		"another admin":        {"masterarn", "arn:aws:secretsmanager:eu-central-1:111122223333:secret:other", fault.PolicyViolation, "secret:other"},
		"plaintext":            {"ssl", false, fault.PolicyViolation, "plaintext"},
		"plaintext as text":    {"ssl", "false", fault.PolicyViolation, "plaintext"},
		"ssl of a wrong type":  {"ssl", 1, fault.InvalidInput, `"ssl"`},
		"missing password":     {"password", nil, fault.InvalidInput, `"password"`},
		"missing user name":    {"username", nil, fault.InvalidInput, `"username"`},
		"user name is a list":  {"username", []string{"x"}, fault.InvalidInput, `"username"`},
		"port is a word":       {"port", "many", fault.InvalidInput, `"port"`},
		"unknown field":        {"proxy", "x", fault.InvalidInput, `"proxy"`},
		"another engine":       {"engine", "mysql", fault.InvalidInput, `"engine"`},
		"wrong password":       {"password", "not-the-password", fault.CredentialRejected, "28P01"},
		"a login that is long": {"username", strings.Repeat("x", 64), fault.InvalidInput, "63 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			x := worldFor(w.ctx, t, s, w.app)
			if tc.value == nil {
				delete(x.fields, tc.field)
			} else {
				x.fields[tc.field] = tc.value
			}
			x.store.Add(x.arn, version1, encodeJSON(t, x.fields))
			x.begin(version2)
			err := x.fails(rotation.Engine.Create, x.change(version1, version2, 1), tc.want)
			if !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%q isn't in %q", tc.text, err)
			}
			if usedAdmin(x) {
				t.Error("the admin's secret was read")
			}
			if _, err := x.store.Value(x.ctx, x.arn, version2); !fault.Is(err, fault.InvalidStage) {
				t.Errorf("a value was stored: %v", err)
			}
			if strings.Contains(err.Error()+fault.HintOf(err), w.app.Password) {
				t.Error("the password stands in the error")
			}
		})
	}
}

func TestSetNeedsTheCurrentCredential(t *testing.T) {
	t.Parallel()
	w := newLogin(t, servers["15"])
	w.begin(version2)
	c := w.change(version1, version2, 1)
	w.until(rotation.Engine.Create, c, rotation.Done)
	x := worldFor(w.ctx, t, w.s, w.app)
	x.fields["password"] = "not-the-password"
	x.store.Add(x.arn, version1, encodeJSON(t, x.fields))
	x.begin(version2)
	stored, err := w.store.Value(w.ctx, w.arn, version2)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.store.Put(x.ctx, c, stored); err != nil {
		t.Fatal(err)
	}
	x.fails(rotation.Engine.Set, c, fault.CredentialRejected)
	if usedAdmin(x) {
		t.Error("the admin's secret was read")
	}

	// A pending value that this rotation wouldn't have made.
	y := worldFor(w.ctx, t, w.s, w.app)
	y.begin(version2)
	y.fields["username"], y.fields["password"] = "postgres", "whatever-it-is"
	if err := y.store.Put(y.ctx, c, rotation.NewValue(encodeJSON(t, y.fields))); err != nil {
		t.Fatal(err)
	}
	y.fails(rotation.Engine.Set, c, fault.PolicyViolation)
	if usedAdmin(y) {
		t.Error("the admin's secret was read")
	}
}

func TestBadTargetsAreNamed(t *testing.T) {
	t.Parallel()
	s := servers["15"]
	t.Run("locked login", func(t *testing.T) {
		t.Parallel()
		w := newLogin(t, s)
		execute(t, w.root("postgres"), "ALTER ROLE "+w.app.User+" NOLOGIN")
		w.begin(version2)
		if err := w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.CredentialRejected); !strings.Contains(err.Error(), "locked") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("database down", func(t *testing.T) {
		t.Parallel()
		w := newLogin(t, s)
		w.fields["port"] = 1
		w.set["hosts"] = []string{"127.0.0.1:1"}
		w.store.Add(w.arn, version1, encodeJSON(t, w.fields))
		w.begin(version2)
		if err := w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.Unavailable); !strings.Contains(err.Error(), "network") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("unknown authority", func(t *testing.T) {
		t.Parallel()
		w := newLogin(t, s)
		delete(w.set, "root_ca_file")
		w.begin(version2)
		if err := w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.Unavailable); !strings.Contains(err.Error(), "TLS") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("name too long for a suffix", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, s, strings.Repeat("long", 14))
		w.begin(version2)
		if err := w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.InvalidInput); !strings.Contains(err.Error(), "63 bytes") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("name taken", func(t *testing.T) {
		t.Parallel()
		w := newLogin(t, s)
		name, err := postgres.FreshName(w.app.User, version2)
		if err != nil {
			t.Fatal(err)
		}
		execute(t, w.root("postgres"), "CREATE ROLE "+name)
		w.begin(version2)
		if err := w.fails(rotation.Engine.Create, w.change(version1, version2, 1), fault.Blocked); !strings.Contains(err.Error(), name) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("both versions use one login", func(t *testing.T) {
		t.Parallel()
		w := newLogin(t, s)
		w.begin(version2)
		c := w.change(version1, version2, 1)
		if err := w.store.Put(w.ctx, c, rotation.NewValue(encodeJSON(t, w.fields))); err != nil {
			t.Fatal(err)
		}
		w.fails(rotation.Engine.Disable, c, fault.IdentityInUse)
	})
}

func TestLostAnswersLeadToOneValue(t *testing.T) {
	t.Parallel()
	w := newLogin(t, servers["15"])
	w.begin(version2)
	w.store.FailAfter = func(c rotationtest.Call) error {
		if c.Op == "Put" {
			return context.DeadlineExceeded
		}
		return nil
	}
	c := w.change(version1, version2, 1)
	w.fails(rotation.Engine.Create, c, fault.Ambiguous)
	first, err := w.store.Value(w.ctx, w.arn, version2)
	if err != nil {
		t.Fatal(err)
	}
	w.until(rotation.Engine.Create, c, rotation.Done)
	if second, _ := w.store.Value(w.ctx, w.arn, version2); second.Reveal() != first.Reveal() {
		t.Error("the second attempt has made another value")
	}
	// Only "no such value" leads to making one.
	w.store.Fail = func(call rotationtest.Call) error {
		if call.Op == "Value" && call.Version == version3 {
			return fault.New(fault.Throttled, "slow down")
		}
		return nil
	}
	w.fails(rotation.Engine.Create, w.change(version1, version3, 1), fault.Throttled)
}

func TestPlanReadsOnly(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		execute(t, w.root("postgres"), "ALTER ROLE "+w.app.User+" REPLICATION")
		before, _ := w.picture(w.ctx)
		plan, err := w.engine.Plan(w.ctx, w.change(version1, version2, 1))
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.Blockers) != 1 || !strings.Contains(plan.Blockers[0], "REPLICATION") {
			t.Errorf("blockers: %q", plan.Blockers)
		}
		if !slices.Contains(plan.Parties, "web") || !slices.Contains(plan.Parties, "node "+s.Replica.Address()) {
			t.Errorf("parties: %q", plan.Parties)
		}
		if after, _ := w.picture(w.ctx); after != before {
			t.Error("the plan has changed something")
		}
	})
}

func TestSettingsComplainTogether(t *testing.T) {
	t.Parallel()
	_, err := postgres.ParseSettings(json.RawMessage(`{"mode":"both","hosts":["db"],"clone_sufix":"x","lock_timeout":3,
		"poolers":[{"address":"p:6432","adm":"x"}],"adopt":"rename"}`))
	if !fault.Is(err, fault.InvalidInput) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{`"mode" must be`, `"db" must be host:port`, `"clone_sufix" is unknown`, `"lock_timeout"`, `"[0].adm" is unknown`, `"owner" is missing`, `"admin" is missing`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s isn't named in %v", part, err)
		}
	}
	many := map[string]any{"hosts": []string{"db:5432"}, "admin": "arn", "replicas": slices.Repeat([]string{"r:5432"}, 51)}
	if _, err := postgres.ParseSettings(json.RawMessage(encodeJSON(t, many))); err == nil || !strings.Contains(err.Error(), "at most 50") {
		t.Errorf("51 replicas: %v", err)
	}
	good, err := postgres.ParseSettings(json.RawMessage(`{"hosts":["DB.example:5432"],"admin":"arn","login_log":"/var/log/pg.log"}`))
	if err != nil || good.Mode != postgres.Fresh || good.Hosts[0] != "db.example:5432" || good.LoginLog[""] != "/var/log/pg.log" {
		t.Errorf("got %+v, %v", good, err)
	}
	if _, err := postgres.ParseSettings(json.RawMessage(`{"hosts":["x.proxy-abc.eu-central-1.rds.amazonaws.com:5432"],"admin":"arn"}`)); err == nil || !strings.Contains(err.Error(), "RDS Proxy") {
		t.Errorf("an RDS Proxy is taken for a database: %v", err)
	}
}

// Somebody stores the same login again, under a new version id: another host
// name, say. The next rotation retires that version like any other.
func TestALoginStoredAgainByHandIsRetired(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		for _, mode := range []string{"fresh", "pair"} {
			w := newLogin(t, s)
			w.set["mode"] = mode
			w.head(version1, version2)
			w.tail(version1, version2)
			value, err := w.store.Value(w.ctx, w.arn, version2)
			if err != nil {
				t.Fatal(err)
			}
			const byHand, next = "33333333-aaaa-4aaa-8aaa-333333333333", "44444444-aaaa-4aaa-8aaa-444444444444"
			if err := w.store.Detach(w.ctx, w.arn, rotation.Pending, version2); err != nil {
				t.Fatal(err)
			}
			w.store.PutByHand(w.arn, byHand, value.Reveal())
			w.head(byHand, next)
			w.tail(byHand, next)
			if err := w.works(w.ctx, byHand); err == nil {
				t.Errorf("%s: the login stored again still works", mode)
			}
			if err := w.works(w.ctx, next); err != nil {
				t.Errorf("%s: the new login: %v", mode, err)
			}
		}
	})
}

// Who decides by what works has to know whose login was refused.
func TestARefusedAdminSaysNothingAboutTheCredential(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := newLogin(t, s)
		head := w.change(version1, version2, 1)
		w.begin(version2)
		w.until(rotation.Engine.Create, head, rotation.Done)
		w.until(rotation.Engine.Set, head, rotation.Done)
		own := func(name fault.Name) (err error, is bool) {
			err = w.fails(rotation.Engine.Test, head, name)
			var o *rotation.OwnLoginError
			return err, errors.As(err, &o)
		}
		w.store.Add(adminARN, "wrong-version", encodeJSON(t, map[string]any{"username": s.admin.User, "password": "not-the-password"}))
		err, is := own(fault.CredentialRejected)
		if !is || !strings.Contains(err.Error(), "the admin's login "+s.admin.User) || !strings.Contains(fault.HintOf(err), adminARN) {
			t.Errorf("%v (%s) doesn't say that it is the admin's", err, fault.HintOf(err))
		}
		w.store.Fail = func(c rotationtest.Call) error {
			if c.Op == "Current" && c.Secret == adminARN {
				return fault.New(fault.InvalidStage, "it is gone")
			}
			return nil
		}
		if err, is := own(fault.InvalidStage); !is {
			t.Errorf("the admin has no value: %v", err)
		}
		w.store.Fail = nil
		w.store.Add(adminARN, "right-version", encodeJSON(t, map[string]any{"username": s.admin.User, "password": s.admin.Password}))
		execute(t, w.root("postgres"), "ALTER ROLE "+w.login(version2).User+" PASSWORD 'changed by hand'")
		if err, is := own(fault.CredentialRejected); is {
			t.Errorf("the credential is refused: %v", err)
		}
	})
}

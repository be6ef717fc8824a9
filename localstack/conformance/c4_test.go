package conformance_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

// setSecret (C4). Rules that only a database has are shown with Keyturn's
// function and PostgreSQL; rules about retries and asynchronous targets with the
// Python function, whose service can be told how to answer.

func TestC4_1_SetReadsThroughALag(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{ReadLag: 500 * time.Millisecond}, func(t *testing.T, r *rig) {
		version := r.strand()
		r.await(t, "AWSPENDING to be seen", func() bool { return r.holder(pending) == version })
		r.must("createSecret", version)
		r.must("setSecret", version) // at once: reads by label still show an empty version
		text, err := r.s.get(version, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.works(t.Context(), text); err != nil {
			t.Errorf("the new credential: %v", err)
		}
	})
}

func TestC4_2_SetTriesThePendingCredentialFirstAndOnce(t *testing.T) {
	t.Parallel()
	t.Run("Go", func(t *testing.T) {
		t.Parallel()
		r := newKeyturn(t, secretsmanager.Behaviour{})
		version := r.strand()
		r.must("createSecret", version)
		r.must("setSecret", version)
		before := r.db.changes(t)
		if len(before) == 0 {
			t.Fatal("the server's log shows no change by setSecret")
		}
		for range 2 {
			r.must("setSecret", version)
		}
		if diff := cmp.Diff(before, r.db.changes(t)); diff != "" {
			t.Errorf("a repeated setSecret changed roles (-before +after):\n%s", diff)
		}
		// The pending one is tried once, and never without TLS: the server has no other door.
		if n := r.db.refusals(t); n != 1 {
			t.Errorf("%d refused logins, want the one before the login existed", n)
		}
	})
	t.Run("Python", func(t *testing.T) {
		t.Parallel()
		r := newPython(t, secretsmanager.Behaviour{})
		version := r.strand()
		r.must("createSecret", version)
		names := r.tokens(version)
		r.service.history(names)
		r.must("setSecret", version)
		want := []string{"GET pending", "GET current", "POST current", "GET pending"}
		if diff := cmp.Diff(want, r.service.history(names)); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		r.must("setSecret", version)
		if diff := cmp.Diff([]string{"GET pending"}, r.service.history(names)); diff != "" {
			t.Errorf("asked by a repetition (-want +got):\n%s", diff)
		}
	})
}

// tokens names the tokens of the secret for tokenService.history.
func (r *rig) tokens(version string) map[string]string {
	r.t.Helper()
	names := map[string]string{}
	for name, id := range map[string]string{"pending": version, "current": r.holder(current), "previous": r.holder(previous)} {
		if id != "" {
			text, _ := r.value(id)["token"].(string)
			names[text] = name
		}
	}
	return names
}

func TestC4_3_AnotherTargetInThePendingVersionIsRefusedBeforeAnybodyIsAsked(t *testing.T) {
	t.Parallel()
	t.Run("Go", func(t *testing.T) {
		t.Parallel()
		for field, value := range map[string]any{
			"host": "db.elsewhere.example", "port": 1, "engine": "mysql", "dbname": "postgres", "masterarn": "arn:aws:secretsmanager:us-east-1:000000000000:secret:other-AbCdEf",
		} {
			r := newKeyturn(t, secretsmanager.Behaviour{})
			version := r.strand()
			other := r.value(r.s.first)
			other[field] = value
			r.store(version, other, pending)
			if f := r.step("setSecret", version); f == nil {
				t.Errorf("%s: setSecret succeeded", field)
			}
			if r.readAdmin() || len(r.db.changes(t)) > 0 || r.db.refusals(t) > 0 {
				t.Errorf("%s: the admin's secret was read, or the server was asked", field)
			}
		}
	})
	t.Run("Python", func(t *testing.T) {
		t.Parallel()
		r := newPython(t, secretsmanager.Behaviour{})
		version := r.strand()
		other := r.value(r.s.first)
		elsewhere := nobody(t)
		other["url"] = elsewhere
		r.store(version, other, pending)
		if f := r.step("setSecret", version); f == nil {
			t.Error("setSecret succeeded")
		}
		if asked := r.service.history(nil); len(asked) > 0 {
			t.Errorf("asked %v", asked)
		}
	})
}

// nobody is a service that must not be asked.
func nobody(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("another service was asked: %s", r.Method)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestC4_4_PendingThenCurrentThenPrevious(t *testing.T) {
	t.Parallel()
	r := newPython(t, secretsmanager.Behaviour{})
	// A person has stored a token that the service never took: previous is the last that it knows.
	wrong := r.value(r.s.first)
	wrong["token"] = "never taken"
	r.store(newVersion(), wrong)
	version := r.strand()
	r.must("createSecret", version)
	names := r.tokens(version)
	r.service.history(names)
	r.must("setSecret", version)
	want := []string{"GET pending", "GET current", "GET previous", "POST previous", "GET pending"}
	if diff := cmp.Diff(want, r.service.history(names)); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func TestC4_4_NoneOfThemOpensTheTarget(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		version := r.strand()
		r.must("createSecret", version)
		r.lockOut()
		f := r.step("setSecret", version)
		if f == nil {
			t.Fatal("setSecret succeeded")
		}
		if !slices.Contains([]string{"Keyturn.CredentialRejected", "PermissionError"}, f.Type) || !strings.Contains(f.Message, "neither") {
			t.Errorf("%s: %s", f.Type, f.Message)
		}
	})
}

func TestC4_6_TheAdminActsOnlyForACurrentCredentialThatLogsIn(t *testing.T) {
	t.Parallel()
	r := newKeyturn(t, secretsmanager.Behaviour{})
	version := r.strand()
	r.must("createSecret", version)
	r.lockOut()
	r.calls.forget()
	if f := r.step("setSecret", version); f == nil || f.Type != "Keyturn.CredentialRejected" {
		t.Errorf("setSecret: %+v", f)
	}
	if r.readAdmin() {
		t.Error("the admin's secret was read")
	}
}

// lockOut lets the target refuse every credential of the secret.
func (r *rig) lockOut() {
	r.t.Helper()
	if r.service != nil {
		r.service.set(func(s *tokenService) { clear(s.accepted) })
		return
	}
	r.db.execute(r.t, "ALTER ROLE "+r.db.name+" PASSWORD 'changed-by-hand'")
}

// readAdmin reports whether the function has read the admin's secret.
func (r *rig) readAdmin() bool {
	return r.db != nil && slices.ContainsFunc(r.calls.of("GetSecretValue"), func(c request) bool { return c.In["SecretId"] == r.db.admin })
}

func TestC4_5_ThePreviousVersionsTargetIsComparedFirst(t *testing.T) {
	t.Parallel()
	r := newPython(t, secretsmanager.Behaviour{})
	first := r.value(r.s.first)
	other := r.value(r.s.first)
	other["url"] = nobody(t)
	r.store(newVersion(), other) // becomes AWSPREVIOUS
	first["token"] = "never taken"
	r.store(newVersion(), first)
	version := r.strand()
	r.must("createSecret", version)
	if f := r.step("setSecret", version); f == nil || !strings.Contains(f.Message, "different services") {
		t.Errorf("setSecret: %+v", f)
	}
}

func TestC4_7_TheAdminOfAnotherHostIsRefused(t *testing.T) {
	t.Parallel()
	r := newKeyturn(t, secretsmanager.Behaviour{})
	version := r.strand()
	r.must("createSecret", version)
	r.storeAdmin(map[string]any{"host": "db.elsewhere.example"})
	f := r.step("setSecret", version)
	if f == nil || f.Type != "Keyturn.PolicyViolation" || !strings.Contains(f.Message, "db.elsewhere.example") {
		t.Errorf("setSecret: %+v", f)
	}
	if len(r.db.changes(t)) > 0 {
		t.Error("roles were changed")
	}
}

func TestC4_8_AnAdminSecretOfUserAndPasswordAlone(t *testing.T) {
	t.Parallel()
	r := newKeyturn(t, secretsmanager.Behaviour{})
	r.storeAdmin(map[string]any{"engine": nil, "host": nil, "port": nil, "dbname": nil})
	version := r.strand()
	for _, step := range allSteps {
		r.must(step, version)
	}
	text, err := r.s.get("", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.works(t.Context(), text); err != nil {
		t.Errorf("the new login: %v", err)
	}
}

// storeAdmin changes members of the admin's secret; nil removes one.
func (r *rig) storeAdmin(change map[string]any) {
	r.t.Helper()
	admin := &rig{account: r.account, t: r.t, s: &secret{account: r.account, t: r.t, arn: r.db.admin}}
	members := admin.value(admin.holder(current))
	for name, value := range change {
		if value == nil {
			delete(members, name)
		} else {
			members[name] = value
		}
	}
	admin.store(newVersion(), members)
}

func TestC4_9_OnlyAVerifierReachesTheServer(t *testing.T) {
	t.Parallel()
	r := newKeyturn(t, secretsmanager.Behaviour{})
	version := r.strand()
	r.must("createSecret", version)
	r.must("setSecret", version)
	password, _ := r.value(version)["password"].(string)
	all := strings.Join(r.db.changes(t), "\n")
	if !strings.Contains(all, "SCRAM-SHA-256$") || password == "" || strings.Contains(all, password) {
		t.Error("the statements hold the password, or no verifier")
	}
}

func TestC4_12_AnAnswerThatWasLostIsLookedFor(t *testing.T) {
	t.Parallel()
	r := newPython(t, secretsmanager.Behaviour{})
	version := r.strand()
	r.must("createSecret", version)
	value := r.value(version)
	r.service.set(func(s *tokenService) { s.silent = true })
	if f := r.step("setSecret", version); f == nil {
		t.Fatal("the service broke off, and setSecret succeeded")
	}
	names := r.tokens(version)
	r.service.history(names)
	for _, step := range allSteps {
		r.must(step, version)
	}
	if asked := r.service.history(names); slices.ContainsFunc(asked, func(a string) bool { return strings.HasPrefix(a, "POST") }) {
		t.Errorf("the service was asked a second time: %v", asked)
	}
	if diff := cmp.Diff(value, r.value(version)); diff != "" {
		t.Error("another value was made")
	}
}

func TestC4_13_AValueThatIsRejectedIsNotReplacedWithinARotation(t *testing.T) {
	t.Parallel()
	r := newPython(t, secretsmanager.Behaviour{})
	version := r.strand()
	r.service.set(func(s *tokenService) { s.reject = true })
	for range 2 {
		r.must("createSecret", version)
		if f := r.step("setSecret", version); f == nil || f.Type != "ValueError" {
			t.Errorf("setSecret: %+v", f)
		}
	}
	rejected := r.value(version)["token"]
	if len(r.calls.of("PutSecretValue")) != 1 {
		t.Error("a repetition has stored a value")
	}
	if err := r.s.move(pending, "", version); err != nil {
		t.Fatal(err)
	}
	r.service.set(func(s *tokenService) { s.reject = false })
	version = r.strand()
	for _, step := range allSteps {
		r.must(step, version)
	}
	if r.value(version)["token"] == rejected {
		t.Error("the next rotation has the rejected value again")
	}
}

func TestC4_14_SetWaitsForATargetThatIsSlowToTakeEffect(t *testing.T) {
	t.Parallel()
	r := newPython(t, secretsmanager.Behaviour{})
	version := r.strand()
	r.must("createSecret", version)
	r.service.set(func(s *tokenService) { s.delay = 3 })
	r.must("setSecret", version) // it looks until the token is accepted
	r.must("testSecret", version)
	r.must("finishSecret", version)
	// Longer than a step may take: an error, and the next attempt finds it done.
	r.local.SecretsManager.SetFault(nil)
	if err := r.s.move(pending, "", version); err != nil {
		t.Fatal(err)
	}
	version = r.strand()
	r.must("createSecret", version)
	r.service.set(func(s *tokenService) { s.delay = 1 << 20 })
	if f := r.step("setSecret", version); f == nil || f.Type != "TimeoutError" {
		t.Errorf("setSecret: %+v", f)
	}
	r.service.set(func(s *tokenService) {
		for token := range s.accepted {
			s.accepted[token] = 0
		}
	})
	for _, step := range allSteps {
		r.must(step, version)
	}
}

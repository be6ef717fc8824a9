package demo

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/rotation"
)

// Each of these is an incident that happens in production, played with the real
// functions, the real state machine and a real database, while consumers work.

func TestScheduledRotationDuringADrain(t *testing.T) {
	s := newStage(t)
	first := s.rotateSecret(t)
	s.eventually(t, "the first is current", current(first))
	second := s.rotateSecret(t)
	s.eventually(t, "the second waits", func(v rotation.Versions) bool { return v.Has(second, rotation.Pending) })
	if _, err := s.rotator.Store.Value(t.Context(), s.appARN, second); !fault.Is(err, fault.InvalidStage) {
		t.Errorf("a rotation during a drain made a value: %v", err)
	}
	s.eventually(t, "the first is revoked and the second done", stable(second))
	for name, end := range s.over(t) {
		if end != "SUCCEEDED" {
			t.Errorf("%s ended %s", name, end)
		}
	}
	s.harmless(t)
}

func TestTwoOrchestratorsAtOnce(t *testing.T) {
	s := newStage(t)
	tokens := []string{uuid.NewString(), uuid.NewString()}
	for _, token := range tokens {
		if _, err := s.rotator.StartHead(t.Context(), s.appARN, token); err != nil {
			t.Fatal(err)
		}
	}
	s.over(t)
	v := s.eventually(t, "one of them is current", func(v rotation.Versions) bool {
		return v.Has(tokens[0], rotation.Current) || v.Has(tokens[1], rotation.Current)
	})
	winner, loser := tokens[0], tokens[1]
	if !v.Has(winner, rotation.Current) {
		winner, loser = loser, winner
	}
	s.eventually(t, "the winner is stable", stable(winner))
	got := s.over(t)
	if got[winner+"-h-g1"] != "SUCCEEDED" || got[loser+"-h-g1"] != "RotationAborted" || got[winner+"-f-g1"] != "SUCCEEDED" {
		t.Errorf("executions ended %v", got)
	}
	s.harmless(t)
}

func TestPutByHandWhileDraining(t *testing.T) {
	s := newStage(t)
	before, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	token := s.rotateSecret(t)
	s.eventually(t, "the rotation is current", current(token))
	displaced, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byHand := displaced
	byHand.Username, byHand.Password = "shop_by_hand", uuid.NewString()
	if err := s.cluster.Exec(t.Context(), "postgres",
		"CREATE ROLE shop_by_hand LOGIN PASSWORD "+pgtest.Literal(pgtest.Verifier(byHand.Password))+" IN ROLE "+appName,
		"ALTER ROLE shop_by_hand SET role = "+pgtest.Literal(appName),
	); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(byHand)
	if err != nil {
		t.Fatal(err)
	}
	put, err := s.secrets.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: &s.appARN, SecretString: aws.String(string(text))})
	if err != nil {
		t.Fatal(err)
	}
	hand := aws.ToString(put.VersionId)
	s.eventually(t, "both displaced logins are drained", stable(hand))
	got := s.over(t)
	if got[token+"-f-g1"] != "SUCCEEDED" || got[hand+"-f-g1"] != "SUCCEEDED" {
		t.Errorf("executions ended %v", got)
	}
	s.harmless(t)
	for _, node := range []*pgtest.Server{s.cluster.Primary, s.cluster.Replica} {
		for _, gone := range []credential{before, displaced} {
			if class, _ := s.try(t.Context(), node, gone); class != "28" {
				t.Errorf("%s still works on %s: %q", gone.Username, node.Address(), class)
			}
		}
		if class, err := s.try(t.Context(), node, byHand); class != "" {
			t.Errorf("the login put by hand is refused on %s: %v", node.Address(), err)
		}
	}
}

func TestRollbackWhileSecretsManagerRetries(t *testing.T) {
	s := newStage(t)
	before, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.replica(t, "SELECT pg_wal_replay_pause()") // it never sees the new login: the test step can't be done
	token := s.rotateSecret(t)
	s.eventually(t, "the pending version has its value", func(rotation.Versions) bool {
		_, err := s.rotator.Store.Value(t.Context(), s.appARN, token)
		return err == nil
	})
	if _, err := s.rotator.RequestRollback(t.Context(), s.appARN); err != nil {
		t.Fatal(err)
	}
	s.replica(t, "SELECT pg_wal_replay_resume()")
	v := s.eventually(t, "the new one is discarded", func(v rotation.Versions) bool {
		return v.Has(token, rotation.Rejected) && v.Holder(rotation.Retiring) == "" && v.Holder(rotation.Pending) == ""
	})
	if v.Has(token, rotation.Current) {
		t.Errorf("labels %v", v)
	}
	if got := s.over(t)[token+"-b-g1"]; got != "SUCCEEDED" {
		t.Errorf("the back run ended %s", got)
	}
	s.harmless(t)
	if class, err := s.try(t.Context(), s.cluster.Primary, before); class != "" {
		t.Errorf("the old login is refused: %v", err)
	}
	if n, err := s.orphans(t.Context()); err != nil || n != 0 {
		t.Errorf("%d logins are left over: %v", n, err)
	}
}

// Bad input reaches the real function as Secrets Manager would send it. The
// error is named, says what to do, and nothing has changed.
func TestBadInputAtTheFunctionChangesNothing(t *testing.T) {
	s := newStage(t, func(s *stage) { s.failedLogins = 20 }) // Secrets Manager's retries aren't what is tested
	good, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	type change func(map[string]any)
	tests := []struct {
		name   string
		change change
		event  func(token string) string
		want   fault.Name
		says   string
	}{
		{"unknown step", nil, func(token string) string { return s.event("makeSecret", s.appARN, token) }, fault.InvalidInput, "createSecret"},
		{"foreign token", nil, func(string) string { return s.event("createSecret", s.appARN, uuid.NewString()) }, fault.InvalidStage, "no stage"},
		{"unlisted secret", nil, func(token string) string { return s.event("createSecret", s.adminARN, token) }, fault.NotManaged, "keyturn.yaml"},
		{"missing field", func(m map[string]any) { delete(m, "username") }, nil, fault.InvalidInput, "username"},
		{"wrong type", func(m map[string]any) { m["port"] = true }, nil, fault.InvalidInput, "port"},
		{"unknown field", func(m map[string]any) { m["hots"] = "x" }, nil, fault.InvalidInput, "hots"},
		{"host that isn't allowed", func(m map[string]any) { m["host"] = "evil.example" }, nil, fault.PolicyViolation, "evil.example"},
		{"admin that isn't allowed", func(m map[string]any) { m["masterarn"] = s.appARN }, nil, fault.PolicyViolation, "admin secret"},
		{"plaintext", func(m map[string]any) { m["ssl"] = false }, nil, fault.PolicyViolation, "ssl"},
		{"name over 63 bytes", func(m map[string]any) { m["username"] = strings.Repeat("n", 64) }, nil, fault.InvalidInput, "63"},
		{"wrong password", func(m map[string]any) { m["password"] = "wrong" }, nil, fault.CredentialRejected, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			token := uuid.NewString()
			if tt.change != nil {
				s.put(t, good, tt.change)
				token = s.strand(t)
			}
			roles := s.roles(t)
			event := s.event("createSecret", s.appARN, token)
			if tt.event != nil {
				event = tt.event(token)
			}
			out, err := s.aws.Lambda.Invoke(t.Context(), functionARN("rotateSecret"), []byte(event))
			if err != nil {
				t.Fatal(err)
			}
			var doc struct{ ErrorType, ErrorMessage string }
			if err := json.Unmarshal(out.Payload, &doc); err != nil || doc.ErrorType != string(tt.want) {
				t.Errorf("the function answered %s, want %s", out.Payload, tt.want)
			}
			if !strings.Contains(doc.ErrorMessage, tt.says) {
				t.Errorf("the error doesn't say %q: %s", tt.says, doc.ErrorMessage)
			}
			if now := s.roles(t); now != roles {
				t.Errorf("roles changed from %s to %s", roles, now)
			}
			if _, err := s.rotator.Store.Value(t.Context(), s.appARN, token); !fault.Is(err, fault.InvalidStage) {
				t.Errorf("the version has a value: %v", err)
			}
		})
	}
	s.put(t, good, nil)
	t.Run("locked login", func(t *testing.T) {
		s.mustExec(t, "ALTER ROLE shop NOLOGIN")
		defer s.mustExec(t, "ALTER ROLE shop LOGIN")
		s.wantFault(t, s.event("createSecret", s.appARN, s.strand(t)), fault.CredentialRejected)
	})
	t.Run("database down", func(t *testing.T) {
		s.load.Stop()
		token := s.strand(t)
		s.cluster.StopNode(s.cluster.Primary)
		s.wantFault(t, s.event("createSecret", s.appARN, token), fault.Unavailable)
	})
}

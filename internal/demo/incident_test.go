package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/rotation"
)

// Each of these is an incident that happens in production, played with the real
// functions, the real state machine and a real database, while consumers work.

func newStage(t *testing.T, prepare ...func(*stage)) *stage {
	t.Helper()
	s := &stage{
		options: Options{Consumers: 8, Rate: 40, Rotations: 1, Progress: t.Output()},
		dir:     t.TempDir(), started: time.Now(),
	}
	for _, p := range prepare {
		p(s)
	}
	t.Cleanup(s.close)
	if err := s.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.load.Mark(intervalRotation)
	return s
}

// eventually waits for a condition on the labels; the watchdog runs as it would
// be scheduled.
func (s *stage) eventually(t *testing.T, what string, holds func(rotation.Versions) bool) rotation.Versions {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		desc, err := s.rotator.Store.Describe(t.Context(), s.appARN)
		if err != nil {
			t.Fatal(err)
		}
		if holds(desc.Versions) {
			return desc.Versions
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting until %s: labels %v, executions %v", what, desc.Versions, s.ends(t))
		}
		if s.chaos.due() {
			if err := s.invoke(t.Context(), "watchdog", []byte(`{}`)); err != nil {
				t.Log(err)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// ends lists how executions ended, by their names without the secret's hash.
func (s *stage) ends(t *testing.T) map[string]string {
	t.Helper()
	out, err := s.sfn.ListExecutions(t.Context(), &sfn.ListExecutionsInput{StateMachineArn: &s.machine})
	if err != nil {
		t.Fatal(err)
	}
	ends := map[string]string{}
	for _, e := range out.Executions {
		d, err := s.sfn.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: e.ExecutionArn})
		if err != nil {
			t.Fatal(err)
		}
		end := string(d.Status)
		if d.Error != nil {
			end = *d.Error
		}
		ends[aws.ToString(e.Name)[17:]] = end
	}
	return ends
}

// over waits until every execution has ended: its last state comes after the
// last label.
func (s *stage) over(t *testing.T) map[string]string {
	t.Helper()
	s.eventually(t, "every execution has ended", func(rotation.Versions) bool {
		return !slices.Contains(slices.Collect(maps.Values(s.ends(t))), "RUNNING")
	})
	return s.ends(t)
}

// harmless checks that no consumer noticed. A request that was late because
// the machine itself stood still says nothing of that.
func (s *stage) harmless(t *testing.T) {
	t.Helper()
	totals := s.load.Stop()
	if totals.Requests == 0 || totals.Failed > totals.Stolen || totals.AuthRetries > 0 {
		t.Errorf("%d requests, %d failed, %d logins tried again: %v", totals.Requests, totals.Failed, totals.AuthRetries, totals.FailedDetail)
	}
}

func (s *stage) rotateSecret(t *testing.T) string {
	t.Helper()
	token := uuid.NewString()
	if _, err := s.secrets.RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{SecretId: &s.appARN, ClientRequestToken: &token}); err != nil {
		t.Fatal(err)
	}
	return token
}

func stable(token string) func(rotation.Versions) bool {
	return func(v rotation.Versions) bool {
		return v.Has(token, rotation.Current) && v.Holder(rotation.Retiring) == "" && len(v.Displaced()) == 0
	}
}

func current(token string) func(rotation.Versions) bool {
	return func(v rotation.Versions) bool { return v.Has(token, rotation.Current) }
}

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

func (s *stage) event(step, secret, token string) string {
	return fmt.Sprintf(`{"Step":%q,"SecretId":%q,"ClientRequestToken":%q,"RotationToken":"r"}`, step, secret, token)
}

func (s *stage) wantFault(t *testing.T, event string, want fault.Name) {
	t.Helper()
	out, err := s.aws.Lambda.Invoke(t.Context(), functionARN("rotateSecret"), []byte(event))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out.Payload), string(want)) {
		t.Errorf("the function answered %s, want %s", out.Payload, want)
	}
}

// put stores a changed document as AWSCURRENT, as a person would by mistake.
func (s *stage) put(t *testing.T, c credential, change func(map[string]any)) {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatal(err)
		}
		change(fields)
		if text, err = json.Marshal(fields); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.secrets.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: &s.appARN, SecretString: aws.String(string(text))}); err != nil {
		t.Fatal(err)
	}
}

// strand lets Secrets Manager begin a rotation that fails at once; it leaves an
// empty version with AWSPENDING.
func (s *stage) strand(t *testing.T) string {
	t.Helper()
	desc, err := s.rotator.Store.Describe(t.Context(), s.appARN)
	if err != nil {
		t.Fatal(err)
	}
	if p := desc.Versions.Holder(rotation.Pending); p != "" {
		if err := s.rotator.Store.Detach(t.Context(), s.appARN, rotation.Pending, p); err != nil {
			t.Fatal(err)
		}
	}
	return s.rotateSecret(t)
}

func (s *stage) replica(t *testing.T, sql string) {
	t.Helper()
	conn, err := s.cluster.Superuser(t.Context(), s.cluster.Replica, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) mustExec(t *testing.T, sql string) {
	t.Helper()
	if err := s.cluster.Exec(context.WithoutCancel(t.Context()), "postgres", sql); err != nil {
		t.Error(err)
	}
}

func (s *stage) roles(t *testing.T) string {
	t.Helper()
	conn, err := s.cluster.Superuser(t.Context(), s.cluster.Primary, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var all string
	if err := conn.QueryRow(t.Context(), "SELECT string_agg(rolname || rolcanlogin::text, ' ' ORDER BY rolname) FROM pg_roles").Scan(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

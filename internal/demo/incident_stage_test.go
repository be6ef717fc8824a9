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
	"github.com/keyturn/keyturn/rotation"
)

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

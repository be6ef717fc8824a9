package demo

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/rotation"
)

// works checks, on every node, that one login is accepted and the others aren't.
func (s *stage) works(t *testing.T, alive credential, dead ...credential) {
	t.Helper()
	for _, node := range []*pgtest.Server{s.cluster.Primary, s.cluster.Replica} {
		if class, err := s.try(t.Context(), node, alive); class != "" {
			t.Errorf("%s is refused on %s: %v", alive.Username, node.Address(), err)
		}
		for _, gone := range dead {
			if class, _ := s.try(t.Context(), node, gone); class != "28" {
				t.Errorf("%s still works on %s: %q", gone.Username, node.Address(), class)
			}
		}
	}
}

func (s *stage) moveLabel(t *testing.T, label rotation.Label, to, from string) {
	t.Helper()
	in := &secretsmanager.UpdateSecretVersionStageInput{SecretId: &s.appARN, VersionStage: (*string)(&label), RemoveFromVersionId: &from}
	if to != "" {
		in.MoveToVersionId = &to
	}
	if _, err := s.secrets.UpdateSecretVersionStage(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

// Somebody undoes a rotation in the console, when the old login is disabled
// already: it is enabled again, and the new one retired. What the hand breaks
// until then isn't counted.
func TestCurrentMovedBackByHandAfterDisable(t *testing.T) {
	s := newStage(t)
	before, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	token := s.rotateSecret(t)
	v := s.eventually(t, "the old login is disabled", func(v rotation.Versions) bool { return v.Holder(rotation.Disabled) != "" })
	old := v.Holder(rotation.Disabled)
	after, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.moveLabel(t, rotation.Current, old, token)
	s.eventually(t, "the new login is retired", func(v rotation.Versions) bool {
		return stable(old)(v) && !v.Has(old, rotation.Disabled) && !v.Has(token, rotation.Live(token))
	})
	s.over(t)
	s.works(t, before, after)
}

// Somebody takes AWSPENDING off, which ends the rotation for Secrets Manager:
// the login that was made already isn't forgotten.
func TestPendingTakenOffAfterSet(t *testing.T) {
	s := newStage(t)
	before, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.replica(t, "SELECT pg_wal_replay_pause()") // the test step can't be done
	token := s.rotateSecret(t)
	var made credential
	s.eventually(t, "the new login is made", func(rotation.Versions) bool {
		value, err := s.rotator.Store.Value(t.Context(), s.appARN, token)
		if err != nil {
			return false
		}
		made = s.remember(value)
		class, _ := s.try(t.Context(), s.cluster.Primary, made)
		return class == ""
	})
	s.moveLabel(t, rotation.Pending, "", token)
	s.replica(t, "SELECT pg_wal_replay_resume()")
	s.eventually(t, "the new login is retired", func(v rotation.Versions) bool {
		return rotation.Read(v, rotation.DriverSecretsManager).Need == rotation.NeedNothing && !v.Has(token, rotation.Live(token))
	})
	s.over(t)
	s.harmless(t)
	s.works(t, before, made)
	if n, err := s.orphans(t.Context()); err != nil || n != 0 {
		t.Errorf("%d logins are left over: %v", n, err)
	}
}

package conformance_test

import (
	"slices"
	"testing"

	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

func TestC5_1_TestHasNoSideEffects(t *testing.T) {
	t.Parallel()
	each(t, secretsmanager.Behaviour{}, func(t *testing.T, r *rig) {
		version := r.strand()
		r.must("createSecret", version)
		r.must("setSecret", version)
		labels, names := r.s.labels(), map[string]string{}
		var changes []string
		if r.service != nil {
			names = r.tokens(version)
			r.service.history(names)
		} else {
			changes = r.db.changes(t)
		}
		for range 2 {
			r.calls.forget()
			r.must("testSecret", version)
			r.unchanged("testSecret")
		}
		r.s.wantLabels(labels)
		if r.service != nil {
			if diff := cmp.Diff([]string{"GET pending", "GET pending"}, r.service.history(names)); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		} else if diff := cmp.Diff(changes, r.db.changes(t)); diff != "" {
			t.Errorf("changes (-before +after):\n%s", diff)
		}
		// A credential that doesn't work is an error.
		r.lockOutPending(version)
		if f := r.step("testSecret", version); f == nil {
			t.Error("testSecret succeeded with a credential that doesn't work")
		}
	})
}

func (r *rig) lockOutPending(version string) {
	r.t.Helper()
	if r.service != nil {
		r.lockOut()
		return
	}
	user, _ := r.value(version)["username"].(string)
	r.db.execute(r.t, "ALTER ROLE "+user+" NOLOGIN")
}

func TestC5_2_RotateImmediatelyFalseOnlyTests(t *testing.T) {
	t.Parallel()
	s := anywhere(t).create(t, `{"token":"first"}`)
	no := false
	in := s.rotation(s.function)
	in.RotateImmediately = &no
	if _, err := s.secrets.RotateSecret(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	s.reached("testSecret")
	s.eventually("the test's version to be gone", func() bool { return s.labels()[pending] == "" })
	s.wantLabels(map[string]string{current: s.first})
	if steps := s.steps(); !slices.Equal(slices.Compact(steps), []string{"testSecret"}) {
		t.Errorf("steps %v", steps)
	}
	d, err := s.secrets.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: &s.arn})
	if err != nil || d.LastRotatedDate != nil || d.RotationEnabled == nil || !*d.RotationEnabled {
		t.Errorf("LastRotatedDate %v, RotationEnabled %v, %v", d.LastRotatedDate, d.RotationEnabled, err)
	}
}

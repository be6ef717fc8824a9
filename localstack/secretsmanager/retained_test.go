package secretsmanager

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
)

// rotator is a rotation function that does what it should.
type rotator struct{ service *Service }

func (r *rotator) Invoke(ctx context.Context, _ string, payload []byte) (host.Invocation, error) {
	var e rotationEvent
	if err := json.Unmarshal(payload, &e); err != nil {
		return host.Invocation{}, err
	}
	var err error
	switch e.Step {
	case "createSecret":
		_, err = r.service.Call(ctx, "PutSecretValue", fmt.Appendf(nil,
			`{"SecretId":%q,"ClientRequestToken":%q,"RotationToken":%q,"SecretString":"x","VersionStages":["AWSPENDING"]}`,
			e.SecretID, e.ClientRequestToken, e.RotationToken))
	case "finishSecret":
		r.service.mu.Lock()
		from := r.service.secrets[0].labels[current]
		r.service.mu.Unlock()
		_, err = r.service.Call(ctx, "UpdateSecretVersionStage", fmt.Appendf(nil,
			`{"SecretId":%q,"VersionStage":"AWSCURRENT","MoveToVersionId":%q,"RemoveFromVersionId":%q}`,
			e.SecretID, e.ClientRequestToken, from))
	}
	return host.Invocation{Payload: []byte(`{}`)}, err
}

// A secret that rotates for ever holds what its versions need, and no more.
func TestRotationsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	c, function := clock.New(), &rotator{}
	s := New(Config{Clock: c, Invoker: function})
	t.Cleanup(s.Close)
	function.service = s
	call := func(action, body string) {
		t.Helper()
		if _, err := s.Call(t.Context(), action, []byte(body)); err != nil {
			t.Fatalf("%s: %v", action, err)
		}
	}
	call("CreateSecret", `{"Name":"s","ClientRequestToken":"`+uuid.NewString()+`","SecretString":"first"}`)
	sec := s.secrets[0]
	for i := range 2*maxVersions + 50 {
		call("RotateSecret", `{"SecretId":"s","ClientRequestToken":"`+uuid.NewString()+`","RotationRules":{"AutomaticallyAfterDays":1000},
			"RotationLambdaARN":"arn:aws:lambda:us-east-1:000000000000:function:rotate"}`)
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Microsecond) {
			s.mu.Lock()
			over := sec.rotation.run == nil
			s.mu.Unlock()
			if over {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("rotation %d doesn't end", i)
			}
		}
		call("GetSecretValue", `{"SecretId":"s"}`)
		c.Advance(25 * time.Hour)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for what, n := range map[string]int{
		"versions": len(sec.versions), "days of reads": len(sec.readVersions), "rotation tokens": len(sec.rotation.issued),
	} {
		if n > maxVersions || n < maxVersions/2 {
			t.Errorf("%d %s are kept, %d versions at most", n, what, maxVersions)
		}
	}
	if n := len(sec.rotation.unfinished) + len(sec.past); n > 0 {
		t.Errorf("%d unfinished rotations and older views are kept", n)
	}
}

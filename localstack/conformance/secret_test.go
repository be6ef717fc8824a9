package conformance_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

const (
	current  = "AWSCURRENT"
	pending  = "AWSPENDING"
	previous = "AWSPREVIOUS"
)

// secret is one secret of an account; its test removes it.
type secret struct {
	*account
	t     *testing.T
	name  string
	arn   string
	first string    // version id
	last  time.Time // LastRotatedDate of the rotation that was waited for last
}

// create makes a secret; without a value it has no version.
func (a *account) create(t *testing.T, value string) *secret {
	t.Helper()
	s := &secret{account: a, t: t, name: a.prefix + strings.ReplaceAll(t.Name(), "/", "_") + "-" + uuid.NewString()[:8]}
	in := &sm.CreateSecretInput{
		Name: &s.name, Description: aws.String("made by Keyturn's conformance tests, which remove it"),
		Tags: []smtypes.Tag{{Key: aws.String(ownerTag), Value: aws.String(strings.Trim(a.prefix, "/"))}},
	}
	if value != "" {
		in.SecretString = &value
	}
	out, err := a.make(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	s.arn, s.first = aws.ToString(out.ARN), aws.ToString(out.VersionId)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := a.remove(ctx, s.arn); err != nil {
			t.Errorf("removing %s: %v", s.name, err)
		}
	})
	return s
}

// make makes a secret, unless whatever was made is being removed already.
func (a *account) make(ctx context.Context, in *sm.CreateSecretInput) (*sm.CreateSecretOutput, error) {
	a.making.RLock()
	defer a.making.RUnlock()
	if a.closed {
		return nil, errors.New("the account is being cleaned up: no more secrets are made")
	}
	out, err := a.secrets.CreateSecret(ctx, in)
	if err == nil {
		a.made.add(aws.ToString(out.ARN))
	}
	return out, err
}

// ownerTag marks what the conformance tests have made.
const ownerTag = "keyturn-conformance"

// remove deletes a secret without recovery; one that is gone is removed.
func (a *account) remove(ctx context.Context, arn string) error {
	_, err := a.secrets.DeleteSecret(ctx, &sm.DeleteSecretInput{SecretId: &arn, ForceDeleteWithoutRecovery: aws.Bool(true)})
	if code(err) == "ResourceNotFoundException" {
		return nil
	}
	return err
}

func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

// wantCode compares an error's code, and a part of its message where AWS's
// documentation or many public reports give it.
func wantCode(t *testing.T, err error, want, part string) {
	t.Helper()
	if code(err) != want || err != nil && !strings.Contains(err.Error(), part) {
		t.Errorf("error = %v, want %s with %q", err, want, part)
	}
}

func (s *secret) describe() *sm.DescribeSecretOutput {
	s.t.Helper()
	d, err := s.secrets.DescribeSecret(s.t.Context(), &sm.DescribeSecretInput{SecretId: &s.arn})
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// labels are the versions by label; a label that two versions hold is an error.
func (s *secret) labels() map[string]string {
	s.t.Helper()
	out := map[string]string{}
	for version, labels := range s.describe().VersionIdsToStages {
		for _, label := range labels {
			if out[label] != "" {
				s.t.Errorf("%s is on two versions", label)
			}
			out[label] = version
		}
	}
	return out
}

// wantLabels waits for the labels to be these: reads may lag behind writes.
func (s *secret) wantLabels(want map[string]string) {
	s.t.Helper()
	var got map[string]string
	deadline := time.Now().Add(s.patience / 10)
	for got = s.labels(); !maps.Equal(got, want) && time.Now().Before(deadline); got = s.labels() {
		time.Sleep(50 * time.Millisecond)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("labels (-want +got):\n%s", diff)
	}
}

// get reads a value; "" leaves a parameter out.
func (s *secret) get(version, stage string) (string, error) {
	in := &sm.GetSecretValueInput{SecretId: &s.arn}
	if version != "" {
		in.VersionId = &version
	}
	if stage != "" {
		in.VersionStage = &stage
	}
	out, err := s.secrets.GetSecretValue(s.t.Context(), in)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.SecretString), nil
}

func (s *secret) put(version, value string, stages ...string) error {
	_, err := s.secrets.PutSecretValue(s.t.Context(), &sm.PutSecretValueInput{
		SecretId: &s.arn, ClientRequestToken: &version, SecretString: &value, VersionStages: stages,
	})
	return err
}

func (s *secret) mustPut(value string, stages ...string) string {
	s.t.Helper()
	version := uuid.NewString()
	if err := s.put(version, value, stages...); err != nil {
		s.t.Fatal(err)
	}
	return version
}

// move calls UpdateSecretVersionStage; "" leaves a parameter out.
func (s *secret) move(label, to, from string) error {
	in := &sm.UpdateSecretVersionStageInput{SecretId: &s.arn, VersionStage: &label}
	if to != "" {
		in.MoveToVersionId = &to
	}
	if from != "" {
		in.RemoveFromVersionId = &from
	}
	_, err := s.secrets.UpdateSecretVersionStage(s.t.Context(), in)
	return err
}

// rotation is a RotateSecret by a function, with a schedule far away.
func (s *secret) rotation(function string) *sm.RotateSecretInput {
	return &sm.RotateSecretInput{
		SecretId: &s.arn, ClientRequestToken: aws.String(uuid.NewString()), RotationLambdaARN: &function,
		RotationRules: &smtypes.RotationRulesType{AutomaticallyAfterDays: aws.Int64(30)},
	}
}

// rotate starts a rotation by the probe and returns the new version's id.
func (s *secret) rotate() string {
	s.t.Helper()
	in := s.rotation(s.function)
	if _, err := s.secrets.RotateSecret(s.t.Context(), in); err != nil {
		s.t.Fatal(err)
	}
	return *in.ClientRequestToken
}

// rotated waits until a rotation to this version has ended well.
func (s *secret) rotated(version string) {
	s.t.Helper()
	s.eventually("the rotation to be over", func() bool {
		d := s.describe()
		if !slices.Contains(d.VersionIdsToStages[version], current) || d.LastRotatedDate == nil || d.LastRotatedDate.Equal(s.last) {
			return false
		}
		s.last = *d.LastRotatedDate
		return true
	})
}

// await waits for a condition.
func (a *account) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(a.patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}

func (s *secret) eventually(what string, ok func() bool) {
	s.t.Helper()
	s.await(s.t, what, ok)
}

// call is one invocation of the probe.
type call struct{ Step, Version, SecretID, RotationToken string }

// calls lists how the probe was invoked, in order.
func (s *secret) calls() []call {
	s.t.Helper()
	return s.noted("event-")
}

func (s *secret) noted(kind string) []call {
	s.t.Helper()
	tags := map[string]string{}
	for _, tag := range s.describe().Tags {
		if key := aws.ToString(tag.Key); strings.HasPrefix(key, kind) {
			tags[key] = aws.ToString(tag.Value)
		}
	}
	var out []call
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		if words := strings.Fields(tags[key]); len(words) == 4 {
			out = append(out, call{words[0], words[1], words[2], words[3]})
		}
	}
	return out
}

func (s *secret) steps() []string {
	s.t.Helper()
	var out []string
	for _, c := range s.calls() {
		out = append(out, c.Step)
	}
	return out
}

// reached waits until the probe was called for a step.
func (s *secret) reached(step string) {
	s.t.Helper()
	s.eventually(step+" to be called", func() bool { return slices.Contains(s.steps(), step) })
}

// hasFailed waits until the probe has failed a step as it was told, and hasEnded
// until it has come to the end of one, well or not.
func (s *secret) hasFailed(step string) {
	s.t.Helper()
	s.hasNoted("failed-", step)
}

func (s *secret) hasEnded(step string) {
	s.t.Helper()
	s.hasNoted("ended-", step)
}

func (s *secret) hasNoted(kind, step string) {
	s.t.Helper()
	s.eventually(kind+step, func() bool {
		return slices.ContainsFunc(s.noted(kind), func(c call) bool { return c.Step == step })
	})
}

// tell sets an order of the probe, fail or hold, and takeBack removes it.
func (s *secret) tell(order, step string) {
	s.t.Helper()
	if _, err := s.secrets.TagResource(s.t.Context(), &sm.TagResourceInput{
		SecretId: &s.arn, Tags: []smtypes.Tag{{Key: &order, Value: &step}},
	}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *secret) takeBack(order string) {
	s.t.Helper()
	if _, err := s.secrets.UntagResource(s.t.Context(), &sm.UntagResourceInput{SecretId: &s.arn, TagKeys: []string{order}}); err != nil {
		s.t.Fatal(err)
	}
}

package awssm_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
	local "github.com/keyturn/keyturn/localstack/secretsmanager"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/store/awssm"
)

// idle is a rotation function that never answers before the test ends.
type idle struct{}

func (idle) Invoke(ctx context.Context, _ string, _ []byte) (host.Invocation, error) {
	<-ctx.Done()
	return host.Invocation{}, ctx.Err()
}

type fixture struct {
	*awssm.Store
	t     *testing.T
	aws   *localstack.AWS
	api   *secretsmanager.Client
	arn   string
	first string // the version that is current
}

func setup(t *testing.T) *fixture {
	t.Helper()
	running, err := localstack.Start(t.Context(), localstack.Options{Addr: "127.0.0.1:0", Invoker: idle{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Close() })
	api := secretsmanager.NewFromConfig(aws.Config{
		Region: awsproto.Region, BaseEndpoint: &running.Endpoint,
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
	out, err := api.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("app"), SecretString: aws.String("one")})
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{
		Store: &awssm.Store{API: api, Region: awsproto.Region}, t: t, aws: running, api: api,
		arn: *out.ARN, first: *out.VersionId,
	}
}

// pend makes a second version with a value.
func (f *fixture) pend() string {
	f.t.Helper()
	token := uuid.NewString()
	f.must(f.Put(f.t.Context(), rotation.Change{Secret: f.arn, To: token}, rotation.NewValue("two")))
	return token
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) versions() rotation.Versions {
	f.t.Helper()
	d, err := f.Describe(f.t.Context(), f.arn)
	f.must(err)
	return d.Versions
}

func (f *fixture) wants(err error, name fault.Name) {
	f.t.Helper()
	if !fault.Is(err, name) {
		f.t.Fatalf("error %v (%s), want %s", err, fault.NameOf(err), name)
	}
}

func TestPutIsNeverCurrent(t *testing.T) {
	t.Parallel()
	f := setup(t)
	token := f.pend()
	v := f.versions()
	for _, l := range []rotation.Label{rotation.Pending, rotation.Candidate(token), rotation.Live(token)} {
		if !v.Has(token, l) || !v.Has(f.first, rotation.Current) {
			t.Errorf("labels %v", v)
		}
	}
	candidate := uuid.NewString()
	machine := rotation.Change{Secret: f.arn, To: candidate, Policy: rotation.Policy{Driver: rotation.DriverMachine}}
	f.must(f.Put(t.Context(), machine, rotation.NewValue("three")))
	if v := f.versions(); !slices.Equal(v[candidate], []rotation.Label{rotation.Candidate(candidate)}) {
		t.Errorf("a machine's version has labels %v", v[candidate])
	}
}

func TestPutOfAnotherValueKeepsTheFirst(t *testing.T) {
	t.Parallel()
	f := setup(t)
	token := f.pend()
	c := rotation.Change{Secret: f.arn, To: token}
	f.must(f.Put(t.Context(), c, rotation.NewValue("two")))
	f.wants(f.Put(t.Context(), c, rotation.NewValue("other")), fault.Conflict)
	v, err := f.Value(t.Context(), f.arn, token)
	f.must(err)
	if v.Reveal() != "two" {
		t.Error("the stored value was replaced")
	}
}

func TestOnlyAMissingValueIsInvalidStage(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, err := f.Value(t.Context(), f.arn, uuid.NewString())
	f.wants(err, fault.InvalidStage)
	f.aws.SecretsManager.SetBehaviour(local.Behaviour{Throttle: func(action string) bool { return action == "GetSecretValue" }})
	_, err = f.Value(t.Context(), f.arn, f.first)
	f.wants(err, fault.Throttled)
	if fault.HintOf(err) == "" && strings.Contains(err.Error(), "one") {
		t.Errorf("the error holds the value: %v", err)
	}
}

func TestAttachIsSetIfAbsent(t *testing.T) {
	t.Parallel()
	f := setup(t)
	token := f.pend()
	f.must(f.Attach(t.Context(), f.arn, rotation.Retiring, f.first))
	f.must(f.Attach(t.Context(), f.arn, rotation.Retiring, f.first))
	f.wants(f.Attach(t.Context(), f.arn, rotation.Retiring, token), fault.Conflict)
}

func TestMoveIsCompareAndSwap(t *testing.T) {
	t.Parallel()
	f := setup(t)
	token := f.pend()
	f.wants(f.Move(t.Context(), f.arn, rotation.Current, token, token), fault.Conflict)
	f.must(f.Move(t.Context(), f.arn, rotation.Current, token, f.first))
	f.must(f.Move(t.Context(), f.arn, rotation.Current, token, f.first))
	if v := f.versions(); !v.Has(token, rotation.Current) || !v.Has(f.first, rotation.Previous) {
		t.Errorf("labels %v", v)
	}
	third := f.pend()
	f.wants(f.Move(t.Context(), f.arn, rotation.Current, f.first, third), fault.Conflict)
}

func TestDetachTwice(t *testing.T) {
	t.Parallel()
	f := setup(t)
	token := f.pend()
	f.must(f.Detach(t.Context(), f.arn, rotation.Pending, token))
	f.must(f.Detach(t.Context(), f.arn, rotation.Pending, token))
	if f.versions().Holder(rotation.Pending) != "" {
		t.Error("the label is still there")
	}
}

func TestDetachLooksOnlyWhenRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	token := f.pend()
	f.must(f.Attach(t.Context(), f.arn, rotation.Retiring, f.first))
	var calls []string
	f.aws.SecretsManager.SetFault(func(_ context.Context, action string, before bool) error {
		if before {
			calls = append(calls, action)
		}
		return nil
	})
	const write, look = "UpdateSecretVersionStage", "DescribeSecret"
	tests := []struct {
		name    string
		label   rotation.Label
		version string
		want    fault.Name // empty: success
		calls   []string
	}{
		{"the label is there", rotation.Pending, token, "", []string{write}},
		{"nobody has it", rotation.Pending, token, "", []string{write, look}},
		{"another has it", rotation.Retiring, token, "", []string{write, look}},
		{"no such version", rotation.Retiring, uuid.NewString(), "", []string{write, look}},
		{"the current label", rotation.Current, f.first, fault.Conflict, []string{write, look}},
	}
	for _, tt := range tests {
		calls = nil
		if err := f.Detach(t.Context(), f.arn, tt.label, tt.version); (err == nil) != (tt.want == "") || err != nil && !fault.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if !slices.Equal(calls, tt.calls) {
			t.Errorf("%s: called %v, want %v", tt.name, calls, tt.calls)
		}
	}
	if v := f.versions(); !v.Has(f.first, rotation.Retiring) || !v.Has(f.first, rotation.Current) {
		t.Errorf("labels %v", v)
	}
	f.wants(f.Detach(t.Context(), f.arn+"x", rotation.Retiring, f.first), fault.InvalidInput)
}

func TestDetachWithALostAnswer(t *testing.T) {
	t.Parallel()
	f := setup(t)
	token := f.pend()
	var lost atomic.Bool
	f.aws.SecretsManager.SetFault(func(_ context.Context, action string, before bool) error {
		if action == "UpdateSecretVersionStage" && !before && lost.CompareAndSwap(false, true) {
			return &awsproto.Error{Code: "InternalServiceError", Message: "lost", Status: 500}
		}
		return nil
	})
	f.must(f.Detach(t.Context(), f.arn, rotation.Pending, token))
	if !lost.Load() || f.versions().Holder(rotation.Pending) != "" {
		t.Error("no answer was lost, or the label is still there")
	}
}

// The answer of a label write is lost, the SDK sends it again, and the second
// one is refused because the first has happened.
func TestALostAnswerIsNotALostRace(t *testing.T) {
	t.Parallel()
	f := setup(t)
	token := f.pend()
	var lost atomic.Bool
	f.aws.SecretsManager.SetFault(func(_ context.Context, action string, before bool) error {
		if action == "UpdateSecretVersionStage" && !before && lost.CompareAndSwap(false, true) {
			return &awsproto.Error{Code: "InternalServiceError", Message: "lost", Status: 500}
		}
		return nil
	})
	f.must(f.Move(t.Context(), f.arn, rotation.Current, token, f.first))
	if !lost.Load() {
		t.Fatal("no answer was lost")
	}
}

func TestRotateAskedTwiceAndByAnother(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, err := f.api.RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{SecretId: &f.arn, RotateImmediately: aws.Bool(true),
		ClientRequestToken: aws.String("44444444-4444-4444-8444-444444444444"), RotationLambdaARN: aws.String("arn:aws:lambda:us-east-1:000000000000:function:x")})
	f.must(err)
	f.must(f.Rotate(t.Context(), f.arn, "44444444-4444-4444-8444-444444444444"))
	f.wants(f.Rotate(t.Context(), f.arn, uuid.NewString()), fault.RotationInProgress)
}

func TestRotateWithoutAFunctionIsDisabled(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.wants(f.Rotate(t.Context(), f.arn, uuid.NewString()), fault.RotationDisabled)
}

func TestDescribeNamesWhatCantBeRotated(t *testing.T) {
	t.Parallel()
	f := setup(t)
	replica := f.aws.SecretsManager.Seed(local.Seed{Name: "replica", Value: "x", PrimaryRegion: "eu-west-1"})
	primary := f.aws.SecretsManager.Seed(local.Seed{Name: "primary", Value: "x", PrimaryRegion: awsproto.Region, ReplicaRegions: []string{"eu-west-1"}})
	owned := f.aws.SecretsManager.Seed(local.Seed{Name: "owned", Value: "x", OwningService: "rds"})
	describe := func(arn string) rotation.Description {
		d, err := f.Describe(t.Context(), arn)
		f.must(err)
		return d
	}
	if d := describe(replica); d.ReplicaOf != "eu-west-1" {
		t.Errorf("a replica: %+v", d)
	}
	if d := describe(primary); d.ReplicaOf != "" {
		t.Errorf("a primary with replicas: %+v", d)
	}
	if d := describe(owned); d.OwningService != "rds" {
		t.Errorf("a managed secret: %+v", d)
	}
	_, err := f.api.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{SecretId: &f.arn, RecoveryWindowInDays: aws.Int64(7)})
	f.must(err)
	if d := describe(f.arn); !d.Deleted {
		t.Errorf("a deleted secret: %+v", d)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	_, err = f.Describe(ctx, owned)
	f.wants(err, fault.Ambiguous)
}

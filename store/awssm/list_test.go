package awssm_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/fault"
	local "github.com/keyturn/keyturn/localstack/secretsmanager"
	"github.com/keyturn/keyturn/rotation"
)

// fleet is the policy of many secrets, and a Step Functions that keeps names.
type fleet struct {
	arns []string

	mu   sync.Mutex
	runs []string
}

func (f *fleet) Secrets() []string { return f.arns }

func (f *fleet) Policy(arn string) (rotation.Policy, error) {
	if !slices.Contains(f.arns, arn) {
		return rotation.Policy{}, fault.New(fault.NotManaged, "not listed")
	}
	return rotation.Policy{Secret: arn, Driver: rotation.DriverMachine, HeadLimit: time.Minute, FunctionLimit: time.Minute}, nil
}

func (f *fleet) Start(_ context.Context, name string, _ rotation.Input) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.runs = append(f.runs, name)
	return nil
}

func (f *fleet) Stop(context.Context, string, string, string) error { return nil }

func (f *fleet) Describe(_ context.Context, _, name string) (rotation.Run, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.runs, name) {
		return rotation.Run{Name: name, Status: rotation.RunRunning}, nil
	}
	return rotation.Run{Name: name, Status: rotation.RunAbsent}, nil
}

// A round over a thousand secrets costs a page for each hundred, and one look at
// each that is in the middle of something. It works on the service as it is.
func TestAThousandSecretsAreWatchedByPages(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const n, drains = 1000, 7
	policies := &fleet{}
	for i := range n {
		out, err := f.api.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
			Name: aws.String(fmt.Sprintf("fleet/%04d", i)), SecretString: aws.String("one"),
		})
		f.must(err)
		policies.arns = append(policies.arns, *out.ARN)
		if i%(n/drains) == 0 && i/(n/drains) < drains {
			_, err := f.api.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: out.ARN, SecretString: aws.String("two")})
			f.must(err)
			f.must(f.Attach(t.Context(), *out.ARN, rotation.Retiring, *out.VersionId))
		}
	}
	r := &rotation.Rotator{Store: f.Store, Policies: policies, Runs: policies, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	var mu sync.Mutex
	calls := map[string]int{}
	f.aws.SecretsManager.SetFault(func(_ context.Context, action string, before bool) error {
		mu.Lock()
		defer mu.Unlock()
		if before {
			calls[action]++
		}
		return nil
	})
	round := r.WatchAll(t.Context(), func(string) rotation.EnsureOptions { return rotation.EnsureOptions{} })
	// The account has one secret more than the fleet: to ask for the last is
	// cheaper than an eleventh page.
	if round.Stable != n-drains-1 || len(round.Looked) != drains+1 || len(round.Unreached) > 0 || len(policies.runs) != drains {
		t.Errorf("stable %d, looked at %d, unreached %d, runs %v", round.Stable, len(round.Looked), len(round.Unreached), policies.runs)
	}
	for _, looked := range round.Looked {
		if looked.Err != nil || (!looked.Started && looked.Secret != policies.arns[n-1]) {
			t.Errorf("%+v", looked)
		}
	}
	if calls["ListSecrets"] != n/100 || calls["DescribeSecret"] != 2*drains+1 || len(calls) != 2 {
		t.Errorf("calls %v", calls)
	}

	// The account has more secrets than ours: pages end when asking is cheaper.
	clear(calls)
	policies.arns = policies.arns[n-2:]
	round = r.WatchAll(t.Context(), func(string) rotation.EnsureOptions { return rotation.EnsureOptions{} })
	if calls["ListSecrets"] != 2 || calls["DescribeSecret"] != 2 || len(round.Looked) != 2 {
		t.Errorf("for two of them: calls %v, round %+v", calls, round)
	}
}

// What the list shows may be old: whatever it is, what is done goes by a fresh
// look, and a secret that it doesn't show yet is described.
func TestAListThatLagsDecidesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.aws.SecretsManager.SetBehaviour(local.Behaviour{ListLag: 5 * time.Minute})
	policies := &fleet{arns: []string{f.arn}}
	r := &rotation.Rotator{Store: f.Store, Policies: policies, Runs: policies, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	out, err := f.api.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: &f.arn, SecretString: aws.String("two")})
	f.must(err)
	f.must(f.Attach(t.Context(), f.arn, rotation.Retiring, f.first))
	var shown []rotation.Description
	f.must(f.List(t.Context(), func(page []rotation.Description) bool { shown = append(shown, page...); return true }))
	if len(shown) > 0 {
		t.Fatalf("a secret that was just made is shown: %+v", shown)
	}
	round := r.WatchAll(t.Context(), func(string) rotation.EnsureOptions { return rotation.EnsureOptions{} })
	want := rotation.RunName(f.arn, *out.VersionId, rotation.Forward) + "-g1"
	if len(round.Looked) != 1 || !round.Looked[0].Started || !slices.Equal(policies.runs, []string{want}) {
		t.Errorf("round %+v, runs %v", round, policies.runs)
	}
}

// A list that is refused costs nothing but its saving.
func TestAListThatFailsIsDoneWithout(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.aws.SecretsManager.SetBehaviour(local.Behaviour{Throttle: func(action string) bool { return action == "ListSecrets" }})
	f.wants(f.List(t.Context(), func([]rotation.Description) bool { return true }), fault.Throttled)
	policies := &fleet{arns: []string{f.arn}}
	r := &rotation.Rotator{Store: f.Store, Policies: policies, Runs: policies, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	if round := r.WatchAll(t.Context(), func(string) rotation.EnsureOptions { return rotation.EnsureOptions{} }); len(round.Looked) != 1 || round.Looked[0].Err != nil {
		t.Errorf("round %+v", round)
	}
}

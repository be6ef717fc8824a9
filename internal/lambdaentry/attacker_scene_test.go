package lambdaentry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/audit/audittest"
	"github.com/keyturn/keyturn/engine/postgres"
	"github.com/keyturn/keyturn/internal/lambdaentry"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/policy/compile"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/store/awssm"
)

// scene is a deployment in miniature: the local Secrets Manager calls the real
// handler, which rotates on a real server.
type scene struct {
	t       *testing.T
	cluster *pgtest.Cluster
	admin   pgtest.Login
	app     pgtest.Login
	trap    *pgtest.Trap
	attack  *secretsmanager.Client // with the attacker's rights: every call on the secrets' values, labels and tags
	rotator *rotation.Rotator
	runs    *parts

	managed, unlisted, adminARN string

	mu    sync.Mutex
	calls []string // what our own role called: action and secret
	fails []string // what the rotation function answered
}

const functionARN = "arn:aws:lambda:us-east-1:000000000000:function:rotateSecret"

// Invoke implements host.Invoker: Secrets Manager's call of the function.
func (s *scene) Invoke(ctx context.Context, _ string, event []byte) (host.Invocation, error) {
	payload, failed := lambdaentry.Answer(ctx, slog.New(slog.DiscardHandler), lambdaentry.FourSteps(s.rotator), event)
	if !failed {
		return host.Invocation{Payload: payload}, nil
	}
	s.mu.Lock()
	s.fails = append(s.fails, string(payload))
	s.mu.Unlock()
	return host.Invocation{Payload: payload, FunctionError: "Unhandled"}, nil
}

// called reports the calls of our role on a secret since the last question.
func (s *scene) called(secret string) (about []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if strings.HasSuffix(c, " "+secret) {
			about = append(about, c)
		}
	}
	return about
}

// adminLogins counts what the server's log shows of the admin.
func (s *scene) adminLogins() int {
	s.t.Helper()
	log, err := s.cluster.Primary.Log()
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Count(log, "user="+s.admin.User+" ")
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, runs: &parts{}}
	ctx := t.Context()
	var err error
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s.cluster, err = pgtest.Start(ctx, pgtest.Options{TLS: true})
	must(err)
	t.Cleanup(s.cluster.Stop)
	s.admin, err = s.cluster.CreateAdmin(ctx, "rotator")
	must(err)
	s.app, err = s.cluster.CreateLogin(ctx, "app", "postgres")
	must(err)
	s.trap, err = pgtest.NewTrap()
	must(err)
	t.Cleanup(s.trap.Close)

	local, err := localstack.Start(ctx, localstack.Options{Addr: "127.0.0.1:0", Invoker: s})
	must(err)
	t.Cleanup(func() { _ = local.Close() })
	config := aws.Config{
		Region: awsproto.Region, BaseEndpoint: &local.Endpoint,
		Credentials: credentials.NewStaticCredentialsProvider("attacker", "x", ""),
	}
	s.attack = secretsmanager.NewFromConfig(config)
	create := func(name string, value any) string {
		t.Helper()
		text, err := json.Marshal(value)
		must(err)
		out, err := s.attack.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String(string(text))})
		must(err)
		return *out.ARN
	}
	s.adminARN = create("admin", map[string]any{"username": s.admin.User, "password": s.admin.Password})
	s.managed, s.unlisted = create("app", s.value()), create("app-2", s.value())

	doc, err := compile.Source("keyturn.yaml", fmt.Appendf(nil, `version: 1
secrets:
  - secret: %s
    kind: postgres
    drain: {window: 1h, poll: 1s, quiet_polls: 1, max_overlap: 2h}
    consumers: [{name: web}]
    postgres: {hosts: [%q], admin: %q, root_ca_file: %q}
`, s.managed, s.cluster.Primary.Address(), s.adminARN, s.cluster.CAFile), map[string]compile.Kind{postgres.Kind: {
		Validate: func(settings json.RawMessage) error { _, err := postgres.ParseSettings(settings); return err },
	}})
	must(err)
	store := &awssm.Store{API: recorded{secretsmanager.NewFromConfig(config), s}, Region: awsproto.Region}
	s.rotator = &rotation.Rotator{
		Store: store, Engines: only{postgres.New(postgres.Config{Values: store})}, Policies: doc,
		Journal: &audit.Journal{Ledger: &audittest.Memory{}, Log: slog.New(slog.DiscardHandler)},
		Runs:    s.runs, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	return s
}

// value is a secret that would do; the pairs replace its fields.
func (s *scene) value(pairs ...any) map[string]any {
	fields := map[string]any{
		"engine": "postgres", "host": s.cluster.Primary.Host, "port": s.cluster.Primary.Port, "dbname": "postgres",
		"username": s.app.User, "password": s.app.Password, "masterarn": s.adminARN,
	}
	for i := 0; i < len(pairs); i += 2 {
		fields[pairs[i].(string)] = pairs[i+1]
	}
	return fields
}

// put stores a version as the attacker does, under any labels.
func (s *scene) put(secret, version string, fields map[string]any, stages ...string) {
	s.t.Helper()
	text, err := json.Marshal(fields)
	if err == nil {
		_, err = s.attack.PutSecretValue(s.t.Context(), &secretsmanager.PutSecretValueInput{
			SecretId: &secret, ClientRequestToken: &version, SecretString: aws.String(string(text)), VersionStages: stages,
		})
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// only is one engine for every kind.
type only struct{ engine rotation.Engine }

func (o only) Engine(string) (rotation.Engine, error) { return o.engine, nil }

// recorded notes the calls of our own role.
type recorded struct {
	awssm.API
	s *scene
}

func (r recorded) note(action string, secret *string) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.s.calls = append(r.s.calls, action+" "+aws.ToString(secret))
}

func (r recorded) DescribeSecret(ctx context.Context, in *secretsmanager.DescribeSecretInput, o ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error) {
	r.note("DescribeSecret", in.SecretId)
	return r.API.DescribeSecret(ctx, in, o...)
}

func (r recorded) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, o ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	r.note("GetSecretValue", in.SecretId)
	return r.API.GetSecretValue(ctx, in, o...)
}

func (r recorded) PutSecretValue(ctx context.Context, in *secretsmanager.PutSecretValueInput, o ...func(*secretsmanager.Options)) (*secretsmanager.PutSecretValueOutput, error) {
	r.note("PutSecretValue", in.SecretId)
	return r.API.PutSecretValue(ctx, in, o...)
}

func (r recorded) UpdateSecretVersionStage(ctx context.Context, in *secretsmanager.UpdateSecretVersionStageInput, o ...func(*secretsmanager.Options)) (*secretsmanager.UpdateSecretVersionStageOutput, error) {
	r.note("UpdateSecretVersionStage", in.SecretId)
	return r.API.UpdateSecretVersionStage(ctx, in, o...)
}

func (r recorded) RotateSecret(ctx context.Context, in *secretsmanager.RotateSecretInput, o ...func(*secretsmanager.Options)) (*secretsmanager.RotateSecretOutput, error) {
	r.note("RotateSecret", in.SecretId)
	return r.API.RotateSecret(ctx, in, o...)
}

// rotate lets Secrets Manager rotate and waits until the version is current, or
// the function has failed otherwise than in the past.
func (s *scene) rotate(secret, version, past string) (failure string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if _, err := s.attack.RotateSecret(ctx, &secretsmanager.RotateSecretInput{
		SecretId: &secret, ClientRequestToken: &version, RotationLambdaARN: aws.String(functionARN),
		RotationRules: &types.RotationRulesType{AutomaticallyAfterDays: aws.Int64(30)},
	}); err != nil && !strings.Contains(err.Error(), "will be reattempted") {
		s.t.Fatal(err)
	}
	for ctx.Err() == nil {
		s.mu.Lock()
		fails := s.fails
		s.mu.Unlock()
		if len(fails) > 0 && (past == "" || !strings.Contains(fails[0], past)) {
			return fails[0]
		}
		out, err := s.attack.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &secret})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, stage := range out.VersionIdsToStages[version] {
			if stage == "AWSCURRENT" {
				return ""
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.t.Fatal("the rotation came to no end")
	return ""
}

// step calls one step of a run, as the state machine does.
func (s *scene) step(do func(context.Context, rotation.Request) (rotation.Result, error), secret, version string, d rotation.Direction) (string, error) {
	s.t.Helper()
	event := fmt.Sprintf(`{"secret":%q,"token":%q,"direction":%q,"generation":1,"cursor":"","polls":0}`, secret, version, d)
	out, err := lambdaentry.Step(do)(s.t.Context(), []byte(event))
	text, _ := json.Marshal(out)
	return string(text), err
}

// unharmed checks that no byte went to the attacker and no admin right was used.
func (s *scene) unharmed(what string) {
	s.t.Helper()
	if n, sent := s.trap.Visits(); n > 0 {
		s.t.Errorf("%s: the attacker's server got %d connections and %q", what, n, sent)
	}
	if about := s.called(s.adminARN); len(about) > 0 {
		s.t.Errorf("%s: %v", what, about)
	}
	if n := s.adminLogins(); n > 0 {
		s.t.Errorf("%s: the admin logged in %d times", what, n)
	}
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/lambda"
	"github.com/keyturn/keyturn/policy/compile"
	"github.com/keyturn/keyturn/stepfunctions"
)

const functionLimit = 10 * time.Second

var folders = []string{
	"createSecret", "setSecret", "testSecret", "finishSecret", "adoptSecret", "drainCheck", "disableSecret",
	"revokeSecret", "rollback", "abortSecret", "rotateSecret", "watchdog", "emergency", "cutSecret", "audit",
}

var builtIn atomic.Pointer[string]

// built is the folder of the real functions, built once for all scripts.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "keyturn-functions-")
	if err != nil {
		return "", err
	}
	builtIn.Store(&dir)
	cmd := exec.Command("go", "build", "-tags", "lambda.norpc", "-o", dir+string(filepath.Separator), "../../functions/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("building the functions (go build ./functions/... shows the same): %w: %s", err, out)
	}
	return dir, nil
})

// stage is what a script has deployed.
type stage struct {
	local   *localstack.AWS
	cluster *pgtest.Cluster
	secret  string
}

var stages sync.Map // *testscript.TestScript → *stage

func stageOf(ts *testscript.TestScript) *stage {
	s, ok := stages.Load(ts)
	if !ok {
		ts.Fatalf("nothing is deployed: deploy comes first")
	}
	return s.(*stage) //nolint:forcetypeassert // nothing else is stored
}

// deploy starts a real PostgreSQL and the local AWS, stores the secret shop/database,
// and deploys the real functions with the policy as NAME: deploy NAME. SECRET is the
// secret's ARN.
func deploy(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithCancel(context.Background())
	ts.Defer(cancel)
	functions, err := built()
	ts.Check(err)
	cluster, err := pgtest.Start(ctx, pgtest.Options{TLS: true})
	ts.Check(err)
	ts.Defer(cluster.Stop)
	local, err := localstack.Start(ctx, localstack.Options{Addr: "127.0.0.1:0", Dir: ts.MkAbs(".")})
	ts.Check(err)
	ts.Defer(func() { _ = local.Close() }) // the script's verdict stands
	s := &stage{local: local, cluster: cluster}
	stages.Store(ts, s)
	ts.Defer(func() { stages.Delete(ts) })
	useLocal(ts, local)
	s.storeSecrets(ctx, ts)
	_, err = s3.NewFromConfig(scriptConfig(ts), pathStyle).CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("trail")})
	ts.Check(err)
	s.deploy(ctx, ts, args[0], functions)
}

func pathStyle(o *s3.Options) { o.UsePathStyle = true }

func (s *stage) storeSecrets(ctx context.Context, ts *testscript.TestScript) {
	admin, err := s.cluster.CreateAdmin(ctx, "rotator")
	ts.Check(err)
	app, err := s.cluster.CreateApp(ctx, "shop", "shop")
	ts.Check(err)
	api, node := secretsmanager.NewFromConfig(scriptConfig(ts)), s.cluster.Primary
	store := func(name string, login pgtest.Login, database string) string {
		value := map[string]any{
			"engine": "postgres", "host": node.Host, "port": node.Port, "dbname": database, "username": login.User, "password": login.Password,
		}
		out, err := api.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String(marshal(ts, value))})
		ts.Check(err)
		return aws.ToString(out.ARN)
	}
	adminARN := store("keyturn/admin", admin, "postgres")
	s.secret = store("shop/database", app, "shop")
	ts.Setenv("SECRET", s.secret)
	ts.Check(os.WriteFile(ts.MkAbs("keyturn.yaml"), fmt.Appendf(nil, `version: 1
function_limit: %s
secrets:
  - secret: %s
    kind: postgres
    driver: machine
    drain: {window: 10s, poll: 1s, quiet_polls: 2, max_overlap: 10m, on_timeout: hold}
    hold: 1s
    postgres:
      mode: fresh
      hosts: ["%s"]
      admin: %s
      root_ca_file: %s
      login_log:
        "%s": %s
`, functionLimit, s.secret, node.Address(), adminARN, s.cluster.CAFile, node.Address(), node.LogFile), 0o600))
}

func (s *stage) deploy(ctx context.Context, ts *testscript.TestScript, name, functions string) {
	doc, err := compile.File(ts.MkAbs("keyturn.yaml"), deployment.Kinds())
	ts.Check(err)
	file := ts.MkAbs("deployed.json")
	ts.Check(os.WriteFile(file, doc.JSON(), 0o600))
	key, err := kms.NewFromConfig(scriptConfig(ts)).CreateKey(ctx, &kms.CreateKeyInput{KeySpec: kmstypes.KeySpecEccNistP256, KeyUsage: kmstypes.KeyUsageTypeSignVerify})
	ts.Check(err)
	ts.Setenv("SIGNING_KEY", aws.ToString(key.KeyMetadata.Arn))
	machine := "arn:aws:states:" + awsproto.Region + ":" + awsproto.Account + ":stateMachine:" + name
	arns := map[string]string{}
	for _, folder := range folders {
		arns[folder] = "arn:aws:lambda:" + awsproto.Region + ":" + awsproto.Account + ":function:" + name + "-" + folder
		ts.Check(s.local.Lambda.Register(lambda.Function{
			Name: name + "-" + folder, Binary: filepath.Join(functions, folder), Timeout: functionLimit, MemoryMB: 128,
			Aliases: []string{deployment.Alias}, Env: []string{
				deployment.EnvPolicy + "=" + file, deployment.EnvStateMachine + "=" + machine + "-rotation",
				deployment.EnvEmergencyMachine + "=" + machine + "-emergency", deployment.EnvAuditBucket + "=trail",
				deployment.EnvSigningKey + "=" + aws.ToString(key.KeyMetadata.Arn), deployment.EnvDeployment + "=" + name,
			},
		}))
	}
	for kind, definition := range map[string]string{"rotation": stepfunctions.Rotation, "emergency": stepfunctions.Emergency} {
		filled, err := stepfunctions.Definition(definition, arns)
		ts.Check(err)
		_, err = sfn.NewFromConfig(scriptConfig(ts)).CreateStateMachine(ctx, &sfn.CreateStateMachineInput{
			Name: aws.String(name + "-" + kind), Definition: &filled, RoleArn: aws.String("arn:aws:iam::" + awsproto.Account + ":role/" + name),
		})
		ts.Check(err)
	}
}

// world prints everything that a rotation could change: world FILE.
func world(ts *testscript.TestScript, _ bool, args []string) {
	s, ctx := stageOf(ts), context.Background()
	described, err := secretsmanager.NewFromConfig(scriptConfig(ts)).DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &s.secret})
	ts.Check(err)
	objects, err := s3.NewFromConfig(scriptConfig(ts), pathStyle).ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("trail")})
	ts.Check(err)
	var keys []string
	for _, o := range objects.Contents {
		keys = append(keys, aws.ToString(o.Key))
	}
	conn, err := s.cluster.Superuser(ctx, s.cluster.Primary, "postgres")
	ts.Check(err)
	defer func() { _ = conn.Close(ctx) }() // it was only read
	var roles string
	ts.Check(conn.QueryRow(ctx, `SELECT string_agg(concat_ws(' ', a.*::text, shobj_description(a.oid, 'pg_authid'),
		(SELECT array_agg(m.*::text ORDER BY m.*::text) FROM pg_auth_members m WHERE m.member = a.oid)), E'\n' ORDER BY a.oid) FROM pg_authid a`).Scan(&roles))
	text, err := json.MarshalIndent(map[string]any{
		"labels": described.VersionIdsToStages, "tags": described.Tags, "changed": described.LastChangedDate,
		"trail": keys, "roles": strings.Split(roles, "\n"),
	}, "", " ")
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), text, 0o600))
}

// eventually runs keyturn until its output has a text, and meanwhile the deployed
// watchdog, as its schedule does: eventually TEXT ARGS....
func eventually(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(3 * time.Minute)
	for {
		err := ts.Exec("keyturn", args[1:]...)
		out := ts.ReadFile("stdout")
		if err == nil && strings.Contains(out, args[0]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("keyturn %s never printed %q, at last: %s (%v)", strings.Join(args[1:], " "), args[0], out, err)
		}
		if s, ok := stages.Load(ts); ok { // it goes on with what a slow machine broke off
			_, err := s.(*stage).local.Lambda.Invoke(context.Background(), ts.Getenv("KEYTURN_DEPLOYMENT")+"-watchdog", []byte(`{}`)) //nolint:forcetypeassert // nothing else is stored
			ts.Check(err)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// pause lets a background command have done something: sleep SECONDS.
func pause(ts *testscript.TestScript, _ bool, args []string) {
	seconds, err := time.ParseDuration(args[0] + "s")
	ts.Check(err)
	time.Sleep(seconds)
}

// restore puts the database's logins back to before the first rotation, as a snapshot
// does: the login shop with the password of AWSPREVIOUS, and no current one; with an
// argument shop's password is another: restore [PASSWORD].
func restore(ts *testscript.TestScript, _ bool, args []string) {
	s, ctx := stageOf(ts), context.Background()
	login := func(stage string) (l struct{ Username, Password string }) {
		out, err := secretsmanager.NewFromConfig(scriptConfig(ts)).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.secret, VersionStage: &stage})
		ts.Check(err)
		ts.Check(json.Unmarshal([]byte(aws.ToString(out.SecretString)), &l))
		return l
	}
	password := login("AWSPREVIOUS").Password
	if len(args) > 0 {
		password = args[0]
	}
	ts.Check(s.cluster.Exec(ctx, "postgres", "DROP ROLE "+pgtest.Ident(login("AWSCURRENT").Username),
		"COMMENT ON ROLE shop IS NULL", "ALTER ROLE shop LOGIN PASSWORD "+pgtest.Literal(pgtest.Verifier(password))))
}

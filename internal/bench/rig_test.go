package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"text/template"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/lambda"
	smlocal "github.com/keyturn/keyturn/localstack/secretsmanager"
	"github.com/keyturn/keyturn/policy/compile"
)

// keyturnYAML has the shortest times that a policy may have: none of them is
// spent inside a step.
var keyturnYAML = template.Must(template.New("keyturn.yaml").Parse(`version: 1
function_limit: 1s
secrets:
{{- range .Apps}}
  - secret: {{.ARN}}
    kind: postgres
    driver: {{.Driver}}
    drain: {window: 1s, poll: 1s, quiet_polls: 2, max_overlap: 1h, on_timeout: hold}
    hold: 0s
    head_limit: 1m
    consumers:
      - name: web
        follow: ["{{.Instance.URL}}"]
    postgres:
      hosts: ["{{$.Host}}"]
      admin: {{$.Admin}}
      root_ca_file: {{$.CA}}
{{- end}}
`))

// value is a secret's value as AWS's documentation shapes it.
type value struct {
	Engine    string `json:"engine"`
	Host      string `json:"host"`
	Port      int    `json:"port"`
	Username  string `json:"username"`
	Password  string `json:"password"`
	DBName    string `json:"dbname"`
	MasterARN string `json:"masterarn,omitempty"`
}

// rig is one real PostgreSQL, the local AWS, the functions, and applications
// whose logins are rotated.
type rig struct {
	tb      testing.TB
	ctx     context.Context
	dir     string
	cluster *pgtest.Cluster
	server  url.URL // of its primary, for logins
	aws     *localstack.AWS
	secrets *secretsmanager.Client
	sfn     *sfn.Client
	machine string
	admin   string // ARN of its secret
	calls   *calls // what Secrets Manager was asked
}

// app is an application with a secret.
type app struct {
	Name, ARN, Driver string
	Instance          *httptest.Server
	version           *followed
	conn              *pgx.Conn // the session that its instance holds
}

func newRig(tb testing.TB) *rig {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	tb.Cleanup(cancel)
	r := &rig{tb: tb, ctx: ctx, dir: tb.TempDir(), calls: &calls{by: map[string][]string{}}}
	var err error
	if r.cluster, err = pgtest.Start(ctx, pgtest.Options{TLS: true}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(r.cluster.Stop)
	r.aws, err = localstack.Start(ctx, localstack.Options{
		Addr: "127.0.0.1:0", Behaviour: smlocal.Behaviour{NoQuotas: true}, Fault: r.calls.note,
		Lambda: lambda.Config{IdleTimeout: 24 * time.Hour},
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = r.aws.Close() })
	r.connectAWS(r.aws.Endpoint)
	server, err := url.Parse(r.cluster.DSN(r.cluster.Primary, pgtest.Login{}))
	if err != nil {
		tb.Fatal(err)
	}
	r.server = *server
	machine, err := r.sfn.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{
		Name: aws.String("rotation"), RoleArn: aws.String("arn:aws:iam::" + awsproto.Account + ":role/rotation"),
		Definition: aws.String(`{"StartAt":"Claimed","States":{"Claimed":{"Type":"Succeed"}}}`),
	})
	if err != nil {
		tb.Fatal(err)
	}
	r.machine = aws.ToString(machine.StateMachineArn)
	login, err := r.cluster.CreateAdmin(ctx, "rotator")
	if err != nil {
		tb.Fatal(err)
	}
	r.admin = r.store("admin", login, "")
	return r
}

// connectAWS makes clients that show themselves as bare.
func (r *rig) connectAWS(endpoint string) {
	cfg := aws.Config{
		Region: awsproto.Region, BaseEndpoint: &endpoint,
		Credentials: credentials.NewStaticCredentialsProvider("bare", "local", ""),
	}
	r.secrets, r.sfn = secretsmanager.NewFromConfig(cfg), sfn.NewFromConfig(cfg)
}

// store puts a login into a new secret, as an operator would.
func (r *rig) store(name string, l pgtest.Login, admin string) string {
	r.tb.Helper()
	text, err := json.Marshal(value{
		Engine: "postgres", Host: r.cluster.Primary.Host, Port: r.cluster.Primary.Port,
		Username: l.User, Password: l.Password, DBName: l.Database, MasterARN: admin,
	})
	if err != nil {
		r.tb.Fatal(err)
	}
	out, err := r.secrets.CreateSecret(r.ctx, &secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String(string(text))})
	if err != nil {
		r.tb.Fatal(err)
	}
	return aws.ToString(out.ARN)
}

// newApp makes an application with a login, a database and one running instance.
func (r *rig) newApp(name, driver string) *app {
	r.tb.Helper()
	login, err := r.cluster.CreateApp(r.ctx, name, name)
	if err != nil {
		r.tb.Fatal(err)
	}
	a := &app{Name: name, Driver: driver, version: &followed{}, ARN: r.store(name, login, r.admin)}
	a.Instance = httptest.NewServer(a.version)
	r.tb.Cleanup(a.Instance.Close)
	r.reconnect(a)
	return a
}

// reconnect lets the instance hold a session of AWSCURRENT and of nothing else.
func (r *rig) reconnect(a *app) {
	r.tb.Helper()
	out, err := r.secrets.GetSecretValue(r.ctx, &secretsmanager.GetSecretValueInput{SecretId: &a.ARN})
	if err != nil {
		r.tb.Fatal(err)
	}
	var v value
	if err := json.Unmarshal([]byte(aws.ToString(out.SecretString)), &v); err != nil {
		r.tb.Fatal(err)
	}
	if a.conn != nil {
		_ = a.conn.Close(r.ctx)
	}
	a.conn = r.connect("web", v)
	r.tb.Cleanup(func() { _ = a.conn.Close(context.Background()) })
}

// connect logs in, verified in full.
func (r *rig) connect(application string, v value) *pgx.Conn {
	r.tb.Helper()
	conn, err := r.dial(application, v)
	if err != nil {
		r.tb.Fatal(err)
	}
	return conn
}

func (r *rig) dial(application string, v value) (*pgx.Conn, error) {
	server := r.server
	server.User, server.Path = url.UserPassword(v.Username, v.Password), "/"+v.DBName
	cfg, err := pgx.ParseConfig(server.String())
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["application_name"] = application
	return pgx.ConnectConfig(r.ctx, cfg)
}

// deploy compiles the policy and registers the functions.
func (r *rig) deploy(apps ...*app) {
	r.tb.Helper()
	var text bytes.Buffer
	if err := keyturnYAML.Execute(&text, map[string]any{
		"Apps": apps, "Host": r.cluster.Primary.Address(), "Admin": r.admin, "CA": r.cluster.CAFile,
	}); err != nil {
		r.tb.Fatal(err)
	}
	doc, err := compile.Source("keyturn.yaml", text.Bytes(), deployment.Kinds())
	if err != nil {
		r.tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "policy.json"), doc.JSON(), 0o600); err != nil {
		r.tb.Fatal(err)
	}
	for _, name := range functionNames(r.tb) {
		r.register(name)
	}
}

// register puts a function into the local Lambda, where it starts cold.
func (r *rig) register(name string) {
	r.tb.Helper()
	env := []string{deployment.EnvPolicy + "=" + filepath.Join(r.dir, "policy.json"), deployment.EnvStateMachine + "=" + r.machine}
	if name == "audit" { // it has no folder: what it reads and signs is AWS's
		env = append(env, deployment.EnvAuditBucket+"=trail", deployment.EnvSigningKey+"=arn:aws:kms:us-east-1:000000000000:key/1", deployment.EnvDeployment+"=bench")
	} else {
		env = append(env, deployment.EnvAuditDir+"="+r.path("audit"))
	}
	if err := r.aws.Lambda.Register(lambda.Function{
		Name: name, Binary: filepath.Join(binaries, name), Timeout: time.Minute, Env: env,
	}); err != nil {
		r.tb.Fatal(err)
	}
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

// stats are the figures of one function since it was registered.
func (r *rig) stats(name string) lambda.Stats {
	r.tb.Helper()
	s, ok := r.aws.Lambda.Stats(name)
	if !ok || len(s.ColdStarts) == 0 {
		r.tb.Fatalf("function %s has no figures", name)
	}
	return s
}

// followed is an instance that takes a version as soon as it is told.
type followed struct {
	mu      sync.Mutex
	version string
}

func (f *followed) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.Method == http.MethodPost {
		var order struct{ Version string }
		if err := json.NewDecoder(req.Body).Decode(&order); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		f.version = order.Version
		w.WriteHeader(http.StatusAccepted)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"version": f.version, "done": true})
}

// calls counts the actions of Secrets Manager by who called.
type calls struct {
	mu sync.Mutex
	by map[string][]string
}

func (c *calls) note(ctx context.Context, action string, before bool) error {
	if before {
		c.mu.Lock()
		defer c.mu.Unlock()
		caller := awsproto.CallerOf(ctx).AccessKeyID
		c.by[caller] = append(c.by[caller], action)
	}
	return nil
}

// take returns what a caller has called since the last time.
func (c *calls) take(caller string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.by[caller]
	delete(c.by, caller)
	return all
}

package conformance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/lambda"
	"github.com/keyturn/keyturn/localstack/secretsmanager"
	"github.com/keyturn/keyturn/policy/compile"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/stepfunctions"
)

// keyturnYAML has the shortest times that a policy may have. There is no
// registered consumer: the login log says who still uses the old login.
var keyturnYAML = template.Must(template.New("keyturn.yaml").Parse(`version: 1
function_limit: {{.Limit}}
secrets:
  - secret: {{.Secret}}
    kind: postgres
    drain: {window: 1s, poll: 1s, quiet_polls: 2, max_overlap: 1h, on_timeout: hold}
    hold: 0s
    head_limit: 5m
    postgres:
      hosts: ["{{.Host}}"]
      admin: {{.Admin}}
      root_ca_file: {{.CA}}
      login_log: {{.Log}}
`))

// database is what the logins of one application open.
type database struct {
	cluster *pgtest.Cluster
	name    string // of the application, its login and its database
	admin   string // ARN of the admin's secret
	dir     string
	limit   time.Duration // of every function
	mark    int           // where the server's log begins to count
	watched time.Time     // when the watchdog last looked
}

// servers are shared by all tests: one PostgreSQL, and the functions' binaries.
var servers struct {
	once     sync.Once
	err      error
	cluster  *pgtest.Cluster
	admin    pgtest.Login
	binaries string
}

// startServers runs for the first test that needs them.
func startServers() {
	// Not a test's context: they outlive it.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	servers.once.Do(func() {
		if servers.binaries, servers.err = buildFunctions(ctx); servers.err != nil {
			return
		}
		if servers.cluster, servers.err = pgtest.Start(ctx, pgtest.Options{TLS: true, LogStatement: true}); servers.err != nil {
			return
		}
		servers.admin, servers.err = servers.cluster.CreateAdmin(ctx, "rotator")
	})
}

func stopServers() {
	if servers.cluster != nil {
		servers.cluster.Stop()
	}
}

// buildFunctions keeps the binaries in the user's cache: the Go command links
// again only what has changed.
func buildFunctions(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "keyturn", "conformance")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w",
		"-o", dir+string(filepath.Separator), "../../functions/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the functions: %w\n%s", err, out)
	}
	return dir, nil
}

// newKeyturn makes a rig of Keyturn's own functions: rotateSecret, and those
// that retire the old login after it.
func newKeyturn(t *testing.T, b secretsmanager.Behaviour) *rig { return keyturn(t, b, 30*time.Second) }

// newQuickKeyturn has a short time-out, because every drain waits for as long,
// but one that a step keeps on a machine that is busy with much else: a step
// that never does ends no rotation.
func newQuickKeyturn(t *testing.T, b secretsmanager.Behaviour) *rig {
	return keyturn(t, b, 8*time.Second)
}

func keyturn(t *testing.T, b secretsmanager.Behaviour, limit time.Duration) *rig {
	t.Helper()
	startServers()
	if servers.err != nil {
		t.Fatal(servers.err)
	}
	dir := t.TempDir() // before the rig: it is removed after the functions have ended
	r := newRig(t, b)
	r.db = &database{cluster: servers.cluster, name: "app_" + uuid.NewString()[:8], dir: dir, limit: limit}
	app, err := r.db.cluster.CreateApp(t.Context(), r.db.name, r.db.name)
	if err != nil {
		t.Fatal(err)
	}
	admin := r.create(t, r.db.document(servers.admin, ""))
	r.db.admin = admin.arn
	r.s = r.create(t, r.db.document(app, admin.arn))
	r.works, r.watchdog, r.retired, r.alone = r.db.try, r.watch, r.idle, r.onlyLogin
	r.arn = functionARN("rotateSecret")
	r.deploy()
	r.db.mark = len(r.db.logged(t))
	return r
}

// document is a secret's value as AWS documents it.
func (d *database) document(l pgtest.Login, admin string) string {
	members := map[string]any{
		"engine": "postgres", "host": d.cluster.Primary.Host, "port": d.cluster.Primary.Port,
		"username": l.User, "password": l.Password, "dbname": l.Database,
	}
	if admin != "" {
		members["masterarn"] = admin
	}
	text, err := json.Marshal(members)
	if err != nil {
		panic(err) // plain strings and numbers
	}
	return string(text)
}

// deploy compiles the policy and registers the functions and the state machine.
func (r *rig) deploy() {
	r.t.Helper()
	var text bytes.Buffer
	primary := r.db.cluster.Primary
	if err := keyturnYAML.Execute(&text, map[string]any{
		"Limit":  r.db.limit,
		"Secret": r.s.arn, "Host": primary.Address(), "Admin": r.db.admin, "CA": r.db.cluster.CAFile, "Log": primary.LogFile,
	}); err != nil {
		r.t.Fatal(err)
	}
	doc, err := compile.Source("keyturn.yaml", text.Bytes(), deployment.Kinds())
	if err != nil {
		r.t.Fatal(err)
	}
	policy := filepath.Join(r.db.dir, "policy.json")
	if err := os.WriteFile(policy, doc.JSON(), 0o600); err != nil {
		r.t.Fatal(err)
	}
	machine := "arn:aws:states:" + awsproto.Region + ":" + awsproto.Account + ":stateMachine:rotation"
	names := map[string]string{}
	entries, err := os.ReadDir("../../functions")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		names[e.Name()] = functionARN(e.Name())
		if err := r.local.Lambda.Register(lambda.Function{
			Name: e.Name(), Binary: filepath.Join(servers.binaries, e.Name()), Timeout: r.db.limit,
			Env: []string{
				deployment.EnvPolicy + "=" + policy, deployment.EnvStateMachine + "=" + machine,
				deployment.EnvAuditDir + "=" + filepath.Join(r.db.dir, "audit"),
				"AWS_ENDPOINT_URL_SECRETS_MANAGER=" + r.calls.URL,
			},
		}); err != nil {
			r.t.Fatal(err)
		}
	}
	definition, err := stepfunctions.Definition(stepfunctions.Rotation, names)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := sfn.NewFromConfig(clientConfig(r.local.Endpoint)).CreateStateMachine(r.t.Context(), &sfn.CreateStateMachineInput{
		Name: aws.String("rotation"), Definition: &definition, RoleArn: aws.String("arn:aws:iam::" + awsproto.Account + ":role/rotation"),
	}); err != nil {
		r.t.Fatal(err)
	}
}

// try logs in with a value, verified in full, and looks at a table.
func (d *database) try(ctx context.Context, value string) error {
	var v struct{ Username, Password, DBName string }
	if err := json.Unmarshal([]byte(value), &v); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, d.cluster.DSN(d.cluster.Primary, pgtest.Login{User: v.Username, Password: v.Password, Database: v.DBName}))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, "SELECT 1")
	return err
}

// watch lets the watchdog look, as its schedule does, a second after the last
// time at the earliest.
func (r *rig) watch() {
	r.t.Helper()
	if time.Since(r.db.watched) < time.Second {
		return
	}
	if out, err := r.local.Lambda.Invoke(r.t.Context(), functionARN("watchdog"), []byte(`{}`)); err != nil {
		r.t.Fatal(err)
	} else if out.FunctionError != "" {
		r.t.Logf("the watchdog failed: %s", out.Payload)
	}
	r.db.watched = time.Now()
}

// idle reports whether the labels ask for nothing more.
func (r *rig) idle() bool {
	versions := rotation.Versions{}
	for id, stages := range r.s.describe().VersionIdsToStages {
		for _, stage := range stages {
			versions[id] = append(versions[id], rotation.Label(stage))
		}
	}
	return rotation.Read(versions, rotation.DriverSecretsManager).Need == rotation.NeedNothing &&
		versions.Holder(rotation.Retiring) == ""
}

// onlyLogin compares who may log in with the current version.
func (r *rig) onlyLogin() {
	r.t.Helper()
	user, _ := r.value(r.s.labels()[current])["username"].(string)
	conn, err := r.db.cluster.Superuser(r.t.Context(), r.db.cluster.Primary, "postgres")
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(r.t.Context())) }()
	var can string
	if err := conn.QueryRow(r.t.Context(), "SELECT coalesce(string_agg(rolname, ' '), '') FROM pg_roles WHERE rolcanlogin AND strpos(rolname, $1) = 1",
		r.db.name).Scan(&can); err != nil {
		r.t.Fatal(err)
	}
	if can != user {
		r.t.Errorf("%q can log in, current is %q", can, user)
	}
}

// lines collects log lines.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, line)
}

// of takes a function's line.
func (l *lines) of(function, line string) {
	switch word, _, _ := strings.Cut(line, " "); word {
	case "START", "END", "REPORT": // the platform's
	default:
		l.add(function + ": " + line)
	}
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.add(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

// last is the end of it.
func (l *lines) last(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all[max(0, len(l.all)-n):], "\n")
}

// changes are the statements about roles in the server's log since the rig was
// made, without their times and processes.
func (d *database) changes(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, line := range d.logged(t) {
		if _, statement, ok := strings.Cut(line, "statement: "); ok && strings.Contains(statement, "ROLE ") && !strings.HasPrefix(statement, "SELECT") {
			out = append(out, statement)
		}
	}
	return out
}

// refusals counts this application's logins that the server has refused.
func (d *database) refusals(t *testing.T) (n int) {
	t.Helper()
	for _, line := range d.logged(t) {
		if strings.Contains(line, "FATAL:  password authentication failed") {
			n++
		}
	}
	return n
}

// logged are the lines of the server's log that name this application.
func (d *database) logged(t *testing.T) []string {
	t.Helper()
	text, err := d.cluster.Primary.Log()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, d.name) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out[min(d.mark, len(out)):]
}

func (d *database) execute(t *testing.T, sql string) {
	t.Helper()
	if err := d.cluster.Exec(t.Context(), "postgres", sql); err != nil {
		t.Fatal(err)
	}
}

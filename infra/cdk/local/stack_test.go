package local_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/cloudformation"
	"github.com/keyturn/keyturn/localstack/lambda"
)

// deployed is a stack that was stood up, and what it works on.
type deployed struct {
	*cloudformation.Stack
	t       *testing.T
	cluster *pgtest.Cluster
	aws     *localstack.AWS
	config  aws.Config
	secrets *secretsmanager.Client
	admin   pgtest.Login
	secret  string // ARN
	logs    *lines
}

// lines are the functions' logs.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) add(function, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(&l.all, function, line)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// warnings are the lines that somebody should look at.
func (l *lines) warnings() string {
	var some strings.Builder
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, `"level":"WARN"`) || strings.Contains(line, `"level":"ERROR"`) {
			some.WriteString(line)
		}
	}
	return some.String()
}

// keyturnYAML has times that fit a test; the rest is as in docs/policy.md.
const keyturnYAML = `version: 1
function_limit: 5s
deploy:
  name: shop
  zones:
    core: {vpc: vpc-0123456789abcdef0, subnets: [subnet-0123456789abcdef0, subnet-0123456789abcdef1]}
  break_glass: ["arn:aws:iam::000000000000:role/oncall"]
secrets:
  - secret: %[1]s
    kind: postgres
    zone: core
    drain: {window: 1s, poll: 1s, quiet_polls: 1, max_overlap: 1h}
    hold: 1s
    schedule: rate(4 hours)
    schedule_window: 1h
    head_limit: 1m
    consumers: [{name: orders-api, cache: 1s}]
    postgres:
      hosts: ["%[2]s"]
      admin: %[3]s
      root_ca_file: ca.pem
`

// stage brings up a database and the local AWS, and the admin's login in both.
func stage(t *testing.T, o localstack.Options) (d *deployed, adminARN string) {
	t.Helper()
	cluster, err := pgtest.Start(t.Context(), pgtest.Options{TLS: true, Config: map[string]string{"log_line_prefix": "%t:%r:%u@%d:[%p]:"}}) // as RDS's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	d = &deployed{t: t, cluster: cluster, logs: &lines{}}
	o.Addr, o.Lambda = "127.0.0.1:0", lambda.Config{LogSink: d.logs.add}
	d.aws, err = localstack.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.aws.Close() })
	d.config = aws.Config{
		Region: awsproto.Region, BaseEndpoint: &d.aws.Endpoint, Credentials: credentials.NewStaticCredentialsProvider("deployer", "local", ""),
	}
	d.secrets = secretsmanager.NewFromConfig(d.config)
	d.admin, err = cluster.CreateAdmin(t.Context(), "rotator")
	if err != nil {
		t.Fatal(err)
	}
	return d, d.store("orders/admin", d.admin, "postgres", "")
}

// login makes an application's login and its secret, as an operator would.
func (d *deployed) login(name, key string) (arn string) {
	d.t.Helper()
	login, err := d.cluster.CreateApp(d.t.Context(), name, name)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.store(name+"/db", login, name, key)
}

// deploy makes the stack of a keyturn.yaml, which finds the servers' authority in
// ca.pem.
func (d *deployed) deploy(keyturnYAML string) {
	d.t.Helper()
	folder := d.t.TempDir()
	ca, err := os.ReadFile(d.cluster.CAFile)
	if err != nil {
		d.t.Fatal(err)
	}
	yaml := filepath.Join(folder, "keyturn.yaml")
	for path, body := range map[string][]byte{filepath.Join(folder, "ca.pem"): ca, yaml: []byte(keyturnYAML)} {
		if err := os.WriteFile(path, body, 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	d.Stack, err = cloudformation.Deploy(d.t.Context(), cloudformation.Input{
		Template: synth(d.t, yaml), Dir: d.t.TempDir(), Config: d.config, Register: d.aws.Lambda.Register,
	})
	if err != nil {
		d.t.Fatalf("deploying: %v\n%s", err, d.logs)
	}
}

// deploy brings up all of it for one secret and its application.
func deploy(t *testing.T) *deployed {
	t.Helper()
	d, adminARN := stage(t, localstack.Options{})
	d.secret = d.login("orders", "")
	go d.consume()
	d.deploy(fmt.Sprintf(keyturnYAML, d.secret, d.cluster.Primary.Address(), adminARN))
	return d
}

// value is a database's secret as AWS documents it.
func (d *deployed) value(login pgtest.Login, database string) string {
	d.t.Helper()
	value, err := json.Marshal(map[string]any{
		"engine": "postgres", "host": d.cluster.Primary.Host, "port": d.cluster.Primary.Port, "dbname": database,
		"username": login.User, "password": login.Password,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return string(value)
}

// store makes a secret; without a key it lies under AWS's own.
func (d *deployed) store(name string, login pgtest.Login, database, key string) string {
	d.t.Helper()
	in := &secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String(d.value(login, database))}
	if key != "" {
		in.KmsKeyId = &key
	}
	out, err := d.secrets.CreateSecret(d.t.Context(), in)
	if err != nil {
		d.t.Fatal(err)
	}
	return aws.ToString(out.ARN)
}

// current is the version that is AWSCURRENT, and its login.
func (d *deployed) current() (version string, login pgtest.Login) {
	d.t.Helper()
	out, err := d.secrets.GetSecretValue(d.t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &d.secret})
	if err != nil {
		d.t.Fatal(err)
	}
	var value struct{ Username, Password, DBName string }
	if err := json.Unmarshal([]byte(*out.SecretString), &value); err != nil {
		d.t.Fatal(err)
	}
	return *out.VersionId, pgtest.Login{User: value.Username, Password: value.Password, Database: value.DBName}
}

// works reports whether a login is accepted.
func (d *deployed) works(login pgtest.Login) bool {
	d.t.Helper()
	conn, err := pgx.Connect(d.t.Context(), d.cluster.DSN(d.cluster.Primary, login))
	if err != nil {
		return false
	}
	return conn.Close(d.t.Context()) == nil
}

// rotated waits until another version than this is current and alone.
func (d *deployed) rotated(from string) {
	d.t.Helper()
	d.within(time.Minute, func() bool { now, _ := d.current(); return now != from && d.alone() }, d.waitsFor)
}

// stages are the labels by version.
func (d *deployed) stages() map[string][]string {
	d.t.Helper()
	out, err := d.secrets.DescribeSecret(d.t.Context(), &secretsmanager.DescribeSecretInput{SecretId: &d.secret})
	if err != nil {
		d.t.Fatal(err)
	}
	return out.VersionIdsToStages
}

// alone reports that one credential is alive, and nothing is under way.
func (d *deployed) alone() bool {
	live := 0
	for _, stages := range d.stages() {
		for _, s := range stages {
			if strings.HasPrefix(s, "KEYTURN_") && s != "KEYTURN_REJECTED" { // which stays on what was turned back
				live++
			}
		}
		if slices.Contains(stages, "AWSPENDING") && !slices.Contains(stages, "AWSCURRENT") {
			live++
		}
	}
	return live == 1
}

// consume is an application that keeps one connection, and moves it to the login
// that it reads. It is never refused.
func (d *deployed) consume() {
	var conn *pgx.Conn
	version := ""
	for d.t.Context().Err() == nil {
		out, err := d.secrets.GetSecretValue(d.t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &d.secret})
		if err == nil && *out.VersionId != version {
			var login pgtest.Login
			if err := json.Unmarshal([]byte(*out.SecretString), &struct {
				Username *string
				Password *string
				DBName   *string
			}{&login.User, &login.Password, &login.Database}); err != nil {
				d.t.Error(err)
			}
			next, err := pgx.Connect(d.t.Context(), d.cluster.DSN(d.cluster.Primary, login)+"&application_name=orders-api")
			if err != nil {
				if d.t.Context().Err() == nil {
					d.t.Errorf("the application is refused: %v", err)
				}
				return
			}
			if conn != nil {
				_ = conn.Close(d.t.Context())
			}
			conn, version = next, *out.VersionId
		}
		if conn != nil {
			if _, err := conn.Exec(d.t.Context(), "SELECT 1"); err != nil && d.t.Context().Err() == nil {
				d.t.Errorf("the application's query failed: %v", err)
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// waitsFor is what the labels and the trail's latest records say, and the logs.
func (d *deployed) waitsFor() string {
	records, err := audit.Records(d.t.Context(), d.ledger(), d.secret)
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	fmt.Fprintf(&text, "the labels are %v\n%s\n", d.stages(), d.logs.warnings())
	for _, r := range records[max(0, len(records)-6):] {
		fmt.Fprintln(&text, r.Time.Format(time.TimeOnly), r.Step, r.Phase, r.Outcome, r.Missing, r.Notes)
	}
	return text.String()
}

// within waits for a condition.
func (d *deployed) within(most time.Duration, condition func() bool, told func() string) {
	d.t.Helper()
	for deadline := time.Now().Add(most); !condition(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatal(told())
		}
	}
}

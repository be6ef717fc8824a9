package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/demo/load"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/rotation"
)

const (
	appName      = "shop"
	databaseName = "shop"
	adminName    = "rotator"
)

// stage is everything that the demo has running.
type stage struct {
	options Options
	dir     string
	started time.Time

	failedLogins int // of the policy; 0: its default

	functions string
	cluster   *pgtest.Cluster
	aws       *localstack.AWS
	config    aws.Config
	secrets   *secretsmanager.Client
	sfn       *sfn.Client
	machine   string // ARN of the state machine
	admin     pgtest.Login
	appARN    string
	adminARN  string
	load      *load.Run
	rotator   *rotation.Rotator // the operator's: what the CLI would use
	logs      *lineFile
	chaos     *chaos

	mu      sync.Mutex
	spans   []span
	turns   []turn
	now     turn              // the one that is being played
	unread  []string          // where a leak couldn't be looked for
	heap    []float64         // MiB after each turn
	passes  map[string]string // login → password, of every credential that there ever was
	argv    *argvLog          // command lines seen on this machine while it ran
	closers []func()
	// entered, if set, is told of every state, which begins when it returns.
	entered func(execution, state string)
}

// credential is the secret's value as AWS's documentation shapes it.
type credential struct {
	Engine    string `json:"engine"`
	Host      string `json:"host"`
	Port      int    `json:"port"`
	Username  string `json:"username"`
	Password  string `json:"password"`
	DBName    string `json:"dbname"`
	MasterARN string `json:"masterarn,omitempty"`
}

func (s *stage) closeLater(f func()) { s.closers = append(s.closers, f) }

func (s *stage) close() {
	for _, f := range slices.Backward(s.closers) {
		f()
	}
	s.closers = nil
}

// open starts the servers, stores the secrets as an operator would, lets the
// consumers in, and deploys.
func (s *stage) open(ctx context.Context) error {
	s.passes = map[string]string{}
	var err error
	if s.logs, err = newLineFile(s.path("functions.log")); err != nil {
		return err
	}
	s.closeLater(s.logs.close)
	if s.argv, err = newArgvLog(s.path("argv.log")); err != nil {
		return err
	}
	s.closeLater(s.argv.close)
	for _, step := range []struct {
		doing string
		do    func(context.Context) error
	}{
		{"starting PostgreSQL with a replica", s.openDatabase},
		{"starting the local AWS", s.openAWS},
		{"storing the secrets", s.storeSecrets},
		{fmt.Sprintf("starting %d consumers", s.options.Consumers), s.openLoad},
		{"deploying the functions and the state machine", s.deploy},
	} {
		fmt.Fprintln(s.options.Progress, step.doing)
		if err := step.do(ctx); err != nil {
			return fault.Wrap(fault.Internal, err, "%s", step.doing)
		}
	}
	return nil
}

func (s *stage) openDatabase(ctx context.Context) error {
	connections := load.Config{Consumers: s.options.Consumers}.Connections()
	cluster, err := pgtest.Start(ctx, pgtest.Options{
		Version: s.options.Version, Replica: true, TLS: true, LogStatement: true,
		Config: map[string]string{"max_connections": strconv.Itoa(2*connections + 60)},
	})
	if err != nil {
		return err
	}
	s.cluster = cluster
	s.closeLater(cluster.Stop)
	s.closeLater(s.keepLogs)
	if s.admin, err = cluster.CreateAdmin(ctx, adminName); err != nil {
		return err
	}
	app, err := cluster.CreateApp(ctx, appName, databaseName)
	if err != nil {
		return err
	}
	s.passes[app.User], s.passes[s.admin.User] = app.Password, s.admin.Password
	return cluster.Exec(ctx, "postgres", "ALTER ROLE "+pgtest.Ident(appName)+" CONNECTION LIMIT -1")
}

// keepLogs copies the servers' logs, which go with the cluster.
func (s *stage) keepLogs() {
	if !s.options.Keep {
		return
	}
	for name, node := range map[string]*pgtest.Server{"primary.log": s.cluster.Primary, "replica.log": s.cluster.Replica} {
		text, err := node.Log()
		if err == nil {
			err = os.WriteFile(s.path(name), []byte(text), 0o600)
		}
		if err != nil {
			fmt.Fprintf(s.options.Progress, "keeping %s: %s\n", name, err)
		}
	}
}

func (s *stage) openAWS(ctx context.Context) error {
	if err := s.startLocal(ctx); err != nil {
		return err
	}
	s.config = aws.Config{
		Region: awsproto.Region, BaseEndpoint: &s.aws.Endpoint,
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	}
	s.secrets, s.sfn = secretsmanager.NewFromConfig(s.config), sfn.NewFromConfig(s.config)
	return nil
}

func (s *stage) storeSecrets(ctx context.Context) error {
	primary := s.cluster.Primary
	create := func(name string, c credential) (string, error) {
		text, err := json.Marshal(c)
		if err != nil {
			return "", err
		}
		out, err := s.secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String(string(text))})
		if err != nil {
			return "", err
		}
		return aws.ToString(out.ARN), nil
	}
	var err error
	s.adminARN, err = create("keyturn/admin", credential{
		Engine: "postgres", Host: primary.Host, Port: primary.Port, DBName: "postgres",
		Username: s.admin.User, Password: s.admin.Password,
	})
	if err != nil {
		return err
	}
	s.appARN, err = create("shop/database", credential{
		Engine: "postgres", Host: primary.Host, Port: primary.Port, DBName: databaseName,
		Username: appName, Password: s.passes[appName], MasterARN: s.adminARN,
	})
	return err
}

func (s *stage) openLoad(ctx context.Context) error {
	observer, err := pgx.ParseConfig(s.cluster.SuperuserDSN("postgres"))
	if err != nil {
		return fault.New(fault.Internal, "the observer's address can't be read")
	}
	run, err := load.Start(ctx, load.Config{
		Host: s.cluster.Primary.Host, Port: s.cluster.Primary.Port, Database: databaseName, CAFile: s.cluster.CAFile,
		Secrets: s.secrets, SecretID: s.appARN, Consumers: s.options.Consumers, Rate: s.options.Rate,
		EvidenceDir: s.path("audit"), Observer: observer, TTL: 2 * time.Second, Spread: 3 * time.Second,
		Logger: slog.New(slog.NewJSONHandler(s.logs, nil)),
	})
	if err != nil {
		return err
	}
	s.load = run
	s.closeLater(func() { run.Stop() })
	return nil
}

// lineFile takes the log lines of everything that runs.
type lineFile struct {
	mu   sync.Mutex
	file *os.File
}

var _ io.Writer = (*lineFile)(nil)

func newLineFile(path string) (*lineFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "opening the log")
	}
	return &lineFile{file: f}, nil
}

func (l *lineFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Write(p)
}

func (l *lineFile) line(source, text string) {
	_, _ = fmt.Fprintf(l, "%s %s\n", source, text)
}

func (l *lineFile) close() { _ = l.file.Close() }

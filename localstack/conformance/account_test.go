package conformance_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/lambda"
	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

// account is where rules are tried.
type account struct {
	secrets  *sm.Client
	function string // ARN of the probe: testdata/python/probe.py
	id       string
	region   string
	prefix   string        // of the names of all secrets
	patience time.Duration // how long something may take until it is a failure
	local    *localstack.AWS
	logs     *lines       // of all functions of the local AWS
	real     *realAccount // nil for the local AWS
	made     lines        // ARNs of all secrets, for whoever cleans up at the end

	making sync.RWMutex // held for reading while a secret is made
	closed bool         // no more are
}

var (
	python string   // folder of the Python function, with an interpreter that has boto3
	shared *account // what anywhere returns
)

func TestMain(m *testing.M) {
	// The tests wait much and compute little; -parallel still has the last word.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	var remove func()
	if python, remove, err = installPython(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer remove()
	defer stopServers()
	a, done, err := open(ctx, os.Getenv, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared = a
	// What was made in a real account goes, however the tests end.
	defer func() {
		if err := done(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	flag.Parse()
	limit, _ := flag.Lookup("test.timeout").Value.(flag.Getter).Get().(time.Duration)
	finished := make(chan int, 1)
	go func() { finished <- m.Run() }()
	select {
	case code = <-finished:
	case <-outOfTime(a, limit):
		fmt.Fprintln(os.Stderr, "out of time: removing what was made")
		code = 1
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr, "interrupted: removing what was made")
		code = 1
	}
	return code
}

// removal is the time that removing takes at most, see realAccount.close.
const removal = 6 * time.Minute

// outOfTime comes when there is just time left to remove what was made in a real
// account: the testing package's own time-out would end the process at once.
func outOfTime(a *account, limit time.Duration) <-chan time.Time {
	if a.real == nil || limit <= removal {
		return nil
	}
	return time.After(limit - removal)
}

// anywhere is the account that the environment selects: the local AWS with its
// default behaviour, or a real one. Its tests must hold on both.
func anywhere(t *testing.T) *account {
	t.Helper()
	return shared
}

// open opens the account that the environment selects; the function returned
// removes everything that was made in it.
func open(ctx context.Context, getenv func(string) string, out io.Writer) (*account, func() error, error) {
	if getenv(envReal) != "" {
		cfg, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return nil, nil, err
		}
		return openReal(ctx, cfg, getenv, out)
	}
	a, err := startLocal(ctx, clock.New(), secretsmanager.Behaviour{})
	if err != nil {
		return nil, nil, err
	}
	return a, a.local.Close, nil
}

// embedded starts a local AWS of the test's own. Its clock may be moved.
func embedded(t *testing.T, b secretsmanager.Behaviour) *account {
	t.Helper()
	a, err := startLocal(t.Context(), clock.At(time.Now().AddDate(-1, 0, 0)), b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last of the logs:\n%s", a.logs.last(60))
		}
		if err := a.local.Close(); err != nil {
			t.Errorf("closing the local AWS: %v", err)
		}
	})
	return a
}

func startLocal(ctx context.Context, c *clock.Clock, b secretsmanager.Behaviour) (*account, error) {
	logs := &lines{}
	local, err := localstack.Start(context.WithoutCancel(ctx), localstack.Options{
		Addr: "127.0.0.1:0", Behaviour: b, Clock: c, Logger: slog.New(slog.NewTextHandler(logs, nil)),
		Lambda: lambda.Config{LogSink: logs.of, InitTimeout: time.Minute},
	})
	if err != nil {
		return nil, err
	}
	a := &account{
		local: local, logs: logs, id: awsproto.Account, region: awsproto.Region, prefix: "conformance/",
		patience: 6 * time.Minute, function: functionARN("probe"),
		secrets: sm.NewFromConfig(clientConfig(local.Endpoint)),
	}
	return a, errors.Join(
		a.registerPython("probe", "HANDLER=probe.handler"),
		a.registerPython("rotate"),
	)
}

func clientConfig(endpoint string) aws.Config {
	return aws.Config{
		Region: awsproto.Region, BaseEndpoint: &endpoint, RetryMaxAttempts: 8,
		Credentials: credentials.NewStaticCredentialsProvider("conformance", "local", ""),
	}
}

func functionARN(name string) string {
	return "arn:aws:lambda:" + awsproto.Region + ":" + awsproto.Account + ":function:" + name
}

// registerPython puts the Python function into the local Lambda.
func (a *account) registerPython(name string, env ...string) error {
	return a.local.Lambda.Register(lambda.Function{
		Name: name, Binary: filepath.Join(python, "bootstrap"), Timeout: 2 * time.Minute, MemoryMB: 128,
		Env: append([]string{"PYTHON=" + filepath.Join(python, "python")}, env...),
	})
}

// installPython copies the function out of the repository, where it would leave
// traces, beside a link to an interpreter that can import boto3.
func installPython(ctx context.Context) (dir string, remove func(), err error) {
	if dir, err = os.MkdirTemp("", "keyturn-python-"); err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			remove()
		}
	}()
	for _, name := range []string{"bootstrap", "runtime.py", "rotate.py", "probe.py"} {
		text, err := os.ReadFile(filepath.Join("testdata", "python", name))
		if err != nil {
			return "", nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil {
			return "", nil, err
		}
	}
	for _, candidate := range []string{"python3", "/usr/bin/python3"} {
		// The interpreter's own name for itself is past any shim, which costs time at each start.
		out, err := exec.CommandContext(ctx, candidate, "-c", "import boto3, sys; print(sys.executable)").Output()
		if err == nil {
			script := "#!/bin/sh\nexec " + string(out[:len(out)-1]) + ` "$@"` + "\n"
			return dir, remove, os.WriteFile(filepath.Join(dir, "python"), []byte(script), 0o755)
		}
	}
	return "", nil, errors.New("no python3 here can import boto3, with which the Python rotation function is written: " +
		"install it with make deps (Debian and Ubuntu: apt-get install python3-boto3)")
}

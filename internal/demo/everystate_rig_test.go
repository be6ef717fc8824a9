package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/internal/pgtest"
	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/lambda"
	local "github.com/keyturn/keyturn/localstack/secretsmanager"
	"github.com/keyturn/keyturn/policy/compile"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/stepfunctions"
)

// laneLimit is the functions' time-out here, and so the pause after each kill.
const laneLimit = 4 * time.Second

// rig is one deployment with several secrets. Each is a lane, in which
// executions and functions are killed in one state after the other.
type rig struct {
	*stage
	emergencyMachine string
	lanes            []*lane

	doomed sync.Map // function → *atomic.Int32: how many of its next invocations die
	dead   atomic.Int64
}

// target is a state in which everything is to die.
type target struct {
	letter string // of the direction, as in an execution's name; "e": the emergency
	state  string
}

// lane is one secret with its login and its consumer.
type lane struct {
	*rig
	name   string
	driver rotation.Driver
	arn    string
	first  credential

	mu      sync.Mutex
	left    []target // to die in, in this order
	died    map[target]bool
	refused []string // of the consumer
	excused bool     // a cut refuses consumers
}

// lanes are what is walked side by side.
var lanes = map[string]struct {
	driver rotation.Driver
	walk   func(*lane, *testing.T)
}{
	"head":   {rotation.DriverMachine, (*lane).walkHead},
	"forth":  {rotation.DriverMachine, (*lane).walkForth},
	"back":   {rotation.DriverMachine, (*lane).walkBack},
	"store":  {rotation.DriverSecretsManager, (*lane).walkStore},
	"stolen": {rotation.DriverMachine, (*lane).walkStolen},
	"cut":    {rotation.DriverSecretsManager, (*lane).walkCut},
}

func newRig(t *testing.T) *rig {
	t.Helper()
	s := &stage{options: Options{Progress: t.Output()}, dir: t.TempDir(), started: time.Now(), passes: map[string]string{}}
	r := &rig{stage: s}
	t.Cleanup(s.close)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	must(s.build(ctx))
	var err error
	s.logs, err = newLineFile(s.path("functions.log"))
	must(err)
	s.closeLater(s.logs.close)
	s.cluster, err = pgtest.Start(ctx, pgtest.Options{TLS: true, LogStatement: true, Config: map[string]string{"max_connections": "200"}})
	must(err)
	s.closeLater(s.cluster.Stop)
	s.admin, err = s.cluster.CreateAdmin(ctx, adminName)
	must(err)
	log := slog.New(slog.NewJSONHandler(s.logs, nil))
	s.aws, err = localstack.Start(ctx, localstack.Options{
		Addr: "127.0.0.1:0", Behaviour: local.Behaviour{Retries: 20, RetryAfter: laneLimit}, Invoker: r, OnState: r.entered,
		Lambda: lambda.Config{LogSink: s.logs.line, Kill: r.kill}, Logger: log, Dir: s.dir,
	})
	must(err)
	s.closeLater(func() { _ = s.aws.Close() })
	s.config = aws.Config{
		Region: awsproto.Region, BaseEndpoint: &s.aws.Endpoint,
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	}
	s.secrets, s.sfn = secretsmanager.NewFromConfig(s.config), sfn.NewFromConfig(s.config)
	for _, name := range slices.Sorted(maps.Keys(lanes)) {
		app, err := s.cluster.CreateApp(ctx, "lane_"+name, "lane_"+name)
		must(err)
		r.lanes = append(r.lanes, &lane{rig: r, name: name, driver: lanes[name].driver, died: map[target]bool{}, first: credential{
			Engine: "postgres", Host: s.cluster.Primary.Host, Port: s.cluster.Primary.Port, DBName: app.Database, Username: app.User, Password: app.Password,
		}})
	}
	must(r.storeAll(ctx))
	must(r.deployAll(ctx, log))
	return r
}

func (r *rig) storeAll(ctx context.Context) error {
	store := func(name string, c credential) (string, error) {
		text, err := json.Marshal(c)
		if err != nil {
			return "", err
		}
		out, err := r.secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String(string(text))})
		if err != nil {
			return "", err
		}
		return *out.ARN, nil
	}
	var err error
	admin := r.lanes[0].first
	admin.DBName, admin.Username, admin.Password = "postgres", r.admin.User, r.admin.Password
	if r.adminARN, err = store("keyturn/admin", admin); err != nil {
		return err
	}
	for _, l := range r.lanes {
		l.first.MasterARN = r.adminARN
		if l.arn, err = store("lane/"+l.name, l.first); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) deployAll(ctx context.Context, log *slog.Logger) error {
	text := fmt.Sprintf("version: 1\nfunction_limit: %s\nsecrets:\n", wholeSeconds(laneLimit))
	for _, l := range r.lanes {
		text += fmt.Sprintf(`  - secret: %s
    kind: postgres
    driver: %s
    drain: {window: 1s, poll: 1s, quiet_polls: 2, max_overlap: 30m}
    hold: 1s
    head_limit: 5m
    emergency: 2s
    failed_logins_per_hour: 20
    consumers: [{name: consumer, cache: 1s}]
    postgres:
      hosts: ["%s"]
      admin: %s
      root_ca_file: %s
`, l.arn, l.driver, r.cluster.Primary.Address(), r.adminARN, r.cluster.CAFile)
	}
	doc, err := compile.Source("keyturn.yaml", []byte(text), deployment.Kinds())
	if err != nil {
		return err
	}
	policy := r.path("policy.json")
	if err := os.WriteFile(policy, doc.JSON(), 0o600); err != nil {
		return err
	}
	arn := "arn:aws:states:" + awsproto.Region + ":" + awsproto.Account + ":stateMachine:keyturn-"
	r.machine, r.emergencyMachine = arn+"rotation", arn+"emergency"
	names := map[string]string{}
	for _, name := range functionNames {
		names[name] = functionARN(name)
		if err := r.aws.Lambda.Register(lambda.Function{
			Name: "keyturn-" + name, Binary: filepath.Join(r.functions, name), Timeout: laneLimit, MemoryMB: 128,
			Env: []string{deployment.EnvPolicy + "=" + policy, deployment.EnvStateMachine + "=" + r.machine, deployment.EnvAuditDir + "=" + r.path("audit")},
		}); err != nil {
			return err
		}
	}
	for name, definition := range map[string]string{"keyturn-rotation": stepfunctions.Rotation, "keyturn-emergency": stepfunctions.Emergency} {
		filled, err := stepfunctions.Definition(definition, names)
		if err != nil {
			return err
		}
		if _, err := r.sfn.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{
			Name: &name, Definition: &filled, RoleArn: aws.String("arn:aws:iam::" + awsproto.Account + ":role/" + name),
		}); err != nil {
			return err
		}
	}
	for _, l := range r.lanes {
		if l.driver != rotation.DriverSecretsManager {
			continue
		}
		r.appARN = l.arn
		if _, err := r.secrets.RotateSecret(ctx, &secretsmanager.RotateSecretInput{
			SecretId: &l.arn, RotationLambdaARN: aws.String(functionARN("rotateSecret")), RotateImmediately: aws.Bool(false),
			RotationRules: &smtypes.RotationRulesType{AutomaticallyAfterDays: aws.Int64(30)},
		}); err != nil {
			return err
		}
		if err := r.tested(ctx); err != nil {
			return err
		}
	}
	r.rotator, err = deployment.Assemble(r.config, deployment.Settings{Policy: policy, StateMachine: r.machine, AuditDir: r.path("audit")},
		deployment.Actor{Name: "operator", Type: audit.Human, Lines: r.logs}, log)
	return err
}

// kill ends an environment in the middle of its work, if one is due.
func (r *rig) kill(function string) time.Duration {
	due, ok := r.doomed.Load(function)
	if !ok || due.(*atomic.Int32).Add(-1) < 0 { //nolint:forcetypeassert // we store nothing else
		return 0
	}
	r.dead.Add(1)
	return time.Duration(1+rand.IntN(60)) * time.Millisecond
}

// doom lets the next invocation of a function die.
func (r *rig) doom(function string) {
	due, _ := r.doomed.LoadOrStore("keyturn-"+function, &atomic.Int32{})
	n := due.(*atomic.Int32) //nolint:forcetypeassert // we store nothing else
	n.CompareAndSwap(min(n.Load(), -1), 0)
	n.Add(1)
}

// laneOf finds a lane by the secret that an event or an execution's name is about.
func (r *rig) laneOf(is func(*lane) bool) *lane {
	at := slices.IndexFunc(r.lanes, is)
	if at < 0 {
		return nil
	}
	return r.lanes[at]
}

// where reads which lane an execution belongs to, and which way it goes.
func (r *rig) where(execution string) (*lane, string) {
	name := execution[strings.LastIndex(execution, ":")+1:]
	if rest, ok := strings.CutPrefix(name, "emergency-"); ok {
		return r.laneOf(func(l *lane) bool { return strings.HasPrefix(rest, l.name+"-") }), "e"
	}
	l := r.laneOf(func(l *lane) bool {
		return strings.HasPrefix(name, strings.SplitN(rotation.RunName(l.arn, "x", rotation.Head), "-", 2)[0])
	})
	parts := strings.Split(name, "-")
	return l, parts[max(0, len(parts)-2)]
}

// entered kills the execution of a state in which no function runs, and dooms
// the function of one in which it does.
func (r *rig) entered(execution, state string, entered bool, _ time.Time) {
	l, letter := r.where(execution)
	if !entered || l == nil {
		return
	}
	at := target{letter, state}
	if !l.due(at) {
		return
	}
	if function := machineStates(letter)[state].function; function != "" {
		l.mu.Lock()
		l.died[at] = false // its function's call is to come
		l.mu.Unlock()
		r.doom(function)
		return
	}
	l.hit(at)
	go r.stop(execution)
	time.Sleep(300 * time.Millisecond) // the call comes back when the execution has ended, which waits for this
}

func (r *rig) stop(execution string) {
	_, _ = r.sfn.StopExecution(context.Background(), &sfn.StopExecutionInput{ExecutionArn: &execution, Error: aws.String("Test.Killed")})
}

// due reports the state that is next to die in.
func (l *lane) due(at target) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.left) > 0 && l.left[0] == at
}

// hit notes that everything in a state is dead.
func (l *lane) hit(at target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.died[at] = true
	if len(l.left) > 0 && l.left[0] == at {
		l.left = l.left[1:]
	}
}

// Invoke is Lambda's. It lets functions say what leads to a state that is seldom
// reached, and kills the execution together with a function that is doomed.
func (r *rig) Invoke(ctx context.Context, function string, payload []byte) (host.Invocation, error) {
	name := function[strings.LastIndex(function, ":keyturn-")+len(":keyturn-"):]
	var event struct {
		Secret, Direction, Act string
		Polls                  int
		Cursor                 string
	}
	_ = json.Unmarshal(payload, &event)
	l := r.laneOf(func(l *lane) bool { return l.arn == event.Secret })
	if l == nil {
		return r.aws.Lambda.Invoke(ctx, function, payload)
	}
	letter := map[string]string{"head": "h", "forward": "f", "back": "b", "": "e"}[event.Direction]
	l.mu.Lock()
	var next target
	if len(l.left) > 0 {
		next = l.left[0]
	}
	_, begun := l.died[next]
	l.mu.Unlock()
	states := machineStates(letter)
	if next.letter == letter && begun && states[next.state].function == name && (event.Act == "" || states[next.state].act == event.Act) {
		_, _ = r.aws.Lambda.Invoke(ctx, function, payload)
		l.hit(next)
		for _, execution := range r.running(l, letter) {
			go r.stop(execution)
		}
		<-ctx.Done() // nobody hears of the answer
		return host.Invocation{}, ctx.Err()
	}
	if said, ok := states.lead(next, letter, name, event.Act, event.Polls, event.Cursor); ok {
		return said, nil
	}
	return r.aws.Lambda.Invoke(ctx, function, payload)
}

// running lists a lane's executions that run in one direction.
func (r *rig) running(l *lane, letter string) (arns []string) {
	machine := r.machine
	if letter == "e" {
		machine = r.emergencyMachine
	}
	out, err := r.sfn.ListExecutions(context.Background(), &sfn.ListExecutionsInput{StateMachineArn: &machine, StatusFilter: "RUNNING"})
	if err != nil {
		return nil
	}
	for _, e := range out.Executions {
		if of, way := r.where(*e.ExecutionArn); of == l && way == letter {
			arns = append(arns, *e.ExecutionArn)
		}
	}
	return arns
}

package chaos

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/template"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/policy/compile"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/stepfunctions"
	"github.com/keyturn/keyturn/store/awssm"
)

const (
	// functionTimeout bounds a function by real time; the policy says the same
	// by the walk's clock, which runs no faster while a function works.
	functionTimeout = 30 * time.Second
	// functionLimit is how long a function may work by the walk's clock.
	functionLimit = 30 * time.Second
	// skew is how far a function's clock may be off: what the drain's floor
	// leaves between the cache age and the function limit.
	skew = 5 * time.Second
)

var keyturnYAML = template.Must(template.New("keyturn.yaml").Parse(`version: 1
function_limit: 30s
secrets:
  - secret: {{.Secret}}
    kind: postgres
    driver: {{.Driver}}
    drain: {window: 1s, poll: 10s, quiet_polls: 2, max_overlap: 90d, on_timeout: hold}
    hold: 0s
    head_limit: 30d
    consumers:
      - name: web
        cache: 20s
        follow: ["{{.Instance}}"]
    postgres:
      mode: {{.Mode}}
{{- if .Owner}}
      adopt: rename
      owner: {{.Owner}}
{{- end}}
      hosts: ["{{.Host}}"]
      admin: {{.Admin}}
      lock_timeout: 300ms
      root_ca_file: {{.CA}}
`))

// walk is one rotation from a fresh start to its end, with what goes wrong on
// the way.
type walk struct {
	*worker
	scene     scene
	name      string // of its login
	token     string // of its rotation
	aws       *localstack.AWS
	config    aws.Config // of functions: every call goes through the plan
	plain     *secretsmanager.Client
	plainSFN  *sfn.Client
	proxy     *proxy
	functions *functions
	consumers *consumers
	plan      *plan
	log       *buffer
	policy    string // file
	trail     string // folder
	arn       string
	machine   string // ARNs of the state machines
	emergency string
	first     string // version that is current at the start
	logFrom   int64
	work      sync.WaitGroup // processes that outlive their callers
	turned    sync.Once      // the rollback was asked for
	askedBack bool
	cancelled bool        // somebody has switched rotation off
	cut       atomic.Bool // an emergency has begun to cut the stolen login off
	stopped   atomic.Bool // somebody has stopped what was running
	previous  string      // version that AWS's functions have left alive
	ownCalls  int         // of the state machine
	ownKind   Kind        // what goes wrong with the latest of them

	mu        sync.Mutex
	breakages []string
}

// buffer takes what functions write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.b.Bytes())
}

// broken notes that an invariant doesn't hold.
func (w *walk) broken(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if text := fmt.Sprintf(format, args...); !slices.Contains(w.breakages, text) {
		w.breakages = append(w.breakages, text)
	}
}

// Result is how a walk ended.
type Result struct {
	Points  []Point
	Reached int    // faults that happened
	End     string // stable, rolled back, aborted
	Stuck   int    // runs that ended in RotationStuck on the way
	Logins  int    // attempts of consumers
	Broken  []string
	Took    time.Duration
}

// walk plays a scene with faults.
func (wk *worker) walk(ctx context.Context, sc scene, faults []Fault) (Result, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	w := &walk{
		worker: wk, scene: sc, name: fmt.Sprintf("w%dx", wk.number.Add(1)), token: uuid.NewString(),
		plan: newPlan(faults), log: &buffer{}, logFrom: wk.logSize(),
	}
	w.functions = &functions{w: w, counts: map[string]int{}, running: map[*invocation]bool{}}
	w.scene.w = w
	for _, f := range faults {
		if set := conditions[f.Kind]; set != nil {
			set(&w.scene)
		}
	}
	defer w.close()
	if err := w.open(ctx); err != nil {
		return Result{}, fmt.Errorf("setting the stage of %s: %w", w.name, err)
	}
	if w.scene.away > 0 {
		w.consumers.away(ctx, w.aws.Clock.Now().Add(w.scene.away))
	}
	w.plan.begin()
	w.consumers.look(ctx, "at the start")
	w.begin(ctx)
	res := w.settle(ctx)
	if res.End == "open" {
		ctx, cancel = context.WithTimeout(outside(ctx), time.Minute)
		defer cancel()
	}
	if err := w.verify(ctx, &res); err != nil {
		return Result{}, fmt.Errorf("looking at the end of %s: %w", w.name, err)
	}
	res.Points, res.Reached, res.Logins = w.plan.all(), w.plan.reached(), w.consumers.tried()
	w.mu.Lock()
	defer w.mu.Unlock()
	res.Broken, res.Took = slices.Clone(w.breakages), time.Since(began)
	return res, nil
}

func (w *walk) open(ctx context.Context) error {
	w.trail, w.policy = w.path(w.name), w.path(w.name+".json")
	var err error
	if w.proxy, err = newProxy(ctx, w, w.wire); err != nil {
		return err
	}
	w.aws, err = localstack.Start(ctx, localstack.Options{
		Addr: "127.0.0.1:0", Invoker: w.functions, Dir: w.dir, Behaviour: w.scene.behaviour, TaskFault: w.ownCall,
	})
	if err != nil {
		return err
	}
	w.consumers = newConsumers(w)
	plain := aws.Config{
		Region: awsproto.Region, BaseEndpoint: &w.aws.Endpoint, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}},
	}
	w.plain, w.plainSFN = secretsmanager.NewFromConfig(plain), sfn.NewFromConfig(plain)
	w.config = plain.Copy()
	w.config.HTTPClient = &http.Client{Transport: &transport{
		w: w, next: plain.HTTPClient.(*http.Client).Transport, answers: map[string][][]byte{},
	}}
	return w.deploy(ctx)
}

// deploy stores the secrets, compiles the policy and makes the state machine.
func (w *walk) deploy(ctx context.Context) error {
	admin, err := w.store(ctx, "admin", credential{
		Engine: "postgres", Host: w.cluster.Primary.Host, DBName: w.admin.Database, Username: w.admin.User, Password: w.admin.Password,
	})
	if err != nil {
		return err
	}
	login, err := w.makeLogin(ctx, w.name)
	if err != nil {
		return err
	}
	login.MasterARN = admin
	if w.arn, err = w.store(ctx, "app", login); err != nil {
		return err
	}
	if w.scene.entry.foreign {
		if err := w.rotatedByOthers(ctx, login); err != nil {
			return err
		}
	}
	text := &bytes.Buffer{}
	values := map[string]string{
		"Secret": w.arn, "Driver": string(w.scene.entry.driver), "Mode": "fresh", "Owner": "", "Admin": admin,
		"Instance": w.consumers.server.URL, "Host": "127.0.0.1:" + strconv.Itoa(w.proxy.port()), "CA": w.cluster.CAFile,
	}
	w.scene.mode.set(values, w.name)
	if err := keyturnYAML.Execute(text, values); err != nil {
		return err
	}
	doc, err := compile.Source("keyturn.yaml", text.Bytes(), deployment.Kinds())
	if err != nil {
		return err
	}
	if err := os.WriteFile(w.policy, doc.JSON(), 0o600); err != nil {
		return err
	}
	if err := w.makeMachine(ctx); err != nil {
		return err
	}
	if err := w.consumers.follow(ctx); err != nil {
		return err
	}
	w.first = w.consumers.current
	if w.scene.entry.driver != rotation.DriverMachine {
		if err := w.configure(ctx); err != nil {
			return err
		}
	}
	if w.scene.entry.cut {
		return w.foretell(ctx)
	}
	return nil
}

func (w *walk) store(ctx context.Context, name string, c credential) (string, error) {
	c.Port = w.proxy.port()
	text, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	out, err := w.plain.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String(string(text))})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ARN), nil
}

// mostPolls is after how many of them a run hands over, in every Choice.
const mostPolls = `"NumericGreaterThanEquals": 1500`

func (w *walk) makeMachine(ctx context.Context) error {
	names := map[string]string{}
	for name := range handlers {
		names[name] = functionPrefix + name
	}
	for name, made := range map[string]struct {
		text string
		arn  *string
	}{"rotation": {stepfunctions.Rotation, &w.machine}, "emergency": {stepfunctions.Emergency, &w.emergency}} {
		text := made.text
		if n := w.scene.entry.polls; n > 0 {
			text = strings.ReplaceAll(text, mostPolls, fmt.Sprintf(`"NumericGreaterThanEquals": %d`, n))
		}
		definition, err := stepfunctions.Definition(text, names)
		if err != nil {
			return err
		}
		out, err := w.plainSFN.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{
			Name: aws.String(name), Definition: &definition,
			RoleArn: aws.String("arn:aws:iam::" + awsproto.Account + ":role/" + name),
		})
		if err != nil {
			return err
		}
		*made.arn = aws.ToString(out.StateMachineArn)
	}
	return nil
}

// configure switches rotation on without rotating, and waits until the test
// that this runs is over.
func (w *walk) configure(ctx context.Context) error {
	if _, err := w.plain.RotateSecret(ctx, &secretsmanager.RotateSecretInput{
		SecretId: &w.arn, ClientRequestToken: aws.String(uuid.NewString()), RotationLambdaARN: aws.String(functionPrefix + "rotateSecret"),
		RotateImmediately: aws.Bool(false), RotationRules: &smtypes.RotationRulesType{AutomaticallyAfterDays: aws.Int64(1000)},
	}); err != nil {
		return err
	}
	for {
		v, err := w.versions(ctx)
		if err != nil {
			return err
		}
		if v.Holder(rotation.Pending) == "" {
			return nil
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

// versions are the labels as they are, past every fault. It is called while
// nobody works, so that time may pass until reads have caught up.
func (w *walk) versions(ctx context.Context) (rotation.Versions, error) {
	w.aws.Clock.Advance(2 * w.scene.behaviour.ReadLag)
	desc, err := (&awssm.Store{API: w.plain, Region: awsproto.Region}).Describe(ctx, w.arn)
	return desc.Versions, err
}

func (w *walk) close() {
	if w.aws != nil {
		_ = w.aws.Close() // it is thrown away
	}
	w.work.Wait()
	if w.consumers != nil {
		w.consumers.close()
	}
	if w.proxy != nil {
		w.proxy.close()
	}
	if w.config.HTTPClient != nil {
		w.plain.Options().HTTPClient.(*http.Client).CloseIdleConnections()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.clear(ctx, w.name); err != nil {
		w.broken("the walk's logins can't be removed: %v", err)
	}
	_ = errors.Join(os.RemoveAll(w.trail), os.RemoveAll(w.policy)) // a temporary folder
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func randomPassword() string { return rand.Text() }

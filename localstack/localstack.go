// Package localstack answers: how does one run Keyturn without an AWS account?
//
// It is one server on one port that speaks the protocols of the AWS services
// which Keyturn calls, strictly where a rotation can go wrong, so that the real
// SDKs, the AWS CLI and the real Lambda binaries talk to it unchanged. One
// account, one region, no permissions: every credential is accepted.
package localstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/cloudtrail"
	"github.com/keyturn/keyturn/localstack/events"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/kms"
	"github.com/keyturn/keyturn/localstack/lambda"
	"github.com/keyturn/keyturn/localstack/logs"
	"github.com/keyturn/keyturn/localstack/s3"
	"github.com/keyturn/keyturn/localstack/secretsmanager"
	"github.com/keyturn/keyturn/localstack/sns"
	"github.com/keyturn/keyturn/localstack/sqs"
	"github.com/keyturn/keyturn/localstack/stepfunctions"
	"github.com/keyturn/keyturn/localstack/sts"
)

// DefaultAddr is LocalStack's port, which tools expect.
const DefaultAddr = "127.0.0.1:4566"

// Options configure the local AWS; the zero value is a working one.
type Options struct {
	// Addr is where to listen; "" is DefaultAddr, port 0 picks a free one.
	Addr string
	// Clock, if set, is the time of all services; otherwise it is the real one.
	Clock *clock.Clock
	// Behaviour sets what AWS leaves open.
	Behaviour secretsmanager.Behaviour
	// Fault is called before and after every Secrets Manager action.
	Fault func(ctx context.Context, action string, before bool) error
	// S3 sets how S3 treats conditional writes that other callers disturb.
	S3 s3.Behaviour
	// S3Fault is called before and after every S3 action.
	S3Fault func(ctx context.Context, action string, before bool) error
	// KMSFault is called before and after every KMS action.
	KMSFault func(ctx context.Context, action string, before bool) error
	// TaskFault is called before and after every API call that a state makes; see
	// stepfunctions.Config.
	TaskFault func(ctx context.Context, action string, before bool) error
	// Invoker, if set, runs functions for the other services in place of the
	// local Lambda service, which then only answers its own API.
	Invoker host.Invoker
	// OnState is told of every state that an execution enters and leaves; see
	// stepfunctions.Config.
	OnState func(executionARN, state string, entered bool, at time.Time)
	// OnCall is told of every call that the session of a role makes; see Asked.
	OnCall Asked
	// Lambda configures the local Lambda service; its clock, logger, queues and
	// endpoint are filled in.
	Lambda lambda.Config
	// Dir is where services make folders for what they don't keep in memory;
	// Close removes them. The system's temporary folder if empty.
	Dir string
	// Services are further services by X-Amz-Target.
	Services []awsproto.JSONService
	// Logger takes what no client is told, such as failed deliveries.
	Logger *slog.Logger
}

// AWS is a running local AWS. Close it.
type AWS struct {
	Clock          *clock.Clock
	SecretsManager *secretsmanager.Service
	Events         *events.Service
	Lambda         *lambda.Service // Register functions here
	StepFunctions  *stepfunctions.Service
	S3             *s3.Service
	KMS            *kms.Service
	SNS            *sns.Service
	SQS            *sqs.Service
	// Endpoint is the URL for AWS_ENDPOINT_URL.
	Endpoint string

	services map[string]awsproto.JSONService // by prefix of X-Amz-Target
	sts      http.Handler
	asked    Asked
	server   *http.Server
	closers  []func()
	once     sync.Once
	served   chan error

	dir    string     // Options.Dir
	mu     sync.Mutex // guards stacks
	stacks []string   // folders of what was deployed
}

// Start listens and serves until Close, or until ctx ends.
func Start(ctx context.Context, o Options) (*AWS, error) {
	if o.Addr == "" {
		o.Addr = DefaultAddr
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = clock.New()
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("listening for the local AWS (is another one running on %s?): %w", o.Addr, err)
	}
	a := &AWS{
		Clock: o.Clock, Endpoint: "http://" + listener.Addr().String(),
		services: map[string]awsproto.JSONService{}, sts: sts.Handler(), asked: o.OnCall, served: make(chan error, 1),
	}
	a.dir = o.Dir
	a.build(o)
	spare := &spares{conns: map[net.Conn]struct{}{}}
	a.server = &http.Server{Handler: a, ReadHeaderTimeout: 10 * time.Second, ConnState: spare.note}
	a.server.RegisterOnShutdown(spare.close)
	go func() { a.served <- a.server.Serve(listener) }()
	context.AfterFunc(ctx, func() { _ = a.Close() })
	return a, nil
}

// build makes the services and tells them of each other.
func (a *AWS) build(o Options) {
	o.Lambda.Clock, o.Lambda.Logger, o.Lambda.EndpointURL = a.Clock, o.Logger, a.Endpoint
	a.SQS = sqs.New(sqs.Config{Clock: a.Clock, Endpoint: a.Endpoint})
	o.Lambda.Queues = a.SQS
	a.Lambda = lambda.New(o.Lambda)
	var async host.EventInvoker // a replaced Lambda is invoked and waited for
	if o.Invoker == nil {
		o.Invoker, async = a.Lambda, a.Lambda
	}
	a.SNS = sns.New(sns.Config{Clock: a.Clock, Invoker: o.Invoker, Logger: o.Logger})
	a.Events = events.New(events.Config{
		Clock: a.Clock, Invoker: o.Invoker, Asynchronous: async, Topics: a.SNS, Queues: a.SQS, Logger: o.Logger,
	})
	a.SecretsManager = secretsmanager.New(secretsmanager.Config{
		Clock: a.Clock, Invoker: o.Invoker, Bus: a.Events, Behaviour: o.Behaviour, Fault: o.Fault, Logger: o.Logger,
	})
	a.StepFunctions = stepfunctions.New(stepfunctions.Config{
		Clock: a.Clock, Invoker: o.Invoker, Services: a, Bus: a.Events, Logger: o.Logger, OnState: o.OnState, Dir: o.Dir,
		TaskFault: o.TaskFault, OnTask: a.noteTask,
	})
	a.Events.SetExecutions(a.StepFunctions)
	a.S3 = s3.New(s3.Config{Clock: a.Clock, Bus: a.Events, Behaviour: o.S3, Fault: o.S3Fault, Logger: o.Logger})
	a.KMS = kms.New(kms.Config{Clock: a.Clock, Bus: a.Events, Fault: o.KMSFault, Logger: o.Logger})
	// Whoever invokes goes before Lambda.
	a.closers = []func(){a.StepFunctions.Close, a.SecretsManager.Close, a.Events.Close, a.SNS.Close, a.Lambda.Close, a.removeStacks}
	trails := cloudtrail.New(a.Clock)
	subscribed := logs.New(logs.Config{Functions: a.Lambda, Logger: o.Logger})
	for _, s := range append([]awsproto.JSONService{a.SecretsManager, a.Events, a.StepFunctions, a.KMS, a.SQS, trails, subscribed}, o.Services...) {
		a.services[s.TargetPrefix()] = s
	}
	a.services[cloudtrail.ShortPrefix] = trails
}

// Close stops the services and then the server. It may be called twice.
func (a *AWS) Close() error {
	var err error
	a.once.Do(func() {
		// Functions that still run may call back, so the server goes last.
		for _, stop := range a.closers {
			stop()
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err = a.server.Shutdown(ctx); err != nil {
			err = errors.Join(err, a.server.Close())
		}
		if served := <-a.served; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	})
	return err
}

// ServeHTTP routes a request to its service.
func (a *AWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r = awsproto.WithCaller(r)
	a.note(r)
	target := r.Header.Get("X-Amz-Target")
	prefix, _ := awsproto.CutTarget(target)
	service := a.services[prefix]
	switch {
	// S3 has its bucket for a path, which may look like anything: its requests
	// are known by their signature.
	case awsproto.SignedFor(r) == "s3":
		a.S3.ServeHTTP(w, r)
	case strings.HasPrefix(r.URL.Path, "/_keyturn/"):
		a.serveControl(w, r)
	case target != "":
		if service == nil {
			awsproto.WriteError(w, awsproto.Errorf("UnknownOperationException", "the local AWS has no service for %q", target))
			return
		}
		awsproto.ServeJSON(w, r, service)
	case strings.HasPrefix(r.URL.Path, "/20"): // Lambda's paths begin with an API date
		a.Lambda.ServeHTTP(w, r)
	case awsproto.SignedFor(r) == "sns":
		awsproto.ServeQuery(w, r, a.SNS)
	case r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		a.sts.ServeHTTP(w, r)
	default:
		awsproto.WriteError(w, &awsproto.Error{
			Code: "UnknownOperationException", Status: http.StatusNotFound,
			Message: fmt.Sprintf("the local AWS has nothing at %s %s", r.Method, r.URL.Path),
		})
	}
}

// serveControl answers what AWS doesn't have: health, the clock, and deployments.
func (a *AWS) serveControl(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch r.Method + " " + strings.TrimPrefix(r.URL.Path, "/_keyturn") {
	case "GET /health":
	case "POST /deploy":
		a.serveDeploy(w, r)
		return
	case "POST /clock/advance":
		var in struct {
			Seconds float64 `json:"seconds"`
		}
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10))
		d.DisallowUnknownFields()
		if err := d.Decode(&in); err != nil || in.Seconds <= 0 {
			awsproto.WriteError(w, awsproto.Errorf("ValidationException", `the clock is moved by {"seconds": n} with n over 0`))
			return
		}
		a.Clock.Advance(time.Duration(in.Seconds * float64(time.Second)))
	default:
		awsproto.WriteError(w, &awsproto.Error{
			Code: "UnknownOperationException", Status: http.StatusNotFound,
			Message: "there are GET /_keyturn/health, POST /_keyturn/clock/advance and POST /_keyturn/deploy",
		})
		return
	}
	// The client is gone if this fails.
	_ = json.NewEncoder(w).Encode(map[string]any{"status": "ok", "time": a.Clock.Now(), "services": a.names()})
}

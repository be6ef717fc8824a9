// Package lambda answers: what does a function's real binary answer, and how
// does Lambda report it when it doesn't?
//
// It runs any executable that speaks the Lambda Runtime API (a Go bootstrap, or
// a script) as an execution environment of its own: started cold, kept warm,
// one invocation at a time, killed at its time-out. Errors have the types and
// shapes that Invoke returns and Step Functions routes on. Layers, versions,
// extensions and memory limits aren't modelled; a process is not a sandbox.
//
// Sources: Lambda developer guide, "Runtime API", "Execution environment",
// "Asynchronous invocation"; API reference, Invoke.
package lambda

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
)

// Config sets up the service. The zero value works.
type Config struct {
	// Clock is the local AWS's time: idle environments and the pauses between
	// asynchronous retries go by it. Functions work, and time out, in real time.
	Clock *clock.Clock
	// Logger takes what no caller is told; discarded if nil.
	Logger *slog.Logger
	// LogSink gets every line that a function or the platform writes to the
	// function's log, from several goroutines at once.
	LogSink func(function, line string)
	// EndpointURL is given to functions as AWS_ENDPOINT_URL.
	EndpointURL string
	// Throttle, if set, may refuse an invocation with TooManyRequestsException.
	Throttle func(function string) bool
	// Kill, if set, may end the environment that gets an invocation, that long
	// after it was handed out; zero or less lets it live.
	Kill func(function string) time.Duration
	// IdleTimeout is how long an unused environment is kept; 10 minutes if zero.
	IdleTimeout time.Duration
	// InitTimeout bounds a cold start; 10 seconds if zero, as on Lambda.
	InitTimeout time.Duration
	// Queues take the records of failed events; see Events.
	Queues host.Queues
	// Concurrency bounds all functions together; 1000 if zero.
	Concurrency int
}

// Function is a registered function.
type Function struct {
	Name    string
	Binary  string        // any executable that speaks the Runtime API
	Env     []string      // NAME=value, beside what Lambda sets
	Timeout time.Duration // 3 seconds if zero; at most 15 minutes
	// MemoryMB is told to the function and in REPORT lines, not enforced; 128
	// if zero.
	MemoryMB int
	// MaxConcurrency is the reserved concurrency; zero leaves only the
	// account's.
	MaxConcurrency int
	Aliases        []string // qualifiers that mean $LATEST
	Role           string   // ARN; whose session its calls are. Without one they are a user's of its name
	// Events says what becomes of failed asynchronous invocations, whatever
	// qualifier they name; nil for two retries within six hours, and nobody told.
	Events *Events
}

// Service is the local Lambda. It implements host.Registry and http.Handler.
// Close it: it owns processes.
type Service struct {
	config  Config
	starter *starter
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	work    sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	functions map[string]*function
	busy      int
}

// New makes a service without functions.
func New(c Config) *Service {
	if c.Clock == nil {
		c.Clock = clock.New()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.LogSink == nil {
		c.LogSink = func(string, string) {}
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = 10 * time.Minute
	}
	if c.InitTimeout <= 0 {
		c.InitTimeout = 10 * time.Second
	}
	if c.Concurrency <= 0 {
		c.Concurrency = 1000
	}
	s := &Service{config: c, functions: map[string]*function{}, starter: newStarter()}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

const (
	defaultTimeout  = 3 * time.Second
	longestTimeout  = 15 * time.Minute
	defaultMemoryMB = 128
)

var (
	validName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	// reserved are the names that Lambda sets itself (developer guide,
	// "Reserved environment variables").
	reserved = []string{
		"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
		"AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "LAMBDA_TASK_ROOT",
		"LAMBDA_RUNTIME_DIR",
	}
)

// Register adds a function or replaces it; environments of a replaced one end
// with their invocation.
func (s *Service) Register(f Function) error {
	if f.Timeout == 0 {
		f.Timeout = defaultTimeout
	}
	if f.MemoryMB == 0 {
		f.MemoryMB = defaultMemoryMB
	}
	if err := f.check(); err != nil {
		return fmt.Errorf("registering function %q: %w", f.Name, err)
	}
	binary, err := filepath.Abs(f.Binary)
	if err != nil {
		return fmt.Errorf("registering function %q: %w", f.Name, err)
	}
	f.Binary = binary
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return fmt.Errorf("registering function %q: the service is closed", f.Name)
	}
	old := s.functions[f.Name]
	s.functions[f.Name] = &function{Function: f, service: s, modified: s.config.Clock.Now(), all: map[*environment]bool{}}
	s.mu.Unlock()
	if old != nil {
		old.replace()
	}
	return nil
}

func (f *Function) check() error {
	if !validName.MatchString(f.Name) {
		return fmt.Errorf("a name has 1 to 64 letters, digits, - and _")
	}
	if f.Timeout < 0 || f.Timeout > longestTimeout {
		return fmt.Errorf("timeout %s is not between 0 and %s", f.Timeout, longestTimeout)
	}
	if err := f.Events.check(); err != nil {
		return err
	}
	info, err := os.Stat(f.Binary)
	if err != nil {
		return fmt.Errorf("looking for its binary: %w", err)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s can't be executed", f.Binary)
	}
	for _, pair := range f.Env {
		name, _, ok := strings.Cut(pair, "=")
		if !ok || slices.Contains(reserved, name) || strings.HasPrefix(name, "AWS_LAMBDA_") {
			return fmt.Errorf("environment variable %q can't be set: Lambda reserves it, or it isn't NAME=value", name)
		}
	}
	return nil
}

// find looks a function up by name, name:qualifier or ARN.
func (s *Service) find(reference string) (*function, error) {
	parts := strings.Split(reference, ":")
	if parts[0] == "arn" && len(parts) >= 7 {
		if len(parts) > 8 || parts[2] != "lambda" || parts[5] != "function" {
			return nil, awsproto.Errorf("ValidationException", "%q is no function's ARN", reference)
		}
		if parts[3] != awsproto.Region || parts[4] != awsproto.Account {
			return nil, notFound(reference)
		}
		parts = parts[6:]
	}
	if len(parts) > 2 {
		return nil, awsproto.Errorf("ValidationException", "%q is no function's name or ARN", reference)
	}
	s.mu.Lock()
	f := s.functions[parts[0]]
	s.mu.Unlock()
	if f == nil || len(parts) == 2 && parts[1] != latest && !slices.Contains(f.Aliases, parts[1]) {
		return nil, notFound(reference)
	}
	return f, nil
}

// Has implements host.Registry.
func (s *Service) Has(reference string) bool {
	_, err := s.find(reference)
	return err == nil
}

const latest = "$LATEST"

func notFound(reference string) error {
	return &awsproto.Error{
		Code: "ResourceNotFoundException", Status: 404,
		Message: "Function not found: " + reference,
	}
}

// arn is the function's, without a qualifier.
func (f *function) arn() string {
	return "arn:aws:lambda:" + awsproto.Region + ":" + awsproto.Account + ":function:" + f.Name
}

// invoked is the ARN of what was invoked by this reference, with the qualifier
// that it had (developer guide, "Runtime API", Lambda-Runtime-Invoked-Function-Arn).
func (f *function) invoked(reference string) string {
	qualifier, ok := strings.CutPrefix(reference, f.arn())
	if !ok {
		qualifier = strings.TrimPrefix(reference, f.Name)
	}
	return f.arn() + qualifier
}

// list returns the functions by name.
func (s *Service) list() []*function {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*function
	for _, name := range slices.Sorted(maps.Keys(s.functions)) {
		out = append(out, s.functions[name])
	}
	return out
}

// Close kills every environment with all its processes and waits until they
// are gone. Invocations under way fail. It may be called twice.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	for _, f := range s.list() {
		f.replace()
	}
	s.work.Wait()
	s.starter.close()
}

package lambda

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

// environment is one execution environment: a process and its Runtime API.
type environment struct {
	function *function
	stream   string // name of its log stream
	cmd      *exec.Cmd
	server   *http.Server
	logs     []*logWriter

	work   chan *invocation // taken by the runtime's next
	ready  chan struct{}    // closed by the first next
	exited chan struct{}    // closed when the process is gone

	mu        sync.Mutex
	started   time.Time
	current   *invocation
	coldStart time.Duration // from exec to the first next; zero until then
	initError []byte        // what the runtime posted to init/error
	exit      string        // why the process ended
	peak      int64         // bytes
	lastUsed  time.Time     // on the service's clock
}

// invocation is one request that an environment works on.
type invocation struct {
	id       string
	payload  []byte
	arn      string
	deadline time.Time
	posted   chan struct{} // closed when the runtime has posted its answer
	done     chan struct{} // closed when the runtime asks for the next one

	answered bool // guarded by the environment's mu, like what follows
	answer   []byte
	failed   bool
}

// launch starts a process with its Runtime API. Its error is a [*startError] if
// the binary couldn't be executed.
func (f *function) launch() (*environment, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // local and immediate
	if err != nil {
		return nil, fmt.Errorf("listening for the runtime: %w", err)
	}
	e := &environment{
		function: f, stream: uuid.NewString(),
		work: make(chan *invocation), ready: make(chan struct{}), exited: make(chan struct{}),
	}
	e.server = &http.Server{Handler: e.runtimeAPI(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = e.server.Serve(listener) }() // ends with Close
	e.cmd = exec.Command(f.Binary)               //nolint:gosec,noctx // running what was registered is the point; reap ends it
	e.cmd.Dir = filepath.Dir(f.Binary)
	e.cmd.Env = e.environ(listener.Addr().String())
	e.cmd.SysProcAttr = processAttributes()
	e.cmd.WaitDelay = waitDelay
	for range 2 {
		e.logs = append(e.logs, &logWriter{sink: f.log})
	}
	e.cmd.Stdout, e.cmd.Stderr = e.logs[0], e.logs[1]
	e.mu.Lock() // the runtime may ask for work before we know when it began
	begun, err := f.service.starter.start(e.cmd)
	e.started = begun
	e.mu.Unlock()
	if err != nil {
		_ = e.server.Close()
		return nil, &startError{err}
	}
	f.service.work.Go(e.reap)
	return e, nil
}

// startError says that the binary couldn't be executed.
type startError struct{ err error }

func (e *startError) Error() string { return e.err.Error() }
func (e *startError) Unwrap() error { return e.err }

// environ is the whole environment of the process: what Lambda sets, what the
// function asks for, and of our own only where programs and temporary files are.
func (e *environment) environ(runtimeAPI string) []string {
	f := e.function
	env := []string{
		"AWS_LAMBDA_RUNTIME_API=" + runtimeAPI,
		"AWS_LAMBDA_FUNCTION_NAME=" + f.Name,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=" + strconv.Itoa(f.MemoryMB),
		"AWS_LAMBDA_FUNCTION_VERSION=" + latest,
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/" + f.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME=" + e.stream,
		"AWS_REGION=" + awsproto.Region, "AWS_DEFAULT_REGION=" + awsproto.Region,
		// The local AWS takes the key id for the caller's name.
		"AWS_ACCESS_KEY_ID=" + f.Name, "AWS_SECRET_ACCESS_KEY=local", "AWS_SESSION_TOKEN=" + cmp.Or(f.Role, "local"),
		"LAMBDA_TASK_ROOT=" + filepath.Dir(f.Binary), "LAMBDA_RUNTIME_DIR=/var/runtime",
		"_HANDLER=" + filepath.Base(f.Binary), "TZ=:UTC", "LANG=en_US.UTF-8",
	}
	if url := f.service.config.EndpointURL; url != "" {
		env = append(env, "AWS_ENDPOINT_URL="+url)
	}
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return append(env, f.Env...)
}

// reap waits for the process to end and cleans up after it.
func (e *environment) reap() {
	err := e.cmd.Wait()
	killGroup(e.cmd.Process.Pid) // children that outlived it
	for _, w := range e.logs {
		w.flush()
	}
	e.mu.Lock()
	e.exit = exitReason(err)
	if e.peak == 0 { // never read while it lived
		if usage, ok := e.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			e.peak = usage.Maxrss << 10
		}
	}
	e.mu.Unlock()
	close(e.exited)
	_ = e.server.Close()
	e.function.forget(e)
}

// kill ends the environment at once.
func (e *environment) kill() {
	e.sample()
	select {
	case <-e.exited:
	default:
		killGroup(e.cmd.Process.Pid)
	}
}

// sample reads the peak memory while the process lives.
func (e *environment) sample() {
	if peak := peakOf(e.cmd.Process.Pid); peak > 0 {
		e.mu.Lock()
		e.peak = max(e.peak, peak)
		e.mu.Unlock()
	}
}

// retireWhenIdle ends the environment after the idle time on the local clock.
func (e *environment) retireWhenIdle(ctx context.Context) {
	clock, idle := e.function.service.config.Clock, e.function.service.config.IdleTimeout
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-e.exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		e.mu.Lock()
		until := e.lastUsed.Add(idle)
		e.mu.Unlock()
		if clock.SleepUntil(ctx, until) != nil {
			return
		}
		if e.function.takeIdle(e, clock.Now().Add(-idle)) {
			e.kill()
			return
		}
		// It is at work: look again when it could have been idle long enough.
		e.mu.Lock()
		if !e.lastUsed.After(until.Add(-idle)) {
			e.lastUsed = clock.Now()
		}
		e.mu.Unlock()
	}
}

// document is an error document as Invoke returns it.
func document(kind, format string, args ...any) []byte {
	text, err := json.Marshal(struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}{kind, fmt.Sprintf(format, args...)})
	if err != nil { // strings always marshal
		return []byte(`{}`)
	}
	return text
}

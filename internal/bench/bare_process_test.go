package bench_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"
)

// envBare makes the test binary serve bare steps instead of running tests.
const envBare = "KEYTURN_BENCH_BARE"

// bareProcess is the bare form in a process of its own, as a function is, and as
// a person's script would be. Inside the benchmark it would share a process with
// the local AWS and the instances, and have their answers in less than half the
// time that another process waits for them.
type bareProcess struct {
	*app
	tb    testing.TB
	token string // the version that comes
	to    *json.Encoder
	from  *json.Decoder
}

// bareSetup is the first that the process is told.
type bareSetup struct {
	Endpoint, Server, Machine, Admin, Dir string
	Name, ARN, Instance                   string
}

// bareOrder asks for a step; Took is how long it took there, without the order.
type (
	bareOrder  struct{ Step, Token string }
	bareAnswer struct{ Took time.Duration }
)

// startBare starts the process that rotates an application's login.
func startBare(r *rig, a *app) *bareProcess {
	r.tb.Helper()
	self, err := os.Executable()
	if err != nil {
		r.tb.Fatal(err)
	}
	cmd := exec.CommandContext(r.ctx, self)
	cmd.Env, cmd.Stderr = append(os.Environ(), envBare+"=1"), os.Stderr
	orders, err := cmd.StdinPipe()
	if err != nil {
		r.tb.Fatal(err)
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		r.tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.tb.Fatal(err)
	}
	r.tb.Cleanup(func() {
		_ = orders.Close() // which ends it
		if err := cmd.Wait(); err != nil {
			r.tb.Errorf("the bare process: %v", err)
		}
	})
	p := &bareProcess{app: a, tb: r.tb, to: json.NewEncoder(orders), from: json.NewDecoder(answers)}
	p.tell(bareSetup{
		Endpoint: r.aws.Endpoint, Server: r.server.String(), Machine: r.machine, Admin: r.admin, Dir: r.dir,
		Name: a.Name, ARN: a.ARN, Instance: a.Instance.URL,
	})
	return p
}

func (p *bareProcess) tell(v any) {
	p.tb.Helper()
	if err := p.to.Encode(v); err != nil {
		p.tb.Fatalf("telling the bare process: %v", err)
	}
}

// do has one step done and returns how long it took.
func (p *bareProcess) do(step string) time.Duration {
	p.tb.Helper()
	p.tell(bareOrder{Step: step, Token: p.token})
	var answer bareAnswer
	if err := p.from.Decode(&answer); err != nil {
		p.tb.Fatalf("the bare process left at %s: %v", step, err)
	}
	return answer.Took
}

// serveBare is the process: it carries out orders until there are no more.
func serveBare(orders io.Reader, answers io.Writer) error {
	from, to := json.NewDecoder(orders), json.NewEncoder(answers)
	var s bareSetup
	if err := from.Decode(&s); err != nil {
		return fmt.Errorf("reading the setup: %w", err)
	}
	server, err := url.Parse(s.Server)
	if err != nil {
		return fmt.Errorf("reading the server's address: %w", err)
	}
	r := &rig{tb: exits{}, ctx: context.Background(), dir: s.Dir, server: *server, machine: s.Machine, admin: s.Admin}
	r.connectAWS(s.Endpoint)
	b := newBare(r, &app{Name: s.Name, ARN: s.ARN, Instance: &httptest.Server{URL: s.Instance}})
	for {
		var order bareOrder
		if err := from.Decode(&order); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading an order: %w", err)
		}
		b.token = order.Token
		if err := to.Encode(bareAnswer{Took: timed(b.steps()[order.Step])}); err != nil {
			return fmt.Errorf("answering: %w", err)
		}
	}
}

// exits is what a test is to code outside of one: what fails ends the process.
type exits struct{ testing.TB }

func (exits) Helper() {}

func (exits) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, append([]any{"bare process:"}, args...)...)
	os.Exit(1)
}

func (e exits) Fatalf(format string, args ...any) { e.Fatal(fmt.Sprintf(format, args...)) }

package demo

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
)

// chaos kills functions in the middle of their work, and stops executions. A
// nil chaos kills nothing and still calls the watchdog.
type chaos struct {
	mu       sync.Mutex
	random   *rand.Rand
	lastLook time.Time
	Killed   int
	Stopped  int
}

func newChaos() *chaos {
	now := uint64(time.Now().UnixNano())
	return &chaos{random: rand.New(rand.NewPCG(now, now>>1))} //nolint:gosec // not for secrets
}

// watchdogEvery is how often the demo calls the watchdog; a deployment does it
// every minute.
const watchdogEvery = 2 * time.Second

func (c *chaos) due() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.lastLook) < watchdogEvery {
		return false
	}
	c.lastLook = time.Now()
	return true
}

// kill says when an invocation dies: one in six does, within its first 60 ms,
// which is when it works.
func (c *chaos) kill(function string) time.Duration {
	if strings.HasSuffix(function, "watchdog") {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.random.IntN(6) > 0 {
		return 0
	}
	c.Killed++
	return time.Duration(1+c.random.IntN(60)) * time.Millisecond
}

// stopExecutions stops a running execution now and then. A run that is stopped
// begins its drain anew in the next generation, so there have to be moments
// that are longer than a drain.
func (s *stage) stopExecutions(ctx context.Context) {
	for pause(ctx, time.Duration(5+s.chaos.pick(25))*time.Second) == nil {
		out, err := s.sfn.ListExecutions(ctx, &sfn.ListExecutionsInput{
			StateMachineArn: &s.machine, StatusFilter: types.ExecutionStatusRunning,
		})
		if err != nil || len(out.Executions) == 0 {
			continue
		}
		arn := out.Executions[s.chaos.pick(len(out.Executions))].ExecutionArn
		if _, err := s.sfn.StopExecution(ctx, &sfn.StopExecutionInput{ExecutionArn: arn, Error: aws.String("Demo.Killed")}); err == nil {
			s.chaos.mu.Lock()
			s.chaos.Stopped++
			s.chaos.mu.Unlock()
		}
	}
}

func (c *chaos) pick(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.IntN(n)
}

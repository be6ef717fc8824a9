// Package events answers: which rule wants this event, and has its target got it?
//
// It is EventBridge's default bus with rules by pattern and by schedule, and
// targets in Lambda, Step Functions and SNS. Delivery is asynchronous; what can't
// be delivered goes to the target's dead-letter queue. Sources: the EventBridge
// API reference and user guide. Not modelled: other buses, archives, tags, API
// destinations. What isn't modelled is refused.
package events

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
)

// Config is what the service needs. Clock is required; a target whose service
// is missing can't be delivered to, which is logged.
type Config struct {
	Clock   *clock.Clock
	Invoker host.Invoker
	// Asynchronous, if set, takes events for functions in place of Invoker, whose
	// failures are retried here.
	Asynchronous host.EventInvoker
	Executions   host.Executions
	Topics       host.Topics
	Queues       host.Queues
	Logger       *slog.Logger
}

// Service is the local EventBridge. It is safe for concurrent use.
type Service struct {
	clock  *clock.Clock
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	alarm  clock.Alarm // rings for the scheduled rules

	mu         sync.Mutex
	invoker    host.Invoker
	async      host.EventInvoker
	executions host.Executions
	topics     host.Topics
	queues     host.Queues
	rules      map[string]*rule
}

var (
	_ host.Bus             = (*Service)(nil)
	_ awsproto.JSONService = (*Service)(nil)
)

// New starts the service. Close ends schedules and deliveries.
func New(c Config) *Service {
	s := &Service{clock: c.Clock, invoker: c.Invoker, async: c.Asynchronous, executions: c.Executions, topics: c.Topics, queues: c.Queues, log: c.Logger, rules: map[string]*rule{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(func() { s.alarm.Run(s.ctx, s.clock, s.fireDue) })
	return s
}

// Close stops schedules, drops deliveries that wait for a retry, and waits for
// those under way.
func (s *Service) Close() {
	s.mu.Lock() // whoever starts something looks at the context under the lock
	s.cancel()
	s.mu.Unlock()
	s.wg.Wait()
}

// SetInvoker replaces what Lambda targets run in.
func (s *Service) SetInvoker(i host.Invoker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.invoker, s.async = i, nil
}

// SetExecutions replaces what Step Functions targets run in.
func (s *Service) SetExecutions(e host.Executions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.executions = e
}

// TargetPrefix implements awsproto.JSONService.
func (s *Service) TargetPrefix() string { return "AWSEvents" }

func on[In any](f func(*Service, In) (any, error)) func(*Service, []byte) (any, error) {
	return func(s *Service, body []byte) (any, error) {
		var in In
		if err := awsproto.Decode(body, &in); err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return f(s, in)
	}
}

var actions = map[string]func(*Service, []byte) (any, error){
	"PutRule":           on((*Service).putRule),
	"DescribeRule":      on((*Service).describeRule),
	"ListRules":         on((*Service).listRules),
	"DeleteRule":        on((*Service).deleteRule),
	"EnableRule":        on((*Service).enableRule),
	"DisableRule":       on((*Service).disableRule),
	"PutTargets":        on((*Service).putTargets),
	"RemoveTargets":     on((*Service).removeTargets),
	"ListTargetsByRule": on((*Service).listTargetsByRule),
	"PutEvents":         on((*Service).putEvents),
}

// Call implements awsproto.JSONService.
func (s *Service) Call(_ context.Context, name string, body []byte) (any, error) {
	act, ok := actions[name]
	if !ok {
		return nil, awsproto.Errorf("UnknownOperationException", "the local EventBridge has no action %q", name)
	}
	return act(s, body)
}

// envelope is an event as rules and targets see it.
type envelope struct {
	Version    string          `json:"version"`
	ID         string          `json:"id"`
	DetailType string          `json:"detail-type"`
	Source     string          `json:"source"`
	Account    string          `json:"account"`
	Time       string          `json:"time"`
	Region     string          `json:"region"`
	Resources  []string        `json:"resources"`
	Detail     json.RawMessage `json:"detail"`
}

// Publish implements host.Bus.
func (s *Service) Publish(e host.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accept(e, s.clock.Now())
}

// accept matches an event against the rules and starts its deliveries. It
// returns the event's id.
func (s *Service) accept(e host.Event, at time.Time) string {
	env := s.wrap(e, at)
	if len(s.rules) == 0 || s.ctx.Err() != nil {
		return env.ID
	}
	body, err := json.Marshal(env)
	if err != nil {
		s.log.Error("an event can't be encoded", "source", e.Source, "detail_type", e.DetailType, "error", err.Error())
		return env.ID
	}
	var doc map[string]any
	if err := json.Unmarshal(body, &doc); err != nil {
		s.log.Error("an event can't be read", "source", e.Source, "detail_type", e.DetailType, "error", err.Error())
		return env.ID
	}
	for _, r := range s.rules {
		if r.wants(doc) {
			s.deliverAll(r, body, doc)
		}
	}
	return env.ID
}

func (s *Service) wrap(e host.Event, at time.Time) envelope {
	env := envelope{
		Version: "0", ID: uuid.NewString(), DetailType: e.DetailType, Source: e.Source,
		Account: awsproto.Account, Region: awsproto.Region, Time: at.UTC().Format(time.RFC3339),
		Resources: e.Resources, Detail: e.Detail,
	}
	if env.Resources == nil {
		env.Resources = []string{}
	}
	if env.Detail == nil {
		env.Detail = json.RawMessage("{}")
	}
	return env
}

// fireDue fires the scheduled rules whose date has come, each once, and returns
// the next date.
func (s *Service) fireDue() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	var next time.Time
	for _, r := range s.rules {
		if r.next.IsZero() || r.state == disabled {
			continue
		}
		if !now.Before(r.next) {
			s.fire(r, now)
			r.next = r.after(r.next, now)
		}
		if !r.next.IsZero() && (next.IsZero() || r.next.Before(next)) {
			next = r.next
		}
	}
	return next
}

func (s *Service) fire(r *rule, now time.Time) {
	env := s.wrap(host.Event{Source: "aws.events", DetailType: "Scheduled Event", Resources: []string{r.arn()}}, now)
	body, err := json.Marshal(env)
	var doc map[string]any
	if err == nil {
		err = json.Unmarshal(body, &doc)
	}
	if err != nil {
		s.log.Error("a scheduled event can't be encoded", "rule", r.name, "error", err.Error())
		return
	}
	s.deliverAll(r, body, doc)
}

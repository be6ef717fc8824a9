// Package sqs answers: what is in this queue?
//
// Standard queues in AWS JSON 1.0, for what EventBridge couldn't deliver and for
// tests: messages, visibility timeouts, retention and long polls on the local
// clock. Rules are those of the SQS API reference and developer guide.
//
// Not modelled: FIFO queues, delays, batches, redrive policies, binary
// attributes, and the query protocol that SDKs spoke until 2023. What isn't
// modelled is refused.
package sqs

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
)

// Config is what the service needs; all of it is required.
type Config struct {
	Clock    *clock.Clock
	Endpoint string // where the local AWS listens: queue URLs begin with it
}

// Service is the local SQS. It is safe for concurrent use.
type Service struct {
	clock    *clock.Clock
	endpoint string

	mu     sync.Mutex
	queues map[string]*queue // by name
}

type queue struct {
	name       string
	attributes map[string]string
	messages   []*message    // in the order of their sending
	changed    chan struct{} // closed and replaced when a message comes
}

var (
	_ host.Queues          = (*Service)(nil)
	_ awsproto.JSONService = (*Service)(nil)
)

// New makes a service without queues. It needs no Close.
func New(c Config) *Service {
	return &Service{clock: c.Clock, endpoint: c.Endpoint, queues: map[string]*queue{}}
}

const arnPrefix = "arn:aws:sqs:" + awsproto.Region + ":" + awsproto.Account + ":"

// Messages returns what is in a queue, in the order of sending, whoever has
// received it and not deleted it; nil if there is no such queue.
func (s *Service) Messages(queueARN string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[strings.TrimPrefix(queueARN, arnPrefix)]
	if q == nil {
		return nil
	}
	s.expire(q)
	out := []Message{}
	for _, m := range q.messages {
		out = append(out, m.Message)
	}
	return out
}

// SendTo implements host.Queues.
func (s *Service) SendTo(_ context.Context, queueARN, body string, attributes map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[strings.TrimPrefix(queueARN, arnPrefix)]
	if q == nil {
		return noQueue()
	}
	_, err := s.add(q, body, attributes)
	return err
}

// TargetPrefix implements awsproto.JSONService.
func (s *Service) TargetPrefix() string { return "AmazonSQS" }

func on[In any](f func(*Service, context.Context, In) (any, error)) func(*Service, context.Context, []byte) (any, error) {
	return func(s *Service, ctx context.Context, body []byte) (any, error) {
		var in In
		if err := awsproto.Decode(body, &in); err != nil {
			return nil, err
		}
		return f(s, ctx, in)
	}
}

var actions = map[string]func(*Service, context.Context, []byte) (any, error){
	"CreateQueue":        on((*Service).createQueue),
	"DeleteMessage":      on((*Service).deleteMessage),
	"GetQueueAttributes": on((*Service).getQueueAttributes),
	"GetQueueUrl":        on((*Service).getQueueURL),
	"ReceiveMessage":     on((*Service).receiveMessage),
	"SendMessage":        on((*Service).sendMessage),
	"SetQueueAttributes": on((*Service).setQueueAttributes),
}

// Call implements awsproto.JSONService.
func (s *Service) Call(ctx context.Context, name string, body []byte) (any, error) {
	act, ok := actions[name]
	if !ok {
		return nil, awsproto.Errorf("UnknownOperationException", "the local SQS has no action %q", name)
	}
	return act(s, ctx, body)
}

func failed(code, queryCode, format string, args ...any) error {
	e := awsproto.Errorf(code, format, args...)
	e.QueryCode = queryCode
	return e
}

func noQueue() error {
	return failed("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
}

func invalid(format string, args ...any) error {
	return awsproto.Errorf("InvalidParameterValue", format, args...)
}

// setting is an attribute that CreateQueue takes; one without a range is kept and
// has no effect here.
type setting struct {
	value    string // if it isn't given
	min, max int    // in seconds
}

const (
	visibility = "VisibilityTimeout"
	retention  = "MessageRetentionPeriod"
	longPoll   = "ReceiveMessageWaitTimeSeconds"
)

var settings = map[string]setting{
	visibility:             {"30", 0, 43200},
	retention:              {"345600", 60, 1209600},
	longPoll:               {"0", 0, 20},
	"Policy":               {},
	"KmsMasterKeyId":       {},
	"SqsManagedSseEnabled": {value: "true"},
}

var queueName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

type createQueueInput struct {
	QueueName  string
	Attributes map[string]string
	Tags       map[string]string `json:"tags"` // no effect here
}

type queueURLOutput struct {
	QueueURL string `json:"QueueUrl"`
}

func (s *Service) url(q *queue) string { return s.endpoint + "/" + awsproto.Account + "/" + q.name }

// createQueue answers the same queue again if its attributes are the same.
func (s *Service) createQueue(_ context.Context, in createQueueInput) (any, error) {
	if !queueName.MatchString(in.QueueName) {
		return nil, invalid("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
	}
	attributes := map[string]string{}
	for name, known := range settings {
		attributes[name] = known.value
	}
	if err := checkSettings(in.Attributes); err != nil {
		return nil, err
	}
	maps.Copy(attributes, in.Attributes)
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[in.QueueName]
	if q == nil {
		q = &queue{name: in.QueueName, attributes: attributes, changed: make(chan struct{})}
		s.queues[in.QueueName] = q
	}
	for name := range in.Attributes {
		if q.attributes[name] != attributes[name] {
			return nil, failed("QueueNameExists", "QueueAlreadyExists", "A queue already exists with the same name and a different value for attribute %s", name)
		}
	}
	return queueURLOutput{s.url(q)}, nil
}

func checkSettings(given map[string]string) error {
	for name, value := range given {
		known, ok := settings[name]
		if !ok {
			return failed("InvalidAttributeName", "InvalidAttributeName", "Unknown Attribute %s.", name)
		}
		if n, err := strconv.Atoi(value); known.max > 0 && (err != nil || n < known.min || n > known.max) {
			return failed("InvalidAttributeValue", "InvalidAttributeValue", "Invalid value for the parameter %s: %d to %d", name, known.min, known.max)
		}
	}
	return nil
}

type setAttributesInput struct {
	QueueURL   string `json:"QueueUrl"`
	Attributes map[string]string
}

func (s *Service) setQueueAttributes(_ context.Context, in setAttributesInput) (any, error) {
	if err := checkSettings(in.Attributes); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueURL)
	if err != nil {
		return nil, err
	}
	maps.Copy(q.attributes, in.Attributes)
	return nil, nil
}

type getQueueURLInput struct {
	QueueName string
	Owner     string `json:"QueueOwnerAWSAccountId"`
}

func (s *Service) getQueueURL(_ context.Context, in getQueueURLInput) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[in.QueueName]
	if q == nil || in.Owner != "" && in.Owner != awsproto.Account {
		return nil, noQueue()
	}
	return queueURLOutput{s.url(q)}, nil
}

// find returns the queue of a URL, whose host may be any name of this machine;
// the caller holds the lock.
func (s *Service) find(url string) (*queue, error) {
	_, name, _ := strings.Cut(url, "/"+awsproto.Account+"/")
	if q := s.queues[name]; q != nil {
		return q, nil
	}
	return nil, noQueue()
}

type getAttributesInput struct {
	QueueURL       string `json:"QueueUrl"`
	AttributeNames []string
}

type attributesOutput struct {
	Attributes map[string]string `json:",omitempty"`
}

func (s *Service) getQueueAttributes(_ context.Context, in getAttributesInput) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueURL)
	if err != nil {
		return nil, err
	}
	all := s.describe(q)
	out := attributesOutput{map[string]string{}}
	for _, name := range in.AttributeNames {
		value, ok := all[name]
		switch {
		case name == "All":
			return attributesOutput{all}, nil
		case !ok && settings[name] == (setting{}) && name != "Policy" && name != "KmsMasterKeyId":
			return nil, failed("InvalidAttributeName", "InvalidAttributeName", "Unknown Attribute %s.", name)
		case ok:
			out.Attributes[name] = value
		}
	}
	return out, nil
}

// describe counts the messages: those that wait, and those that somebody has
// received and not deleted.
func (s *Service) describe(q *queue) map[string]string {
	s.expire(q)
	out := maps.Clone(q.attributes)
	for _, name := range slices.Collect(maps.Keys(out)) {
		if out[name] == "" {
			delete(out, name)
		}
	}
	waiting, now := 0, s.clock.Now()
	for _, m := range q.messages {
		if !now.Before(m.visible) {
			waiting++
		}
	}
	out["QueueArn"] = arnPrefix + q.name
	out["ApproximateNumberOfMessages"] = strconv.Itoa(waiting)
	out["ApproximateNumberOfMessagesNotVisible"] = strconv.Itoa(len(q.messages) - waiting)
	out["ApproximateNumberOfMessagesDelayed"] = "0"
	return out
}

func (q *queue) seconds(name string) time.Duration {
	n, _ := strconv.Atoi(q.attributes[name]) // checked when it was set
	return time.Duration(n) * time.Second
}

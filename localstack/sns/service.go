// Package sns answers: what was published to this topic, and who was to be told?
//
// Topics, their messages and their subscriptions, in the query protocol. A
// subscription by lambda invokes its function, once; of all others nothing is
// sent: tests read the messages. Rules are those of the SNS API reference.
//
// Not modelled: FIFO topics, filter policies, confirmations, delivery retries,
// platform endpoints and text messages to telephones. What isn't modelled is
// refused.
package sns

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/host"
)

// Config is what the service needs. Only Clock is required.
type Config struct {
	Clock   *clock.Clock
	Invoker host.Invoker // runs the functions that are subscribed
	Logger  *slog.Logger
}

// Service is the local SNS. It is safe for concurrent use.
type Service struct {
	clock   *clock.Clock
	invoker host.Invoker
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu     sync.Mutex
	topics map[string]*topic // by ARN
}

// Message is what was published.
type Message struct {
	ID         string
	Subject    string // "" for none
	Body       string
	Attributes map[string]string
	At         time.Time
}

type topic struct {
	arn           string
	attributes    map[string]string
	subscriptions []subscription
	messages      []Message
}

type subscription struct {
	arn, protocol, endpoint string
	pending                 bool // nobody has confirmed it
}

var (
	_ host.Topics           = (*Service)(nil)
	_ awsproto.QueryService = (*Service)(nil)
)

// New starts the service. Close ends it.
func New(c Config) *Service {
	s := &Service{clock: c.Clock, invoker: c.Invoker, log: c.Logger, topics: map[string]*topic{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close waits for the functions that run.
func (s *Service) Close() {
	s.mu.Lock() // whoever starts something looks at the context under the lock
	s.cancel()
	s.mu.Unlock()
	s.wg.Wait()
}

// Messages returns what was published to a topic, in order; nil if there is no
// such topic.
func (s *Service) Messages(topicARN string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.topics[topicARN]; t != nil {
		return slices.Clone(t.messages)
	}
	return nil
}

// PublishTo implements host.Topics.
func (s *Service) PublishTo(_ context.Context, topicARN string, message []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.topic(topicARN)
	if err == nil {
		_, err = s.add(t, Message{Body: string(message)})
	}
	return err
}

// Namespace implements awsproto.QueryService.
func (s *Service) Namespace() string { return "http://sns.amazonaws.com/doc/2010-03-31/" }

var actions = map[string]func(*Service, *awsproto.Form) (any, error){
	"CreateTopic":              (*Service).createTopic,
	"DeleteTopic":              (*Service).deleteTopic,
	"GetTopicAttributes":       (*Service).getTopicAttributes,
	"ListSubscriptionsByTopic": (*Service).listSubscriptionsByTopic,
	"Publish":                  (*Service).publish,
	"SetTopicAttributes":       (*Service).setTopicAttributes,
	"Subscribe":                (*Service).subscribe,
}

// CallForm implements awsproto.QueryService.
func (s *Service) CallForm(_ context.Context, name string, in *awsproto.Form) (any, error) {
	act, ok := actions[name]
	if !ok {
		return nil, awsproto.Errorf("InvalidAction", "the local SNS has no action %q", name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return act(s, in)
}

func invalid(format string, args ...any) error {
	return awsproto.Errorf("InvalidParameter", "Invalid parameter: "+format, args...)
}

func (s *Service) topic(arn string) (*topic, error) {
	if t := s.topics[arn]; t != nil {
		return t, nil
	}
	if !strings.HasPrefix(arn, "arn:aws:sns:") {
		return nil, invalid("TopicArn Reason: An ARN must have at least 6 elements, not %q", arn)
	}
	return nil, &awsproto.Error{Code: "NotFound", Message: "Topic does not exist", Status: http.StatusNotFound}
}

var (
	topicName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)
	// keptAttributes have no effect here: nothing is encrypted or refused.
	keptAttributes = []string{"DisplayName", "Policy", "KmsMasterKeyId"}
)

// createTopic answers the same topic again if its attributes are the same.
func (s *Service) createTopic(in *awsproto.Form) (any, error) {
	name := in.Get("Name")
	attributes := map[string]string{}
	for _, a := range in.List("Attributes.entry") {
		if !slices.Contains(keptAttributes, a["key"]) {
			return nil, invalid("the local SNS doesn't model the attribute %s", a["key"])
		}
		attributes[a["key"]] = a["value"]
	}
	in.List("Tags.member") // tags have no effect here
	if err := in.Unread(); err != nil {
		return nil, err
	}
	if !topicName.MatchString(name) {
		return nil, invalid("Topic Name")
	}
	arn := "arn:aws:sns:" + awsproto.Region + ":" + awsproto.Account + ":" + name
	if old := s.topics[arn]; old != nil {
		for key, value := range attributes {
			if old.attributes[key] != value {
				return nil, invalid("Attributes Reason: Topic already exists with different attributes")
			}
		}
	} else {
		s.topics[arn] = &topic{arn: arn, attributes: attributes}
	}
	return struct{ TopicArn string }{arn}, nil
}

// deleteTopic succeeds for a topic that isn't there.
func (s *Service) deleteTopic(in *awsproto.Form) (any, error) {
	arn := in.Get("TopicArn")
	if err := in.Unread(); err != nil {
		return nil, err
	}
	delete(s.topics, arn)
	return nil, nil
}

type entry struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

type attributesOutput struct {
	Entries []entry `xml:"Attributes>entry"`
}

func (s *Service) getTopicAttributes(in *awsproto.Form) (any, error) {
	t, err := s.topic(in.Get("TopicArn"))
	if err == nil {
		err = in.Unread()
	}
	if err != nil {
		return nil, err
	}
	pending := 0
	for _, sub := range t.subscriptions {
		if sub.pending {
			pending++
		}
	}
	out := attributesOutput{Entries: []entry{
		{"TopicArn", t.arn},
		{"Owner", awsproto.Account},
		{"SubscriptionsConfirmed", strconv.Itoa(len(t.subscriptions) - pending)},
		{"SubscriptionsPending", strconv.Itoa(pending)},
		{"SubscriptionsDeleted", "0"},
	}}
	for _, name := range keptAttributes {
		if value, ok := t.attributes[name]; ok || name == "DisplayName" {
			out.Entries = append(out.Entries, entry{name, value})
		}
	}
	return out, nil
}

func (s *Service) setTopicAttributes(in *awsproto.Form) (any, error) {
	arn, name, value := in.Get("TopicArn"), in.Get("AttributeName"), in.Get("AttributeValue")
	if err := in.Unread(); err != nil {
		return nil, err
	}
	t, err := s.topic(arn)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(keptAttributes, name) {
		return nil, invalid("AttributeName Reason: the local SNS doesn't model %q", name)
	}
	t.attributes[name] = value
	return nil, nil
}

// The limits of a message (API reference, Publish).
const (
	maxMessage = 256 << 10 // bytes
	maxSubject = 100       // characters
)

var subject = regexp.MustCompile(`^[!-~][ -~]*$`)

func (s *Service) publish(in *awsproto.Form) (any, error) {
	arn := in.Get("TopicArn")
	if arn == "" {
		arn = in.Get("TargetArn")
	}
	m := Message{Subject: in.Get("Subject"), Body: in.Get("Message"), Attributes: map[string]string{}}
	for _, a := range in.List("MessageAttributes.entry") {
		if a["Value.DataType"] != "String" || a["Name"] == "" || len(a) != 3 {
			return nil, invalid("the local SNS has message attributes of the type String")
		}
		m.Attributes[a["Name"]] = a["Value.StringValue"]
	}
	if err := in.Unread(); err != nil {
		return nil, err
	}
	t, err := s.topic(arn)
	if err != nil {
		return nil, err
	}
	id, err := s.add(t, m)
	if err != nil {
		return nil, err
	}
	return struct {
		ID string `xml:"MessageId"`
	}{id}, nil
}

// add keeps a message and starts its functions.
func (s *Service) add(t *topic, m Message) (id string, err error) {
	switch {
	case m.Body == "":
		return "", invalid("Empty message")
	case len(m.Body) > maxMessage:
		return "", invalid("Message too long")
	case m.Subject != "" && (len(m.Subject) > maxSubject || !subject.MatchString(m.Subject)):
		return "", invalid("Subject")
	}
	m.ID, m.At = uuid.NewString(), s.clock.Now()
	t.messages = append(t.messages, m)
	for _, sub := range t.subscriptions {
		if sub.protocol == "lambda" && s.invoker != nil && s.ctx.Err() == nil {
			s.wg.Go(func() { s.invoke(t.arn, sub, m) })
		}
	}
	return m.ID, nil
}

// invoke gives a message to a function, in the form of the Lambda developer
// guide's "Using Lambda with Amazon SNS".
func (s *Service) invoke(topicARN string, sub subscription, m Message) {
	attributes := map[string]any{}
	for name, value := range m.Attributes {
		attributes[name] = map[string]string{"Type": "String", "Value": value}
	}
	var title any // null without one
	if m.Subject != "" {
		title = m.Subject
	}
	payload, err := json.Marshal(map[string]any{"Records": []any{map[string]any{
		"EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": sub.arn, "Sns": map[string]any{
			"Type": "Notification", "MessageId": m.ID, "TopicArn": topicARN, "Subject": title, "Message": m.Body,
			"Timestamp": m.At.Format("2006-01-02T15:04:05.000Z"), "MessageAttributes": attributes,
		},
	}}})
	var answer host.Invocation
	if err == nil {
		answer, err = s.invoker.Invoke(s.ctx, sub.endpoint, payload)
	}
	if err != nil || answer.FunctionError != "" {
		s.log.Warn("a message didn't reach its function", "topic", topicARN, "function", sub.endpoint, "function_error", answer.FunctionError, "error", err)
	}
}

package sqs

import (
	"context"
	"crypto/md5" //nolint:gosec // SQS's digests of messages are MD5
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

// Message is what was sent.
type Message struct {
	ID         string
	Body       string
	Attributes map[string]string // those of the type String
	Sent       time.Time
	Received   int // how often
}

type message struct {
	Message
	visible time.Time
	first   time.Time // received
	receipt string    // of the latest
}

const maxBody = 1 << 20 // bytes, with the attributes

// add sends a message; the caller holds the lock.
func (s *Service) add(q *queue, body string, attributes map[string]string) (*message, error) {
	size := len(body)
	for name, value := range attributes {
		size += len(name) + len(value)
	}
	if body == "" || size > maxBody {
		return nil, invalid("One or more parameters are invalid. Reason: Message must have 1 to %d bytes.", maxBody)
	}
	now := s.clock.Now()
	m := &message{Message: Message{ID: uuid.NewString(), Body: body, Attributes: attributes, Sent: now}, visible: now}
	q.messages = append(q.messages, m)
	close(q.changed)
	q.changed = make(chan struct{})
	return m, nil
}

// expire drops what is older than the queue keeps.
func (s *Service) expire(q *queue) {
	oldest := s.clock.Now().Add(-q.seconds(retention))
	q.messages = slices.DeleteFunc(q.messages, func(m *message) bool { return m.Sent.Before(oldest) })
}

type attributeValue struct {
	DataType    string
	StringValue string
}

type sendInput struct {
	QueueURL          string `json:"QueueUrl"`
	MessageBody       string
	MessageAttributes map[string]attributeValue
}

type sendOutput struct {
	MD5OfMessageAttributes string `json:",omitempty"`
	MD5OfMessageBody       string
	MessageID              string `json:"MessageId"`
}

func (s *Service) sendMessage(_ context.Context, in sendInput) (any, error) {
	attributes := map[string]string{}
	for name, value := range in.MessageAttributes {
		if value.DataType != "String" || value.StringValue == "" || name == "" {
			return nil, invalid("the local SQS has message attributes of the type String, which aren't empty: %q", name)
		}
		attributes[name] = value.StringValue
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueURL)
	if err != nil {
		return nil, err
	}
	m, err := s.add(q, in.MessageBody, attributes)
	if err != nil {
		return nil, err
	}
	return sendOutput{digestOf(attributes), digest([]byte(m.Body)), m.ID}, nil
}

func digest(text []byte) string {
	sum := md5.Sum(text) //nolint:gosec // as the member's name says
	return hex.EncodeToString(sum[:])
}

// digestOf is MD5OfMessageAttributes: by name, each as length and text of name,
// type and value, with 1 before a string (developer guide, "Calculating the MD5
// message digest for message attributes").
func digestOf(attributes map[string]string) string {
	if len(attributes) == 0 {
		return ""
	}
	var b []byte
	put := func(text string) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(text))) //nolint:gosec // under maxBody
		b = append(b, text...)
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		put(name)
		put("String")
		b = append(b, 1)
		put(attributes[name])
	}
	return digest(b)
}

type receiveInput struct {
	QueueURL                    string `json:"QueueUrl"`
	AttributeNames              []string
	MessageSystemAttributeNames []string
	MessageAttributeNames       []string
	MaxNumberOfMessages         *int
	VisibilityTimeout           *int
	WaitTimeSeconds             *int
}

type received struct {
	Attributes             map[string]string `json:",omitempty"`
	Body                   string
	MD5OfBody              string
	MD5OfMessageAttributes string                    `json:",omitempty"`
	MessageAttributes      map[string]attributeValue `json:",omitempty"`
	MessageID              string                    `json:"MessageId"`
	ReceiptHandle          string
}

type receiveOutput struct {
	Messages []received `json:",omitempty"`
}

// number reads an optional number and its range.
func number(name string, given *int, otherwise, least, most int) (int, error) {
	if given == nil {
		return otherwise, nil
	}
	if *given < least || *given > most {
		return 0, invalid("Value %d for parameter %s is invalid. Reason: Must be between %d and %d.", *given, name, least, most)
	}
	return *given, nil
}

// receiveMessage hides what it answers for the visibility timeout. Without
// messages it waits as long as it is told, on the local clock.
func (s *Service) receiveMessage(ctx context.Context, in receiveInput) (any, error) {
	most, err := number("MaxNumberOfMessages", in.MaxNumberOfMessages, 1, 1, 10)
	if err != nil {
		return nil, err
	}
	var end time.Time
	for {
		s.mu.Lock()
		q, err := s.find(in.QueueURL)
		var out receiveOutput
		var wait int
		if err == nil {
			wait, err = number("WaitTimeSeconds", in.WaitTimeSeconds, int(q.seconds(longPoll)/time.Second), 0, settings[longPoll].max)
		}
		if err == nil {
			out.Messages, err = s.take(q, in, most)
		}
		if err != nil {
			s.mu.Unlock()
			return nil, err
		}
		now, changed, next := s.clock.Now(), q.changed, q.nextVisible()
		s.mu.Unlock()
		if end.IsZero() {
			end = now.Add(time.Duration(wait) * time.Second)
		}
		if len(out.Messages) > 0 || !now.Before(end) {
			return out, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("waiting for a message: %w", err)
		}
		if next.IsZero() || next.After(end) {
			next = end
		}
		s.sleep(ctx, next, changed)
	}
}

// sleep waits for a date, a message or the end of the caller.
func (s *Service) sleep(ctx context.Context, until time.Time, changed <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	_ = s.clock.SleepUntil(ctx, until) // whoever calls looks again
}

// nextVisible is when a message that somebody has comes back; zero for never.
func (q *queue) nextVisible() time.Time {
	var next time.Time
	for _, m := range q.messages {
		if next.IsZero() || m.visible.Before(next) {
			next = m.visible
		}
	}
	return next
}

// take receives up to most messages; the caller holds the lock.
func (s *Service) take(q *queue, in receiveInput, most int) ([]received, error) {
	timeout, err := number(visibility, in.VisibilityTimeout, int(q.seconds(visibility)/time.Second), 0, settings[visibility].max)
	if err != nil {
		return nil, err
	}
	s.expire(q)
	now := s.clock.Now()
	var out []received
	for _, m := range q.messages {
		if len(out) == most || now.Before(m.visible) {
			continue
		}
		if m.Received++; m.first.IsZero() {
			m.first = now
		}
		m.visible, m.receipt = now.Add(time.Duration(timeout)*time.Second), uuid.NewString()
		out = append(out, m.output(in))
	}
	return out, nil
}

func (m *message) output(in receiveInput) received {
	r := received{Body: m.Body, MD5OfBody: digest([]byte(m.Body)), MessageID: m.ID, ReceiptHandle: m.ID + "/" + m.receipt, Attributes: map[string]string{}}
	system := map[string]string{
		"SenderId": awsproto.Account, "SentTimestamp": millis(m.Sent), "ApproximateReceiveCount": strconv.Itoa(m.Received),
		"ApproximateFirstReceiveTimestamp": millis(m.first),
	}
	asked := append(slices.Clone(in.AttributeNames), in.MessageSystemAttributeNames...)
	for name, value := range system {
		if slices.Contains(asked, name) || slices.Contains(asked, "All") {
			r.Attributes[name] = value
		}
	}
	chosen := map[string]string{}
	for name, value := range m.Attributes {
		if slices.ContainsFunc(in.MessageAttributeNames, func(want string) bool { return named(want, name) }) {
			chosen[name] = value
		}
	}
	r.MD5OfMessageAttributes = digestOf(chosen)
	for name, value := range chosen {
		if r.MessageAttributes == nil {
			r.MessageAttributes = map[string]attributeValue{}
		}
		r.MessageAttributes[name] = attributeValue{"String", value}
	}
	return r
}

// named tests a name of MessageAttributeNames: itself, a prefix with .*, or all.
func named(want, name string) bool {
	prefix, open := strings.CutSuffix(want, ".*")
	return want == name || want == "All" || open && strings.HasPrefix(name, prefix)
}

func millis(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

type deleteInput struct {
	QueueURL      string `json:"QueueUrl"`
	ReceiptHandle string
}

// deleteMessage succeeds for a message that is gone; an older receipt than the
// latest deletes nothing.
func (s *Service) deleteMessage(_ context.Context, in deleteInput) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueURL)
	if err != nil {
		return nil, err
	}
	id, receipt, ok := strings.Cut(in.ReceiptHandle, "/")
	if !ok || uuid.Validate(id) != nil || uuid.Validate(receipt) != nil {
		return nil, failed("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
	}
	q.messages = slices.DeleteFunc(q.messages, func(m *message) bool { return m.ID == id && m.receipt == receipt })
	return nil, nil
}

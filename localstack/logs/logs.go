// Package logs answers: who hears of a line that is written to CloudWatch Logs?
//
// It has what a subscription needs: groups, streams, lines, and filters that send
// matching lines to a function, as Logs does (CloudWatch Logs user guide,
// "Subscription filters with Lambda"): the base64 of gzipped JSON, asynchronously,
// retried by Lambda. Lines aren't kept, and can't be read back.
package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
)

// Config says what the service works with. Functions and Logger are required.
type Config struct {
	Functions host.EventInvoker
	Logger    *slog.Logger
}

// Service is CloudWatch Logs.
type Service struct {
	config Config

	mu     sync.Mutex
	groups map[string]*group
	events int // made so far
}

type group struct {
	streams map[string]bool
	filters map[string]filter
}

type filter struct {
	Name, Destination string
	terms             []string
}

// mostFilters is CloudWatch Logs' bound of a group (quotas).
const mostFilters = 2

// New makes a service without groups.
func New(c Config) *Service { return &Service{config: c, groups: map[string]*group{}} }

// TargetPrefix implements awsproto.JSONService.
func (*Service) TargetPrefix() string { return "Logs_20140328" }

// Call implements awsproto.JSONService.
func (s *Service) Call(ctx context.Context, action string, body []byte) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch action {
	case "CreateLogGroup":
		return s.createGroup(body)
	case "CreateLogStream":
		return s.createStream(body)
	case "PutSubscriptionFilter":
		return s.putFilter(body)
	case "PutLogEvents":
		return s.putEvents(ctx, body)
	}
	return nil, awsproto.Errorf("UnknownOperationException", "the local CloudWatch Logs has no action %s", action)
}

var groupName = regexp.MustCompile(`^[.\-_/#A-Za-z0-9]{1,512}$`)

func invalid(format string, args ...any) error {
	return awsproto.Errorf("InvalidParameterException", format, args...)
}

func (s *Service) createGroup(body []byte) (any, error) {
	var in struct {
		LogGroupName string `json:"logGroupName"`
	}
	if err := awsproto.Decode(body, &in); err != nil {
		return nil, err
	}
	switch {
	case !groupName.MatchString(in.LogGroupName):
		return nil, invalid("%q is no name of a log group", in.LogGroupName)
	case s.groups[in.LogGroupName] != nil:
		return nil, awsproto.Errorf("ResourceAlreadyExistsException", "The specified log group already exists")
	}
	s.groups[in.LogGroupName] = &group{streams: map[string]bool{}, filters: map[string]filter{}}
	return nil, nil //nolint:nilnil // an empty answer
}

func (s *Service) find(name string) (*group, error) {
	if g := s.groups[name]; g != nil {
		return g, nil
	}
	return nil, awsproto.Errorf("ResourceNotFoundException", "The specified log group does not exist.")
}

func (s *Service) createStream(body []byte) (any, error) {
	var in struct {
		LogGroupName  string `json:"logGroupName"`
		LogStreamName string `json:"logStreamName"`
	}
	if err := awsproto.Decode(body, &in); err != nil {
		return nil, err
	}
	g, err := s.find(in.LogGroupName)
	switch {
	case err != nil:
		return nil, err
	case in.LogStreamName == "" || len(in.LogStreamName) > 512 || strings.ContainsAny(in.LogStreamName, ":*"):
		return nil, invalid("%q is no name of a log stream", in.LogStreamName)
	case g.streams[in.LogStreamName]:
		return nil, awsproto.Errorf("ResourceAlreadyExistsException", "The specified log stream already exists")
	}
	g.streams[in.LogStreamName] = true
	return nil, nil //nolint:nilnil // an empty answer
}

func (s *Service) putFilter(body []byte) (any, error) {
	var in struct {
		LogGroupName   string  `json:"logGroupName"`
		FilterName     string  `json:"filterName"`
		FilterPattern  *string `json:"filterPattern"`
		DestinationARN string  `json:"destinationArn"`
	}
	if err := awsproto.Decode(body, &in); err != nil {
		return nil, err
	}
	g, err := s.find(in.LogGroupName)
	if err != nil {
		return nil, err
	}
	if in.FilterName == "" || in.FilterPattern == nil || !strings.HasPrefix(in.DestinationARN, "arn:aws:lambda:") {
		return nil, invalid("a filter needs a name, a pattern and a function's ARN")
	}
	terms, err := parse(*in.FilterPattern)
	if err != nil {
		return nil, err
	}
	if _, again := g.filters[in.FilterName]; !again && len(g.filters) == mostFilters {
		return nil, awsproto.Errorf("LimitExceededException", "Resource limit exceeded.")
	}
	g.filters[in.FilterName] = filter{Name: in.FilterName, Destination: in.DestinationARN, terms: terms}
	return nil, nil //nolint:nilnil // an empty answer
}

// parse reads patterns of words and of phrases in quotes, all of which a line has
// to hold (user guide, "Filter pattern syntax"). Others are refused here.
func parse(pattern string) (terms []string, err error) {
	for rest := strings.TrimSpace(pattern); rest != ""; rest = strings.TrimSpace(rest) {
		var term string
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			if term, rest, ok = strings.Cut(quoted, `"`); !ok || term == "" {
				return nil, invalid("Invalid filter pattern")
			}
		} else {
			term, rest, _ = strings.Cut(rest, " ")
			if strings.ContainsAny(term, `"[]{}%?-$=*`) {
				return nil, invalid("the local CloudWatch Logs has words and quoted phrases for patterns, and no %s", term)
			}
		}
		terms = append(terms, term)
	}
	return terms, nil
}

func (f filter) matches(message string) bool {
	for _, term := range f.terms {
		if !strings.Contains(message, term) {
			return false
		}
	}
	return true
}

type logEvent struct {
	ID        string `json:"id,omitempty"`
	Timestamp int64  `json:"timestamp"`
	Message   string `json:"message"`
}

func (s *Service) putEvents(ctx context.Context, body []byte) (any, error) {
	var in struct {
		LogGroupName  string     `json:"logGroupName"`
		LogStreamName string     `json:"logStreamName"`
		LogEvents     []logEvent `json:"logEvents"`
	}
	if err := awsproto.Decode(body, &in); err != nil {
		return nil, err
	}
	g, err := s.find(in.LogGroupName)
	if err != nil {
		return nil, err
	}
	if !g.streams[in.LogStreamName] {
		return nil, awsproto.Errorf("ResourceNotFoundException", "The specified log stream does not exist.")
	}
	if len(in.LogEvents) == 0 || len(in.LogEvents) > 10_000 {
		return nil, invalid("1 to 10,000 log events are put at once, not %d", len(in.LogEvents))
	}
	for i := range in.LogEvents {
		e := &in.LogEvents[i]
		if e.ID != "" || e.Message == "" || e.Timestamp <= 0 || (i > 0 && e.Timestamp < in.LogEvents[i-1].Timestamp) {
			return nil, invalid("log events need a message and a time, and have to be in the order of their times")
		}
		s.events++
		e.ID = fmt.Sprintf("%056d", s.events)
	}
	for _, f := range g.filters {
		s.send(ctx, f, in.LogGroupName, in.LogStreamName, in.LogEvents)
	}
	return struct{}{}, nil
}

// send isn't told to who writes the lines.
func (s *Service) send(ctx context.Context, f filter, group, stream string, events []logEvent) {
	var some []logEvent
	for _, e := range events {
		if f.matches(e.Message) {
			some = append(some, e)
		}
	}
	if len(some) == 0 {
		return
	}
	payload, err := pack(map[string]any{
		"messageType": "DATA_MESSAGE", "owner": awsproto.Account, "logGroup": group, "logStream": stream,
		"subscriptionFilters": []string{f.Name}, "logEvents": some,
	})
	if err == nil {
		err = s.config.Functions.InvokeEvent(ctx, f.Destination, payload)
	}
	if err != nil {
		s.config.Logger.WarnContext(ctx, "log events not delivered", "group", group, "filter", f.Name, "error", err)
	}
}

func pack(data map[string]any) ([]byte, error) {
	text, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encoding log events: %w", err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(text); err != nil {
		return nil, fmt.Errorf("packing log events: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("packing log events: %w", err)
	}
	return fmt.Appendf(nil, `{"awslogs":{"data":%q}}`, base64.StdEncoding.EncodeToString(packed.Bytes())), nil
}

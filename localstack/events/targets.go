package events

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
)

const maxTargets = 5

type target struct {
	ID               string `json:"Id"`
	Arn              string
	RoleArn          string            `json:",omitempty"`
	Input            string            `json:",omitempty"`
	InputPath        string            `json:",omitempty"`
	InputTransformer *inputTransformer `json:",omitempty"`
	RetryPolicy      *retryPolicy      `json:",omitempty"`
	DeadLetterConfig *deadLetterConfig `json:",omitempty"`
}

type deadLetterConfig struct{ Arn string }

type inputTransformer struct {
	InputPathsMap map[string]string `json:",omitempty"`
	InputTemplate string
}

type retryPolicy struct {
	MaximumEventAgeInSeconds *int `json:",omitempty"`
	MaximumRetryAttempts     *int `json:",omitempty"`
}

var (
	functionARN     = regexp.MustCompile(`^arn:aws:lambda:[a-z0-9-]+:[0-9]{12}:function:[^ ]+$`)
	topicARN        = regexp.MustCompile(`^arn:aws:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$`)
	queueARN        = regexp.MustCompile(`^arn:aws:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$`)
	stateMachineARN = regexp.MustCompile(`^arn:aws:states:[a-z0-9-]+:[0-9]{12}:stateMachine:[^ ]+$`)
)

func (t target) check() error {
	if t.ID == "" || len(t.ID) > 64 {
		return invalid("a target's Id is 1 to 64 characters")
	}
	switch {
	case functionARN.MatchString(t.Arn), topicARN.MatchString(t.Arn):
	case stateMachineARN.MatchString(t.Arn):
		if t.RoleArn == "" {
			return invalid("RoleArn is required for target %s.", t.Arn)
		}
	default:
		return invalid("the local EventBridge has no target like %s; it has Lambda functions, state machines and topics", t.Arn)
	}
	ways := 0
	for _, set := range []bool{t.Input != "", t.InputPath != "", t.InputTransformer != nil} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		return invalid("Only one of Input, InputPath, or InputTransformer must be provided for target %s.", t.ID)
	}
	if t.Input != "" && !json.Valid([]byte(t.Input)) {
		return invalid("JSON syntax error in input for target %s", t.ID)
	}
	if t.InputPath != "" {
		if _, err := parsePath(t.InputPath); err != nil {
			return invalid("InputPath for target %s is invalid: %v", t.ID, err)
		}
	}
	if err := t.RetryPolicy.check(); err != nil {
		return err
	}
	if d := t.DeadLetterConfig; d != nil && !queueARN.MatchString(d.Arn) {
		return invalid("Parameter DeadLetterConfig is not valid for target %s: it is the ARN of a standard queue.", t.ID)
	}
	return t.InputTransformer.check(t.ID)
}

func (p *retryPolicy) check() error {
	if p == nil {
		return nil
	}
	if n := p.MaximumRetryAttempts; n != nil && (*n < 0 || *n > 185) {
		return invalid("MaximumRetryAttempts is 0 to 185")
	}
	if n := p.MaximumEventAgeInSeconds; n != nil && (*n < 60 || *n > 86400) {
		return invalid("MaximumEventAgeInSeconds is 60 to 86400")
	}
	return nil
}

// limits are EventBridge's defaults where the policy says nothing.
func (p *retryPolicy) limits() (retries int, age time.Duration) {
	retries, age = 185, 24*time.Hour
	if p != nil && p.MaximumRetryAttempts != nil {
		retries = *p.MaximumRetryAttempts
	}
	if p != nil && p.MaximumEventAgeInSeconds != nil {
		age = time.Duration(*p.MaximumEventAgeInSeconds) * time.Second
	}
	return retries, age
}

type putTargetsInput struct {
	Rule         string
	EventBusName string
	Targets      []target
}

type failedTarget struct {
	TargetID     string `json:"TargetId"`
	ErrorCode    string
	ErrorMessage string
}

type targetsOutput struct {
	FailedEntryCount int
	FailedEntries    []failedTarget
}

// putTargets adds targets, or replaces those with the same Id.
func (s *Service) putTargets(in putTargetsInput) (any, error) {
	r, err := s.find(in.Rule, in.EventBusName)
	if err != nil {
		return nil, err
	}
	targets := slices.Clone(r.targets)
	for _, t := range in.Targets {
		if err := t.check(); err != nil {
			return nil, err
		}
		targets = slices.DeleteFunc(targets, func(old target) bool { return old.ID == t.ID })
		targets = append(targets, t)
	}
	if len(targets) > maxTargets {
		return nil, awsproto.Errorf("LimitExceededException", "The requested resource exceeds the maximum number allowed: %d targets.", maxTargets)
	}
	r.targets = targets
	return targetsOutput{FailedEntries: []failedTarget{}}, nil
}

type removeTargetsInput struct {
	Rule         string
	EventBusName string
	IDs          []string `json:"Ids"`
	Force        bool
}

func (s *Service) removeTargets(in removeTargetsInput) (any, error) {
	r, err := s.find(in.Rule, in.EventBusName)
	if err != nil {
		return nil, err
	}
	out := targetsOutput{FailedEntries: []failedTarget{}}
	for _, id := range in.IDs {
		before := len(r.targets)
		r.targets = slices.DeleteFunc(slices.Clone(r.targets), func(t target) bool { return t.ID == id })
		if len(r.targets) == before {
			out.FailedEntries = append(out.FailedEntries, failedTarget{id, "ResourceNotFoundException", "there is no such target"})
			out.FailedEntryCount++
		}
	}
	return out, nil
}

type listTargetsInput struct {
	Rule         string
	EventBusName string
	Limit        *int
	NextToken    string
}

type listTargetsOutput struct{ Targets []target }

// listTargetsByRule needs no pages: a rule has at most five targets.
func (s *Service) listTargetsByRule(in listTargetsInput) (any, error) {
	r, err := s.find(in.Rule, in.EventBusName)
	if err != nil {
		return nil, err
	}
	if _, err := pageSize(in.Limit); err != nil {
		return nil, err
	}
	if in.NextToken != "" {
		return nil, invalid("NextToken is not valid")
	}
	return listTargetsOutput{append([]target{}, r.targets...)}, nil
}

type putEventsEntry struct {
	Detail       string
	DetailType   string
	EventBusName string
	Resources    []string
	Source       string
	Time         *float64 // epoch seconds
}

type putEventsInput struct{ Entries []putEventsEntry }

type putEventsResult struct {
	EventID      string `json:"EventId,omitempty"`
	ErrorCode    string `json:",omitempty"`
	ErrorMessage string `json:",omitempty"`
}

type putEventsOutput struct {
	FailedEntryCount int
	Entries          []putEventsResult
}

func (s *Service) putEvents(in putEventsInput) (any, error) {
	const most = 10
	if len(in.Entries) < 1 || len(in.Entries) > most {
		return nil, invalid("1 to %d entries", most)
	}
	out := putEventsOutput{Entries: []putEventsResult{}}
	for _, e := range in.Entries {
		result := s.putEvent(e)
		if result.ErrorCode != "" {
			out.FailedEntryCount++
		}
		out.Entries = append(out.Entries, result)
	}
	return out, nil
}

func (s *Service) putEvent(e putEventsEntry) putEventsResult {
	if err := onlyDefaultBus(e.EventBusName); err != nil {
		return putEventsResult{ErrorCode: "ResourceNotFoundException", ErrorMessage: err.Error()}
	}
	if e.Source == "" || e.DetailType == "" || e.Detail == "" {
		return putEventsResult{ErrorCode: "InvalidArgument", ErrorMessage: "Source, DetailType and Detail are required."}
	}
	if strings.HasPrefix(e.Source, "aws.") {
		return putEventsResult{ErrorCode: "NotAuthorizedForSourceException", ErrorMessage: "Not authorized for the source."}
	}
	var object map[string]any
	if json.Unmarshal([]byte(e.Detail), &object) != nil || object == nil {
		return putEventsResult{ErrorCode: "MalformedDetail", ErrorMessage: "Detail is malformed."}
	}
	at := s.clock.Now()
	if e.Time != nil {
		at = time.UnixMilli(int64(*e.Time * 1000))
	}
	event := host.Event{Source: e.Source, DetailType: e.DetailType, Detail: json.RawMessage(e.Detail), Resources: e.Resources}
	return putEventsResult{EventID: s.accept(event, at)}
}

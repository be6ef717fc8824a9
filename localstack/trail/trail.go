// Package trail answers: what would CloudTrail have recorded, and told
// EventBridge, about this call?
//
// Every service of the local AWS publishes its records through it, so that rules
// of detection find the members that CloudTrail's reference documents
// (CloudTrail user guide, "CloudTrail record contents").
package trail

import (
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
)

// Call is one call of an API, made by somebody.
type Call struct {
	Service   string // "s3": the event's source is aws.s3
	Name      string // as CloudTrail names it
	At        time.Time
	Caller    awsproto.Caller
	ReadOnly  bool
	Request   map[string]any // without secret values; see Members
	Response  map[string]any // left out of the record when Err is set or ReadOnly is
	Resources []Resource
	Err       error // the service refused
}

// Own is what a service did of its own accord.
type Own struct {
	Service string
	Name    string
	At      time.Time
	Data    map[string]any // additionalEventData
}

// Resource is something that a call was about.
type Resource struct {
	AccountID string `json:"accountId"`
	Type      string `json:"type"`
	ARN       string `json:"ARN"`
}

// record is a CloudTrail record, as far as the local AWS fills it.
type record struct {
	EventVersion        string         `json:"eventVersion"`
	UserIdentity        map[string]any `json:"userIdentity"`
	EventTime           string         `json:"eventTime"`
	EventSource         string         `json:"eventSource"`
	EventName           string         `json:"eventName"`
	AWSRegion           string         `json:"awsRegion"`
	SourceIPAddress     string         `json:"sourceIPAddress"`
	UserAgent           string         `json:"userAgent"`
	ErrorCode           string         `json:"errorCode,omitempty"`
	ErrorMessage        string         `json:"errorMessage,omitempty"`
	RequestParameters   map[string]any `json:"requestParameters"`
	ResponseElements    map[string]any `json:"responseElements"`
	AdditionalEventData map[string]any `json:"additionalEventData,omitempty"`
	RequestID           string         `json:"requestID,omitempty"`
	EventID             string         `json:"eventID"`
	ReadOnly            bool           `json:"readOnly"`
	Resources           []Resource     `json:"resources,omitempty"`
	EventType           string         `json:"eventType"`
	ManagementEvent     bool           `json:"managementEvent"`
	RecipientAccountID  string         `json:"recipientAccountId"`
	EventCategory       string         `json:"eventCategory"`
}

func newRecord(service, name, kind string, at time.Time) record {
	return record{
		EventVersion: "1.11", EventTime: at.UTC().Format(time.RFC3339), EventSource: service + ".amazonaws.com", EventName: name,
		AWSRegion: awsproto.Region, EventID: uuid.NewString(), EventType: kind, ManagementEvent: true,
		RecipientAccountID: awsproto.Account, EventCategory: "Management",
	}
}

// Publish tells the bus about a call. Without a bus it does nothing.
func Publish(bus host.Bus, log *slog.Logger, c Call) {
	r := newRecord(c.Service, c.Name, "AwsApiCall", c.At)
	user := c.Caller.ARN()
	r.UserIdentity = map[string]any{
		"type": "IAMUser", "principalId": c.Caller.AccessKeyID, "arn": user,
		"accountId": awsproto.Account, "accessKeyId": c.Caller.AccessKeyID, "userName": c.Caller.AccessKeyID,
	}
	if c.Caller.AccessKeyID == "" {
		r.UserIdentity = map[string]any{"type": "Root", "principalId": awsproto.Account, "arn": user, "accountId": awsproto.Account}
	}
	if c.Caller.Role != "" && c.Caller.AccessKeyID != "" {
		r.UserIdentity = session(c.Caller)
	}
	r.SourceIPAddress, r.UserAgent = c.Caller.SourceIP, c.Caller.UserAgent
	r.ReadOnly, r.RequestID, r.RequestParameters = c.ReadOnly, uuid.NewString(), c.Request
	for _, res := range c.Resources {
		res.AccountID = awsproto.Account
		r.Resources = append(r.Resources, res)
	}
	var e *awsproto.Error
	switch {
	case errors.As(c.Err, &e):
		r.ErrorCode, r.ErrorMessage = e.Code, e.Message
	case c.Err != nil:
		r.ErrorCode, r.ErrorMessage = "InternalServiceError", c.Err.Error()
	case !c.ReadOnly:
		r.ResponseElements = c.Response
	}
	send(bus, log, "aws."+c.Service, "AWS API Call via CloudTrail", r)
}

// session is the identity of a role's session (CloudTrail user guide,
// "userIdentity element").
func session(c awsproto.Caller) map[string]any {
	id := "AROALOCAL:" + c.AccessKeyID
	return map[string]any{
		"type": "AssumedRole", "principalId": id, "arn": c.ARN(), "accountId": awsproto.Account, "accessKeyId": c.AccessKeyID,
		"sessionContext": map[string]any{"sessionIssuer": map[string]any{
			"type": "Role", "principalId": "AROALOCAL", "arn": c.Role, "accountId": awsproto.Account, "userName": c.RoleName(),
		}},
	}
}

// PublishOwn tells the bus what a service did of its own accord.
func PublishOwn(bus host.Bus, log *slog.Logger, o Own) {
	r := newRecord(o.Service, o.Name, "AwsServiceEvent", o.At)
	r.UserIdentity = map[string]any{"accountId": awsproto.Account, "invokedBy": r.EventSource}
	r.SourceIPAddress, r.UserAgent = r.EventSource, r.EventSource
	r.AdditionalEventData = o.Data
	send(bus, log, "aws."+o.Service, "AWS Service Event via CloudTrail", r)
}

func send(bus host.Bus, log *slog.Logger, source, kind string, r record) {
	if bus == nil {
		return
	}
	detail, err := json.Marshal(r)
	if err != nil {
		log.Error("an event can't be encoded", "event", r.EventName, "error", err.Error())
		return
	}
	bus.Publish(host.Event{Source: source, DetailType: kind, Detail: detail})
}

// Members lists a JSON object's members as CloudTrail names them, without those
// that are named as secret; nil if there are none.
func Members(object []byte, secret ...string) map[string]any {
	var in map[string]any
	if json.Unmarshal(object, &in) != nil || len(in) == 0 {
		return nil
	}
	out := map[string]any{}
	for name, value := range in {
		switch {
		case slices.Contains(secret, name):
		case name == "ARN":
			out["arn"] = value
		default:
			first, size := utf8.DecodeRuneInString(name)
			var b strings.Builder
			b.WriteRune(unicode.ToLower(first))
			b.WriteString(name[size:])
			out[b.String()] = value
		}
	}
	return out
}

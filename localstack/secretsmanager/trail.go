package secretsmanager

import (
	"encoding/json"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
)

const eventSource = "secretsmanager.amazonaws.com"

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
	EventType           string         `json:"eventType"`
	ManagementEvent     bool           `json:"managementEvent"`
	RecipientAccountID  string         `json:"recipientAccountId"`
	EventCategory       string         `json:"eventCategory"`
}

func (s *Service) newRecord(name, kind string) record {
	return record{
		EventVersion: "1.11", EventTime: s.clock.Now().Format(time.RFC3339), EventSource: eventSource, EventName: name,
		AWSRegion: awsproto.Region, EventID: newUUID(), EventType: kind, ManagementEvent: true,
		RecipientAccountID: awsproto.Account, EventCategory: "Management",
	}
}

// publishService tells the bus what the service did of its own accord.
func (s *Service) publishService(name, arn string) {
	r := s.newRecord(name, "AwsServiceEvent")
	r.UserIdentity = map[string]any{"accountId": awsproto.Account, "invokedBy": eventSource}
	r.SourceIPAddress, r.UserAgent = eventSource, eventSource
	r.AdditionalEventData = map[string]any{"SecretId": arn}
	s.publish("AWS Service Event via CloudTrail", r)
}

// publishCall tells the bus about a call, refused ones included; values and
// rotation tokens stay out of it.
func (s *Service) publishCall(c awsproto.Caller, name string, readOnly bool, body []byte, out any, err error) {
	r := s.newRecord(name, "AwsApiCall")
	user := c.ARN()
	r.UserIdentity = map[string]any{
		"type": "IAMUser", "principalId": c.AccessKeyID, "arn": user,
		"accountId": awsproto.Account, "accessKeyId": c.AccessKeyID, "userName": c.AccessKeyID,
	}
	if c.AccessKeyID == "" {
		r.UserIdentity = map[string]any{"type": "Root", "principalId": awsproto.Account, "arn": user, "accountId": awsproto.Account}
	}
	r.SourceIPAddress, r.UserAgent = c.SourceIP, c.UserAgent
	r.ReadOnly, r.RequestID = readOnly, newUUID()
	r.RequestParameters = members(body)
	if err != nil {
		r.ErrorCode, r.ErrorMessage = codeOf(err)
	} else if !readOnly {
		answer, _ := json.Marshal(out) // outputs are plain structs
		r.ResponseElements = members(answer)
	}
	s.publish("AWS API Call via CloudTrail", r)
}

func (s *Service) publish(detailType string, r record) {
	if s.bus == nil {
		return
	}
	detail, err := json.Marshal(r)
	if err != nil {
		s.log.Error("an event can't be encoded", "event", r.EventName, "error", err.Error())
		return
	}
	s.bus.Publish(host.Event{Source: "aws.secretsmanager", DetailType: detailType, Detail: detail})
}

// members lists a JSON object's members as CloudTrail names them.
func members(body []byte) map[string]any {
	var in map[string]any
	if json.Unmarshal(body, &in) != nil || len(in) == 0 {
		return nil
	}
	out := map[string]any{}
	for name, value := range in {
		switch name {
		case "SecretString", "SecretBinary", "RotationToken", "RandomPassword":
		case "ARN":
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

package sns

import (
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

// endpoints says what a subscription's endpoint looks like, by protocol.
var endpoints = map[string]*regexp.Regexp{
	"email":      regexp.MustCompile(`^[^@\s]+@[^@\s]+$`),
	"email-json": regexp.MustCompile(`^[^@\s]+@[^@\s]+$`),
	"http":       regexp.MustCompile(`^http://[^\s]+$`),
	"https":      regexp.MustCompile(`^https://[^\s]+$`),
	"lambda":     regexp.MustCompile(`^arn:aws:lambda:[a-z0-9-]+:[0-9]{12}:function:[^\s]+$`),
	"sqs":        regexp.MustCompile(`^arn:aws:sqs:[a-z0-9-]+:[0-9]{12}:[^\s]+$`),
}

// unconfirmed are the protocols whose endpoint must say yes first.
var unconfirmed = []string{"email", "email-json", "http", "https"}

const (
	pendingConfirmation = "PendingConfirmation"
	maxSubscriptions    = 100
)

// subscribe answers an existing subscription again.
func (s *Service) subscribe(in *awsproto.Form) (any, error) {
	sub := subscription{protocol: in.Get("Protocol"), endpoint: in.Get("Endpoint")}
	arn, always := in.Get("TopicArn"), in.Get("ReturnSubscriptionArn")
	if err := in.Unread(); err != nil {
		return nil, err
	}
	t, err := s.topic(arn)
	if err != nil {
		return nil, err
	}
	form := endpoints[sub.protocol]
	switch {
	case form == nil:
		return nil, invalid("the local SNS has no protocol %q", sub.protocol)
	case !form.MatchString(sub.endpoint):
		return nil, invalid("Endpoint Reason: it is none of the protocol %s", sub.protocol)
	}
	at := slices.IndexFunc(t.subscriptions, func(old subscription) bool {
		return old.protocol == sub.protocol && old.endpoint == sub.endpoint
	})
	if at < 0 && len(t.subscriptions) == maxSubscriptions {
		return nil, awsproto.Errorf("SubscriptionLimitExceeded", "the local SNS has %d subscriptions a topic", maxSubscriptions)
	}
	if at < 0 {
		sub.arn, sub.pending = t.arn+":"+uuid.NewString(), slices.Contains(unconfirmed, sub.protocol)
		at, t.subscriptions = len(t.subscriptions), append(t.subscriptions, sub)
	}
	sub = t.subscriptions[at]
	out := struct{ SubscriptionArn string }{sub.arn}
	if sub.pending && !strings.EqualFold(always, "true") {
		out.SubscriptionArn = "pending confirmation"
	}
	return out, nil
}

type listedSubscription struct {
	SubscriptionArn string
	Owner           string
	Protocol        string
	Endpoint        string
	TopicArn        string
}

type subscriptionsOutput struct {
	Subscriptions []listedSubscription `xml:"Subscriptions>member"`
}

// listSubscriptionsByTopic needs no pages: maxSubscriptions is one.
func (s *Service) listSubscriptionsByTopic(in *awsproto.Form) (any, error) {
	t, err := s.topic(in.Get("TopicArn"))
	if err == nil {
		err = in.Unread()
	}
	if err != nil {
		return nil, err
	}
	var out subscriptionsOutput
	for _, sub := range t.subscriptions {
		arn := sub.arn
		if sub.pending {
			arn = pendingConfirmation
		}
		out.Subscriptions = append(out.Subscriptions, listedSubscription{arn, awsproto.Account, sub.protocol, sub.endpoint, t.arn})
	}
	return out, nil
}

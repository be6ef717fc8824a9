package s3

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/internal/strictjson"
	"github.com/keyturn/keyturn/localstack/awsproto"
)

// maxPolicy is the longest bucket policy, in bytes (S3 user guide).
const maxPolicy = 20 << 10

// statement is one denial of a bucket policy, ready to be tested. What a policy
// allows isn't kept in this form: the local AWS lets everybody do everything.
type statement struct {
	sid        string
	actions    []*regexp.Regexp
	resources  []*regexp.Regexp
	conditions []func(facts) bool
}

// facts are the values of condition keys for one request; a key that isn't there
// is null.
type facts map[string]string

// conditionKeys are the keys that the local S3 has values for.
var conditionKeys = map[string]bool{
	"aws:securetransport": true, "s3:tlsversion": true, "s3:if-none-match": true, "s3:objectcreationoperation": true,
	"aws:principalarn": true,
}

// facts of a request. Plain HTTP on the loopback interface stands for TLS here,
// so that a denial of anything but TLS is accepted and never met.
func (q *request) facts(action string) facts {
	f := facts{"aws:securetransport": "true", "s3:tlsversion": "1.3", "aws:principalarn": awsproto.CallerOf(q.ctx).PrincipalARN()}
	if action == "s3:PutObject" {
		f["s3:objectcreationoperation"] = "true"
		if given := q.header.Get("If-None-Match"); given != "" {
			f["s3:if-none-match"] = given
		}
	}
	return f
}

// allowed tests an action by IAM's name against the bucket's denials.
func (b *bucket) allowed(q *request, action string) error {
	resource := b.arn()
	if q.key != "" {
		resource += "/" + q.key
	}
	for _, st := range b.policy {
		if st.denies(action, resource, q.facts(action)) {
			return accessDenied("%s on resource %q with an explicit deny in a resource-based policy (statement %q)", action, resource, st.sid)
		}
	}
	return nil
}

func (st statement) denies(action, resource string, f facts) bool {
	if !anyOf(st.actions, strings.ToLower(action)) || !anyOf(st.resources, resource) {
		return false
	}
	for _, met := range st.conditions {
		if !met(f) {
			return false
		}
	}
	return true
}

func anyOf(patterns []*regexp.Regexp, text string) bool {
	return slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(text) })
}

// oneOrMore is a string or a list of strings.
type oneOrMore []string

// UnmarshalJSON implements json.Unmarshaler.
func (o *oneOrMore) UnmarshalJSON(doc []byte) error {
	if !bytes.HasPrefix(doc, []byte("[")) {
		var one string
		if err := json.Unmarshal(doc, &one); err != nil {
			return err
		}
		*o = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(doc, (*[]string)(o))
}

type policyDocument struct {
	Version   string
	ID        string `json:"Id"`
	Statement []struct {
		Sid       string
		Effect    string
		Principal json.RawMessage
		Action    oneOrMore
		Resource  oneOrMore
		Condition map[string]map[string]oneOrMore
	}
}

func malformedPolicy(format string, args ...any) *awsproto.Error {
	return failed(http.StatusBadRequest, "MalformedPolicy", format, args...)
}

// parsePolicy keeps the denials of a policy. One that it can't decide on is
// refused, because a denial that isn't enforced would make a test lie.
func (b *bucket) parsePolicy(text []byte) ([]statement, error) {
	if len(text) > maxPolicy {
		return nil, failed(http.StatusBadRequest, "PolicyTooLarge", "The policy is longer than %d bytes", maxPolicy)
	}
	var doc policyDocument
	if err := strictjson.Decode(text, &doc); err != nil {
		var wrong *strictjson.Error
		if errors.As(err, &wrong) {
			return nil, malformedPolicy("the local S3 can't read this policy: %v", err)
		}
		return nil, malformedPolicy("This policy contains invalid Json")
	}
	if doc.Version != "2012-10-17" || len(doc.Statement) == 0 {
		return nil, malformedPolicy("a policy has the Version 2012-10-17 and at least one Statement")
	}
	var out []statement
	for _, in := range doc.Statement {
		st := statement{sid: in.Sid}
		for _, action := range in.Action {
			if action != "*" && !strings.HasPrefix(action, "s3:") {
				return nil, malformedPolicy("Policy has invalid action")
			}
			st.actions = append(st.actions, glob(strings.ToLower(action)))
		}
		for _, resource := range in.Resource {
			if resource != b.arn() && !strings.HasPrefix(resource, b.arn()+"/") {
				return nil, malformedPolicy("Policy has invalid resource")
			}
			st.resources = append(st.resources, glob(resource))
		}
		switch {
		case len(in.Action) == 0 || len(in.Resource) == 0 || len(in.Principal) == 0:
			return nil, malformedPolicy("a statement has Principal, Action and Resource")
		case in.Effect == "Allow":
			continue
		case in.Effect != "Deny":
			return nil, malformedPolicy("Invalid effect: %s", in.Effect)
		case !everybody(in.Principal):
			return nil, notModelled("a denial (%q) for others than everybody", in.Sid)
		}
		for operator, keys := range in.Condition {
			for key, values := range keys {
				met, err := condition(operator, strings.ToLower(key), values)
				if err != nil {
					return nil, err
				}
				st.conditions = append(st.conditions, met)
			}
		}
		out = append(out, st)
	}
	return out, nil
}

// everybody recognises "*" and {"AWS": "*"}.
func everybody(principal json.RawMessage) bool {
	var one string
	if json.Unmarshal(principal, &one) == nil {
		return one == "*"
	}
	var by map[string]oneOrMore
	return json.Unmarshal(principal, &by) == nil && len(by) == 1 && len(by["AWS"]) == 1 && by["AWS"][0] == "*"
}

// glob makes a test of a pattern with * and ?.
func glob(pattern string) *regexp.Regexp {
	quoted := regexp.QuoteMeta(pattern)
	quoted = strings.ReplaceAll(strings.ReplaceAll(quoted, `\*`, `.*`), `\?`, `.`)
	return regexp.MustCompile(`(?s)^` + quoted + `$`)
}

// condition makes a test of one key of a Condition block.
func condition(operator, key string, values []string) (func(facts) bool, error) {
	arn := operator == "ArnLike" || operator == "ArnNotLike"
	if !conditionKeys[key] || arn != (key == "aws:principalarn") || len(values) == 0 || len(values) > 1 && !arn {
		return nil, notModelled("the condition %s on %s with %d values", operator, key, len(values))
	}
	want := values[0]
	switch operator {
	case "ArnLike", "ArnNotLike":
		var patterns []*regexp.Regexp
		for _, v := range values {
			patterns = append(patterns, glob(v))
		}
		return func(f facts) bool { return anyOf(patterns, f[key]) == (operator == "ArnLike") }, nil
	case "Null", "Bool":
		if want != "true" && want != "false" {
			return nil, malformedPolicy("%s compares with true or false", operator)
		}
		return func(f facts) bool {
			have, there := f[key]
			if operator == "Null" {
				return there == (want == "false")
			}
			return there && have == want
		}, nil
	case "NumericLessThan":
		limit, err := strconv.ParseFloat(want, 64)
		if err != nil {
			return nil, malformedPolicy("%s compares with a number", operator)
		}
		return func(f facts) bool {
			have, err := strconv.ParseFloat(f[key], 64)
			return err == nil && have < limit
		}, nil
	}
	return nil, notModelled("the condition operator %s", operator)
}

func (s *Service) putBucketPolicy(q *request) (*answer, error) {
	b, err := s.existing(q)
	if err != nil {
		return nil, err
	}
	policy, err := b.parsePolicy(q.body)
	if err != nil {
		return nil, err
	}
	b.policy, b.policyText = policy, q.body
	return &answer{status: http.StatusNoContent}, nil
}

func (s *Service) getBucketPolicy(q *request) (*answer, error) {
	b, err := s.existing(q)
	if err != nil {
		return nil, err
	}
	if b.policyText == nil {
		return nil, failed(http.StatusNotFound, "NoSuchBucketPolicy", "The bucket policy does not exist")
	}
	a := &answer{body: b.policyText}
	a.set("Content-Type", "application/json")
	return a, nil
}

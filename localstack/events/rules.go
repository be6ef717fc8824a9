package events

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/events/schedule"
)

const (
	enabled  = "ENABLED"
	disabled = "DISABLED"
	// enabledForAll is the only state that gets read-only API calls.
	enabledForAll = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
)

type rule struct {
	name, description, role, state string
	patternText                    string
	pattern                        *pattern
	scheduleText                   string
	schedule                       schedule.Expression
	next                           time.Time
	targets                        []target
}

func (r *rule) arn() string {
	return "arn:aws:events:" + awsproto.Region + ":" + awsproto.Account + ":rule/" + r.name
}

// wants reports whether a rule takes an event.
func (r *rule) wants(event map[string]any) bool {
	if r.state == disabled || r.pattern == nil {
		return false
	}
	detail, _ := event["detail"].(map[string]any)
	readOnly := event["detail-type"] == "AWS API Call via CloudTrail" && detail["readOnly"] == true
	if readOnly && r.state != enabledForAll {
		return false
	}
	return r.pattern.matches(event)
}

// after returns the first date after last that lies in the future.
func (r *rule) after(last, now time.Time) time.Time {
	if period, _, ok := r.schedule.Rate(); ok {
		return last.Add(period * (now.Sub(last)/period + 1))
	}
	return r.schedule.Next(now)
}

var (
	rateUnit = regexp.MustCompile(`^rate\((1 (minute|hour|day)|([2-9]|[1-9][0-9]+) (minutes|hours|days))\)$`)
	ruleName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

type putRuleInput struct {
	Name               string
	Description        string
	EventBusName       string
	EventPattern       string
	RoleArn            string
	ScheduleExpression string
	State              string
}

type ruleArnOutput struct{ RuleArn string }

func (s *Service) putRule(in putRuleInput) (any, error) {
	r := &rule{
		name: in.Name, description: in.Description, role: in.RoleArn, state: cmp.Or(in.State, enabled),
		patternText: in.EventPattern, scheduleText: in.ScheduleExpression,
	}
	if err := onlyDefaultBus(in.EventBusName); err != nil {
		return nil, err
	}
	if !ruleName.MatchString(in.Name) {
		return nil, invalid("a rule's name is 1 to 64 letters, digits, dots, hyphens and underscores; got %q", in.Name)
	}
	if !slices.Contains([]string{enabled, disabled, enabledForAll}, r.state) {
		return nil, invalid("State %q doesn't exist", in.State)
	}
	if in.EventPattern == "" && in.ScheduleExpression == "" {
		return nil, invalid("Parameter(s) EventPattern or ScheduleExpression must be specified.")
	}
	if in.EventPattern != "" {
		p, err := parsePattern(in.EventPattern)
		if err != nil {
			return nil, awsproto.Errorf("InvalidEventPatternException", "Event pattern is not valid. Reason: %v", err)
		}
		r.pattern = p
	}
	if in.ScheduleExpression != "" {
		e, err := schedule.Parse(in.ScheduleExpression)
		if err != nil || (strings.HasPrefix(in.ScheduleExpression, "rate") && !rateUnit.MatchString(in.ScheduleExpression)) {
			return nil, invalid("Parameter ScheduleExpression is not valid.")
		}
		r.schedule, r.next = e, e.Next(s.clock.Now())
	}
	if old := s.rules[in.Name]; old != nil {
		r.targets = old.targets
		if old.scheduleText == r.scheduleText {
			r.next = old.next
		}
	}
	s.rules[in.Name] = r
	s.alarm.Reset()
	return ruleArnOutput{r.arn()}, nil
}

type ruleInput struct {
	Name         string
	EventBusName string
}

type ruleOutput struct {
	Arn                string
	Name               string
	Description        string `json:",omitempty"`
	EventBusName       string
	EventPattern       string `json:",omitempty"`
	RoleArn            string `json:",omitempty"`
	ScheduleExpression string `json:",omitempty"`
	State              string
}

func (r *rule) output() ruleOutput {
	return ruleOutput{r.arn(), r.name, r.description, "default", r.patternText, r.role, r.scheduleText, r.state}
}

func (s *Service) describeRule(in ruleInput) (any, error) {
	r, err := s.find(in.Name, in.EventBusName)
	if err != nil {
		return nil, err
	}
	return r.output(), nil
}

type listRulesInput struct {
	EventBusName string
	Limit        *int
	NamePrefix   string
	NextToken    string
}

type listRulesOutput struct {
	NextToken string `json:",omitempty"`
	Rules     []ruleOutput
}

// listRules pages by name; the token is the last name of the page before.
func (s *Service) listRules(in listRulesInput) (any, error) {
	if err := onlyDefaultBus(in.EventBusName); err != nil {
		return nil, err
	}
	limit, err := pageSize(in.Limit)
	if err != nil {
		return nil, err
	}
	out := listRulesOutput{Rules: []ruleOutput{}}
	for _, r := range s.rules {
		if strings.HasPrefix(r.name, in.NamePrefix) && r.name > in.NextToken {
			out.Rules = append(out.Rules, r.output())
		}
	}
	slices.SortFunc(out.Rules, func(a, b ruleOutput) int { return cmp.Compare(a.Name, b.Name) })
	if len(out.Rules) > limit {
		out.Rules = out.Rules[:limit]
		out.NextToken = out.Rules[limit-1].Name
	}
	return out, nil
}

type deleteRuleInput struct {
	Name         string
	EventBusName string
	Force        bool
}

func (s *Service) deleteRule(in deleteRuleInput) (any, error) {
	if err := onlyDefaultBus(in.EventBusName); err != nil {
		return nil, err
	}
	if r := s.rules[in.Name]; r != nil && len(r.targets) > 0 {
		return nil, invalid("Rule can't be deleted since it has targets.")
	}
	delete(s.rules, in.Name) // deleting what isn't there succeeds
	s.alarm.Reset()
	return nil, nil
}

func (s *Service) enableRule(in ruleInput) (any, error)  { return s.setState(in, enabled) }
func (s *Service) disableRule(in ruleInput) (any, error) { return s.setState(in, disabled) }

func (s *Service) setState(in ruleInput, state string) (any, error) {
	r, err := s.find(in.Name, in.EventBusName)
	if err != nil {
		return nil, err
	}
	if state == enabled && r.state == disabled && r.scheduleText != "" {
		r.next = r.schedule.Next(s.clock.Now())
	}
	r.state = state
	s.alarm.Reset()
	return nil, nil
}

func (s *Service) find(name, bus string) (*rule, error) {
	if err := onlyDefaultBus(bus); err != nil {
		return nil, err
	}
	r := s.rules[name]
	if r == nil {
		return nil, awsproto.Errorf("ResourceNotFoundException", "Rule %s does not exist on EventBus default.", name)
	}
	return r, nil
}

func onlyDefaultBus(name string) error {
	if name != "" && name != "default" {
		return awsproto.Errorf("ResourceNotFoundException", "Event bus %s does not exist.", name)
	}
	return nil
}

func pageSize(limit *int) (int, error) {
	if limit == nil {
		return 100, nil
	}
	if *limit < 1 || *limit > 100 {
		return 0, invalid("Limit is 1 to 100")
	}
	return *limit, nil
}

func invalid(format string, args ...any) error {
	return awsproto.Errorf("ValidationException", format, args...)
}

package stepfunctions

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
)

// machine is one state machine. Its definition is replaced as a whole, so that
// executions keep the one that they began with.
type machine struct {
	arn, name string
	created   time.Time
	revision
	tags     []tag
	deleting bool
}

// revision is what UpdateStateMachine replaces.
type revision struct {
	id         string // empty for the first
	updated    time.Time
	definition string
	role       string
	logging    logging
	tracing    tracing
	parsed     *asl.Machine
}

type tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// logging and tracing are kept and returned; nothing is logged or traced.
type logging struct {
	Level                string `json:"level,omitempty"`
	IncludeExecutionData bool   `json:"includeExecutionData"`
	Destinations         []any  `json:"destinations,omitempty"`
}

type tracing struct {
	Enabled bool `json:"enabled"`
}

type createInput struct {
	Name                 string   `json:"name"`
	Definition           string   `json:"definition"`
	RoleARN              string   `json:"roleArn"`
	Type                 string   `json:"type"`
	LoggingConfiguration *logging `json:"loggingConfiguration"`
	TracingConfiguration *tracing `json:"tracingConfiguration"`
	Tags                 []tag    `json:"tags"`
}

type createOutput struct {
	StateMachineARN string        `json:"stateMachineArn"`
	CreationDate    awsproto.Time `json:"creationDate"`
}

func (s *Service) createStateMachine(in createInput) (createOutput, error) {
	if err := checkName(in.Name); err != nil {
		return createOutput{}, err
	}
	if err := checkARN(in.RoleARN); err != nil {
		return createOutput{}, err
	}
	if in.Type != "" && in.Type != "STANDARD" {
		return createOutput{}, awsproto.Errorf("StateMachineTypeNotSupported", "the local Step Functions runs STANDARD state machines, not %s", in.Type)
	}
	parsed, err := parse(in.Definition)
	if err != nil {
		return createOutput{}, err
	}
	now := s.config.Clock.Now()
	m := &machine{
		arn: machinePrefix + in.Name, name: in.Name, created: now, tags: in.Tags,
		revision: revision{definition: in.Definition, role: in.RoleARN, updated: now, parsed: parsed, logging: logging{Level: "OFF"}},
	}
	m.configure(in.LoggingConfiguration, in.TracingConfiguration)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, taken := s.machines[m.arn]; taken {
		switch {
		case old.deleting:
			return createOutput{}, awsproto.Errorf("StateMachineDeleting", "State Machine Deleting: '%s'", m.arn)
		case old.definition != m.definition || old.logging.Level != m.logging.Level || old.tracing != m.tracing:
			return createOutput{}, awsproto.Errorf("StateMachineAlreadyExists", "State Machine Already Exists: '%s'", m.arn)
		}
		return createOutput{old.arn, awsproto.Time(old.created)}, nil // another role or other tags are ignored, as documented
	}
	s.machines[m.arn] = m
	return createOutput{m.arn, awsproto.Time(now)}, nil
}

func (r *revision) configure(l *logging, t *tracing) {
	if l != nil {
		r.logging = *l
		if r.logging.Level == "" {
			r.logging.Level = "OFF"
		}
	}
	if t != nil {
		r.tracing = *t
	}
}

// placeholder is what a deployment substitutes. On AWS a forgotten one fails
// only when the state that holds it runs.
var placeholder = regexp.MustCompile(`\$\{[A-Za-z0-9_]+\}`)

func parse(definition string) (*asl.Machine, error) {
	m, err := asl.Parse([]byte(definition))
	if err != nil {
		return nil, awsproto.Errorf("InvalidDefinition", "Invalid State Machine Definition: '%v'", err)
	}
	if found := placeholder.FindString(definition); found != "" {
		return nil, awsproto.Errorf("InvalidDefinition",
			"Invalid State Machine Definition: 'the placeholder %s was not substituted'", found)
	}
	return m, nil
}

type updateInput struct {
	StateMachineARN      string   `json:"stateMachineArn"`
	Definition           string   `json:"definition"`
	RoleARN              string   `json:"roleArn"`
	LoggingConfiguration *logging `json:"loggingConfiguration"`
	TracingConfiguration *tracing `json:"tracingConfiguration"`
}

type updateOutput struct {
	UpdateDate awsproto.Time `json:"updateDate"`
	RevisionID string        `json:"revisionId,omitempty"`
}

// updateStateMachine changes what executions that start from now on run.
func (s *Service) updateStateMachine(in updateInput) (updateOutput, error) {
	if in.Definition == "" && in.RoleARN == "" && in.LoggingConfiguration == nil && in.TracingConfiguration == nil {
		return updateOutput{}, awsproto.Errorf("MissingRequiredParameter",
			"Either the definition, the role ARN, the LoggingConfiguration, or the TracingConfiguration must be specified")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.machine(in.StateMachineARN)
	if err != nil {
		return updateOutput{}, err
	}
	next := m.revision
	if in.Definition != "" {
		if next.parsed, err = parse(in.Definition); err != nil {
			return updateOutput{}, err
		}
		next.definition = in.Definition
	}
	if in.RoleARN != "" {
		if err := checkARN(in.RoleARN); err != nil {
			return updateOutput{}, err
		}
		next.role = in.RoleARN
	}
	next.configure(in.LoggingConfiguration, in.TracingConfiguration)
	next.updated = s.config.Clock.Now()
	if next.definition != m.definition || next.role != m.role {
		next.id = uuid.NewString()
	}
	m.revision = next
	return updateOutput{awsproto.Time(next.updated), next.id}, nil
}

// machine finds one; the caller holds the lock.
func (s *Service) machine(arn string) (*machine, error) {
	if err := checkARN(arn); err != nil {
		return nil, err
	}
	m, ok := s.machines[arn]
	switch {
	case !ok:
		return nil, awsproto.Errorf("StateMachineDoesNotExist", "State Machine Does Not Exist: '%s'", arn)
	case m.deleting:
		return nil, awsproto.Errorf("StateMachineDeleting", "State Machine Deleting: '%s'", arn)
	}
	return m, nil
}

type machineInput struct {
	StateMachineARN string `json:"stateMachineArn"`
	IncludedData    string `json:"includedData"`
}

type machineOutput struct {
	StateMachineARN      string         `json:"stateMachineArn"`
	Name                 string         `json:"name"`
	Status               string         `json:"status,omitempty"`
	Definition           string         `json:"definition"`
	RoleARN              string         `json:"roleArn"`
	Type                 string         `json:"type,omitempty"`
	CreationDate         *awsproto.Time `json:"creationDate,omitempty"`
	UpdateDate           *awsproto.Time `json:"updateDate,omitempty"`
	RevisionID           string         `json:"revisionId,omitempty"`
	LoggingConfiguration logging        `json:"loggingConfiguration"`
	TracingConfiguration tracing        `json:"tracingConfiguration"`
}

func (s *Service) describeStateMachine(in machineInput) (machineOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := "ACTIVE"
	m, err := s.machine(in.StateMachineARN)
	var e *awsproto.Error
	if errors.As(err, &e) && e.Code == "StateMachineDeleting" {
		m, status = s.machines[in.StateMachineARN], "DELETING"
	} else if err != nil {
		return machineOutput{}, err
	}
	out := m.output()
	out.Status, out.Type, out.CreationDate = status, "STANDARD", timestamp(m.created)
	return out, nil
}

func (m *machine) output() machineOutput {
	return machineOutput{
		StateMachineARN: m.arn, Name: m.name, Definition: m.definition, RoleARN: m.role, RevisionID: m.id,
		LoggingConfiguration: m.logging, TracingConfiguration: m.tracing,
	}
}

type listMachinesInput struct {
	MaxResults *int   `json:"maxResults"`
	NextToken  string `json:"nextToken"`
}

type listedMachine struct {
	StateMachineARN string        `json:"stateMachineArn"`
	Name            string        `json:"name"`
	Type            string        `json:"type"`
	CreationDate    awsproto.Time `json:"creationDate"`
}

type listMachinesOutput struct {
	StateMachines []listedMachine `json:"stateMachines"`
	NextToken     string          `json:"nextToken,omitempty"`
}

func (s *Service) listStateMachines(in listMachinesInput) (listMachinesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []listedMachine{}
	for _, m := range s.machines {
		if !m.deleting {
			all = append(all, listedMachine{m.arn, m.name, "STANDARD", awsproto.Time(m.created)})
		}
	}
	slices.SortFunc(all, func(a, b listedMachine) int { return strings.Compare(a.Name, b.Name) })
	part, next, err := page(all, in.NextToken, in.MaxResults)
	return listMachinesOutput{part, next}, err
}

type empty struct{}

// deleteStateMachine lets running executions end; one that doesn't exist is
// deleted already.
func (s *Service) deleteStateMachine(in machineInput) (empty, error) {
	if err := checkARN(in.StateMachineARN); err != nil {
		return empty{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.machines[in.StateMachineARN]; ok {
		m.deleting = true
		s.sweep(m)
	}
	return empty{}, nil
}

// sweep removes a state machine that is being deleted and runs no more. The
// caller holds the lock.
func (s *Service) sweep(m *machine) {
	if !m.deleting {
		return
	}
	for _, e := range s.order {
		if e.machine.arn == m.arn && e.running() {
			return
		}
	}
	delete(s.machines, m.arn)
}

type validateInput struct {
	Definition string `json:"definition"`
	Type       string `json:"type"`
	Severity   string `json:"severity"`
	MaxResults *int   `json:"maxResults"`
}

type validateOutput struct {
	Result      string           `json:"result"`
	Diagnostics []asl.Diagnostic `json:"diagnostics"`
	Truncated   bool             `json:"truncated"`
}

func (s *Service) validateDefinition(in validateInput) (validateOutput, error) {
	out := validateOutput{Result: "OK", Diagnostics: []asl.Diagnostic{}}
	_, err := asl.Parse([]byte(in.Definition))
	var bad *asl.DefinitionError
	if !errors.As(err, &bad) {
		return out, err
	}
	out.Result, out.Diagnostics = "FAIL", bad.Diagnostics
	most := 100
	if in.MaxResults != nil && *in.MaxResults > 0 {
		most = *in.MaxResults
	}
	if len(out.Diagnostics) > most {
		out.Diagnostics, out.Truncated = out.Diagnostics[:most], true
	}
	return out, nil
}

type tagsInput struct {
	ResourceARN string `json:"resourceArn"`
}

type tagsOutput struct {
	Tags []tag `json:"tags"`
}

func (s *Service) listTags(in tagsInput) (tagsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.machine(in.ResourceARN)
	if err != nil {
		return tagsOutput{}, awsproto.Errorf("ResourceNotFound", "Resource not found: '%s'", in.ResourceARN)
	}
	return tagsOutput{append([]tag{}, m.tags...)}, nil
}

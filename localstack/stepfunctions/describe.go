package stepfunctions

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
)

type executionInput struct {
	ExecutionARN string `json:"executionArn"`
	IncludedData string `json:"includedData"`
}

type included struct {
	Included bool `json:"included"`
}

type executionOutput struct {
	ExecutionARN        string         `json:"executionArn"`
	StateMachineARN     string         `json:"stateMachineArn"`
	Name                string         `json:"name"`
	Status              asl.Status     `json:"status"`
	StartDate           *awsproto.Time `json:"startDate"`
	StopDate            *awsproto.Time `json:"stopDate,omitempty"`
	Input               string         `json:"input"`
	InputDetails        included       `json:"inputDetails"`
	Output              *string        `json:"output,omitempty"`
	OutputDetails       *included      `json:"outputDetails,omitempty"`
	Error               string         `json:"error,omitempty"`
	Cause               string         `json:"cause,omitempty"`
	RedriveCount        int            `json:"redriveCount"`
	RedriveDate         *awsproto.Time `json:"redriveDate,omitempty"`
	RedriveStatus       string         `json:"redriveStatus"`
	RedriveStatusReason string         `json:"redriveStatusReason,omitempty"`
}

func (s *Service) describeExecution(in executionInput) (executionOutput, error) {
	s.mu.Lock()
	e, err := s.execution(in.ExecutionARN)
	if err != nil {
		s.mu.Unlock()
		return executionOutput{}, err
	}
	gone := s.machineGone(e)
	s.mu.Unlock()
	return s.describe(e, gone)
}

func (s *Service) describe(e *execution, gone bool) (executionOutput, error) {
	now := s.config.Clock.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	end, err := s.end(e)
	if err != nil {
		return executionOutput{}, err
	}
	out := executionOutput{
		ExecutionARN: e.arn, StateMachineARN: e.machine.arn, Name: e.name, Status: e.status,
		StartDate: timestamp(e.started), StopDate: timestamp(e.stopped),
		Input: end.Input, InputDetails: included{true},
		RedriveCount: e.redrives, RedriveDate: timestamp(e.redriven), RedriveStatus: "REDRIVABLE",
	}
	if end.Output != nil {
		out.Output, out.OutputDetails = end.Output, &included{true}
	}
	if end.Failure != nil {
		out.Error, out.Cause = end.Failure.Name, end.Failure.Cause
	}
	if reason := e.notRedrivable(now, gone); reason != "" {
		out.RedriveStatus, out.RedriveStatusReason = "NOT_REDRIVABLE", reason
	}
	return out, nil
}

func (s *Service) describeForExecution(in executionInput) (machineOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.execution(in.ExecutionARN)
	if err != nil {
		return machineOutput{}, err
	}
	out := e.machine.output()
	out.UpdateDate = timestamp(e.machine.updated)
	return out, nil
}

type listExecutionsInput struct {
	StateMachineARN string     `json:"stateMachineArn"`
	StatusFilter    asl.Status `json:"statusFilter"`
	MaxResults      *int       `json:"maxResults"`
	NextToken       string     `json:"nextToken"`
}

type listedExecution struct {
	ExecutionARN    string         `json:"executionArn"`
	StateMachineARN string         `json:"stateMachineArn"`
	Name            string         `json:"name"`
	Status          asl.Status     `json:"status"`
	StartDate       *awsproto.Time `json:"startDate"`
	StopDate        *awsproto.Time `json:"stopDate,omitempty"`
	RedriveCount    int            `json:"redriveCount"`
	RedriveDate     *awsproto.Time `json:"redriveDate,omitempty"`
}

type listExecutionsOutput struct {
	Executions []listedExecution `json:"executions"`
	NextToken  string            `json:"nextToken,omitempty"`
}

// listExecutions lists the latest first.
func (s *Service) listExecutions(in listExecutionsInput) (listExecutionsOutput, error) {
	known := []asl.Status{"", statusRunning, asl.Succeeded, asl.Failed, asl.TimedOut, asl.Aborted}
	if !slices.Contains(known, in.StatusFilter) {
		return listExecutionsOutput{}, awsproto.Errorf("ValidationException", "there is no status %q", in.StatusFilter)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.machine(in.StateMachineARN); err != nil {
		return listExecutionsOutput{}, err
	}
	all := []listedExecution{}
	for _, e := range slices.Backward(s.order) {
		if e.machine.arn != in.StateMachineARN || s.expired(e) {
			continue
		}
		if l := e.listed(); in.StatusFilter == "" || in.StatusFilter == l.Status {
			all = append(all, l)
		}
	}
	part, next, err := page(all, in.NextToken, in.MaxResults)
	return listExecutionsOutput{part, next}, err
}

func (e *execution) listed() listedExecution {
	e.mu.Lock()
	defer e.mu.Unlock()
	return listedExecution{
		e.arn, e.machine.arn, e.name, e.status, timestamp(e.started), timestamp(e.stopped), e.redrives, timestamp(e.redriven),
	}
}

type historyInput struct {
	ExecutionARN         string `json:"executionArn"`
	MaxResults           *int   `json:"maxResults"`
	ReverseOrder         bool   `json:"reverseOrder"`
	NextToken            string `json:"nextToken"`
	IncludeExecutionData *bool  `json:"includeExecutionData"`
}

type historyOutput struct {
	Events    []map[string]any `json:"events"`
	NextToken string           `json:"nextToken,omitempty"`
}

func (s *Service) getExecutionHistory(in historyInput) (historyOutput, error) {
	s.mu.Lock()
	e, err := s.execution(in.ExecutionARN)
	s.mu.Unlock()
	if err != nil {
		return historyOutput{}, err
	}
	e.mu.Lock()
	count, err := e.events, e.unkept
	e.mu.Unlock()
	if err != nil {
		return historyOutput{}, fmt.Errorf("the history of %s isn't whole: %w", e.arn, err)
	}
	from, to, next, err := bounds(count, in.NextToken, in.MaxResults)
	if err != nil {
		return historyOutput{}, err
	}
	if in.ReverseOrder {
		from, to = count-to, count-from
	}
	part, err := s.archive.events(e.id, from, to)
	if err != nil {
		return historyOutput{}, err
	}
	if in.ReverseOrder {
		slices.Reverse(part)
	}
	data := in.IncludeExecutionData == nil || *in.IncludeExecutionData
	out := historyOutput{Events: []map[string]any{}, NextToken: next}
	for _, event := range part {
		out.Events = append(out.Events, entry(event, data))
	}
	return out, nil
}

// entry is an event as the API's HistoryEvent.
func entry(e event, data bool) map[string]any {
	m := map[string]any{
		"id": e.ID, "previousEventId": e.Previous, "timestamp": awsproto.Time(e.Time), "type": e.Type,
	}
	if e.Key == "" {
		return m
	}
	if !data {
		for _, hidden := range []string{"input", "inputDetails", "output", "outputDetails"} {
			delete(e.Details, hidden)
		}
	}
	m[e.Key] = e.Details
	return m
}

// announce publishes an execution's status (EventBridge, "Step Functions
// Execution Status Change"): times in milliseconds, null for what isn't there.
func (s *Service) announce(e *execution) {
	if s.config.Bus == nil {
		return
	}
	d, err := s.describe(e, false)
	if err != nil {
		s.config.Logger.Error("a status change can't be announced", "execution", e.arn, "error", err)
		return
	}
	const longest = 248 << 10 // of input and output; longer ones are left out
	detail := map[string]any{
		"executionArn": d.ExecutionARN, "stateMachineArn": d.StateMachineARN, "name": d.Name, "status": d.Status,
		"startDate": time.Time(*d.StartDate).UnixMilli(), "stopDate": nil,
		"input": nil, "inputDetails": included{len(d.Input) < longest},
		"output": nil, "outputDetails": nil, "error": nil, "cause": nil,
		"redriveCount": d.RedriveCount, "redriveDate": nil, "redriveStatus": d.RedriveStatus,
		"redriveStatusReason": nil, "stateMachineVersionArn": nil, "stateMachineAliasArn": nil,
	}
	for name, at := range map[string]*awsproto.Time{"stopDate": d.StopDate, "redriveDate": d.RedriveDate} {
		if at != nil {
			detail[name] = time.Time(*at).UnixMilli()
		}
	}
	for name, text := range map[string]string{"error": d.Error, "cause": d.Cause, "redriveStatusReason": d.RedriveStatusReason} {
		if text != "" {
			detail[name] = text
		}
	}
	if len(d.Input) < longest {
		detail["input"] = d.Input
	}
	if d.Output != nil {
		fits := len(d.Input)+len(*d.Output) < longest
		detail["outputDetails"] = included{fits}
		if fits {
			detail["output"] = *d.Output
		}
	}
	body, err := json.Marshal(detail)
	if err != nil {
		s.config.Logger.Error("a status change can't be written", "execution", e.arn, "error", err)
		return
	}
	s.config.Bus.Publish(host.Event{
		Source: "aws.states", DetailType: "Step Functions Execution Status Change", Detail: body, Resources: []string{e.arn},
	})
}

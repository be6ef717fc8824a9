package asl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// frame is where a graph runs: the event before it, whether it is the machine
// itself, and the Map item it works on.
type frame struct {
	last      int64
	outermost bool
	item      *item
}

type item struct {
	index int
	value any
}

// visit is one stay in a state.
type visit struct {
	run     *run
	state   *state
	frame   frame
	raw     any   // the state's input before InputPath
	entered int64 // id of its Entered event
	last    int64 // id of the latest event
	since   time.Time
	retries int
}

// graph runs from start to an end. It returns the id of the last event.
func (r *run) graph(ctx context.Context, g *graph, start string, input any, f frame) (any, int64, error) {
	for name := start; ; {
		s := g.states[name]
		v := &visit{run: r, state: s, frame: f, raw: input, since: r.env.Clock.Now()}
		text := encode(input)
		r.enter(s, text, f)
		var err error
		v.last, err = r.history.add(s.kind+"StateEntered", "stateEnteredEventDetails",
			Details{"name": s.name, "input": text, "inputDetails": whole}, f.last)
		if err != nil {
			return nil, v.last, err
		}
		v.entered = v.last
		out, next, err := v.perform(ctx)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, v.last, v.left(err)
		}
		f.last, err = r.history.add(s.kind+"StateExited", "stateExitedEventDetails",
			Details{"name": s.name, "output": encode(out), "outputDetails": whole}, v.last)
		if err != nil || next == "" {
			return out, f.last, err
		}
		name, input = next, out
	}
}

// left names the state in an error. A state that is cut because its sibling
// failed is recorded as aborted; one that is cut with the whole execution isn't.
func (v *visit) left(err error) error {
	var failed *Error
	if errors.As(err, &failed) {
		return failed.described(v.state.name, v.entered)
	}
	switch v.state.kind {
	case "Task", "Wait", "Map", "Parallel":
		if v.run.root.Err() == nil {
			_, _ = v.run.history.add(v.state.kind+"StateAborted", "", nil, v.last) // a full history ends the run elsewhere
		}
	}
	return err
}

// scope is what the state's expressions read.
func (v *visit) scope(data any) scope {
	return scope{data: data, context: func() any { return v.contextObject() }}
}

// contextObject is $$ (developer guide, "Context object").
func (v *visit) contextObject() any {
	const layout = "2006-01-02T15:04:05.000Z"
	c := v.run.env.Context
	state := map[string]any{"Name": v.state.name, "EnteredTime": v.since.UTC().Format(layout)}
	switch v.state.kind {
	case "Task", "Map", "Parallel":
		state["RetryCount"] = json.Number(fmt.Sprint(v.retries))
	}
	all := map[string]any{
		"Execution": map[string]any{
			"Id": c.ExecutionID, "Name": c.ExecutionName, "RoleArn": c.RoleARN, "Input": v.run.input,
			"StartTime":    c.StartTime.UTC().Format(layout),
			"RedriveCount": json.Number(fmt.Sprint(c.RedriveCount)),
		},
		"StateMachine": map[string]any{"Id": c.StateMachineID, "Name": c.StateMachineName},
		"State":        state,
	}
	if i := v.frame.item; i != nil {
		all["Map"] = map[string]any{"Item": map[string]any{
			"Index": json.Number(fmt.Sprint(i.index)), "Value": i.value,
		}}
	}
	return all
}

// perform does what the state's type says.
func (v *visit) perform(ctx context.Context) (any, string, error) {
	switch v.state.kind {
	case "Task", "Map", "Parallel":
		return v.persist(ctx)
	}
	input, failed := v.input()
	if failed != nil {
		return nil, "", failed
	}
	var out any
	var err error
	next := v.state.next
	switch v.state.kind {
	case "Pass":
		out, err = v.pass(input)
	case "Wait":
		out, err = input, v.sleep(ctx, input)
	case "Choice":
		out = input
		next, err = v.choose(input)
	case "Fail":
		return nil, "", v.failure(input)
	default: // Succeed
		out = input
	}
	if err == nil {
		out, err = v.output(out)
	}
	return out, next, err
}

// persist runs a state that may fail, with its Retry and Catch.
func (v *visit) persist(ctx context.Context) (any, string, error) {
	used := make([]int, len(v.state.retry))
	for {
		out, err := v.attempt(ctx)
		var failed *Error
		if err == nil || !errors.As(err, &failed) {
			return out, v.state.next, err
		}
		if i, ok := v.retrier(failed); ok && used[i] < v.state.retry[i].attempts {
			d := v.state.retry[i].delay(used[i], v.run.env.Random)
			used[i]++
			v.retries++
			if err := v.run.env.Clock.Sleep(ctx, d); err != nil {
				return nil, "", err
			}
			continue
		}
		for _, c := range v.state.catch {
			if failed.matches(c.errors, v.run.env.AllMatchesDataLimit) {
				out, err := v.caught(c, failed.described(v.state.name, v.entered))
				return out, c.next, err
			}
		}
		return nil, "", failed
	}
}

// retrier is the first Retry that names the error; only that one counts, even
// when its attempts are used up.
func (v *visit) retrier(e *Error) (int, bool) {
	for i, r := range v.state.retry {
		if e.matches(r.errors, v.run.env.AllMatchesDataLimit) {
			return i, true
		}
	}
	return 0, false
}

func (v *visit) caught(c catcher, e *Error) (any, error) {
	// Executions recorded on the service have a Cause even where there is none to
	// tell, as for a time-out.
	document := map[string]any{"Error": e.Name, "Cause": e.Cause}
	if c.result.discard {
		return v.raw, nil
	}
	out, err := c.result.path.set(v.raw, document)
	if err != nil {
		return nil, resultPathError(c.result, err)
	}
	return out, limited(out, "the output")
}

// attempt runs the state once, from InputPath to OutputPath.
func (v *visit) attempt(ctx context.Context) (any, error) {
	input, err := v.input()
	if err != nil {
		return nil, err
	}
	arguments := input
	if v.state.parameters != nil {
		if arguments, err = evaluate(v.state.parameters, v.scope(input)); err != nil {
			return nil, err
		}
		if err := limited(arguments, "the input that Parameters made"); err != nil {
			return nil, err
		}
	}
	var result any
	var failed error
	switch v.state.kind {
	case "Task":
		result, failed = v.task(ctx, input, arguments)
	case "Map":
		result, failed = v.iterate(ctx, arguments)
	default:
		result, failed = v.parallel(ctx, arguments)
	}
	if failed != nil {
		return nil, failed
	}
	if v.state.resultSelector != nil {
		if result, err = evaluate(v.state.resultSelector, v.scope(result)); err != nil {
			return nil, err
		}
	}
	// ResultPath puts the result into the state's input as it came.
	out, failed := v.place(v.raw, result)
	if failed != nil {
		return nil, failed
	}
	return v.output(out)
}

// input applies InputPath.
func (v *visit) input() (any, *Error) {
	if v.state.input.discard {
		return map[string]any{}, nil
	}
	return evaluate(v.state.input.path, v.scope(v.raw))
}

func (v *visit) output(out any) (any, error) {
	if v.state.output.discard {
		return map[string]any{}, nil
	}
	selected, err := evaluate(v.state.output.path, v.scope(out))
	if err != nil {
		return nil, err
	}
	return selected, limited(selected, "the output")
}

func (v *visit) place(input, result any) (any, error) {
	if v.state.result.discard {
		return input, nil
	}
	out, err := v.state.result.path.set(input, result)
	if err != nil {
		return nil, resultPathError(v.state.result, err)
	}
	return out, nil
}

func resultPathError(p place, err error) *Error {
	return &Error{Name: ResultPathMatchFailure, Cause: fmt.Sprintf("ResultPath %s: %v", p.path.text, err), inner: true}
}

// limited refuses a payload that is too long.
func limited(v any, what string) error {
	if len(encode(v)) > MaxPayload {
		return &Error{Name: DataLimitExceeded, Cause: fmt.Sprintf("%s is longer than %d bytes", what, MaxPayload), inner: true}
	}
	return nil
}

func (v *visit) pass(input any) (any, error) {
	result := input
	switch {
	case v.state.pass != nil:
		result = *v.state.pass
	case v.state.parameters != nil:
		made, err := evaluate(v.state.parameters, v.scope(input))
		if err != nil {
			return nil, err
		}
		result = made
	}
	return v.place(v.raw, result)
}

func (v *visit) choose(input any) (string, error) {
	for i, r := range v.state.choice.rules {
		ok, err := r.holds(v.scope(input))
		if err != nil {
			return "", runtimeError("Choices", fmt.Errorf("rule %d: %w", i, err))
		}
		if ok {
			return r.next, nil
		}
	}
	if v.state.choice.otherwise == "" {
		return "", runtimeError(NoChoiceMatched, errors.New("no rule holds and there is no Default"))
	}
	return v.state.choice.otherwise, nil
}

// sleep waits as the Wait state says; a time that has passed is no wait.
func (v *visit) sleep(ctx context.Context, input any) error {
	w, d := v.state.wait, v.state.wait.seconds
	switch {
	case w.secondsPath != nil:
		n, err := v.seconds(w.secondsPath, input, 0)
		if err != nil {
			return err
		}
		d = n
	case w.untilPath != nil:
		found, err := evaluate(w.untilPath, v.scope(input))
		if err != nil {
			return err
		}
		t, ok := timestamp(found)
		if !ok {
			return runtimeError("TimestampPath", fmt.Errorf("%s is no RFC 3339 time", encode(found)))
		}
		d = t.Sub(v.run.env.Clock.Now())
	case !w.until.IsZero():
		d = w.until.Sub(v.run.env.Clock.Now())
	}
	return v.run.env.Clock.Sleep(ctx, d)
}

// seconds reads a number of seconds from the input.
func (v *visit) seconds(p *path, input any, least int64) (time.Duration, error) {
	found, err := evaluate(p, v.scope(input))
	if err != nil {
		return 0, err
	}
	n, ok := wholeNumber(found)
	if !ok || n < least || n > maxSeconds {
		return 0, runtimeError("seconds", fmt.Errorf("%s at %s is no whole number from %d to %d", encode(found), p.text, least, maxSeconds))
	}
	return time.Duration(n) * time.Second, nil
}

func (v *visit) failure(input any) error {
	e := &Error{Name: v.state.fail.name, Cause: v.state.fail.cause}
	for _, part := range []struct {
		from expression
		into *string
	}{{v.state.fail.namePath, &e.Name}, {v.state.fail.causePath, &e.Cause}} {
		if part.from == nil {
			continue
		}
		found, err := evaluate(part.from, v.scope(input))
		if err != nil {
			return err
		}
		text, ok := found.(string)
		if !ok {
			return runtimeError("ErrorPath, CausePath", fmt.Errorf("%s isn't text", encode(found)))
		}
		*part.into = text
	}
	return e
}

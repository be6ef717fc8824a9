package asl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// task calls the Task's resource once.
func (v *visit) task(ctx context.Context, input, arguments any) (any, error) {
	t := v.state.task
	timeout, heartbeat, err := v.bounds(input)
	if err != nil {
		return nil, err
	}
	text := encode(arguments)
	kind := t.service
	if t.sdk {
		kind = "aws-sdk:" + t.service
	}
	with := func(more Details) Details {
		d := Details{"resourceType": kind, "resource": t.action}
		for k, value := range more {
			d[k] = value
		}
		return d
	}
	scheduled := with(Details{"parameters": text, "region": v.run.env.Context.Region})
	if timeout > 0 {
		scheduled["timeoutInSeconds"] = int64(timeout / time.Second)
	}
	if heartbeat > 0 {
		scheduled["heartbeatInSeconds"] = int64(heartbeat / time.Second)
	}
	if err := v.record("TaskScheduled", "taskScheduledEventDetails", scheduled); err != nil {
		return nil, err
	}
	if err := v.record("TaskStarted", "taskStartedEventDetails", with(nil)); err != nil {
		return nil, err
	}
	result, failed, err := v.call(ctx, json.RawMessage(text), timeout, heartbeat)
	switch {
	case err != nil:
		return nil, err
	case failed != nil && failed.Name == Timeout:
		err = v.record("TaskTimedOut", "taskTimedOutEventDetails", with(failed.details()))
	case failed != nil:
		err = v.record("TaskFailed", "taskFailedEventDetails", with(failed.details()))
	default:
		err = v.record("TaskSucceeded", "taskSucceededEventDetails",
			with(Details{"output": encode(result), "outputDetails": whole}))
	}
	if err == nil && failed != nil {
		err = failed
	}
	return result, err
}

func (v *visit) record(kind, key string, details Details) error {
	id, err := v.run.history.add(kind, key, details, v.last)
	v.last = id
	return err
}

// bounds are the task's time-out and heartbeat; zero means none.
func (v *visit) bounds(input any) (timeout, heartbeat time.Duration, err error) {
	t := v.state.task
	timeout, heartbeat = t.timeout, t.heartbeat
	if t.timeoutPath != nil {
		if timeout, err = v.seconds(t.timeoutPath, input, 1); err != nil {
			return 0, 0, err
		}
	}
	if t.heartbeatPath != nil {
		if heartbeat, err = v.seconds(t.heartbeatPath, input, 1); err != nil {
			return 0, 0, err
		}
	}
	if timeout > 0 && heartbeat >= timeout {
		return 0, 0, runtimeError("HeartbeatSecondsPath", errors.New("the heartbeat isn't less than the time-out"))
	}
	return timeout, heartbeat, nil
}

type answer struct {
	data   []byte
	failed *Error
}

// call asks the environment and waits no longer than the bounds say. The tasks
// that are supported send no heartbeats, so that one is due once.
func (v *visit) call(ctx context.Context, input json.RawMessage, timeout, heartbeat time.Duration) (any, *Error, error) {
	if v.run.env.Task == nil {
		return nil, &Error{Name: Runtime, Cause: "the environment runs no tasks", inner: true}, nil
	}
	t := v.state.task
	answers := make(chan answer, 1)
	go func() {
		data, failed := v.run.env.Task(context.WithoutCancel(ctx), TaskCall{
			State: v.state.name, Resource: t.resource, Service: t.service, Action: t.action, SDK: t.sdk,
			Input: input, Attempt: v.retries,
		})
		answers <- answer{data, failed}
	}()
	timers, stop := context.WithCancel(ctx)
	defer stop()
	select {
	case a := <-answers:
		return a.read(t)
	case <-v.after(timers, timeout):
		return nil, &Error{Name: Timeout}, nil
	case <-v.after(timers, heartbeat):
		return nil, &Error{Name: Timeout, alias: HeartbeatTimeout}, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// after closes its channel when d has passed; never for zero.
func (v *visit) after(ctx context.Context, d time.Duration) <-chan struct{} {
	if d <= 0 {
		return nil
	}
	done := make(chan struct{})
	go func() {
		if v.run.env.TaskClock.Sleep(ctx, d) == nil {
			close(done)
		}
	}()
	return done
}

func (a answer) read(t *task) (any, *Error, error) {
	if a.failed != nil {
		return nil, a.failed, nil
	}
	if len(a.data) > MaxPayload {
		return nil, &Error{Name: DataLimitExceeded, Cause: fmt.Sprintf("%s answered more than %d bytes", t.resource, MaxPayload)}, nil
	}
	result, err := decode(a.data)
	if err != nil {
		return nil, &Error{Name: Runtime, Cause: t.resource + " answered no JSON: " + err.Error(), inner: true}, nil
	}
	return result, nil, nil
}

// LambdaResult is what lambda:invoke returns for a function's answer, for tests
// that script a Task.
func LambdaResult(payload []byte) []byte {
	return fmt.Appendf(nil, `{"ExecutedVersion":"$LATEST","Payload":%s,"StatusCode":200}`, payload)
}

// parallel runs all branches on the same input.
func (v *visit) parallel(ctx context.Context, input any) (any, error) {
	if err := v.record("ParallelStateStarted", "", nil); err != nil {
		return nil, err
	}
	f := newFanout(ctx, len(v.state.branches), len(v.state.branches))
	for i := range v.state.branches {
		f.run(i, func(ctx context.Context) (any, error) {
			g := &v.state.branches[i]
			out, _, err := v.run.graph(ctx, g, g.startAt, input, frame{last: v.last, item: v.frame.item})
			return out, err
		})
	}
	return v.join(f)
}

// join waits for the branches or iterations and records how they ended.
func (v *visit) join(f *fanout) (any, error) {
	results, err := f.wait()
	var failed *Error
	if err != nil && !errors.As(err, &failed) {
		return nil, err
	}
	end := "StateSucceeded"
	if failed != nil {
		end = "StateFailed"
	}
	if full := v.record(v.state.kind+end, "", nil); full != nil {
		return nil, full
	}
	return results, err
}

// defaultConcurrency is what an inline Map runs at once if MaxConcurrency is 0
// (developer guide, "Map state").
const defaultConcurrency = 40

// iterate runs the item processor for each item.
func (v *visit) iterate(ctx context.Context, input any) (any, error) {
	m := v.state.mapping
	source := input
	if m.items != nil {
		found, err := evaluate(m.items, v.scope(input))
		if err != nil {
			return nil, err
		}
		source = found
	}
	items, ok := source.([]any)
	if !ok {
		return nil, runtimeError("ItemsPath", errors.New("it finds no array"))
	}
	if err := v.record("MapStateStarted", "mapStateStartedEventDetails", Details{"length": len(items)}); err != nil {
		return nil, err
	}
	width := m.concurrency
	if width == 0 {
		width = defaultConcurrency
	}
	f := newFanout(ctx, len(items), width)
	for i := range items {
		f.run(i, func(ctx context.Context) (any, error) { return v.iteration(ctx, input, i, items[i]) })
	}
	return v.join(f)
}

func (v *visit) iteration(ctx context.Context, input any, i int, value any) (any, error) {
	h, details := &v.run.history, Details{"name": v.state.name, "index": i}
	at := frame{item: &item{index: i, value: value}}
	in := value
	if v.state.mapping.selector != nil {
		inner := *v
		inner.frame = at
		made, err := evaluate(v.state.mapping.selector, inner.scope(input))
		if err != nil {
			return nil, err
		}
		in = made
	}
	id, err := h.add("MapIterationStarted", "mapIterationStartedEventDetails", details, v.last)
	if err != nil {
		return nil, err
	}
	at.last = id
	g := &v.state.branches[0]
	out, last, err := v.run.graph(ctx, g, g.startAt, in, at)
	var failed *Error
	switch {
	case err == nil:
		_, err = h.add("MapIterationSucceeded", "mapIterationSucceededEventDetails", details, last)
	case errors.As(err, &failed):
		if _, full := h.add("MapIterationFailed", "mapIterationFailedEventDetails", details, last); full != nil {
			return nil, full
		}
	case v.run.root.Err() == nil:
		_, _ = h.add("MapIterationAborted", "mapIterationAbortedEventDetails", details, last) // err says more
	}
	return out, err
}

// fanout runs functions at once; the first failure cuts the others.
type fanout struct {
	ctx     context.Context
	cancel  context.CancelFunc
	places  chan struct{}
	group   sync.WaitGroup
	results []any
	mu      sync.Mutex
	err     error
}

func newFanout(ctx context.Context, n, width int) *fanout {
	f := &fanout{results: make([]any, n), places: make(chan struct{}, max(1, min(n, width)))}
	f.ctx, f.cancel = context.WithCancel(ctx)
	return f
}

// run starts the function as soon as there is a place, in the order of the
// calls.
func (f *fanout) run(i int, do func(context.Context) (any, error)) {
	select {
	case f.places <- struct{}{}:
	case <-f.ctx.Done():
	}
	if err := f.ctx.Err(); err != nil {
		f.fail(err)
		return
	}
	f.group.Go(func() {
		defer func() { <-f.places }()
		out, err := do(f.ctx)
		if err != nil {
			f.fail(err)
			return
		}
		f.results[i] = out
	})
}

func (f *fanout) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var failed *Error
	if f.err == nil || errors.As(err, &failed) && !errors.As(f.err, &failed) {
		f.err = err
	}
	f.cancel()
}

func (f *fanout) wait() (any, error) {
	f.group.Wait()
	f.cancel()
	return f.results, f.err
}

package secretsmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"
)

var functionPattern = regexp.MustCompile(`^arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:[A-Za-z0-9_-]{1,140}(:[A-Za-z0-9$_-]+)?$`)

var (
	steps    = []string{"createSecret", "setSecret", "testSecret", "finishSecret"}
	testStep = []string{"testSecret"}

	errStopped = errors.New("the rotation was stopped")
)

// rotationEvent is what a rotation function is invoked with.
type rotationEvent struct {
	Step               string
	SecretID           string `json:"SecretId"`
	ClientRequestToken string
	RotationToken      string
}

// start begins the process in the background; the caller holds the lock.
func (s *Service) start(sec *secret, token string, testOnly bool) {
	if s.ctx.Err() != nil {
		return
	}
	r := &sec.rotation
	if r.unfinished == nil {
		r.unfinished, r.issued = map[string]bool{}, map[string]string{}
	}
	p := &run{token: token, rotationToken: newUUID(), testOnly: testOnly}
	p.ctx, p.stop = context.WithCancel(s.ctx)
	p.wake = func() {}
	r.issued[p.rotationToken] = token
	if !testOnly {
		r.unfinished[token] = true
	}
	r.run = p
	s.wg.Go(func() {
		defer p.stop()
		if testOnly {
			s.test(sec, p)
		} else {
			s.rotate(sec, p)
		}
	})
}

// rotate runs all steps, and all of them again after a failure.
func (s *Service) rotate(sec *secret, p *run) {
	for attempt := 0; ; attempt++ {
		started := s.begin(sec, "RotationStarted")
		err := s.runSteps(sec, p, steps)
		if err == nil {
			err = s.succeed(sec, p, started)
		}
		if err == nil || !s.failed(sec, p, attempt, err) {
			return
		}
	}
}

func (s *Service) begin(sec *secret, event string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.publishService(event, sec.arn)
	return s.clock.Now()
}

// runSteps invokes the function for each step and stops at the first error.
func (s *Service) runSteps(sec *secret, p *run, steps []string) error {
	for _, step := range steps {
		if s.lost(sec, p) {
			return errStopped
		}
		s.mu.Lock()
		function, invoker := sec.rotation.function, s.invoker
		s.mu.Unlock()
		event, err := json.Marshal(rotationEvent{step, sec.arn, p.token, p.rotationToken})
		if err != nil {
			return fmt.Errorf("making the event of %s: %w", step, err)
		}
		if invoker == nil {
			return fmt.Errorf("step %s: the local AWS has no Lambda service", step)
		}
		answer, err := invoker.Invoke(s.ctx, function, event)
		if err != nil {
			return fmt.Errorf("step %s: invoking the rotation function: %w", step, err)
		}
		if answer.FunctionError != "" {
			return fmt.Errorf("step %s: the rotation function failed with %s", step, errorType(answer.Payload))
		}
	}
	return nil
}

// errorType is all of an error document that is logged: a careless function's
// message may hold a value.
func errorType(payload []byte) string {
	var doc struct {
		ErrorType string `json:"errorType"`
	}
	if json.Unmarshal(payload, &doc) != nil || doc.ErrorType == "" {
		return "an unnamed error"
	}
	return doc.ErrorType
}

// lost reports that no further step may run. A version that somebody took
// AWSPENDING from is nothing to rotate to any more.
func (s *Service) lost(sec *secret, p *run) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.ctx.Err() != nil {
		return true
	}
	gone := sec.labels[pending] != p.token && sec.labels[current] != p.token
	if gone && !p.testOnly {
		s.giveUp(sec, p.token)
	}
	return gone
}

// succeed ends a rotation whose steps all returned. Steps that return without
// having moved AWSCURRENT have not rotated anything.
func (s *Service) succeed(sec *secret, p *run, started time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &sec.rotation
	if sec.labels[current] != p.token {
		if p.ctx.Err() != nil {
			return errStopped
		}
		return errors.New("all steps returned, but the new version isn't AWSCURRENT")
	}
	delete(r.unfinished, p.token)
	if r.run == p {
		r.run = nil
	}
	s.remember(sec)
	if !s.behaviour.KeepPending && sec.labels[pending] == p.token {
		delete(sec.labels, pending)
	}
	now := s.clock.Now()
	r.last = now
	if r.enabled {
		r.next = r.rules.next(started, now)
		s.alarm.Reset()
	}
	s.publishService("RotationSucceeded", sec.arn)
	return nil
}

// failed reports whether to try the whole process again, and waits for it.
func (s *Service) failed(sec *secret, p *run, attempt int, err error) bool {
	s.mu.Lock()
	r := &sec.rotation
	if p.ctx.Err() != nil || errors.Is(err, errStopped) {
		s.mu.Unlock()
		return false
	}
	s.log.Warn("rotation attempt failed", "secret", sec.arn, "version", p.token, "attempt", attempt+1, "error", err.Error())
	s.publishService("RotationFailed", sec.arn)
	b := s.behaviour
	if attempt >= b.Retries {
		if r.run == p {
			r.run = nil
		}
		s.mu.Unlock()
		return false
	}
	pause, wake := context.WithCancel(p.ctx)
	p.wake = wake
	s.mu.Unlock()
	defer wake()
	// The pause ends early when RotateSecret asks for a reattempt; only the end
	// of the run itself ends the repetitions.
	_ = s.clock.Sleep(pause, b.RetryAfter)
	return !s.lost(sec, p)
}

// test runs testSecret alone and takes its version away again, whatever came out.
func (s *Service) test(sec *secret, p *run) {
	s.begin(sec, "TestRotationStarted")
	err := s.runSteps(sec, p, testStep)
	s.mu.Lock()
	defer s.mu.Unlock()
	if sec.rotation.run == p {
		sec.rotation.run = nil
	}
	if s.ctx.Err() != nil {
		return
	}
	if sec.labels[current] != p.token {
		s.remember(sec)
		for _, label := range sec.labelsOf(p.token) {
			delete(sec.labels, label)
		}
		sec.drop(p.token)
	}
	if err != nil {
		s.log.Warn("rotation test failed", "secret", sec.arn, "version", p.token, "error", err.Error())
		s.publishService("TestRotationFailed", sec.arn)
		return
	}
	s.publishService("TestRotationSucceeded", sec.arn)
}

// startDue starts the rotations whose date has come, and returns the next date.
func (s *Service) startDue() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	var next time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, sec := range s.secrets {
		r := &sec.rotation
		if !r.enabled || !sec.deletion.IsZero() {
			continue
		}
		due := reached(r.next, now) || reached(r.leftover, now)
		if reached(r.leftover, now) {
			r.leftover = time.Time{}
		}
		if reached(r.next, now) {
			r.next = r.rules.next(r.next, now)
		}
		if due {
			s.startScheduled(sec)
		}
		earlier(r.next)
		earlier(r.leftover)
	}
	return next
}

func reached(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// startScheduled starts a rotation by the schedule. A stranded AWSPENDING is
// taken up again or replaced, as Behaviour.ReuseStranded says.
func (s *Service) startScheduled(sec *secret) {
	r := &sec.rotation
	stranded := sec.labels[pending]
	if stranded == sec.labels[current] {
		stranded = ""
	}
	if r.run != nil && (r.run.token == stranded || r.run.token == sec.labels[current]) {
		return // that rotation is under way, or has only to return
	}
	if stranded != "" && s.behaviour.ReuseStranded {
		s.start(sec, stranded, false)
		return
	}
	token := newUUID()
	if err := s.makePending(sec, token, true); err != nil {
		s.log.Warn("scheduled rotation can't start", "secret", sec.arn, "error", err.Error())
		s.publishService("RotationFailed", sec.arn)
		return
	}
	if stranded != "" {
		s.giveUp(sec, stranded)
	}
	s.start(sec, token, false)
}

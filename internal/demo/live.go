package demo

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/demo/report"
)

// span is one state of one rotation, as it was entered and left.
type span struct {
	token, execution string
	name             string
	kind             report.Kind
	from, to         time.Time // to is zero while it lasts
}

// shown are the states that mean something to a person; Answer and Wait belong
// to the state that they are named after.
var shown = map[string]bool{
	"Create": true, "Set": true, "Test": true, "Finish": true, "Abort": true, "Rollback": true,
	"Adopt": true, "Drain": true, "Disable": true, "Hold": true, "Revoke": true,
}

// onState follows the executions of the state machine.
func (s *stage) onState(execution, state string, entered bool, at time.Time) {
	if !entered {
		return
	}
	s.mu.Lock()
	tell := s.entered
	s.mu.Unlock()
	if tell != nil {
		tell(execution, state)
	}
	name := execution[strings.LastIndex(execution, ":")+1:]
	parts := strings.Split(name, "-")
	if len(parts) < 8 { // hash, five of a UUID, direction, generation
		return
	}
	token, letter := strings.Join(parts[1:6], "-"), parts[6]
	state = strings.TrimSuffix(strings.TrimSuffix(state, "Answer"), "Wait")
	kind := map[string]report.Kind{"h": report.Head, "f": report.Tail, "b": report.Back}[letter]
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.spans {
		open := &s.spans[i]
		if open.execution != name || !open.to.IsZero() {
			continue
		}
		if open.name == state {
			return
		}
		open.to = at
	}
	if shown[state] {
		s.spans = append(s.spans, span{token: token, execution: name, name: state, kind: kind, from: at})
	}
}

// begin shows the head of a rotation that Secrets Manager drives: its steps run
// inside of the service, where nobody sees them before the audit trail is read.
func (s *stage) begin(t turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = t
	if t.By == "RotateSecret" {
		s.spans = append(s.spans, span{token: t.Token, execution: t.Token, name: "RotateSecret", kind: report.Head, from: t.Started})
	}
}

// progress tells the live view how the turn stands, and ends what is over.
func (s *stage) progress(t turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = t
	for i := range s.spans {
		open := &s.spans[i]
		if open.token != t.Token || !open.to.IsZero() {
			continue
		}
		switch {
		case open.execution == t.Token && !t.Promoted.IsZero():
			open.to = t.Promoted
		case !t.Ended.IsZero():
			open.to = t.Ended
		}
	}
}

// live is the view that runs beside the rotations.
type live struct {
	view *report.Live
	end  context.CancelFunc
	done sync.WaitGroup
}

func (l *live) stop() {
	l.end()
	l.done.Wait()
	l.view.Close()
}

// watch draws the view and, while it is at it, reads command lines.
func (s *stage) watch(ctx context.Context) *live {
	ctx, cancel := context.WithCancel(ctx)
	l := &live{view: report.NewLive(s.options.Progress), end: cancel}
	l.done.Go(func() {
		for i := 0; pause(ctx, 250*time.Millisecond) == nil; i++ {
			if i%4 == 0 {
				s.argv.look()
			}
			l.view.Show(s.view())
		}
	})
	return l
}

func (s *stage) view() report.View {
	snapshot := s.load.Snapshot()
	s.mu.Lock()
	defer s.mu.Unlock()
	v := report.View{
		At: time.Now(), Started: s.started, Rotation: len(s.turns), Of: s.options.Rotations,
		State: snapshot.Interval, Since: s.started,
		Logins: snapshot.Second.Logins, Rate: float64(snapshot.Second.Requests), P99: snapshot.Second.P99,
		Requests: snapshot.Totals.Requests, Failed: snapshot.Totals.Failed,
	}
	if s.now.Token == "" {
		return v
	}
	v.Old, v.New = s.now.From.Username, s.now.To.Username
	if s.now.Ended.IsZero() {
		v.Rotation++
	}
	for _, sp := range s.spans {
		switch {
		case sp.token != s.now.Token:
		case sp.to.IsZero():
			v.State, v.Kind, v.Since = sp.name, sp.kind, sp.from
		default:
			v.Passed = append(v.Passed, report.Span{Name: sp.name, Kind: sp.kind, From: sp.from, To: sp.to})
		}
	}
	return v
}

package chaos

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// layer says which kind of call a point is.
type layer string

const (
	layerAWS      layer = "aws"      // an HTTP call of the SDK
	layerPostgres layer = "postgres" // one exchange with the server: everything up to its ReadyForQuery
	layerAudit    layer = "audit"    // a record put into the ledger
	layerLambda   layer = "lambda"   // the invocation of a function
	layerStates   layer = "states"   // a call that the state machine makes by itself
	layerInstance layer = "instance" // a request to the instance that follows
)

// Point is one call of a walk: the Call-th of the Nth invocation of a function.
// An invocation itself is its call 0.
type Point struct {
	Function string
	Nth      int
	Call     int
	Layer    layer
	Name     string // the action or the statement's first words
}

// place is what identifies a point in another walk of the same kind.
func (p Point) place() string { return fmt.Sprintf("%s %d/%d", p.Function, p.Nth, p.Call) }

func (p Point) String() string { return p.place() + " " + string(p.Layer) + ":" + p.Name }

// Kind is what goes wrong at a point.
type Kind string

// What can go wrong. A crash ends the process: nothing that it would have done
// afterwards happens, and its caller is told that it is gone. So does a call that
// is never answered, when the function's time is up.
const (
	CrashBefore Kind = "crash before"
	CrashAfter  Kind = "crash after"
	HalfOpen    Kind = "crash after, and the server doesn't hear of it"
	ResetBefore Kind = "connection reset before it was sent"
	AnswerLost  Kind = "time-out after it was carried out"
	Throttle    Kind = "throttled"
	ServerError Kind = "5xx"
	HangBefore  Kind = "not carried out and never answered"
	HangAfter   Kind = "carried out and never answered"
	StaleRead   Kind = "stale answer"
	Zombie      Kind = "goes on after its execution was stopped"
	TurnedBack  Kind = "goes on after a rollback was asked for"
	Cancelled   Kind = "goes on after its rotation was cancelled"
	ClockAhead  Kind = "clock ahead"
	ClockBehind Kind = "clock behind"

	// These hold for a whole walk.
	ReadLag     Kind = "reads lag behind writes"
	KeepPending Kind = "AWSPENDING stays after a success"
	TriedAgain  Kind = "the store tries the rotation again by itself"
	Away        Kind = "it is down for ten minutes"
)

// conditions are what AWS leaves open, or makes no promise about, and what
// nobody can promise of an instance.
var conditions = map[Kind]func(*scene){
	ReadLag:     func(s *scene) { s.behaviour.ReadLag = 300 * time.Millisecond },
	KeepPending: func(s *scene) { s.behaviour.KeepPending = true },
	TriedAgain:  func(s *scene) { s.behaviour.Retries, s.behaviour.RetryAfter = 2, time.Minute },
	Away:        func(s *scene) { s.away = 10 * time.Minute },
}

// Fault is one thing that goes wrong at one point.
type Fault struct {
	At   Point
	Kind Kind
}

func (f Fault) String() string { return f.At.String() + ": " + string(f.Kind) }

// kinds lists what can go wrong at a point.
func kinds(p Point) []Kind {
	var more []Kind
	switch p.Function {
	case "operator": // a person doesn't wait for ever
	case "rollback", "abortSecret", "watchdog":
		more = []Kind{HangBefore, HangAfter}
	case "rotateSecret": // the only one that Secrets Manager calls
		more = []Kind{HangBefore, HangAfter, Zombie, TurnedBack, Cancelled}
	default:
		more = []Kind{HangBefore, HangAfter, Zombie, TurnedBack}
	}
	switch p.Layer {
	case layerAWS:
		all := []Kind{CrashBefore, CrashAfter, ResetBefore, AnswerLost, Throttle, ServerError}
		if stale(p.Name) {
			all = append(all, StaleRead)
		}
		return append(all, more...)
	case layerPostgres:
		return append([]Kind{CrashBefore, CrashAfter, HalfOpen, ResetBefore, AnswerLost}, more...)
	case layerAudit: // whoever records has a time of his own for it
		return []Kind{CrashBefore, CrashAfter, ResetBefore, AnswerLost, HangBefore, HangAfter}
	case layerInstance: // as whoever asks it
		return append([]Kind{CrashBefore, CrashAfter, ResetBefore, AnswerLost, Throttle, ServerError}, more...)
	case layerLambda:
		return []Kind{Throttle, ServerError, CrashBefore, CrashAfter, ClockAhead, ClockBehind}
	case layerStates:
		return []Kind{Throttle, ServerError, AnswerLost, Zombie}
	}
	return nil
}

// reads reports a call that changes nothing: whether it went wrong before or
// after makes no difference to anybody but the one who asked.
func reads(p Point) bool {
	switch p.Layer {
	case layerAWS:
		return p.Name == "DescribeSecret" || p.Name == "GetSecretValue" || p.Name == "DescribeExecution"
	case layerPostgres:
		return p.Name == "connect" || strings.HasPrefix(p.Name, "prepare ") || strings.HasPrefix(p.Name, "begin") ||
			strings.HasPrefix(p.Name, "SET ") || strings.HasPrefix(p.Name, "SELECT ") && !strings.Contains(p.Name, "terminate")
	case layerInstance:
		return p.Name == "GET"
	case layerAudit, layerLambda, layerStates:
	}
	return false
}

// stale reports an action that may answer from an earlier state (rule C4.1).
func stale(action string) bool { return action == "DescribeSecret" || action == "DescribeExecution" }

// plan says what goes wrong in a walk, and takes down what is called.
type plan struct {
	mu     sync.Mutex
	armed  map[string]Kind
	points []Point
	hit    map[string]bool
	open   bool // false while the stage is being set
}

func newPlan(faults []Fault) *plan {
	p := &plan{armed: map[string]Kind{}, hit: map[string]bool{}}
	for _, f := range faults {
		if conditions[f.Kind] != nil {
			p.hit[string(f.Kind)] = true
			continue
		}
		p.armed[f.At.place()] = f.Kind
	}
	return p
}

// at notes a call and returns what goes wrong with it, or "".
func (p *plan) at(point Point) Kind {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.open {
		return ""
	}
	p.points = append(p.points, point)
	kind, ok := p.armed[point.place()]
	if !ok || p.hit[point.place()] {
		return ""
	}
	if !slices.Contains(kinds(point), kind) {
		return "" // another call stands there in this walk
	}
	p.hit[point.place()] = true
	return kind
}

func (p *plan) opened() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

func (p *plan) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = true
}

// reached counts the faults that happened.
func (p *plan) reached() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.hit)
}

func (p *plan) all() []Point {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Point(nil), p.points...)
}

package asl

import (
	"sync"
	"time"
)

// Details are an event's members, ready to be marshalled.
type Details map[string]any

// Event is one entry of an execution's history. Key is the member of the API's
// HistoryEvent that holds Details; both are empty for events that have none.
type Event struct {
	ID, Previous int64
	Time         time.Time
	Type         string
	Key          string
	Details      Details
}

// whole says of an input or output that it isn't cut.
var whole = map[string]bool{"truncated": false}

// history numbers the events of one execution.
type history struct {
	mu    sync.Mutex
	last  int64
	clock Clock
	sink  func(Event)
}

var errHistoryFull = &Error{
	Name: Runtime, Cause: "The execution reached the maximum number of history events (25000).",
}

// add records an event; the last place is kept for the execution's end.
func (h *history) add(kind, key string, details Details, previous int64) (int64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last >= MaxEvents-1 {
		return h.last, errHistoryFull
	}
	return h.append(kind, key, details, previous), nil
}

// must records an event that has a place: the first or the last.
func (h *history) must(kind, key string, details Details, previous int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.append(kind, key, details, previous)
}

func (h *history) append(kind, key string, details Details, previous int64) int64 {
	h.last++
	if h.sink != nil {
		h.sink(Event{ID: h.last, Previous: previous, Time: h.clock.Now(), Type: kind, Key: key, Details: details})
	}
	return h.last
}

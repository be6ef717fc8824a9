package stepfunctions

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/scratch"
	"github.com/keyturn/keyturn/localstack/stepfunctions/asl"
)

// archive holds on disk what executions leave behind: each its history from the
// first event on, one event a line, and, once it has ended, its document. What
// stays in memory of an ended execution doesn't grow with what went through it.
type archive struct {
	parent string // empty: the system's temporary folder

	mu     sync.Mutex
	dir    *scratch.Dir // made for the first execution
	closed bool
}

// document is what DescribeExecution tells beside times and status, and what
// RedriveExecution goes on from.
type document struct {
	Input   string
	Output  *string
	Failure *asl.Error
	Resume  asl.Checkpoint
}

// event is an asl.Event as it was written; its details are passed on as they are.
type event struct {
	ID, Previous int64
	Time         time.Time
	Type, Key    string
	Details      map[string]json.RawMessage
}

// open makes the folder if there is none yet.
func (a *archive) open() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return errClosed
	}
	if a.dir != nil {
		return nil
	}
	dir, err := scratch.Make(a.parent, "keyturn-executions-")
	if err != nil {
		return fmt.Errorf("making the folder of executions: %w", err)
	}
	a.dir = dir
	return nil
}

// close removes everything.
func (a *archive) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	return a.dir.Remove()
}

// path is one of an execution's files; the folder has been opened.
func (a *archive) path(id int, kind string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return filepath.Join(a.dir.Path, strconv.Itoa(id)+"."+kind)
}

const (
	historyFile  = "history"
	documentFile = "document"
)

// add appends an event to a history. The file isn't kept open: executions that
// wait for days may be many.
func (a *archive) add(id int, e asl.Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding event %d: %w", e.ID, err)
	}
	f, err := os.OpenFile(a.path(id, historyFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the history: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing event %d: %w", e.ID, err)
	}
	return nil
}

// events reads the events from one position of a history to before another.
func (a *archive) events(id, from, to int) ([]event, error) {
	f, err := os.Open(a.path(id, historyFile))
	if err != nil {
		return nil, fmt.Errorf("opening the history: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	lines := bufio.NewReaderSize(f, 64<<10)
	for range from {
		if err := skipLine(lines); err != nil {
			return nil, fmt.Errorf("reading the history: %w", err)
		}
	}
	part := make([]event, to-from)
	for i := range part {
		line, err := lines.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &part[i])
		}
		if err != nil {
			return nil, fmt.Errorf("reading event %d of the history: %w", from+i+1, err)
		}
	}
	return part, nil
}

func skipLine(r *bufio.Reader) error {
	for {
		_, err := r.ReadSlice('\n')
		if !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
}

func (a *archive) store(id int, d *document) error {
	body, err := json.Marshal(d)
	if err == nil {
		err = os.WriteFile(a.path(id, documentFile), body, 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing what the execution ended with: %w", err)
	}
	return nil
}

func (a *archive) load(id int) (*document, error) {
	body, err := os.ReadFile(a.path(id, documentFile))
	d := &document{}
	if err == nil {
		err = json.Unmarshal(body, d)
	}
	if err != nil {
		return nil, fmt.Errorf("reading what the execution ended with: %w", err)
	}
	return d, nil
}

// drop forgets an execution; close would do it otherwise.
func (a *archive) drop(id int) {
	for _, kind := range []string{historyFile, documentFile} {
		_ = os.Remove(a.path(id, kind))
	}
}

package lambda

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// starter starts processes from one thread that lives as long as the service:
// the kernel's parent-death signal comes when the starting *thread* ends.
type starter struct {
	jobs chan func()
	once sync.Once
}

func newStarter() *starter {
	s := &starter{jobs: make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for job := range s.jobs {
			job()
		}
	}()
	return s
}

// start returns the moment before the process began.
func (s *starter) start(cmd *exec.Cmd) (time.Time, error) {
	var begun time.Time
	result := make(chan error)
	s.jobs <- func() {
		begun = time.Now()
		result <- cmd.Start()
	}
	err := <-result
	return begun, err
}

func (s *starter) close() { s.once.Do(func() { close(s.jobs) }) }

// killGroup kills a process and everything that it started and that stayed in
// its group.
func killGroup(pid int) {
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // the group may not exist yet
	}
}

// peakOf reads a live process's peak resident size in bytes; 0 if it can't be
// read. The kernel's VmHWM is right where rusage isn't: ru_maxrss of a child
// starts with the size that the parent had when it forked.
func peakOf(pid int) int64 {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(rest)), " kB"), 10, 64)
			if err != nil {
				return 0
			}
			return kilobytes << 10
		}
	}
	return 0
}

// exitReason says how a process ended, in the words of Lambda's platform. A
// clean exit has no reason: a runtime must not exit by itself.
func exitReason(err error) string {
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return "Runtime exited without providing a reason"
	}
	return fmt.Sprintf("Runtime exited with error: %v", err)
}

// logWriter cuts what a function writes into lines.
type logWriter struct {
	mu   sync.Mutex
	rest []byte
	sink func(line string)
}

const longestLine = 256 << 10 // one event of a log stream

func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			break
		}
		w.sink(string(w.rest[:i]))
		w.rest = w.rest[i+1:]
	}
	if len(w.rest) >= longestLine {
		w.sink(string(w.rest))
		w.rest = nil
	}
	return len(p), nil
}

// flush passes on a last line that has no end.
func (w *logWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		w.sink(string(w.rest))
		w.rest = nil
	}
}

// waitDelay is how long a dead function's open output may be held by children
// that left its group.
const waitDelay = 2 * time.Second

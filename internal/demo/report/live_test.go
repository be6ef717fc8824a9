package report

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/google/go-cmp/cmp"
)

var liveStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func view(after time.Duration, state string, logins map[string]int) View {
	now := liveStart.Add(after)
	return View{
		At: now, Started: liveStart, Rotation: 1, Of: 2, State: state, Kind: Tail, Since: now.Add(-1500 * time.Millisecond),
		Passed: []Span{{Name: "create", Kind: Head, From: liveStart, To: liveStart.Add(300 * time.Millisecond)}},
		Logins: logins, Old: "app", New: "app_v2", Rate: 1002, Requests: 12345, P99: 7 * time.Millisecond,
	}
}

func TestPlainLinesOnlyOnChange(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := NewLive(&b)
	l.Show(view(1*time.Second, "adopt", map[string]int{"app": 70, "app_v2": 3}))
	l.Show(view(2*time.Second, "adopt", map[string]int{"app": 40, "app_v2": 33})) // only counts differ
	l.Show(view(3*time.Second, "drain", map[string]int{"app": 1, "app_v2": 72}))
	l.Show(view(4*time.Second, "drain", map[string]int{"app_v2": 73}))
	failing := view(5*time.Second, "drain", map[string]int{"app_v2": 73})
	failing.Failed, failing.Waiting = 2, []string{"nightly-01"}
	l.Show(failing)
	l.Print("report.html is written")
	l.Close()
	want := []string{
		"    1.0s  rotation 1/2  adopt     app=70 app_v2=3  1002 req/s  0 failed",
		"    3.0s  rotation 1/2  drain     app=1 app_v2=72  1002 req/s  0 failed",
		"    4.0s  rotation 1/2  drain     app=0 app_v2=73  1002 req/s  0 failed",
		"    5.0s  rotation 1/2  drain     app=0 app_v2=73  1002 req/s  2 failed  waits for nightly-01",
		"report.html is written", "",
	}
	if diff := cmp.Diff(want, strings.Split(b.String(), "\n")); diff != "" {
		t.Error(diff)
	}
}

// terminal is a screen of unlimited height that knows what Live uses.
type terminal struct{ lines []string }

func (s *terminal) Write(p []byte) (int, error) {
	text := string(p)
	for text != "" {
		if rest, found := strings.CutPrefix(text, "\x1b["); found {
			var up int
			if n, _ := fmt.Sscanf(rest, "%dA\r\x1b[J", &up); n == 1 {
				s.lines = s.lines[:len(s.lines)-up]
				text = rest[strings.Index(rest, "J")+1:]
				continue
			}
		}
		line, rest, _ := strings.Cut(text, "\n")
		s.lines = append(s.lines, line)
		text = rest
	}
	return len(p), nil
}

func onTerminal(width int) (*Live, *terminal) {
	s := &terminal{}
	l := NewLive(s)
	l.tty, l.size = true, func() int { return width }
	return l, s
}

func TestTerminalIsRedrawnInPlace(t *testing.T) {
	t.Parallel()
	l, s := onTerminal(80)
	l.Show(view(1*time.Second, "adopt", map[string]int{"app": 70}))
	l.Print("kept")
	for i := range 5 {
		v := view(time.Duration(2+i)*time.Second, "drain", map[string]int{"app": 5 - i, "app_v2": 68 + i})
		if i%2 == 0 {
			v.Waiting = []string{"nightly-01"} // one line more
		}
		l.Show(v)
	}
	screen := strings.Join(s.lines, "\n")
	for text, times := range map[string]int{"kept": 1, "rotation 1 of 2": 1, "drain 1.5 s": 1, "adopt": 0, "create 300 ms": 0, "create 0.3 s": 1, "0 failed": 1, "12,345 requests": 1, "waits for nightly-01": 1} {
		if got := strings.Count(screen, text); got != times {
			t.Errorf("%q is on the screen %d times, want %d:\n%s", text, got, times, screen)
		}
	}
}

func TestTerminalLinesFit(t *testing.T) {
	t.Parallel()
	for _, width := range []int{20, 40, 80, 200} {
		l, s := onTerminal(width)
		v := view(time.Minute, "disable", map[string]int{"app": 158, "app_v2": 1, strings.Repeat("long", 20): 3})
		for range 12 {
			v.Passed = append(v.Passed, Span{Name: "drain", Kind: Back, From: liveStart, To: liveStart.Add(time.Minute)})
		}
		v.Waiting = []string{strings.Repeat("somebody ", 40)}
		l.Show(v)
		for _, line := range s.lines {
			if got := lipgloss.Width(line); got > width {
				t.Errorf("at width %d a line has %d columns: %q", width, got, line)
			}
		}
	}
}

func TestNamesCannotSteerTheTerminal(t *testing.T) {
	t.Parallel()
	const evil = "app\x1b[2J\x07\r\nx"
	for _, tty := range []bool{true, false} {
		var b bytes.Buffer
		l := NewLive(&b)
		l.tty = tty
		v := view(time.Second, evil, map[string]int{evil: 3})
		v.Old, v.Waiting, v.Passed[0].Name = evil, []string{evil}, evil
		l.Show(v)
		l.Print(evil)
		if out := strings.ReplaceAll(b.String(), "\x1b[6A\r\x1b[J", ""); strings.Contains(out, "\x1b[2J") || strings.Contains(out, "\x07") {
			t.Errorf("control characters came through: %q", out)
		}
	}
}

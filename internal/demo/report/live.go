package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/charmbracelet/lipgloss"
	"golang.org/x/term"
)

// View is one moment of a demonstration.
type View struct {
	At      time.Time
	Started time.Time
	// Rotation counts from 1; zero is before the first. Of is how many there
	// will be.
	Rotation, Of int
	// State is where the rotation stands, in which part of the sequence, and
	// since when.
	State string
	Kind  Kind
	Since time.Time
	// Passed are the states of this rotation that are over, in order.
	Passed []Span
	// Logins counts connections by login; Old and New name the two of this
	// rotation.
	Logins           map[string]int
	Old, New         string
	Rate             float64 // requests in the last second
	Requests, Failed int64
	P99              time.Duration
	Waiting          []string // whom the state waits for
}

// Live shows views as they come. On a terminal it redraws a few lines; anywhere
// else it writes one line for each change. It is safe for concurrent use.
type Live struct {
	Screen
	tty    bool
	styles styles

	mu   sync.Mutex
	last string // the last plain line, without its time
}

type styles struct{ title, soft, good, bad, head, tail, back, now lipgloss.Style }

// NewLive returns a view on w, which usually is os.Stderr.
func NewLive(w io.Writer) *Live {
	l := &Live{Screen: *NewScreen(w)}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		l.tty = true
	}
	l.styles = newStyles(lipgloss.NewRenderer(w))
	return l
}

func newStyles(r *lipgloss.Renderer) styles {
	colour := func(light, dark string) lipgloss.Style {
		return r.NewStyle().Foreground(lipgloss.AdaptiveColor{Light: light, Dark: dark})
	}
	return styles{
		title: r.NewStyle().Bold(true),
		soft:  colour("#5b6573", "#98a3b1"),
		good:  colour("#0a7d45", "#4cc68a").Bold(true),
		bad:   colour("#c4222f", "#ff7b80").Bold(true),
		head:  colour("#1d3f85", "#7fb0ff"),
		tail:  colour("#155c3a", "#6fd3a0"),
		back:  colour("#7b430a", "#f0b060"),
		now:   r.NewStyle().Bold(true).Reverse(true),
	}
}

// Show shows a view.
func (l *Live) Show(v View) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.tty {
		l.showLine(v)
		return
	}
	l.Draw(l.render(v, l.size()))
}

// Print writes a line that stays, above the view.
func (l *Live) Print(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write(l.rewind() + plain(line) + "\n")
	l.drawn = 0
}

// Close leaves the last view where it is.
func (l *Live) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drawn = 0
}

func (l *Live) kind(k Kind) lipgloss.Style {
	switch k {
	case Head:
		return l.styles.head
	case Back:
		return l.styles.back
	default:
		return l.styles.tail
	}
}

const loginBar = 30 // columns of the longest bar

func (l *Live) render(v View, width int) []string {
	s := l.styles
	title := "before the first rotation"
	if v.Rotation > 0 {
		title = fmt.Sprintf("rotation %d of %d", v.Rotation, v.Of)
	}
	lines := []string{s.title.Render(title) + s.soft.Render("  "+seconds(v.At.Sub(v.Started)))}

	var states []string
	for _, p := range v.Passed {
		states = append(states, l.kind(p.Kind).Render(fmt.Sprintf("%s %s", plain(p.Name), seconds(p.To.Sub(p.From)))))
	}
	if v.State != "" {
		states = append(states, s.now.Render(fmt.Sprintf(" %s %s ", plain(v.State), seconds(v.At.Sub(v.Since)))))
	}
	lines = append(lines, wrap(states, s.soft.Render(" → "), width)...)
	if len(v.Waiting) > 0 {
		lines = append(lines, s.soft.Render("  waits for "+plain(strings.Join(v.Waiting, ", "))))
	}
	lines = append(lines, l.loginLines(v)...)

	failed := s.good.Render("0 failed")
	if v.Failed > 0 {
		failed = s.bad.Render(thousands(v.Failed) + " failed")
	}
	return append(lines, fmt.Sprintf("%s  %s requests  %.0f/s  p99 %s", failed, thousands(v.Requests), v.Rate, milliseconds(v.P99)))
}

// wrap joins words to lines of at most this width.
func wrap(words []string, separator string, width int) []string {
	var lines []string
	current := ""
	for _, word := range words {
		switch {
		case current == "":
			current = word
		case lipgloss.Width(current)+lipgloss.Width(separator)+lipgloss.Width(word) > width:
			lines = append(lines, current)
			current = "  " + word
		default:
			current += separator + word
		}
	}
	if current != "" {
		lines = append(lines, current)
	}
	return lines
}

func (l *Live) loginLines(v View) []string {
	most, longest := 1, 0
	logins := orderedLogins(v)
	for _, login := range logins {
		most, longest = max(most, v.Logins[login]), max(longest, lipgloss.Width(plain(login)))
	}
	var lines []string
	for _, login := range logins {
		n := v.Logins[login]
		style, note := l.styles.soft, ""
		switch login {
		case v.New:
			style, note = l.styles.tail, " new"
		case v.Old:
			style, note = l.styles.back, " old"
		}
		bar := strings.Repeat("█", (n*loginBar+most-1)/most)
		name := plain(login) + strings.Repeat(" ", longest-lipgloss.Width(plain(login)))
		lines = append(lines, fmt.Sprintf("  %s %s %d%s", name, style.Render(bar), n, l.styles.soft.Render(note)))
	}
	return lines
}

// orderedLogins puts the old one first and the new one last, with both there
// even if nobody is connected.
func orderedLogins(v View) []string {
	all := maps.Clone(v.Logins)
	if all == nil {
		all = make(map[string]int)
	}
	for _, login := range []string{v.Old, v.New} {
		if login != "" {
			all[login] += 0
		}
	}
	rank := func(login string) int {
		switch login {
		case v.Old:
			return 0
		case v.New:
			return 2
		}
		return 1
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
}

// showLine writes a line if the state, the set of logins or the failures have
// changed.
func (l *Live) showLine(v View) {
	var logins, who []string
	for _, login := range orderedLogins(v) {
		who = append(who, plain(login))
		logins = append(logins, fmt.Sprintf("%s=%d", plain(login), v.Logins[login]))
		if v.Logins[login] == 0 {
			who[len(who)-1] += " gone"
		}
	}
	change := fmt.Sprint(v.Rotation, v.State, who, v.Failed, v.Waiting)
	if change == l.last {
		return
	}
	l.last = change
	line := fmt.Sprintf("%7.1fs  rotation %d/%d  %-8s  %s  %.0f req/s  %s failed",
		v.At.Sub(v.Started).Seconds(), v.Rotation, v.Of, plain(cmp.Or(v.State, "-")), strings.Join(logins, " "), v.Rate, thousands(v.Failed))
	if len(v.Waiting) > 0 {
		line += "  waits for " + plain(strings.Join(v.Waiting, ", "))
	}
	l.write(line + "\n")
}

// plain drops what could steer a terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, text)
}

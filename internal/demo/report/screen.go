package report

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"golang.org/x/term"
)

// Screen redraws some lines in place, at the end of what a terminal shows. It
// isn't safe for concurrent use.
type Screen struct {
	w     io.Writer
	size  func() int // columns
	drawn int        // lines on the terminal that the next ones replace
}

// NewScreen returns a screen on a terminal; of anything else it takes the width
// for 80 columns.
func NewScreen(w io.Writer) *Screen {
	s := &Screen{w: w, size: func() int { return 80 }}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.size = func() int {
			width, _, err := term.GetSize(int(f.Fd()))
			if err != nil || width <= 0 {
				return 80
			}
			return width
		}
	}
	return s
}

// Draw replaces what was drawn last. A line that is too long is cut off: one that
// wraps would be two when it is replaced.
func (s *Screen) Draw(lines []string) {
	width := s.size()
	var b strings.Builder
	b.WriteString(s.rewind())
	for _, line := range lines {
		b.WriteString(lipgloss.NewStyle().MaxWidth(width).Render(line))
		b.WriteString("\n")
	}
	s.drawn = len(lines)
	s.write(b.String())
}

// rewind goes back to where the last lines began, and clears from there.
func (s *Screen) rewind() string {
	if s.drawn == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", s.drawn)
}

func (s *Screen) write(text string) { _, _ = io.WriteString(s.w, text) } // progress is no result

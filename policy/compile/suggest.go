package compile

import (
	"fmt"
	"slices"
	"strings"
)

// suggest names the nearest of the words that would have been right.
func suggest(word string, words []string) string {
	best, distance := "", 1+max(2, len(word)/3)
	for _, w := range words {
		if within(word, w) || within(w, word) {
			return fmt.Sprintf("did you mean %s?", w)
		}
		if d := edits(strings.ToLower(word), w); d < distance {
			best, distance = w, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %s?", best)
	}
	return "there are " + strings.Join(words, ", ")
}

// within reports whether every part of one key of several parts is in another
// key: on_timeout in on_drain_timeout.
func within(short, long string) bool {
	parts := strings.Split(short, "_")
	for _, part := range parts {
		if !slices.Contains(strings.Split(long, "_"), part) {
			return false
		}
	}
	return len(parts) > 1
}

// edits is the Levenshtein distance of two words.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for k := range row {
		row[k] = k
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for k := range len(b) {
			cost := diagonal
			if a[i] != b[k] {
				cost++
			}
			diagonal = row[k+1]
			row[k+1] = min(cost, row[k]+1, row[k+1]+1)
		}
	}
	return row[len(b)]
}

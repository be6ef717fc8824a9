package lambdaentry

import (
	"context"
	"fmt"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

// An answer stays far below Step Functions' 262,144 bytes, whatever stands in
// it. The audit record of the same step has everything.
const (
	mostNamed = 20  // entries of each list
	mostEntry = 400 // bytes of one, before JSON's escapes
)

// some redacts the first entries of a list, and counts the others.
func some(texts []string) []string {
	named := redactAll(texts[:min(len(texts), mostNamed)])
	for i, text := range named {
		named[i] = cut(text, mostEntry)
	}
	if more := len(texts) - mostNamed; more > 0 {
		named = append(named, fmt.Sprintf("and %d more", more))
	}
	if named == nil {
		named = []string{}
	}
	return named
}

// proofs is the first of the evidence. Parties have written some of its texts.
func proofs(all []rotation.Evidence) []rotation.Evidence {
	var named []rotation.Evidence
	for _, e := range all[:min(len(all), mostNamed)] {
		for _, text := range []*string{&e.Party, &e.Digest, &e.By} {
			*text = cut(brief(*text), mostEntry)
		}
		named = append(named, e)
	}
	return named
}

// A function that is killed at its time-out has no time to name a fault, to
// record what it did, or to close its sessions. A step's own time therefore ends
// an eighth, at most five seconds, before its function's.
const (
	marginPart = 8
	mostMargin = 5 * time.Second
)

func inTime(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, end.Add(-min(time.Until(end)/marginPart, mostMargin)))
}

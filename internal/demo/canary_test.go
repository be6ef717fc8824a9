package demo

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const planted = `p<4&>="\?xYz+ %7|secret`

func TestTheCanaryFindsEveryForm(t *testing.T) {
	t.Parallel()
	encoded := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	document := encoded(map[string]string{"errorMessage": "login failed: " + planted})
	for name, text := range map[string]string{
		"plain":                    "2026 LOG:  " + planted + "\n",
		"JSON":                     encoded(planted),
		"JSON in JSON":             encoded(map[string]string{"cause": document}),
		"JSON in JSON in JSON":     encoded([]string{encoded(map[string]string{"cause": document})}),
		"a URL":                    (&url.URL{Scheme: "postgres", User: url.UserPassword("shop", planted), Host: "h"}).String(),
		"a URL's query":            url.Values{"password": {planted}}.Encode(),
		"at the end":               strings.Repeat("x", 1000) + planted,
		"over two pieces":          strings.Repeat("y", 256<<10-5) + planted + "z",
		"over the next two pieces": strings.Repeat("y", 512<<10-5) + planted + "z",
	} {
		c := canaryFor(t, map[string]string{"shop": planted, "other": "not there"})
		// A reader that gives little at a time must make no difference.
		for _, r := range []interface{ Read([]byte) (int, error) }{strings.NewReader(text), iotest.HalfReader(strings.NewReader(text))} {
			if _, err := c.lookInto("x", r, ""); err != nil {
				t.Fatal(err)
			}
		}
		if want := []string{"the password of shop in x"}; !slices.Equal(c.found, want) {
			t.Errorf("%s: found %v", name, c.found)
		}
	}
}

func TestTheCanaryFindsNothingElse(t *testing.T) {
	t.Parallel()
	c := canaryFor(t, map[string]string{"shop": planted})
	text := strings.Repeat(planted[:len(planted)-1]+"\n", 20_000)
	there, err := c.lookInto("x", strings.NewReader(text+"LOG:  the end"), "LOG:  ")
	if err != nil || !there || len(c.found) > 0 {
		t.Errorf("found %v, the control %t, %v", c.found, there, err)
	}
	if there, err = c.lookInto("x", strings.NewReader(text), "LOG:  "); err != nil || there {
		t.Errorf("a control that isn't there: %t, %v", there, err)
	}
	if _, err := newCanary(map[string]string{"shop": "abc"}); err == nil {
		t.Error("a password that is too short passes for looked for")
	}
}

func canaryFor(t *testing.T, passwords map[string]string) *canary {
	t.Helper()
	c, err := newCanary(passwords)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// More lines than the log remembers are all written, and a line that comes
// again and again once.
func TestNoCommandLineIsLeftOut(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "argv.log")
	a, err := newArgvLog(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := 3 * len(a.seen)
	for i := range lines {
		for range 3 {
			a.note(fmt.Appendf(nil, "postgres: shop 127.0.0.1(%d) idle", i))
		}
	}
	a.look() // this process has a command line
	a.close()
	body, err := os.ReadFile(path)
	if err != nil || a.err != nil {
		t.Fatal(err, a.err)
	}
	text := "\n" + string(body)
	for i := 0; i < lines; i += 1000 {
		if n := strings.Count(text, fmt.Sprintf("\npostgres: shop 127.0.0.1(%d) idle\n", i)); n != 1 {
			t.Errorf("line %d is there %d times", i, n)
		}
	}
	if n := strings.Count(text, "\npostgres: shop 127"); n != lines {
		t.Errorf("%d of %d lines are there", n, lines)
	}
	if !strings.Contains(text, os.Args[0]) {
		t.Error("this process's own command line isn't there")
	}
	a.note([]byte("after the file is closed"))
	if a.err == nil {
		t.Error("a line that can't be kept goes unnoticed")
	}
}

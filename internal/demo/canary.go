package demo

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/fault"
)

// canary looks for secret values in what was written, however long that is: it
// holds one piece of it at a time.
type canary struct {
	found []string // where, in sentences

	// byPrefix are the texts to look for by their first bytes; likely tells at
	// once that nothing begins with some.
	byPrefix map[uint32][]secretText
	likely   [1 << 16]bool
	longest  int // bytes of a text
}

// secretText is one way in which a login's password may be written.
type secretText struct {
	login string
	text  []byte
}

const prefixBytes = 4

func newCanary(passwords map[string]string) (*canary, error) {
	c := &canary{found: []string{}, byPrefix: map[uint32][]secretText{}}
	for login, password := range passwords {
		if password == "" {
			continue
		}
		if len(password) < prefixBytes {
			return nil, fault.New(fault.Internal, "the password of %s is too short to be looked for", login)
		}
		for _, form := range forms(password) {
			text := []byte(form)
			prefix := binary.LittleEndian.Uint32(text)
			c.byPrefix[prefix] = append(c.byPrefix[prefix], secretText{login, text})
			c.likely[slot(prefix)] = true
			c.longest = max(c.longest, len(text))
		}
	}
	return c, nil
}

func slot(prefix uint32) uint32 { return prefix * 2654435761 >> 16 }

// forms are the ways in which a password may be written: as it is, in JSON with
// or without HTML's escapes, in JSON that stands in JSON (a function's error in
// an execution's history), and in a URL.
func forms(password string) []string {
	all := []string{password}
	add := func(form string) {
		if !slices.Contains(all, form) {
			all = append(all, form)
		}
	}
	level := all
	for range 3 {
		before := len(all)
		for _, text := range level {
			add(quoted(text, false))
			add(quoted(text, true))
		}
		level = all[before:]
	}
	add(url.QueryEscape(password))
	add(url.PathEscape(password))
	add(strings.TrimPrefix(url.UserPassword("", password).String(), ":"))
	return all
}

// quoted is a text as it stands between the quotes of JSON.
func quoted(text string, html bool) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	_ = e.Encode(text) // a string always encodes
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), `"`), "\"\n")
}

// lookIntoFile reads a file; see lookInto.
func (c *canary) lookIntoFile(where, path, control string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fault.Wrap(fault.Internal, err, "opening %s", where)
	}
	defer func() { _ = f.Close() }() // only read
	return c.lookInto(where, f, control)
}

// lookInto reads to the end, notes the logins whose password stands there, and
// reports whether the control does: a text that must be there if it is what it
// should be.
func (c *canary) lookInto(where string, r io.Reader, control string) (bool, error) {
	const piece = 256 << 10
	overlap := max(c.longest, len(control)) // of a text that two pieces share
	buffer := make([]byte, 0, overlap+piece)
	seen := false
	for {
		n, err := io.ReadFull(r, buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		c.search(where, buffer)
		seen = seen || bytes.Contains(buffer, []byte(control))
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return seen, nil
		case err != nil:
			return seen, fault.Wrap(fault.Internal, err, "reading %s", where)
		}
		buffer = buffer[:copy(buffer, buffer[len(buffer)-overlap:])]
	}
}

func (c *canary) search(where string, piece []byte) {
	for i := 0; i+prefixBytes <= len(piece); i++ {
		prefix := binary.LittleEndian.Uint32(piece[i:])
		if !c.likely[slot(prefix)] {
			continue
		}
		for _, s := range c.byPrefix[prefix] {
			if !bytes.HasPrefix(piece[i:], s.text) {
				continue
			}
			if found := fmt.Sprintf("the password of %s in %s", s.login, where); !slices.Contains(c.found, found) {
				c.found = append(c.found, found)
			}
		}
	}
}

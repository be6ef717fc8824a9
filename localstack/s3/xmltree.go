package s3

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// element is a part of an XML document. encoding/xml passes over elements that a
// type doesn't know; read from this tree, they are errors.
type element struct {
	name     string
	text     string
	children []*element
}

const maxDepth = 16

// parseXML reads a document whose root has the given name.
func parseXML(body []byte, root string) (*element, error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	var top *element
	var open []*element
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, malformedXML("%v", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			e := &element{name: t.Name.Local}
			switch {
			case len(open) > 0 && len(open) < maxDepth:
				parent := open[len(open)-1]
				parent.children = append(parent.children, e)
			case top == nil:
				top = e
			default:
				return nil, malformedXML("%s is out of place", e.name)
			}
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				open[len(open)-1].text += strings.TrimSpace(string(t))
			}
		}
	}
	if top == nil || top.name != root {
		return nil, malformedXML("it must be one %s", root)
	}
	return top, nil
}

// only refuses children that aren't named, and repeated ones.
func (e *element) only(names ...string) error {
	seen := map[string]bool{}
	for _, name := range names {
		seen[name] = false
	}
	for _, c := range e.children {
		twice, known := seen[c.name]
		switch {
		case !known:
			return notModelled("%s in %s", c.name, e.name)
		case twice:
			return malformedXML("%s occurs twice", c.name)
		}
		seen[c.name] = true
	}
	if len(e.children) > 0 && e.text != "" {
		return malformedXML("%s has text beside its elements", e.name)
	}
	return nil
}

// child returns the named child, or nil.
func (e *element) child(name string) *element {
	if e == nil {
		return nil
	}
	for _, c := range e.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// value is the text of the named child; "" without one.
func (e *element) value(name string) string {
	if c := e.child(name); c != nil {
		return c.text
	}
	return ""
}

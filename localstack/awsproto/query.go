package awsproto

import (
	"context"
	"encoding/xml"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// QueryService is a service that speaks the query protocol: a form with an
// Action, answered by XML.
type QueryService interface {
	// Namespace is the XML namespace of the answers.
	Namespace() string
	// CallForm runs one action. The output is marshalled as the action's result;
	// nil is an empty one.
	CallForm(ctx context.Context, action string, in *Form) (any, error)
}

// Form is an action's input. It remembers what was read, so that a parameter that
// nobody knows can be refused.
type Form struct {
	values url.Values
	read   map[string]bool
}

// NewForm makes an input of a form's values.
func NewForm(values url.Values) *Form {
	return &Form{values: values, read: map[string]bool{"Action": true, "Version": true}}
}

// Get returns a parameter, or "".
func (f *Form) Get(name string) string {
	f.read[name] = true
	return f.values.Get(name)
}

// List returns the items of name.1.…, name.2.…, each as its members' values;
// a list of plain values has them under "".
func (f *Form) List(name string) []map[string]string {
	var out []map[string]string
	for i := 1; ; i++ {
		prefix := name + "." + strconv.Itoa(i)
		item := map[string]string{}
		for given := range f.values {
			if rest, ok := strings.CutPrefix(given, prefix); ok && (rest == "" || rest[0] == '.') {
				item[strings.TrimPrefix(rest, ".")] = f.Get(given)
			}
		}
		if len(item) == 0 {
			return out
		}
		out = append(out, item)
	}
}

// Unread is an error if the form has parameters that weren't read, or one twice.
func (f *Form) Unread() error {
	for _, name := range slices.Sorted(maps.Keys(f.values)) {
		if !f.read[name] {
			return Errorf("InvalidParameter", "the local AWS doesn't know the parameter %s here", name)
		}
		if len(f.values[name]) > 1 {
			return Errorf("InvalidParameter", "the parameter %s is given twice", name)
		}
	}
	return nil
}

type queryFailure struct {
	XMLName xml.Name `xml:"ErrorResponse"`
	XMLNS   string   `xml:"xmlns,attr"`
	Type    string   `xml:"Error>Type"`
	Code    string   `xml:"Error>Code"`
	Message string   `xml:"Error>Message"`
	Request string   `xml:"RequestId"`
}

// ServeQuery answers one request of the query protocol.
func ServeQuery(w http.ResponseWriter, r *http.Request, s QueryService) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	id := uuid.NewString()
	err := r.ParseForm()
	var out any
	action := r.PostForm.Get("Action")
	if err == nil {
		out, err = s.CallForm(r.Context(), action, NewForm(r.PostForm))
	}
	w.Header().Set("Content-Type", "text/xml")
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			e = &Error{Code: "InternalFailure", Message: err.Error(), Status: http.StatusInternalServerError}
		}
		f := queryFailure{XMLNS: s.Namespace(), Type: "Sender", Code: e.Code, Message: e.Message, Request: id}
		status := e.Status
		switch {
		case status == 0:
			status = http.StatusBadRequest
		case status >= http.StatusInternalServerError:
			f.Type = "Receiver"
		}
		w.WriteHeader(status)
		_ = xml.NewEncoder(w).Encode(f) // the client is gone if this fails
		return
	}
	writeResult(w, s.Namespace(), action, id, out)
}

type queryMetadata struct {
	Request string `xml:"RequestId"`
}

// writeResult writes <ActionResponse><ActionResult>…, whose names follow the
// action's.
func writeResult(w http.ResponseWriter, namespace, action, id string, out any) {
	e := xml.NewEncoder(w)
	start := xml.StartElement{
		Name: xml.Name{Local: action + "Response"}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: namespace}},
	}
	if out == nil {
		out = struct{}{}
	}
	// The client is gone if one of these fails.
	_ = e.EncodeToken(start)
	_ = e.EncodeElement(out, xml.StartElement{Name: xml.Name{Local: action + "Result"}})
	_ = e.EncodeElement(queryMetadata{id}, xml.StartElement{Name: xml.Name{Local: "ResponseMetadata"}})
	_ = e.EncodeToken(start.End())
	_ = e.Flush()
}

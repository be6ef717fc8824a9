package s3

import (
	"bytes"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

const namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

// answer is what an operation says; a nil body stays empty.
type answer struct {
	status int // 0: the default
	header http.Header
	body   []byte
}

func (a *answer) set(name, value string) {
	if value == "" {
		return
	}
	if a.header == nil {
		a.header = http.Header{}
	}
	a.header.Set(name, value)
}

func (a *answer) write(w http.ResponseWriter, status int) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	if a.status != 0 {
		status = a.status
	}
	if w.Header().Get("Content-Length") == "" && status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	w.WriteHeader(status)
	_, _ = w.Write(a.body) //nolint:gosec // no page: XML, or what a test has stored; a failure means that the client is gone
}

// document answers with XML.
func document(v any) (*answer, error) {
	out, err := encodeXML(v)
	if err != nil {
		return nil, err
	}
	a := &answer{body: out}
	a.set("Content-Type", "application/xml")
	return a, nil
}

func encodeXML(v any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	if err := xml.NewEncoder(&b).Encode(v); err != nil {
		return nil, fmt.Errorf("encoding the answer: %w", err)
	}
	return b.Bytes(), nil
}

type failure struct {
	XMLName  xml.Name `xml:"Error"`
	Code     string   `xml:"Code"`
	Message  string   `xml:"Message"`
	Resource string   `xml:"Resource"`
	Request  string   `xml:"RequestId"`
}

// writeError writes an error in S3's form; about may carry headers. A HEAD has no
// body, so that its client knows the status alone.
func writeError(w http.ResponseWriter, r *http.Request, id string, about *answer, err error) {
	var e *awsproto.Error
	if !errors.As(err, &e) {
		e = &awsproto.Error{Code: "InternalError", Message: err.Error(), Status: http.StatusInternalServerError}
	}
	if about == nil {
		about = &answer{}
	}
	about.set("Content-Type", "application/xml")
	body, err := encodeXML(failure{Code: e.Code, Message: e.Message, Resource: r.URL.Path, Request: id})
	if err == nil && r.Method != http.MethodHead {
		about.body = body
	}
	status := e.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	about.write(w, status)
}

func failed(status int, code, format string, args ...any) *awsproto.Error {
	return &awsproto.Error{Code: code, Message: fmt.Sprintf(format, args...), Status: status}
}

// notModelled refuses what S3 has and the local one doesn't.
func notModelled(format string, args ...any) *awsproto.Error {
	return failed(http.StatusNotImplemented, "NotImplemented", "the local S3 doesn't model %s", fmt.Sprintf(format, args...))
}

func accessDenied(format string, args ...any) *awsproto.Error {
	return failed(http.StatusForbidden, "AccessDenied", "Access Denied: %s", fmt.Sprintf(format, args...))
}

func invalidArgument(format string, args ...any) *awsproto.Error {
	return failed(http.StatusBadRequest, "InvalidArgument", format, args...)
}

func invalidRequest(format string, args ...any) *awsproto.Error {
	return failed(http.StatusBadRequest, "InvalidRequest", format, args...)
}

func malformedXML(format string, args ...any) *awsproto.Error {
	return failed(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed or did not validate: %s", fmt.Sprintf(format, args...))
}

const (
	requestIDLength = 16
	versionIDLength = 32
)

// newID is random, of letters and digits.
func newID(length int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	out := make([]byte, length)
	_, _ = rand.Read(out) // never fails
	for i := range out {
		out[i] = letters[out[i]%32]
	}
	return string(out)
}

// stamp is a time as S3's documents have it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

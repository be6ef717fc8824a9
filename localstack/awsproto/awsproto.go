// Package awsproto answers: how does a call of an AWS SDK become a Go call, and
// an error the error that the SDK expects?
//
// It covers AWS JSON 1.0 and 1.1 (X-Amz-Target). Signatures are accepted
// unread: the local AWS has one account and no users.
package awsproto

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/strictjson"
)

// The one account and region of the local AWS.
const (
	Account = "000000000000"
	Region  = "us-east-1"
)

// Error is a service's answer: its code as the API model names it.
type Error struct {
	Code    string
	Message string
	Status  int // HTTP; zero means 400
	// QueryCode is the code that the service had when it spoke the query
	// protocol, where clients still expect it; else "".
	QueryCode string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Errorf makes a client error (HTTP 400).
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// JSONService is a service that speaks AWS JSON.
type JSONService interface {
	// TargetPrefix is what stands before the last dot in X-Amz-Target.
	TargetPrefix() string
	// Call runs one action; body is its JSON input. The output is marshalled
	// as it is: use Time for timestamps.
	Call(ctx context.Context, action string, body []byte) (any, error)
}

// Time marshals as epoch seconds with milliseconds, as AWS JSON wants.
type Time time.Time

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	ms := time.Time(t).UnixMilli()
	return fmt.Appendf(nil, "%d.%03d", ms/1000, ms%1000), nil
}

// Decode reads an action's input strictly: a member that the local AWS does not
// model, or that is written in another case, is an error, never ignored. An empty
// body is an empty input.
func Decode(body []byte, into any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	if err := strictjson.Decode(body, into); err != nil {
		return Errorf("SerializationException", "the local AWS can't read this input: %v", err)
	}
	return nil
}

// CutTarget cuts a service's prefix from the action in X-Amz-Target. Some prefixes
// have dots themselves, such as CloudTrail's.
func CutTarget(target string) (prefix, action string) {
	if i := strings.LastIndex(target, "."); i >= 0 {
		return target[:i], target[i+1:]
	}
	return target, ""
}

// maxBody bounds a request, in bytes; no action's input comes near.
const maxBody = 8 << 20

// ServeJSON answers one AWS JSON request.
func ServeJSON(w http.ResponseWriter, r *http.Request, s JSONService) {
	_, action := CutTarget(r.Header.Get("X-Amz-Target"))
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	var out any
	switch {
	case err != nil:
	case len(body) > maxBody:
		err = &Error{Code: "RequestEntityTooLargeException", Message: "the request is too long", Status: http.StatusRequestEntityTooLarge}
	default:
		out, err = s.Call(r.Context(), action, body)
	}
	contentType := r.Header.Get("Content-Type")
	if contentType == "" {
		contentType = "application/x-amz-json-1.1"
	}
	w.Header().Set("Content-Type", contentType)
	if err != nil {
		WriteError(w, err)
		return
	}
	if out == nil {
		out = struct{}{}
	}
	_ = json.NewEncoder(w).Encode(out)
}

// WriteError writes an error in the JSON form; one that is no *Error is an
// InternalServiceError.
func WriteError(w http.ResponseWriter, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: "InternalServiceError", Message: err.Error(), Status: http.StatusInternalServerError}
	}
	status := e.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	w.Header().Set("X-Amzn-Errortype", e.Code)
	if e.QueryCode != "" {
		w.Header().Set("X-Amzn-Query-Error", e.QueryCode+";Sender")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": e.Code, "message": e.Message, "Message": e.Message})
}

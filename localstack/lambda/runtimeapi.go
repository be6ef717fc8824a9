package lambda

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"
)

// maxResponse is the largest answer of a synchronous invocation: 6 MB (developer
// guide, "Lambda quotas") and the hundred bytes that the service's error about a
// longer one, and AWS's runtime interface emulator, add to it.
const maxResponse = 6<<20 + 100

// Error types that the platform itself reports.
const (
	exitError       = "Runtime.ExitError"
	invalidEntry    = "Runtime.InvalidEntrypoint"
	timedOut        = "Sandbox.Timedout"
	responseTooBig  = "Function.ResponseSizeTooLarge"
	runtimeUnknown  = "Runtime.Unknown"
	trailerType     = "Lambda-Runtime-Function-Error-Type"
	trailerDocument = "Lambda-Runtime-Function-Error-Body"
)

// runtimeAPI serves /2018-06-01/runtime to one process.
func (e *environment) runtimeAPI() http.Handler {
	mux := http.NewServeMux()
	const base = "/2018-06-01/runtime/"
	mux.HandleFunc("GET "+base+"invocation/next", e.serveNext)
	mux.HandleFunc("POST "+base+"invocation/{id}/response", func(w http.ResponseWriter, r *http.Request) { e.serveAnswer(w, r, false) })
	mux.HandleFunc("POST "+base+"invocation/{id}/error", func(w http.ResponseWriter, r *http.Request) { e.serveAnswer(w, r, true) })
	mux.HandleFunc("POST "+base+"init/error", e.serveInitError)
	return mux
}

// serveNext ends the invocation before and blocks until there is another.
func (e *environment) serveNext(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	if e.coldStart == 0 {
		e.coldStart = max(time.Since(e.started), 1)
		close(e.ready)
	}
	if i := e.current; i != nil {
		if !i.answered {
			e.mu.Unlock()
			refuse(w, http.StatusForbidden, "InvalidStateTransition", "the invocation "+i.id+" has no answer yet")
			return
		}
		e.current = nil
		close(i.done)
	}
	e.mu.Unlock()
	select {
	case <-r.Context().Done():
	case <-e.exited:
	case i := <-e.work:
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Lambda-Runtime-Aws-Request-Id", i.id)
		h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(i.deadline.UnixMilli(), 10))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", i.arn)
		h.Set("Lambda-Runtime-Trace-Id", "Root=1-00000000-000000000000000000000000;Sampled=0")
		_, _ = w.Write(i.payload) // a dead runtime is noticed by its exit
	}
}

func (e *environment) serveAnswer(w http.ResponseWriter, r *http.Request, failed bool) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxResponse+1))
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidRequest", "the answer can't be read: "+err.Error())
		return
	}
	if kind := r.Trailer.Get(trailerType); kind != "" { // a stream that broke off
		failed = true
		if body, err = base64.StdEncoding.DecodeString(r.Trailer.Get(trailerDocument)); err != nil {
			body = document(kind, "the function's answer broke off")
		}
	}
	if failed {
		body = errorDocument(body, r.Header.Get(trailerType))
	}
	status, code, message := http.StatusAccepted, "", ""
	if len(body) > maxResponse {
		status, code, message = http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "the answer is too long"
		body, failed = document(responseTooBig, "Response payload size exceeded maximum allowed payload size (%d bytes).", maxResponse), true
	}
	e.mu.Lock()
	switch i := e.current; {
	case i == nil || i.id != r.PathValue("id"):
		status, code, message = http.StatusBadRequest, "InvalidRequestID", "this environment works on no such invocation"
	case i.answered:
		status, code, message = http.StatusForbidden, "InvalidStateTransition", "the invocation is answered already"
	default:
		i.answered, i.answer, i.failed = true, body, failed
		close(i.posted)
	}
	e.mu.Unlock()
	if status != http.StatusAccepted {
		refuse(w, status, code, message)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"status":"OK"}`)
}

// errorDocument is what a runtime posted, as long as it is JSON; otherwise one
// is made of the type that its header names.
func errorDocument(body []byte, kind string) []byte {
	if json.Valid(body) {
		return body
	}
	if kind == "" {
		kind = runtimeUnknown
	}
	return document(kind, "%s", body)
}

func (e *environment) serveInitError(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxResponse))
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidRequest", "the error can't be read: "+err.Error())
		return
	}
	e.mu.Lock()
	late := e.coldStart != 0
	if !late {
		e.initError = errorDocument(body, r.Header.Get(trailerType))
	}
	e.mu.Unlock()
	if late {
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "the runtime is initialized")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"status":"OK"}`)
}

func refuse(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(document(kind, "%s", message)) // the runtime is gone if this fails
}

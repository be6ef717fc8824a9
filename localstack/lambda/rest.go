package lambda

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

const functionsPath = "/2015-03-31/functions"

// ServeHTTP serves the part of the REST API that callers of functions need:
// Invoke, GetFunction, GetFunctionConfiguration and ListFunctions. Functions
// are created by Register.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rest, ok := strings.CutPrefix(r.URL.Path, functionsPath)
	parts := strings.Split(strings.Trim(rest, "/"), "/")
	qualified := func() string {
		if q := r.URL.Query().Get("Qualifier"); q != "" {
			return parts[0] + ":" + q
		}
		return parts[0]
	}
	switch {
	case !ok:
		writeError(w, unknownPath(r))
	case r.Method == http.MethodGet && parts[0] == "":
		s.serveList(w)
	case r.Method == http.MethodGet && len(parts) == 1:
		s.serveGet(w, qualified(), true)
	case r.Method == http.MethodGet && len(parts) == 2 && parts[1] == "configuration":
		s.serveGet(w, qualified(), false)
	case r.Method == http.MethodPost && len(parts) == 2 && parts[1] == "invocations":
		s.serveInvoke(w, r, qualified())
	default:
		writeError(w, unknownPath(r))
	}
}

func unknownPath(r *http.Request) error {
	return &awsproto.Error{
		Code: "UnknownOperationException", Status: http.StatusNotFound,
		Message: "the local Lambda has no " + r.Method + " " + r.URL.Path + "; functions are created when it starts",
	}
}

// writeError is the REST form of an error: the code in a header.
func writeError(w http.ResponseWriter, err error) {
	var e *awsproto.Error
	if !errors.As(err, &e) {
		e = &awsproto.Error{Code: "ServiceException", Status: http.StatusInternalServerError, Message: err.Error()}
	}
	status, who := e.Status, "User"
	if status == 0 {
		status = http.StatusBadRequest
	}
	if status >= http.StatusInternalServerError {
		who = "Service"
	}
	w.Header().Set("X-Amzn-Errortype", e.Code)
	writeJSON(w, status, map[string]string{"Type": who, "Message": e.Message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone if this fails
}

// configuration is the API's FunctionConfiguration.
type configuration struct {
	FunctionName     string
	FunctionArn      string
	Runtime          string
	Role             string
	Handler          string
	CodeSize         int64
	Timeout          int
	MemorySize       int
	LastModified     string
	Version          string
	Environment      map[string]map[string]string
	State            string
	LastUpdateStatus string
	PackageType      string
	Architectures    []string
}

func (f *function) configuration() configuration {
	variables := map[string]string{}
	for _, pair := range f.Env {
		name, value, _ := strings.Cut(pair, "=")
		variables[name] = value
	}
	architecture := "x86_64"
	if runtime.GOARCH == "arm64" {
		architecture = "arm64"
	}
	return configuration{
		FunctionName: f.Name, FunctionArn: f.arn(), Runtime: "provided.al2023", Handler: filepath.Base(f.Binary),
		Role:    "arn:aws:iam::" + awsproto.Account + ":role/" + f.Name,
		Timeout: int((f.Timeout + time.Second - 1) / time.Second), MemorySize: f.MemoryMB,
		LastModified: f.modified.UTC().Format("2006-01-02T15:04:05.000+0000"), Version: latest,
		Environment: map[string]map[string]string{"Variables": variables},
		State:       "Active", LastUpdateStatus: "Successful", PackageType: "Zip", Architectures: []string{architecture},
	}
}

func (s *Service) serveList(w http.ResponseWriter) {
	all := []configuration{}
	for _, f := range s.list() {
		all = append(all, f.configuration())
	}
	writeJSON(w, http.StatusOK, map[string]any{"Functions": all})
}

func (s *Service) serveGet(w http.ResponseWriter, reference string, withCode bool) {
	f, err := s.find(reference)
	if err != nil {
		writeError(w, err)
		return
	}
	if !withCode {
		writeJSON(w, http.StatusOK, f.configuration())
		return
	}
	out := map[string]any{
		"Configuration": f.configuration(), "Code": map[string]string{"RepositoryType": "local", "Location": "file://" + f.Binary},
	}
	if f.MaxConcurrency > 0 {
		out["Concurrency"] = map[string]int{"ReservedConcurrentExecutions": f.MaxConcurrency}
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Service) serveInvoke(w http.ResponseWriter, r *http.Request, reference string) {
	payload, err := io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
	if err != nil {
		writeError(w, awsproto.Errorf("InvalidRequestContentException", "the request can't be read: %v", err))
		return
	}
	mode := r.Header.Get("X-Amz-Invocation-Type")
	switch mode {
	case "", "RequestResponse":
		s.serveCall(w, r, reference, payload)
	case asynchronousMode:
		id, err := s.enqueue(reference, payload)
		if err != nil {
			writeError(w, err)
			return
		}
		w.Header().Set("X-Amzn-Requestid", id)
		w.WriteHeader(http.StatusAccepted)
	case "DryRun":
		if _, err := s.find(reference); err != nil {
			writeError(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		writeError(w, awsproto.Errorf("InvalidParameterValueException", "there is no invocation type %q", mode))
	}
}

func (s *Service) serveCall(w http.ResponseWriter, r *http.Request, reference string, payload []byte) {
	tail := r.Header.Get("X-Amz-Log-Type") == "Tail"
	result, err := s.invoke(r.Context(), reference, payload, tail)
	if err != nil {
		writeError(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(result.payload)))
	h.Set("X-Amzn-Requestid", result.id)
	h.Set("X-Amz-Executed-Version", latest)
	if result.failed {
		h.Set("X-Amz-Function-Error", unhandled)
	}
	if tail {
		if f, err := s.find(reference); err == nil {
			h.Set("X-Amz-Log-Result", base64.StdEncoding.EncodeToString(f.logTail()))
		}
	}
	_, _ = w.Write(result.payload) // the client is gone if this fails
}

// logTail returns the end of the function's log.
func (f *function) logTail() []byte {
	f.mu.Lock()
	text := strings.Join(f.tail, "\n")
	f.mu.Unlock()
	return []byte(text[max(0, len(text)-tailBytes):])
}

package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// transport carries the SDK's calls to the local AWS, and lets them go wrong.
type transport struct {
	w    *walk
	next http.RoundTripper

	mu      sync.Mutex
	answers map[string][][]byte // the last two different answers by action and input
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	inv := of(req.Context())
	if inv == nil {
		return t.next.RoundTrip(req)
	}
	if inv.dead.Load() {
		return nil, errCrashed
	}
	_, action, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the request: %w", err)
	}
	_ = req.Body.Close() // read whole
	req.Body = io.NopCloser(bytes.NewReader(body))
	kind := t.w.plan.at(inv.next(layerAWS, action))
	switch kind {
	case CrashBefore:
		return nil, t.w.crash(inv)
	case ResetBefore:
		return nil, errReset
	case Throttle:
		return refusal(req, 400, "ThrottlingException", "Rate exceeded"), nil
	case ServerError:
		return refusal(req, 500, "InternalServiceError", "An error occurred on the server side."), nil
	case HangBefore:
		return nil, t.w.hang(inv)
	case Zombie, TurnedBack, Cancelled:
		t.w.overtake(req.Context(), inv, kind)
	case StaleRead:
		if old := t.earlier(action, body); old != nil {
			return response(req, 200, old), nil
		}
	}
	res, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(res.Body)
	_ = res.Body.Close() // read whole
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	res.Body = io.NopCloser(bytes.NewReader(answer))
	if stale(action) && res.StatusCode == 200 {
		t.remember(action, body, answer)
	}
	if action == "UpdateSecretVersionStage" {
		t.w.consumers.look(req.Context(), "after "+action+" by "+inv.function)
	}
	switch kind {
	case CrashAfter:
		return nil, t.w.crash(inv)
	case HangAfter:
		return nil, t.w.hang(inv)
	case AnswerLost:
		return nil, errReset
	}
	return res, nil
}

// remember keeps an answer that differs from the one before.
func (t *transport) remember(action string, input, answer []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := action + string(input)
	all := t.answers[key]
	if len(all) > 0 && sameState(all[len(all)-1], answer) {
		return
	}
	t.answers[key] = append(all, answer)
}

// earlier is the answer before the last change; nil if there was none.
func (t *transport) earlier(action string, input []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.answers[action+string(input)]
	if len(all) == 0 {
		return nil
	}
	return all[max(0, len(all)-2)]
}

// sameState compares two answers without their dates.
func sameState(a, b []byte) bool {
	strip := func(text []byte) string {
		var m map[string]any
		if json.Unmarshal(text, &m) != nil {
			return string(text)
		}
		for name := range m {
			if strings.HasSuffix(name, "Date") && name != "stopDate" {
				delete(m, name)
			}
		}
		out, _ := json.Marshal(m) // it was JSON
		return string(out)
	}
	return strip(a) == strip(b)
}

func refusal(req *http.Request, status int, code, message string) *http.Response {
	res := response(req, status, []byte(`{"__type":"`+code+`","message":"`+message+`"}`))
	res.Header.Set("X-Amzn-Errortype", code)
	return res
}

func response(req *http.Request, status int, body []byte) *http.Response {
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}}, Body: io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)), Request: req,
	}
}

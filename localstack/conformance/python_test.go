package conformance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

// newPython makes a rig of the Python function and a service that knows tokens.
func newPython(t *testing.T, b secretsmanager.Behaviour) *rig {
	t.Helper()
	r := newRig(t, b)
	service := newTokenService(t, "first")
	r.works = service.try
	r.arn = functionARN("python")
	if err := r.registerPython("python", "AWS_ENDPOINT_URL="+r.calls.URL, "EFFECT_SECONDS=2"); err != nil {
		t.Fatal(err)
	}
	r.s = r.create(t, fmt.Sprintf(`{"url":%q,"token":"first","owner":"billing","limit":7}`, service.URL))
	r.service = service
	return r
}

// tokenService accepts two tokens: the one that was asked with last, and the
// one that was asked for.
type tokenService struct {
	*httptest.Server

	mu       sync.Mutex
	accepted map[string]int // token to how often it is still refused
	delay    int            // for tokens that are asked for from now on
	reject   bool           // refuse to take any token
	silent   bool           // take the next token, and break off instead of answering
	asked    []string       // "GET first", "POST first", in order
}

func newTokenService(t *testing.T, first string) *tokenService {
	t.Helper()
	s := &tokenService{accepted: map[string]int{first: 0}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+token)
	left, known := s.accepted[token]
	if known && left > 0 {
		s.accepted[token]--
	}
	switch {
	case !known || left > 0:
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodGet:
		w.WriteHeader(http.StatusNoContent)
	case s.reject:
		w.WriteHeader(http.StatusUnprocessableEntity)
	default:
		var in struct{ Token string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Token == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.accepted = map[string]int{token: 0, in.Token: s.delay}
		if s.silent {
			s.silent = false
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusAccepted)
	}
}

// try uses a value's token.
func (s *tokenService) try(ctx context.Context, value string) error {
	var v struct{ Token string }
	if err := json.Unmarshal([]byte(value), &v); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+v.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the service answers %d", resp.StatusCode)
	}
	return nil
}

// history is what was asked since the last time, without the tokens' values:
// names gives each token's.
func (s *tokenService) history(names map[string]string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, line := range s.asked {
		method, token, _ := strings.Cut(line, " ")
		out = append(out, method+" "+names[token])
	}
	s.asked = nil
	return out
}

// set changes how the service answers from now on.
func (s *tokenService) set(change func(*tokenService)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// forget drops a token, as a person may do at the service.
func (s *tokenService) forget(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.accepted, token)
}

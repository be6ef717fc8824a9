package conformance_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

// fakeAccount is the local AWS with the calls of IAM and Lambda that make and
// remove a function. It notes them, and fails where it is told to.
type fakeAccount struct {
	*httptest.Server
	mu      sync.Mutex
	failing string
	noted   []string
}

func newFakeAccount(t *testing.T, a *account) *fakeAccount {
	t.Helper()
	to, err := url.Parse(a.local.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) }}
	f := &fakeAccount{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/2015-03-31/functions") && !strings.HasSuffix(r.URL.Path, "/invocations"):
			f.serveLambda(w, r)
		case r.URL.Path == "/" && strings.Contains(r.Header.Get("Authorization"), "/iam/"):
			f.serveIAM(w, r)
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

// note reports whether this call fails.
func (f *fakeAccount) note(call string) (fails bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noted = append(f.noted, call)
	action, _, _ := strings.Cut(call, " ")
	return f.failing == action
}

func (f *fakeAccount) serveIAM(w http.ResponseWriter, r *http.Request) {
	action := r.PostFormValue("Action")
	w.Header().Set("Content-Type", "text/xml")
	if f.note(action + " " + r.PostFormValue("RoleName")) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>`)
		return
	}
	_, _ = fmt.Fprintf(w, `<%[1]sResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><%[1]sResult><Role><Arn>arn:aws:iam::%[2]s:role/%[3]s</Arn><RoleName>%[3]s</RoleName></Role></%[1]sResult></%[1]sResponse>`,
		action, awsproto.Account, r.PostFormValue("RoleName"))
}

func (f *fakeAccount) serveLambda(w http.ResponseWriter, r *http.Request) {
	var in struct{ FunctionName, Principal, SourceAccount, Role, Handler string }
	body, err := io.ReadAll(r.Body)
	if err == nil && len(body) > 0 {
		err = json.Unmarshal(body, &in)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	rest := strings.Trim(strings.TrimPrefix(r.URL.Path, "/2015-03-31/functions"), "/")
	name, what, _ := strings.Cut(rest, "/")
	call := map[string]string{"POST": "CreateFunction", "DELETE": "DeleteFunction", "GET": "GetFunction", "POST policy": "AddPermission"}[strings.TrimSpace(r.Method+" "+what)]
	w.Header().Set("Content-Type", "application/json")
	if f.note(strings.TrimSpace(call + " " + name + in.FunctionName + in.Principal)) {
		w.Header().Set("X-Amzn-Errortype", "AccessDeniedException")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"Message":"no"}`)
		return
	}
	arn := functionARN("probe") // the local AWS has it already
	if strings.HasSuffix(in.FunctionName, "-closed") {
		arn = functionARN("closed")
	}
	_, _ = fmt.Fprintf(w, `{"FunctionArn":%q,"Configuration":{"FunctionArn":%[1]q,"State":"Active"},"Statement":"{}"}`, arn)
}

// taken returns the calls so far, by action.
func (f *fakeAccount) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, call := range f.noted {
		action, _, _ := strings.Cut(call, " ")
		out = append(out, action)
	}
	return out
}

func TestARealAccountIsOnlyTouchedAfterAConfirmation(t *testing.T) {
	t.Parallel()
	a := embedded(t, secretsmanager.Behaviour{})
	f := newFakeAccount(t, a)
	for _, confirm := range []string{"", "1", "yes", "111122223333"} {
		var out strings.Builder
		_, _, err := openReal(t.Context(), clientConfig(f.URL), env(map[string]string{envConfirm: confirm}), &out)
		if err == nil || !strings.Contains(err.Error(), envConfirm+"="+awsproto.Account) {
			t.Errorf("confirmation %q: %v", confirm, err)
		}
		for _, part := range []string{awsproto.Account, "us-east-1", "Lambda function", "USD", ownerTag} {
			if !strings.Contains(out.String(), part) {
				t.Errorf("the plan doesn't say %q:\n%s", part, out.String())
			}
		}
	}
	if calls := f.taken(); len(calls) > 0 {
		t.Errorf("without a confirmation: %v", calls)
	}
}

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestARealAccountIsLeftAsItWas(t *testing.T) {
	t.Parallel()
	a := embedded(t, secretsmanager.Behaviour{})
	f := newFakeAccount(t, a)
	opened, done, err := openReal(t.Context(), clientConfig(f.URL), env(map[string]string{envConfirm: awsproto.Account}), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	opened.patience = time.Minute
	// A rule's test, on this account.
	s := opened.create(t, `{"token":"first"}`)
	version := s.rotate()
	s.rotated(version)
	left := opened.create(t, "left over")
	if got := opened.uninvocable(t); len(got) != 2 || got[1] != functionARN("closed") {
		t.Errorf("functions that can't be invoked: %v", got)
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	for _, arn := range []string{s.arn, left.arn} {
		gone := &secret{account: a, t: t, arn: arn}
		if _, err := gone.get("", ""); code(err) != "ResourceNotFoundException" {
			t.Errorf("%s is still there: %v", arn, err)
		}
	}
	want := []string{
		"CreateRole", "PutRolePolicy", "CreateFunction", "GetFunction", "AddPermission", "CreateFunction", "GetFunction",
		"DeleteFunction", "DeleteFunction", "DeleteRolePolicy", "DeleteRole",
	}
	if diff := cmp.Diff(want, f.taken()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestAFunctionThatCannotBeMadeLeavesNothing(t *testing.T) {
	t.Parallel()
	made := map[string]string{"CreateRole": "DeleteRole", "PutRolePolicy": "DeleteRolePolicy", "CreateFunction": "DeleteFunction"}
	for _, failing := range []string{"CreateRole", "PutRolePolicy", "CreateFunction", "AddPermission"} {
		f := newFakeAccount(t, embedded(t, secretsmanager.Behaviour{}))
		f.failing = failing
		_, _, err := openReal(t.Context(), clientConfig(f.URL), env(map[string]string{envConfirm: awsproto.Account}), io.Discard)
		if err == nil {
			t.Errorf("%s failed, and nobody said so", failing)
		}
		calls := f.taken()
		for create, remove := range made {
			if want := create != failing && slices.Contains(calls, create); slices.Contains(calls, remove) != want {
				t.Errorf("%s failed: %s is called = %v in %v", failing, remove, !want, calls)
			}
		}
	}
}

func TestAGivenFunctionIsUsedAndKept(t *testing.T) {
	t.Parallel()
	f := newFakeAccount(t, embedded(t, secretsmanager.Behaviour{}))
	opened, done, err := openReal(t.Context(), clientConfig(f.URL),
		env(map[string]string{envConfirm: awsproto.Account, envFunction: functionARN("probe")}), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if got := opened.uninvocable(t); opened.function != functionARN("probe") || len(got) != 1 {
		t.Errorf("function %s, without permission %v", opened.function, got)
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	if calls := f.taken(); len(calls) > 0 {
		t.Errorf("calls: %v", calls)
	}
}

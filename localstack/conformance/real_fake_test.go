package conformance_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

// fakeAccount is the local AWS with the calls of IAM and Lambda that make and
// remove a function. It notes them, and fails where it is told to.
type fakeAccount struct {
	*httptest.Server
	mu      sync.Mutex
	failing string // this action is refused
	losing  string // this action is done, and its first answer lost
	noted   []string
	made    map[string]bool // roles, policies and functions that are there
}

func newFakeAccount(t *testing.T, a *account) *fakeAccount {
	t.Helper()
	to, err := url.Parse(a.local.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) }}
	f := &fakeAccount{made: map[string]bool{}}
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

// note takes a call and returns what is answered: 200, 403, 404 for what isn't
// there, 409 for what is, or 500 where an answer is lost.
func (f *fakeAccount) note(call, name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noted = append(f.noted, call)
	action, _, _ := strings.Cut(call, " ")
	if f.failing == action {
		return http.StatusForbidden
	}
	what := strings.TrimLeft(strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(action, "Create"), "Put"), "Delete"), " ") + " " + name
	switch {
	case strings.HasPrefix(action, "Create") && f.made[what]:
		return http.StatusConflict
	case strings.HasPrefix(action, "Create"), action == "PutRolePolicy":
		f.made[what] = true
	case strings.HasPrefix(action, "Delete") && !f.made[what]:
		return http.StatusNotFound
	case strings.HasPrefix(action, "Delete"):
		delete(f.made, what)
	}
	if f.losing == action {
		f.losing = ""
		return http.StatusInternalServerError
	}
	return http.StatusOK
}

// left are the roles, policies and functions that are there.
func (f *fakeAccount) left() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.made))
}

func (f *fakeAccount) serveIAM(w http.ResponseWriter, r *http.Request) {
	action := r.PostFormValue("Action")
	w.Header().Set("Content-Type", "text/xml")
	if status := f.note(action+" "+r.PostFormValue("RoleName"), r.PostFormValue("RoleName")); status != http.StatusOK {
		w.WriteHeader(status)
		codes := map[int]string{
			http.StatusForbidden: "AccessDenied", http.StatusNotFound: "NoSuchEntity", http.StatusConflict: "EntityAlreadyExists",
			http.StatusInternalServerError: "ServiceFailure",
		}
		_, _ = fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>no</Message></Error></ErrorResponse>`, codes[status])
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
	if status := f.note(strings.TrimSpace(call+" "+name+in.FunctionName+in.Principal), name+in.FunctionName); status != http.StatusOK {
		codes := map[int]string{
			http.StatusForbidden: "AccessDeniedException", http.StatusNotFound: "ResourceNotFoundException",
			http.StatusConflict: "ResourceConflictException", http.StatusInternalServerError: "ServiceException",
		}
		w.Header().Set("X-Amzn-Errortype", codes[status])
		w.WriteHeader(status)
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
	for _, failing := range []string{"CreateRole", "PutRolePolicy", "CreateFunction", "AddPermission"} {
		f := newFakeAccount(t, embedded(t, secretsmanager.Behaviour{}))
		f.failing = failing
		_, _, err := openReal(t.Context(), clientConfig(f.URL), env(map[string]string{envConfirm: awsproto.Account}), io.Discard)
		if err == nil || strings.Contains(err.Error(), "left over") {
			t.Errorf("%s failed: %v", failing, err)
		}
		if left := f.left(); len(left) > 0 {
			t.Errorf("%s failed: left over: %v after %v", failing, left, f.taken())
		}
	}
}

// An answer is lost, the SDK asks again, and is told that it is there already.
func TestALostAnswerLeavesNothing(t *testing.T) {
	t.Parallel()
	for losing, known := range map[string]bool{"CreateRole": false, "PutRolePolicy": true, "CreateFunction": false, "AddPermission": true} {
		t.Run(losing, func(t *testing.T) {
			t.Parallel()
			f := newFakeAccount(t, embedded(t, secretsmanager.Behaviour{}))
			f.losing = losing
			_, done, err := openReal(t.Context(), clientConfig(f.URL), env(map[string]string{envConfirm: awsproto.Account}), io.Discard)
			if (err == nil) != known {
				t.Errorf("opened: %v", err)
			}
			if err == nil {
				err = done()
			}
			if left := f.left(); len(left) > 0 || known && err != nil {
				t.Errorf("left over: %v after %v, %v", left, f.taken(), err)
			}
		})
	}
}

// Whoever cleans up after an interrupt isn't overtaken by tests that still run,
// and finds what nobody has told of.
func TestNothingIsMadeAfterTheRemoval(t *testing.T) {
	t.Parallel()
	f := newFakeAccount(t, embedded(t, secretsmanager.Behaviour{}))
	opened, done, err := openReal(t.Context(), clientConfig(f.URL), env(map[string]string{envConfirm: awsproto.Account}), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	byHand, err := opened.secrets.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String(opened.prefix + "labels"), SecretString: aws.String("x")})
	if err != nil {
		t.Fatal(err)
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	if _, err := (&secret{account: opened, t: t, arn: *byHand.ARN}).get("", ""); code(err) != "ResourceNotFoundException" {
		t.Errorf("a secret with our name and without our tag is there: %v", err)
	}
	if out, err := opened.make(t.Context(), &sm.CreateSecretInput{Name: aws.String(opened.prefix + "late")}); err == nil {
		t.Errorf("made after the removal: %s", *out.ARN)
	}
}

func TestThereIsTimeToRemove(t *testing.T) {
	t.Parallel()
	real := &account{real: &realAccount{}}
	if outOfTime(&account{}, time.Hour) != nil || outOfTime(real, 0) != nil {
		t.Error("a run that needs no end of its own has one")
	}
	select {
	case <-outOfTime(real, removal+time.Millisecond):
	case <-time.After(time.Minute):
		t.Error("the testing package's own end comes first")
	}
}

func TestARealAccountNeedsARegion(t *testing.T) {
	t.Parallel()
	if _, _, err := openReal(t.Context(), aws.Config{}, env(nil), io.Discard); err == nil || !strings.Contains(err.Error(), "AWS_REGION") {
		t.Errorf("without a region: %v", err)
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

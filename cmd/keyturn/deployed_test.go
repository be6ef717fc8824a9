package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/fault"
)

const full = `{"Environment":{"Variables":{"KEYTURN_STATE_MACHINE":"arn:aws:states:us-east-1:000000000000:stateMachine:r","KEYTURN_AUDIT_BUCKET":"trail"}}}`

// What a real Lambda may answer and the local one doesn't.
func TestAskingADeploymentThatDoesntAnswer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		code, configuration, answer string
		failed                      bool
		want                        fault.Name
		hint                        string
	}{
		"no right":               {code: "AccessDeniedException", want: fault.PermissionDenied, hint: "you need lambda:GetFunctionConfiguration"},
		"no function":            {code: "ResourceNotFoundException", want: fault.InvalidInput, hint: "there is no deployment of that name in us-east-1"},
		"another's function":     {configuration: `{"Environment":{"Variables":{"A":"b"}}}`, want: fault.InvalidInput, hint: "is it a watchdog of Keyturn's?"},
		"no environment":         {configuration: `{}`, want: fault.PermissionDenied, hint: "kms:Decrypt"},
		"an environment sealed":  {configuration: `{"Environment":{"Error":{"ErrorCode":"AccessDeniedException"}}}`, want: fault.PermissionDenied, hint: "kms:Decrypt"},
		"an older release":       {configuration: full, answer: `{"stable":1,"secrets":[]}`, want: fault.Internal, hint: "use the keyturn of the release"},
		"a policy that isn't":    {configuration: full, answer: `{"policy":{"version":9,"function_limit":"1s","secrets":[]}}`, want: fault.InvalidInput, hint: "use the keyturn of the release"},
		"it fails":               {configuration: full, answer: `{"errorType":"Keyturn.Throttled","errorMessage":"too many (hint: wait)"}`, failed: true, want: fault.Throttled, hint: "wait"},
		"it fails without words": {configuration: full, answer: `{"errorType":"Runtime.ExitError"}`, failed: true, want: fault.Internal, hint: "its log has more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				text := tt.configuration
				switch {
				case tt.code != "":
					w.Header().Set("X-Amzn-Errortype", tt.code)
					w.WriteHeader(http.StatusForbidden)
					text = `{"Message":"no"}`
				case strings.HasSuffix(r.URL.Path, "/invocations"):
					text = tt.answer
					if tt.failed {
						w.Header().Set("X-Amz-Function-Error", "Unhandled")
					}
				}
				_, _ = w.Write([]byte(text)) // the client is gone if this fails
			}))
			t.Cleanup(server.Close)
			asked := target{name: "pay", cfg: aws.Config{
				Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
			}}
			err := asked.askDeployment(t.Context())
			if !fault.Is(err, tt.want) || !strings.Contains(fault.HintOf(err), tt.hint) {
				t.Errorf("got %v (%s; hint %q), want %s and %q", err, fault.NameOf(err), fault.HintOf(err), tt.want, tt.hint)
			}
		})
	}
}

// What a deployment publishes is under its alias; a function without one is asked
// by its name.
func TestFunctionsAreAskedByTheirAlias(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		alias bool
		want  []string
	}{
		"with the alias":    {alias: true, want: []string{"GET live", "POST live"}},
		"without the alias": {want: []string{"GET live", "GET ", "POST live", "POST "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked []string // one request at a time
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				qualifier := r.URL.Query().Get("Qualifier")
				asked = append(asked, r.Method+" "+qualifier)
				w.Header().Set("Content-Type", "application/json")
				text := full
				switch {
				case qualifier != "" && !tt.alias:
					w.Header().Set("X-Amzn-Errortype", "ResourceNotFoundException")
					w.WriteHeader(http.StatusNotFound)
					text = `{"Message":"no such alias"}`
				case r.Method == http.MethodPost:
					text = `{"policy":{}}`
				}
				_, _ = w.Write([]byte(text)) // the client is gone if this fails
			}))
			t.Cleanup(server.Close)
			calls := target{name: "pay", cfg: aws.Config{
				Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
			}}
			_ = calls.askDeployment(t.Context()) // its policy is none
			if diff := cmp.Diff(tt.want, asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

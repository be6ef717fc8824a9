package stepfunctions_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/keyturn/keyturn/localstack/lambda"
	"github.com/keyturn/keyturn/localstack/stepfunctions"
)

// TestErrorTypesOfRealFunctions runs real processes: what a Go function does,
// and the error name that Retry and Catch see.
func TestErrorTypesOfRealFunctions(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "bootstrap")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../lambda/testdata/function")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the function: %v\n%s", err, out)
	}
	functions := lambda.New(lambda.Config{})
	t.Cleanup(functions.Close)
	for name, timeout := range map[string]time.Duration{"f": time.Minute, "short": 200 * time.Millisecond} {
		if err := functions.Register(lambda.Function{Name: name, Binary: binary, Timeout: timeout}); err != nil {
			t.Fatal(err)
		}
	}
	b := setup(t, stepfunctions.Config{Invoker: functions})
	const arn = "arn:aws:lambda:us-east-1:000000000000:function:"
	long := b.create("long", machine(`"A":{`+call(arn+"f")+`,"End":true}`))
	short := b.create("short", machine(`"A":{`+call("short")+`,"End":true}`))
	for mode, want := range map[string]string{
		"named": "Keyturn.DrainInProgress", "wrapped": "wrapError", "panic": "string", "named panic": "Keyturn.Internal",
		"exit 1": "Runtime.ExitError", "big": "Function.ResponseSizeTooLarge", "sleep": "Sandbox.Timedout",
	} {
		sm := long
		if mode == "sleep" {
			sm = short
		}
		input, err := json.Marshal(map[string]any{"mode": mode, "for": time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		d := b.end(b.start(sm, "run-"+want, string(input)))
		if aws.ToString(d.Error) != want {
			t.Errorf("%s: got %s, %s, want %s", mode, aws.ToString(d.Error), aws.ToString(d.Cause), want)
		}
	}
	if d := b.end(b.start(long, "fine", `{"mode":"echo"}`)); aws.ToString(d.Error) != "" {
		t.Errorf("echo: %s", aws.ToString(d.Error))
	}
}

// Command function is what the tests of package lambda run: it does what its
// input's mode says, or at its start what the variable START says.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type input struct {
	Mode string        `json:"mode"`
	For  time.Duration `json:"for"`
	Size int           `json:"size"` // of the answer, in bytes
}

func main() {
	switch os.Getenv("START") {
	case "exit":
		os.Exit(7)
	case "hang":
		select {}
	case "error":
		body := []byte(`{"errorType":"Keyturn.InvalidInput","errorMessage":"KEYTURN_POLICY isn't set"}`)
		resp, err := http.Post("http://"+os.Getenv("AWS_LAMBDA_RUNTIME_API")+"/2018-06-01/runtime/init/error", "application/json", bytes.NewReader(body))
		if err == nil {
			err = resp.Body.Close()
		}
		fmt.Println("reported", err)
		os.Exit(1)
	}
	if d, err := time.ParseDuration(os.Getenv("LINGER")); err == nil {
		linger(d)
	}
	if os.Getenv("RUNTIME") == "unruly" {
		unruly()
	}
	lambda.Start(handle)
}

// linger is a runtime of its own: it answers with its process id, and asks for
// more work only so long after it has answered.
func linger(d time.Duration) {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		resp, err := http.Get(base + "next")
		if err != nil {
			os.Exit(1)
		}
		_ = resp.Body.Close()
		id := resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
		resp, err = http.Post(base+id+"/response", "application/json", strings.NewReader(strconv.Itoa(os.Getpid())))
		if err != nil {
			os.Exit(1)
		}
		_ = resp.Body.Close()
		time.Sleep(d)
	}
}

// unruly is a runtime that does what none may. It answers with what it was told.
func unruly() {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/"
	next := func() string {
		resp, err := http.Get(base + "invocation/next")
		if err != nil {
			os.Exit(1)
		}
		_ = resp.Body.Close()
		return resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
	}
	var told []string
	send := func(request *http.Request) {
		resp, err := http.DefaultClient.Do(request)
		if err != nil {
			os.Exit(1)
		}
		var refusal struct{ ErrorType string }
		_ = json.NewDecoder(resp.Body).Decode(&refusal) // an acceptance has none
		_ = resp.Body.Close()
		if refusal.ErrorType != "" {
			told = append(told, fmt.Sprint(resp.StatusCode, " ", refusal.ErrorType))
		}
	}
	post := func(path, body string, header ...string) {
		request, err := http.NewRequest(http.MethodPost, base+path, strings.NewReader(body))
		if err != nil {
			os.Exit(1)
		}
		for i := 0; i < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		send(request)
	}
	id := next()
	early, err := http.NewRequest(http.MethodGet, base+"invocation/next", nil)
	if err != nil {
		os.Exit(1)
	}
	send(early)
	post("invocation/none/response", `"other"`)
	post("invocation/"+id+"/response", `"first"`)
	post("invocation/"+id+"/response", `"second"`)
	post("init/error", `{"errorType":"Late"}`)
	id = next()
	all, _ := json.Marshal(told) // strings always marshal
	post("invocation/"+id+"/response", string(all))
	id = next()
	post("invocation/"+id+"/error", "no JSON", "Lambda-Runtime-Function-Error-Type", "Keyturn.Odd")
	id = next()
	post("invocation/"+id+"/error", "no JSON")
	id = next()
	broken, err := http.NewRequest(http.MethodPost, base+"invocation/"+id+"/response", io.MultiReader(strings.NewReader("half of an ans")))
	if err != nil {
		os.Exit(1)
	}
	broken.Trailer = http.Header{
		"Lambda-Runtime-Function-Error-Type": {"Keyturn.Broken"},
		"Lambda-Runtime-Function-Error-Body": {base64.StdEncoding.EncodeToString([]byte(`{"errorType":"Keyturn.Broken","errorMessage":"half"}`))},
	}
	send(broken)
	next()
}

func handle(ctx context.Context, raw json.RawMessage) (any, error) {
	var in input
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, err
	}
	fmt.Println("mode " + in.Mode)
	switch in.Mode {
	case "pid":
		return os.Getpid(), nil
	case "environ":
		return os.Environ(), nil
	case "context":
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, ok := ctx.Deadline()
		return []any{lc.InvokedFunctionArn, lambdacontext.FunctionName, lambdacontext.MemoryLimitInMB, ok && time.Until(deadline) > 0}, nil
	case "named":
		return nil, messages.InvokeResponse_Error{Type: "Keyturn.DrainInProgress", Message: "a drain is going on"}
	case "wrapped":
		return nil, fmt.Errorf("doing x: %w", errors.New("y"))
	case "panic":
		panic("x")
	case "named panic":
		panic(messages.InvokeResponse_Error{Type: "Keyturn.Internal", Message: "a defect", ShouldExit: true})
	case "exit 0":
		os.Exit(0)
	case "exit 1":
		fmt.Print("last words without an end")
		os.Exit(1)
	case "sleep":
		time.Sleep(in.For)
	case "child":
		child := exec.Command("sleep", "1000")
		if err := child.Start(); err != nil {
			return nil, err
		}
		return child.Process.Pid, nil
	case "big":
		return strings.Repeat("x", 7<<20), nil
	case "left":
		deadline, _ := ctx.Deadline()
		return time.Until(deadline), nil
	case "chatty":
		for i := range 300 {
			fmt.Printf("line %3d of many that are written\n", i)
		}
	case "sized":
		return strings.Repeat("x", in.Size-len(`""`)), nil
	}
	return raw, nil
}

package localstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/cloudformation"
)

// deployer is who deploys: the user that CloudTrail's records of it name.
const deployer = "deployer"

// Deploy makes the stack of a template that was synthesized on this machine; its
// functions have to be built for it. It stops at the first thing that can't be
// made, and leaves there what is made already: a stack is deployed once.
func (a *AWS) Deploy(ctx context.Context, template string) (*cloudformation.Stack, error) {
	dir, err := os.MkdirTemp(a.dir, "keyturn-stack-")
	if err != nil {
		return nil, fmt.Errorf("making the folder of the stack's functions: %w", err)
	}
	a.mu.Lock()
	a.stacks = append(a.stacks, dir)
	a.mu.Unlock()
	return cloudformation.Deploy(ctx, cloudformation.Input{
		Template: template, Dir: dir, Register: a.Lambda.Register,
		Config: aws.Config{
			Region: awsproto.Region, BaseEndpoint: &a.Endpoint, Credentials: credentials.NewStaticCredentialsProvider(deployer, "local", ""),
		},
	})
}

// removeStacks removes the packages of functions that were deployed.
func (a *AWS) removeStacks() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, dir := range a.stacks {
		_ = os.RemoveAll(dir) // a temporary folder
	}
	a.stacks = nil
}

// serveDeploy answers {"template": path} with the stack's outputs. What it is told
// to deploy runs on this machine: a page in a browser must not be able to ask.
func (a *AWS) serveDeploy(w http.ResponseWriter, r *http.Request) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" || r.Header.Get("Origin") != "" {
		awsproto.WriteError(w, awsproto.Errorf("ValidationException", "send application/json, from no web page"))
		return
	}
	var in struct {
		Template string `json:"template"`
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<14))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil || !filepath.IsAbs(in.Template) {
		awsproto.WriteError(w, awsproto.Errorf("ValidationException", `a stack is deployed by {"template": path}, an absolute one of this machine`))
		return
	}
	stack, err := a.Deploy(r.Context(), in.Template)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		awsproto.WriteError(w, awsproto.Errorf("ValidationException", "deploying %s: %v", in.Template, err))
	case err != nil:
		awsproto.WriteError(w, awsproto.Errorf("CREATE_FAILED", "deploying %s: %v", in.Template, err))
	default:
		// The client is gone if this fails.
		_ = json.NewEncoder(w).Encode(map[string]any{"stack": stack.Name, "outputs": stack.Outputs})
	}
}

package local_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/iam"
)

// calls are what roles have asked for, each once.
type calls struct {
	mu    sync.Mutex
	asked map[string]iam.Request
	errs  []error
}

func (c *calls) add(asked []iam.Request, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.errs = append(c.errs, err)
	}
	for _, r := range asked {
		text, err := json.Marshal(r)
		if err != nil {
			c.errs = append(c.errs, err)
		}
		c.asked[string(text)] = r
	}
}

// has reports a call on a resource whose ARN has this part.
func (c *calls) has(action, part string) bool {
	return slices.ContainsFunc(c.list(), func(r iam.Request) bool { return r.Action == action && strings.Contains(r.Resource, part) })
}

// list is in a fixed order.
func (c *calls) list() []iam.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []iam.Request
	for _, k := range slices.Sorted(maps.Keys(c.asked)) {
		all = append(all, c.asked[k])
	}
	return all
}

// policyDocument is an IAM policy, as CDK writes it.
type policyDocument struct {
	Version   string
	Statement []map[string]any
}

type namedPolicy struct {
	Name   string         `json:"name"`
	Policy policyDocument `json:"policy"`
}

// question is what simulator/simulate.mjs reads.
type question struct {
	Account   string                    `json:"account"`
	Calls     []iam.Request             `json:"calls"`
	Roles     map[string][]namedPolicy  `json:"roles"`     // by the role's ARN
	Resources map[string]policyDocument `json:"resources"` // by the ARN of what has one
}

// verdict is its answer for one call.
type verdict struct {
	Allowed bool
	Why     string
	Used    []grant
}

// grant is the smallest part of a role's policy: that one action may be done to
// one resource.
type grant struct {
	Role                        string `json:"-"`
	Statement, Action, Resource string
}

// policies reads the stack's roles and resource policies.
func (d *deployed) policies(keys ...string) question {
	d.t.Helper()
	q := question{Account: awsproto.Account, Roles: map[string][]namedPolicy{}, Resources: map[string]policyDocument{}}
	for _, r := range d.Of("AWS::IAM::Role") {
		var all []struct {
			PolicyName     string
			PolicyDocument policyDocument
		}
		d.decode(r.Properties["Policies"], &all)
		if len(all) != 1 {
			d.t.Fatalf("role %s has %d policies: their statements have to be told apart", r.Ref, len(all))
		}
		q.Roles[r.Attributes["Arn"]] = []namedPolicy{{all[0].PolicyName, all[0].PolicyDocument}}
	}
	read := func(resource string, document any) {
		var policy policyDocument
		d.decode(document, &policy)
		q.Resources[resource] = policy
	}
	for _, r := range d.Of("AWS::S3::BucketPolicy") {
		read("arn:aws:s3:::"+r.Properties["Bucket"].(string), r.Properties["PolicyDocument"])
	}
	for _, r := range d.Of("AWS::SecretsManager::ResourcePolicy") {
		read(r.Properties["SecretId"].(string), r.Properties["ResourcePolicy"])
	}
	for _, r := range d.Of("AWS::KMS::Key") {
		read(r.Attributes["Arn"], r.Properties["KeyPolicy"])
	}
	for _, arn := range keys { // as KMS makes it where nobody gives one
		q.Resources[arn] = policyDocument{"2012-10-17", []map[string]any{{
			"Effect": "Allow", "Principal": map[string]any{"AWS": "arn:aws:iam::" + awsproto.Account + ":root"}, "Action": "kms:*", "Resource": "*",
		}}}
	}
	return q
}

func (d *deployed) decode(from, into any) {
	d.t.Helper()
	text, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// simulate asks the independent reader of policies.
func simulate(t *testing.T, q question) []verdict {
	t.Helper()
	where, err := exec.CommandContext(t.Context(), "../../../stepfunctions/differential/install.sh", "../../infra/cdk/local/simulator", "iam-npm").Output()
	if err != nil {
		t.Fatalf("installing the simulator (make iam): %v", err)
	}
	in, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "simulator/simulate.mjs", strings.TrimSpace(string(where)))
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var verdicts []verdict
	if err := json.Unmarshal(out, &verdicts); err != nil || len(verdicts) != len(q.Calls) {
		t.Fatalf("%d answers for %d calls: %v", len(verdicts), len(q.Calls), err)
	}
	return verdicts
}

// grants are all that the roles may do.
func (q question) grants() map[grant]bool {
	all := map[grant]bool{}
	for role, policies := range q.Roles {
		for i, s := range policies[0].Policy.Statement {
			if s["Effect"] != "Allow" {
				continue
			}
			id, ok := s["Sid"].(string)
			if !ok {
				id = fmt.Sprint(i + 1)
			}
			for _, action := range texts(s["Action"]) {
				for _, resource := range texts(s["Resource"]) {
					all[grant{role, id, action, resource}] = true
				}
			}
		}
	}
	return all
}

func texts(v any) []string {
	if one, ok := v.(string); ok {
		return []string{one}
	}
	var all []string
	for _, item := range v.([]any) {
		all = append(all, item.(string))
	}
	return all
}

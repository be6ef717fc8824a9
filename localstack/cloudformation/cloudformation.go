// Package cloudformation answers: what would CloudFormation make of this template,
// on the local AWS?
//
// It reads a synthesized template and creates what the template declares, in the
// order of its references, through the same calls of the same services. What it
// doesn't know is an error: a resource type, a property, an intrinsic function.
// Nothing is updated or deleted, and permissions aren't enforced: roles, policies
// and permissions are kept, for tests to compare with what was called.
package cloudformation

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/lambda"
)

// Input is what is deployed, and where.
type Input struct {
	// Template is the path of the template; its assets lie beside it, as cdk synth
	// puts them (asset.<hash>). Functions' have to run on this machine.
	Template string
	// Dir is a folder for the functions' packages.
	Dir string
	// Config is of the local AWS.
	Config aws.Config
	// Register puts a function into the local Lambda.
	Register func(lambda.Function) error
}

// Stack is what was made.
type Stack struct {
	Name      string
	Resources map[string]Resource // by logical id
	Outputs   map[string]string
}

// Resource is one that was made.
type Resource struct {
	Type string
	// Ref is what Ref gives, Attributes what Fn::GetAtt does.
	Ref        string
	Attributes map[string]string
	// Properties are as the template says, with every reference resolved.
	Properties map[string]any
}

// Of lists the resources of one type, in the order of their logical ids.
func (s *Stack) Of(kind string) []Resource {
	var all []Resource
	for _, id := range slices.Sorted(maps.Keys(s.Resources)) {
		if r := s.Resources[id]; r.Type == kind {
			all = append(all, r)
		}
	}
	return all
}

// template is the part of a template that is read.
type template struct {
	Resources map[string]declared
	Outputs   map[string]struct{ Value, Description any }
	// Parameters and Rules check the bootstrap stack, which there is none of here.
	Parameters  map[string]any
	Rules       map[string]any
	Description string
}

type declared struct {
	Type                                string
	Properties                          map[string]any
	DependsOn                           any
	Metadata                            any
	DeletionPolicy, UpdateReplacePolicy string
}

// Deploy makes the stack. It stops at the first thing that can't be made, and
// leaves there what is made already.
func Deploy(ctx context.Context, in Input) (*Stack, error) {
	text, err := os.ReadFile(in.Template)
	if err != nil {
		return nil, fmt.Errorf("reading the template: %w", err)
	}
	var t template
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&t); err != nil {
		return nil, fmt.Errorf("reading the template: %w", err)
	}
	name, _, _ := strings.Cut(filepath.Base(in.Template), ".")
	d := &deployment{
		Input: in, template: t, making: map[string]bool{}, clients: newClients(in.Config),
		stack: &Stack{Name: name, Resources: map[string]Resource{}, Outputs: map[string]string{}},
	}
	for _, id := range slices.Sorted(maps.Keys(t.Resources)) {
		if _, err := d.resource(ctx, id); err != nil {
			return d.stack, err
		}
	}
	for id, o := range t.Outputs {
		v, err := d.resolve(ctx, o.Value)
		if err != nil {
			return d.stack, fmt.Errorf("output %s: %w", id, err)
		}
		d.stack.Outputs[id] = fmt.Sprint(v)
	}
	return d.stack, d.checkPermissions()
}

// deployment is one that goes on.
type deployment struct {
	Input
	template template
	making   map[string]bool // logical ids whose references are being followed
	clients  clients
	stack    *Stack
}

// resource returns one by its logical id, and makes it first, after what it refers
// to.
func (d *deployment) resource(ctx context.Context, id string) (Resource, error) {
	if r, made := d.stack.Resources[id]; made {
		return r, nil
	}
	declared, ok := d.template.Resources[id]
	if !ok {
		return Resource{}, fmt.Errorf("the template has no resource %s", id)
	}
	if d.making[id] {
		return Resource{}, fmt.Errorf("resource %s depends on itself", id)
	}
	d.making[id] = true
	k, known := kinds[declared.Type]
	if !known {
		return Resource{}, fmt.Errorf("resource %s: the local AWS has no type %s", id, declared.Type)
	}
	for _, other := range dependencies(declared.DependsOn) {
		if _, err := d.resource(ctx, other); err != nil {
			return Resource{}, err
		}
	}
	properties, err := d.resolve(ctx, declared.Properties)
	if err != nil {
		return Resource{}, fmt.Errorf("resource %s (%s): %w", id, declared.Type, err)
	}
	r := Resource{Type: declared.Type, Properties: map[string]any{}, Attributes: map[string]string{}}
	if properties != nil {
		r.Properties = properties.(map[string]any)
	}
	for name := range r.Properties {
		if !slices.Contains(k.properties, name) {
			return Resource{}, fmt.Errorf("resource %s (%s): the local AWS has no property %s", id, declared.Type, name)
		}
	}
	if err := k.create(ctx, d, id, &r); err != nil {
		return Resource{}, fmt.Errorf("making resource %s (%s): %w", id, declared.Type, err)
	}
	d.stack.Resources[id] = r
	return r, nil
}

func dependencies(on any) []string {
	switch on := on.(type) {
	case string:
		return []string{on}
	case []any:
		var all []string
		for _, o := range on {
			all = append(all, fmt.Sprint(o))
		}
		return all
	}
	return nil
}

// noValue is what Ref of AWS::NoValue leaves out.
type noValue struct{}

// resolve replaces references and intrinsic functions by what they stand for.
func (d *deployment) resolve(ctx context.Context, v any) (any, error) {
	switch v := v.(type) {
	case []any:
		all := []any{}
		for _, item := range v {
			r, err := d.resolve(ctx, item)
			if err != nil {
				return nil, err
			}
			if _, none := r.(noValue); !none {
				all = append(all, r)
			}
		}
		return all, nil
	case map[string]any:
		if len(v) == 1 {
			for name, argument := range v {
				if name == "Ref" || strings.HasPrefix(name, "Fn::") {
					return d.call(ctx, name, argument)
				}
			}
		}
		all := map[string]any{}
		for name, item := range v {
			r, err := d.resolve(ctx, item)
			if err != nil {
				return nil, err
			}
			if _, none := r.(noValue); !none {
				all[name] = r
			}
		}
		return all, nil
	}
	return v, nil
}

// call evaluates an intrinsic function.
func (d *deployment) call(ctx context.Context, name string, argument any) (any, error) {
	switch name {
	case "Ref":
		return d.ref(ctx, fmt.Sprint(argument))
	case "Fn::GetAtt":
		parts, ok := argument.([]any)
		if !ok || len(parts) != 2 {
			return nil, fmt.Errorf("Fn::GetAtt of %v", argument)
		}
		r, err := d.resource(ctx, fmt.Sprint(parts[0]))
		if err != nil {
			return nil, err
		}
		value, ok := r.Attributes[fmt.Sprint(parts[1])]
		if !ok {
			return nil, fmt.Errorf("%v (%s) has no attribute %v here", parts[0], r.Type, parts[1])
		}
		return value, nil
	case "Fn::Join":
		resolved, err := d.resolve(ctx, argument)
		if err != nil {
			return nil, err
		}
		parts, ok := resolved.([]any)
		if !ok || len(parts) != 2 {
			return nil, fmt.Errorf("Fn::Join of %v", argument)
		}
		items, ok := parts[1].([]any)
		if !ok {
			return nil, fmt.Errorf("Fn::Join of %v", argument)
		}
		texts := make([]string, 0, len(items))
		for _, item := range items {
			texts = append(texts, fmt.Sprint(item))
		}
		return strings.Join(texts, fmt.Sprint(parts[0])), nil
	}
	return nil, fmt.Errorf("the local AWS has no intrinsic function %s", name)
}

func (d *deployment) ref(ctx context.Context, id string) (any, error) {
	switch id {
	case "AWS::Partition":
		return "aws", nil
	case "AWS::Region":
		return awsproto.Region, nil
	case "AWS::AccountId":
		return awsproto.Account, nil
	case "AWS::URLSuffix":
		return "amazonaws.com", nil
	case "AWS::StackName":
		return d.stack.Name, nil
	case "AWS::NoValue":
		return noValue{}, nil
	}
	r, err := d.resource(ctx, id)
	return r.Ref, err
}

// physical is the name of a resource that the template gives none, as
// CloudFormation forms it: the stack's, the logical id, and a suffix.
func (d *deployment) physical(id string) string { return d.stack.Name + "-" + id + "-LOCAL" }

package compile_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/policy/compile"
)

// schema is the one that is published, compiled.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(compile.Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("keyturn.schema.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("keyturn.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// checked is what an editor that knows the schema says of a file.
func checked(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(value)
}

// Every file that compiles is right by the schema, too.
func TestTheSchemaTakesWhatCompiles(t *testing.T) {
	t.Parallel()
	s := schema(t)
	files := map[string]string{"accountYAML": strings.ReplaceAll(accountYAML, "    kind: kmskey\n",
		"    kind: postgres\n    postgres: {hosts: [\"h:5432\"], admin: arn:aws:secretsmanager:eu-central-1:111122223333:secret:admin-AbCdEf}\n")}
	page, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range strings.Split(string(page), "```yaml\n")[1:] {
		files[fmt.Sprintf("docs/policy.md %d", i+1)], _, _ = strings.Cut(b, "```")
	}
	deployed, err := filepath.Glob("../../infra/cdk/keyturn/testdata/*.yaml")
	if err != nil || len(deployed) < 3 {
		t.Fatalf("the CDK app's configurations: %v, %v", deployed, err)
	}
	for _, path := range deployed {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = string(text)
	}
	for name, text := range files {
		if _, err := compile.Source(name, []byte(text), deployment.Kinds()); err != nil {
			t.Errorf("%s doesn't compile: %v", name, err)
		}
		if err := checked(t, s, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An editor says at once what a compile would say later.
func TestTheSchemaRefuses(t *testing.T) {
	t.Parallel()
	s := schema(t)
	good := "version: 1\nsecrets:\n- secret: a\n  kind: postgres\n  postgres: {hosts: [\"h:5432\"], admin: arn:aws:secretsmanager:eu-central-1:111122223333:secret:admin-AbCdEf}\n"
	if err := checked(t, s, good); err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{
		"  holdd: 1h\n", "  hold: 90\n", "  hold: 2w\n", "  driver: lambda\n", "  drain: {on_timeout: wait}\n", "  schedule: daily\n",
		"  schedule_window: 90m\n", "  create: \"yes\"\n", "  kms_key: alias/a\n", "  consumers: [{cache: 1m}]\n", "deploy: {name: Shop}\n",
		"deploy: {zones: {core: {vpc: vpc-0123456789abcdef0}}}\n", "deploy: {audit: {lock: none}}\n", "defaults: {on_timeout: hold}\n",
	} {
		if err := checked(t, s, good+more); err == nil {
			t.Errorf("taken: %s", more)
		}
		if _, err := compile.Source("k", []byte(good+more), deployment.Kinds()); err == nil {
			t.Errorf("compiles: %s", more)
		}
	}
}

// The schema knows the keys that the compiler knows, at every place, and no others:
// the compiler lists its own to who writes an unknown one.
func TestTheSchemaHasTheCompilersKeys(t *testing.T) {
	t.Parallel()
	const unknown = "qqqqqqqqqqqqqqqq"
	s := schema(t)
	at := func(s *jsonschema.Schema, keys ...string) *jsonschema.Schema {
		for _, key := range keys {
			for s.Ref != nil {
				s = s.Ref
			}
			switch key {
			case "[]":
				s = s.Items2020
				if s == nil {
					t.Fatal("no items")
				}
			case "*":
				s = s.AdditionalProperties.(*jsonschema.Schema)
			default:
				s = s.Properties[key]
			}
			for s.Ref != nil {
				s = s.Ref
			}
		}
		return s
	}
	places := map[string][]string{
		"{" + unknown + ": 1}":                                                        nil,
		"{defaults: {" + unknown + ": 1}}":                                            {"defaults"},
		"{defaults: {stuck: {" + unknown + ": 1}}}":                                   {"defaults", "stuck"},
		"{deploy: {" + unknown + ": 1}}":                                              {"deploy"},
		"{deploy: {zones: {core: {" + unknown + ": 1}}}}":                             {"deploy", "zones", "*"},
		"{deploy: {audit: {" + unknown + ": 1}}}":                                     {"deploy", "audit"},
		"{deploy: {alarms: {" + unknown + ": 1}}}":                                    {"deploy", "alarms"},
		"{secrets: [{kind: postgres, " + unknown + ": 1}]}":                           {"secrets", "[]"},
		"{secrets: [{kind: postgres, drain: {" + unknown + ": 1}}]}":                  {"secrets", "[]", "drain"},
		"{secrets: [{kind: postgres, consumers: [{" + unknown + ": 1}]}]}":            {"secrets", "[]", "consumers", "[]"},
		"{secrets: [{secret: a, kind: postgres, postgres: {" + unknown + ": \"\"}}]}": {"secrets", "[]", "postgres"},
	}
	for text, place := range places {
		_, err := compile.Source("k", []byte(text), deployment.Kinds())
		if err == nil {
			t.Fatalf("%s compiles", text)
		}
		var listed string
		for line := range strings.Lines(err.Error()) {
			if strings.Contains(line, unknown) {
				_, listed, _ = strings.Cut(line, "there are ")
			}
		}
		listed, _, _ = strings.Cut(strings.TrimSpace(listed), ";")
		want := strings.Split(listed, ", ")
		slices.Sort(want)
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(at(s, place...).Properties))); diff != "" {
			t.Errorf("%v (-compiler +schema):\n%s", place, diff)
		}
	}
}

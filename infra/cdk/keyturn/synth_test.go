package keyturn_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"

	"github.com/keyturn/keyturn/infra/cdk/keyturn"
	"github.com/keyturn/keyturn/policy/account"
	"github.com/keyturn/keyturn/rotation"
)

func TestMain(m *testing.M) {
	status := m.Run()
	jsii.Close()
	for _, d := range synthesized.of {
		_ = os.RemoveAll(d.folder)
	}
	os.Exit(status)
}

// The configurations of testdata, by their files' names.
const (
	minimal = "minimal" // one secret that exists, no zones
	zones   = "zones"   // two zones, a created secret, keys, boundary, break-glass, a topic of the account's own
	many    = "many"    // forty secrets

	otherwise = "zones-otherwise" // zones with properties that aren't the defaults
)

var configurations = []string{minimal, zones, many}

// deployed is a configuration as CloudFormation is given it.
type deployed struct {
	account  account.Account
	made     *keyturn.Deployment
	folder   string // of the synthesized app
	template template
	errors   []string // annotations, cdk-nag's among them
	warnings []string
}

// template is what tests look at.
type template struct {
	Resources map[string]resource
	Outputs   map[string]any
}

type resource struct {
	Type                                string
	Properties                          map[string]any
	DeletionPolicy, UpdateReplacePolicy string
	DependsOn                           []string
	Metadata                            map[string]any
}

var synthesized = struct {
	sync.Mutex
	of map[string]*deployed
}{of: map[string]*deployed{}}

// synth synthesizes a configuration once for all tests, with cdk-nag's checks.
func synth(t *testing.T, name string) *deployed {
	t.Helper()
	synthesized.Lock()
	defer synthesized.Unlock()
	if d := synthesized.of[name]; d != nil {
		return d
	}
	compiled := compileFile(t, strings.TrimSuffix(name, "-otherwise"))
	d, err := build(t, props(t, compiled, name), cdknag.NewAwsSolutionsChecks(&cdknag.NagPackProps{Verbose: jsii.Bool(true)}))
	if err != nil {
		t.Fatal(err)
	}
	synthesized.of[name] = d
	return d
}

// props are the least that New takes; of otherwise every property, and a schedule
// for the secret that the machine drives.
func props(t *testing.T, compiled account.Account, name string) keyturn.Props {
	t.Helper()
	p := keyturn.Props{Account: compiled, Folder: "testdata", Functions: builtFunctions(t)}
	if name != otherwise {
		return p
	}
	p.KeepPolicy, p.Tracing, p.LogDays = []string{sessions}, true, 30
	for i, s := range p.Account.Secrets {
		if s.Driver == rotation.DriverMachine {
			p.Account.Secrets[i].Schedule = "rate(30 days)"
		}
	}
	return p
}

func compileFile(t *testing.T, name string) account.Account {
	t.Helper()
	compiled, err := keyturn.Load(filepath.Join("testdata", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// builtFunctions stands for bin/lambda: a bootstrap for each function, whose
// content is its name.
func builtFunctions(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for _, name := range slices.Concat(keyturn.ZoneFunctions(), []string{keyturn.LogFunction}, keyturn.ControlFunctions()) {
		if err := os.Mkdir(filepath.Join(folder, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name, "bootstrap"), []byte(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// build makes one stack of its own.
func build(t *testing.T, props keyturn.Props, checks ...awscdk.IAspect) (d *deployed, err error) {
	t.Helper()
	folder, err := os.MkdirTemp("", "keyturn-cdk-test-*") //nolint:usetesting // it outlives the test: others look at it, too
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d == nil {
			_ = os.RemoveAll(folder)
		}
	})
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: &folder, AnalyticsReporting: jsii.Bool(false), Context: context(t)})
	stack := awscdk.NewStack(app, jsii.String("Stack"), &awscdk.StackProps{
		Env: &awscdk.Environment{Account: jsii.String("111122223333"), Region: jsii.String("eu-central-1")},
	})
	made, err := keyturn.New(stack, "Keyturn", &props)
	if err != nil {
		return nil, err
	}
	made.Outputs(stack)
	for _, c := range checks {
		awscdk.Aspects_Of(app).Add(c, nil)
	}
	d = &deployed{account: props.Account, made: made, folder: folder}
	raw, err := json.Marshal(assertions.Template_FromStack(stack, nil).ToJSON())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &d.template); err != nil {
		t.Fatal(err)
	}
	notes := assertions.Annotations_FromStack(stack)
	for _, e := range *notes.FindError(jsii.String("*"), assertions.Match_AnyValue()) {
		d.errors = append(d.errors, fmt.Sprintf("%s: %v", *e.Id, e.Entry.Data)) //nolint:staticcheck // the type that replaces it isn't what the assertions return
	}
	for _, w := range *notes.FindWarning(jsii.String("*"), assertions.Match_AnyValue()) {
		d.warnings = append(d.warnings, fmt.Sprintf("%s: %v", *w.Id, w.Entry.Data)) //nolint:staticcheck // as above
	}
	return d, nil
}

// context is cdk.json's.
func context(t *testing.T) *map[string]any {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "cdk.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Context map[string]any }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	return &file.Context
}

package keyturn_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/infra/cdk/keyturn"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/stepfunctions"
)

// names are the functions that a configuration has to have.
func names(deployment string, zones ...string) []string {
	var all []string
	for _, zone := range zones {
		for _, folder := range keyturn.ZoneFunctions() {
			if zone == "" {
				all = append(all, deployment+"-"+folder)
			} else {
				all = append(all, deployment+"-"+zone+"-"+folder)
			}
		}
	}
	for _, folder := range keyturn.ControlFunctions() {
		all = append(all, deployment+"-"+folder)
	}
	slices.Sort(all)
	return all
}

// Every folder of functions/ is deployed, and the table has no other.
func TestEveryFunctionIsDeployed(t *testing.T) {
	folders, err := filepath.Glob("../../../functions/*/main.go")
	if err != nil || len(folders) == 0 {
		t.Fatalf("functions/ holds %v: %v", folders, err)
	}
	all := slices.Concat(keyturn.ZoneFunctions(), []string{keyturn.LogFunction}, keyturn.ControlFunctions())
	if len(folders) != len(all) {
		t.Errorf("functions/ has %d folders, the tables %d", len(folders), len(all))
	}
	for _, f := range folders {
		if name := filepath.Base(filepath.Dir(f)); !slices.Contains(all, name) {
			t.Errorf("functions/%s is in no table", name)
		} else if len(keyturn.Permissions(name)) == 0 {
			t.Errorf("functions/%s has no permissions", name)
		}
	}
	for _, definition := range []string{stepfunctions.Rotation, stepfunctions.Emergency} {
		for _, name := range stepfunctions.Functions(definition) {
			if !slices.Contains(all, name) {
				t.Errorf("a state machine calls %s, which is in no table", name)
			}
		}
	}
}

func TestFunctions(t *testing.T) {
	for name, want := range map[string]struct {
		functions []string
		timeout   float64
	}{
		minimal: {names("keyturn", ""), 60},
		zones:   {slices.Sorted(slices.Values(append(names("pay", "core", "edge"), "pay-core-lateLogin"))), 90},
		many:    {names("fleet", ""), 60},
	} {
		tp := synth(t, name).template
		got := tp.functions()
		if diff := cmp.Diff(want.functions, slices.Sorted(maps.Keys(got))); diff != "" {
			t.Errorf("%s: functions (-want +got):\n%s", name, diff)
		}
		for function, id := range got {
			p := tp.Resources[id].Properties
			plain := map[string]any{
				"Architectures": []any{"arm64"}, "Runtime": "provided.al2023", "Handler": "bootstrap",
				"MemorySize": 128.0, "Timeout": want.timeout, "ReservedConcurrentExecutions": nil,
			}
			for property, value := range plain {
				if diff := cmp.Diff(value, p[property]); diff != "" {
					t.Errorf("%s: %s of %s (-want +got):\n%s", name, property, function, diff)
				}
			}
			if text(p["Description"]) == "" || len(function) > 64 {
				t.Errorf("%s: %q is described as %q", name, function, p["Description"])
			}
		}
	}
}

// A run goes on with the versions that it began with: each is published, and kept
// when the next one is.
func TestVersionsAndAliases(t *testing.T) {
	for _, name := range configurations {
		tp := synth(t, name).template
		for function, id := range tp.functions() {
			version, r := tp.one(t, "AWS::Lambda::Version", named("FunctionName", "${"+id+"}"))
			if r.DeletionPolicy != "Retain" {
				t.Errorf("%s: the version of %s goes with the next one", name, function)
			}
			_, alias := tp.one(t, "AWS::Lambda::Alias", named("FunctionName", "${"+id+"}"))
			if text(alias.Properties["Name"]) != keyturn.Alias || text(alias.Properties["FunctionVersion"]) != "${"+version+".Version}" {
				t.Errorf("%s: the alias of %s is %v", name, function, alias.Properties)
			}
		}
	}
}

// The code of one function changes: it alone gets another version, and nothing
// else changes but what names that version. Without a change nothing changes.
func TestUpgrade(t *testing.T) {
	compiled := compileFile(t, minimal)
	deploy := func(functions string) map[string]resource {
		d, err := build(t, keyturn.Props{Account: compiled, Folder: "testdata", Functions: functions})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(d.folder) })
		return d.template.Resources
	}
	before := deploy(builtFunctions(t))
	if diff := cmp.Diff(before, deploy(builtFunctions(t))); diff != "" {
		t.Errorf("the same code and policy, built elsewhere, is another stack:\n%s", diff)
	}
	newer := builtFunctions(t)
	if err := os.WriteFile(filepath.Join(newer, "drainCheck", "bootstrap"), []byte("newer"), 0o755); err != nil {
		t.Fatal(err)
	}
	after := deploy(newer)
	var changed []string
	for id, r := range after {
		if was, there := before[id]; there && !cmp.Equal(was, r) {
			changed = append(changed, r.Type)
		} else if !there {
			changed = append(changed, "new "+r.Type)
		}
	}
	for id, r := range before {
		if _, there := after[id]; !there {
			changed = append(changed, "gone "+r.Type)
		}
	}
	slices.Sort(changed)
	want := []string{"AWS::Lambda::Alias", "AWS::Lambda::Function", "AWS::StepFunctions::StateMachine", "gone AWS::Lambda::Version", "new AWS::Lambda::Version"}
	if diff := cmp.Diff(want, changed); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// What Lambda unpacks: the binary, the compiled policy, and the files beside it
// under the paths that the policy has.
func TestPackages(t *testing.T) {
	d := synth(t, zones)
	ids := d.template.functions()
	for _, function := range []string{"pay-core-rotateSecret", "pay-edge-rotateSecret", "pay-watchdog"} {
		key := text(at(d.template.Resources[ids[function]].Properties, "Code", "S3Key"))
		folder := filepath.Join(d.folder, "asset."+strings.TrimSuffix(key, ".zip"))
		binary, err := os.ReadFile(filepath.Join(folder, "bootstrap"))
		if want := function[strings.LastIndexByte(function, '-')+1:]; err != nil || string(binary) != want {
			t.Errorf("the bootstrap of %s is %q, %v", function, binary, err)
		}
		if info, err := os.Stat(filepath.Join(folder, "bootstrap")); err != nil || info.Mode().Perm()&0o111 == 0 {
			t.Errorf("the bootstrap of %s can't be run: %v", function, err)
		}
		document, err := policy.Load(filepath.Join(folder, "policy.json"))
		if err != nil || document.Hash() != d.account.Policy.Hash() {
			t.Errorf("the policy of %s: hash %s, %v", function, document.Hash(), err)
		}
		if _, err := os.Stat(filepath.Join(folder, "certificates", "internal.pem")); err != nil {
			t.Errorf("%s: %v", function, err)
		}
	}
	if core, edge := ids["pay-core-rotateSecret"], ids["pay-edge-rotateSecret"]; !cmp.Equal(d.template.Resources[core].Properties["Code"], d.template.Resources[edge].Properties["Code"]) {
		t.Error("the zones have packages of their own")
	}
}

// Functions in a zone are told of no state machine: they couldn't reach it.
func TestEnvironment(t *testing.T) {
	tp := synth(t, zones).template
	bucket := "${" + tp.of("AWS::S3::Bucket")[0] + "}"
	key, _ := tp.one(t, "AWS::KMS::Key", named("KeyUsage", "SIGN_VERIFY"))
	for function, id := range tp.functions() {
		want := map[string]string{"KEYTURN_AUDIT_BUCKET": bucket, "KEYTURN_DEPLOYMENT": "pay"}
		if strings.Count(function, "-") == 1 {
			want["KEYTURN_STATE_MACHINE"] = "arn:aws:states:eu-central-1:111122223333:stateMachine:pay-rotation"
			want["KEYTURN_EMERGENCY_STATE_MACHINE"] = "arn:aws:states:eu-central-1:111122223333:stateMachine:pay-emergency"
		}
		if function == "pay-audit" {
			want["KEYTURN_SIGNING_KEY"] = "${" + key + ".Arn}"
		}
		got := map[string]string{}
		variables, _ := at(tp.Resources[id].Properties, "Environment", "Variables").(map[string]any)
		for k, v := range variables {
			got[k] = text(v)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("environment of %s (-want +got):\n%s", function, diff)
		}
	}
}

func TestNetworks(t *testing.T) {
	tp := synth(t, zones).template
	group, r := tp.one(t, "AWS::EC2::SecurityGroup", named("VpcId", "vpc-0123456789abcdef0"))
	if r.Properties["SecurityGroupIngress"] != nil {
		t.Error("something may connect to the functions")
	}
	want := map[string]map[string][]string{
		"core": {"SubnetIds": {"subnet-0123456789abcdef0", "subnet-0123456789abcdef1"}, "SecurityGroupIds": {"${" + group + ".GroupId}"}},
		"edge": {"SubnetIds": {"subnet-0fedcba9876543210"}, "SecurityGroupIds": {"sg-0fedcba9876543210"}},
	}
	for function, id := range tp.functions() {
		var expected map[string][]string
		if parts := strings.Split(function, "-"); len(parts) == 3 {
			expected = want[parts[1]]
		}
		var got map[string][]string
		if config, ok := tp.Resources[id].Properties["VpcConfig"].(map[string]any); ok {
			got = map[string][]string{}
			for k, v := range config {
				got[k] = texts(v)
			}
		}
		if diff := cmp.Diff(expected, got); diff != "" {
			t.Errorf("network of %s (-want +got):\n%s", function, diff)
		}
	}
	for id, r := range synth(t, minimal).template.Resources {
		if r.Properties["VpcConfig"] != nil || r.Type == "AWS::EC2::SecurityGroup" {
			t.Errorf("without zones %s lies in a network", id)
		}
	}
}

func TestStateMachines(t *testing.T) {
	for name, want := range map[string][]string{
		minimal: {"keyturn-emergency", "keyturn-rotation"},
		zones:   {"pay-emergency-core", "pay-emergency-edge", "pay-rotation-core", "pay-rotation-edge"},
	} {
		tp := synth(t, name).template
		var got []string
		for _, id := range tp.of("AWS::StepFunctions::StateMachine") {
			p := tp.Resources[id].Properties
			machine := text(p["StateMachineName"])
			got = append(got, machine)
			definition := stepfunctions.Rotation
			if strings.Contains(machine, "emergency") {
				definition = stepfunctions.Emergency
			}
			calls, _ := p["DefinitionSubstitutions"].(map[string]any)
			if diff := cmp.Diff(stepfunctions.Functions(definition), slices.Sorted(maps.Keys(calls))); diff != "" {
				t.Errorf("%s calls (-want +got):\n%s", machine, diff)
			}
			for folder, version := range calls {
				id := strings.TrimSuffix(strings.TrimPrefix(text(version), "${"), "}")
				called := text(tp.Resources[id].Properties["FunctionName"])
				f := tp.Resources[strings.TrimSuffix(strings.TrimPrefix(called, "${"), "}")]
				zone := strings.TrimPrefix(strings.TrimPrefix(machine, strings.Split(machine, "-")[0]+"-rotation"), strings.Split(machine, "-")[0]+"-emergency")
				expected := strings.Split(machine, "-")[0] + zone + "-" + folder
				if slices.Contains(keyturn.ControlFunctions(), folder) {
					expected = strings.Split(machine, "-")[0] + "-" + folder
				}
				if tp.Resources[id].Type != "AWS::Lambda::Version" || text(f.Properties["FunctionName"]) != expected {
					t.Errorf("%s calls %s for %s, a %s", machine, text(f.Properties["FunctionName"]), folder, tp.Resources[id].Type)
				}
			}
			if diff := cmp.Diff([]any{"ERROR", false, "STANDARD", false}, []any{
				at(p, "LoggingConfiguration", "Level"), at(p, "LoggingConfiguration", "IncludeExecutionData"), p["StateMachineType"], at(p, "TracingConfiguration", "Enabled"),
			}); diff != "" {
				t.Errorf("%s (-want +got):\n%s", machine, diff)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: state machines (-want +got):\n%s", name, diff)
		}
	}
}

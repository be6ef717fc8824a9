package demo

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/internal/deployment"
	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/lambda"
	"github.com/keyturn/keyturn/policy/compile"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/stepfunctions"
)

// functionLimit bounds every function, and so how long a stopped run may still act.
const functionLimit = 5 * time.Second

// keyturnYAML is the operator's file, with times that fit a demo: what takes
// hours in production takes seconds here, by the same rules.
var keyturnYAML = template.Must(template.New("keyturn.yaml").Funcs(template.FuncMap{"seconds": wholeSeconds}).Parse(`version: 1
function_limit: {{.Limit}}
secrets:
  - secret: {{.Secret}}
    kind: postgres
    driver: secretsmanager
    drain: {window: 4s, poll: 1s, quiet_polls: 3, max_overlap: 10m, on_timeout: hold}
    hold: 2s
    head_limit: 2m
{{- if .FailedLogins}}
    failed_logins_per_hour: {{.FailedLogins}}
{{- end}}
    consumers:
{{- range .Parties}}
      - name: {{.Name}}
        cadence: {{seconds .Cadence}}
        cache: {{seconds .CacheAge}}
{{- if .Follow}}
        wave: {{.Wave}}
        follow:
{{- range .Follow}}
          - {{.}}
{{- end}}
{{- end}}
{{- end}}
    postgres:
      mode: fresh
      hosts: ["{{.Primary}}"]
      replicas: ["{{.Replica}}"]
      admin: {{.Admin}}
      root_ca_file: {{.CA}}
      login_log:
        "{{.Primary}}": {{.PrimaryLog}}
        "{{.Replica}}": {{.ReplicaLog}}
`))

// wholeSeconds rounds up: keyturn.yaml knows no fractions.
func wholeSeconds(d time.Duration) string {
	return strconv.Itoa(int((d+time.Second-1)/time.Second)) + "s"
}

// compilePolicy writes keyturn.yaml and compiles it, as a deployment does.
func (s *stage) compilePolicy() (string, error) {
	var text bytes.Buffer
	if err := keyturnYAML.Execute(&text, map[string]any{
		"Limit": functionLimit, "Secret": s.appARN, "Parties": s.load.Parties(), "Admin": s.adminARN,
		"FailedLogins": s.failedLogins,
		"Primary":      s.cluster.Primary.Address(), "Replica": s.cluster.Replica.Address(), "CA": s.cluster.CAFile,
		"PrimaryLog": s.cluster.Primary.LogFile, "ReplicaLog": s.cluster.Replica.LogFile,
	}); err != nil {
		return "", fault.Wrap(fault.Internal, err, "writing keyturn.yaml")
	}
	source := s.path("keyturn.yaml")
	if err := os.WriteFile(source, text.Bytes(), 0o600); err != nil {
		return "", fault.Wrap(fault.Internal, err, "writing keyturn.yaml")
	}
	doc, err := compile.File(source, deployment.Kinds())
	if err != nil {
		return "", err
	}
	path := s.path("policy.json")
	return path, os.WriteFile(path, doc.JSON(), 0o600)
}

// deploy registers the functions, the state machine and the rules, and switches
// rotation on without rotating.
func (s *stage) deploy(ctx context.Context) error {
	if s.options.Naive {
		return nil
	}
	policyPath, err := s.compilePolicy()
	if err != nil {
		return err
	}
	s.machine = "arn:aws:states:" + awsproto.Region + ":" + awsproto.Account + ":stateMachine:keyturn-rotation"
	names := map[string]string{}
	for _, name := range functionNames {
		names[name] = functionARN(name)
		err := s.aws.Lambda.Register(lambda.Function{
			Name: "keyturn-" + name, Binary: filepath.Join(s.functions, name), Timeout: functionLimit, MemoryMB: 128,
			Env: []string{
				deployment.EnvPolicy + "=" + policyPath,
				deployment.EnvStateMachine + "=" + s.machine,
				deployment.EnvAuditDir + "=" + s.path("audit"),
			},
		})
		if err != nil {
			return err
		}
	}
	for name, definition := range map[string]string{
		"keyturn-rotation": stepfunctions.Rotation, "keyturn-emergency": stepfunctions.Emergency,
	} {
		filled, err := stepfunctions.Definition(definition, names)
		if err != nil {
			return err
		}
		if _, err := s.sfn.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{
			Name: &name, Definition: &filled, RoleArn: aws.String("arn:aws:iam::" + awsproto.Account + ":role/" + name),
		}); err != nil {
			return err
		}
	}
	if err := s.switchRotationOn(ctx); err != nil {
		return err
	}
	s.rotator, err = deployment.Assemble(s.config, deployment.Settings{
		Policy: policyPath, StateMachine: s.machine, AuditDir: s.path("audit"),
	}, deployment.Actor{Name: "operator", Type: audit.Human, Lines: s.logs}, slog.New(slog.NewJSONHandler(s.logs, nil)))
	if err != nil || !s.options.Keep {
		return err
	}
	return s.writeOperateFile(policyPath)
}

// writeOperateFile writes what a shell needs for keyturn's own commands to work
// on this deployment, as long as it runs.
func (s *stage) writeOperateFile(policyPath string) error {
	var text strings.Builder
	for _, v := range [][2]string{
		{"AWS_ENDPOINT_URL", s.aws.Endpoint}, {"AWS_REGION", awsproto.Region},
		{"AWS_ACCESS_KEY_ID", "operator"}, {"AWS_SECRET_ACCESS_KEY", "local"},
		{deployment.EnvPolicy, policyPath}, {deployment.EnvAuditDir, s.path("audit")},
		{deployment.EnvStateMachine, s.machine},
		{deployment.EnvEmergencyMachine, strings.Replace(s.machine, "keyturn-rotation", "keyturn-emergency", 1)},
		{"SECRET", s.appARN},
	} {
		fmt.Fprintf(&text, "export %s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
	}
	path := s.path("operate.sh")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return fault.Wrap(fault.Internal, err, "writing %s", path)
	}
	fmt.Fprintf(s.options.Progress, "to look on from another terminal: . %s; keyturn status $SECRET\n", path)
	return nil
}

func functionARN(name string) string {
	return "arn:aws:lambda:" + awsproto.Region + ":" + awsproto.Account + ":function:keyturn-" + name
}

// switchRotationOn configures the rotation function; RotateImmediately=false
// only tests. The event rule is what makes a lost start of the tail harmless.
func (s *stage) switchRotationOn(ctx context.Context) error {
	_, err := s.secrets.RotateSecret(ctx, &secretsmanager.RotateSecretInput{
		SecretId: &s.appARN, RotationLambdaARN: aws.String(functionARN("rotateSecret")),
		RotateImmediately: aws.Bool(false),
		RotationRules:     &smtypes.RotationRulesType{AutomaticallyAfterDays: aws.Int64(30)},
	})
	if err != nil {
		return fault.Wrap(fault.Internal, err, "configuring the rotation")
	}
	if err := s.tested(ctx); err != nil {
		return err
	}
	bus := eventbridge.NewFromConfig(s.config)
	if _, err := bus.PutRule(ctx, &eventbridge.PutRuleInput{
		Name: aws.String("keyturn-rotation-succeeded"),
		EventPattern: aws.String(`{"source":["aws.secretsmanager"],"detail-type":["AWS Service Event via CloudTrail"],` +
			`"detail":{"eventName":["RotationSucceeded","RotationFailed","RotationAbandoned"]}}`),
	}); err != nil {
		return fault.Wrap(fault.Internal, err, "putting the rule")
	}
	_, err = bus.PutTargets(ctx, &eventbridge.PutTargetsInput{
		Rule:    aws.String("keyturn-rotation-succeeded"),
		Targets: []ebtypes.Target{{Id: aws.String("watchdog"), Arn: aws.String(functionARN("watchdog"))}},
	})
	return err
}

// tested waits for the test that RotateImmediately=false runs: until it is over,
// Secrets Manager refuses to rotate.
func (s *stage) tested(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		out, err := s.secrets.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &s.appARN})
		if err != nil {
			return fault.Wrap(fault.Internal, err, "waiting for the test of the rotation function")
		}
		pending := false
		for _, stages := range out.VersionIdsToStages {
			pending = pending || slices.Contains(stages, string(rotation.Pending))
		}
		if !pending {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fault.Wrap(fault.Unavailable, err, "waiting for the test of the rotation function (its log is functions.log, see --keep)")
		}
	}
}

package keyturn_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/infra/cdk/keyturn"
)

const secretARN = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:"

// The actors of zones.yaml.
var (
	adminOfPayments = secretARN + "payments/admin-GhIjKl"
	reports         = secretARN + "payments/reports-AbCdEf"
	sessions        = secretARN + "sessions/db-MnOpQr"
	followKey       = secretARN + "keyturn/follow-key-YzAbCd"
	console         = secretARN + "pool/console-StUvWx"
	adminOfSessions = secretARN + "sessions/admin-GhIjKl"
)

func TestEachFunctionHasARoleOfItsOwn(t *testing.T) {
	for _, name := range configurations {
		tp := synth(t, name).template
		roles := map[string]string{}
		for function := range tp.functions() {
			role := tp.roleOf(t, function)
			if other := roles[role]; other != "" {
				t.Errorf("%s: %s and %s share a role", name, function, other)
			}
			roles[role] = function
		}
	}
}

func TestTheBoundaryIsOnEveryRole(t *testing.T) {
	for name, want := range map[string]string{minimal: "", zones: "arn:aws:iam::111122223333:policy/workloads"} {
		tp := synth(t, name).template
		for _, id := range tp.of("AWS::IAM::Role") {
			p := tp.Resources[id].Properties
			if got := strings.Join(texts(p["PermissionsBoundary"]), ""); got != want {
				t.Errorf("%s: the boundary of %s is %q", name, id, got)
			}
			if p["ManagedPolicyArns"] != nil {
				t.Errorf("%s: %s has policies of AWS's: %v", name, id, p["ManagedPolicyArns"])
			}
		}
	}
}

// granted lists what a role may do: its actions by resource, "if" and the
// condition's keys behind those that have one.
func granted(tp template, role string) map[string][]string {
	all := map[string][]string{}
	for _, s := range tp.rights(role) {
		if s.Deny {
			continue
		}
		var keys []string
		for _, tests := range s.Condition {
			keys = append(keys, slices.Collect(maps.Keys(tests.(map[string]any)))...)
		}
		slices.Sort(keys)
		for _, r := range s.Resources {
			for _, a := range s.Actions {
				if len(keys) > 0 {
					a += " if " + strings.Join(keys, ", ")
				}
				all[r] = append(all[r], a)
			}
		}
	}
	for r := range all {
		slices.Sort(all[r])
		all[r] = slices.Compact(all[r])
	}
	return all
}

// One function of each sort, spelled out.
func TestRightsOfAFewFunctions(t *testing.T) {
	tp := synth(t, zones).template
	bucket := "${" + tp.of("AWS::S3::Bucket")[0] + ".Arn}"
	created := "${" + tp.of("AWS::SecretsManager::Secret")[0] + "}"
	logs := func(function string) string {
		return "${" + strings.Trim(text(at(tp.Resources[tp.functions()[function]].Properties, "LoggingConfig", "LogGroup")), "${}") + ".Arn}"
	}
	logging := []string{"logs:CreateLogStream", "logs:PutLogEvents"}
	network := []string{
		"ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces",
		"ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
	}
	get, put := "s3:GetObject", "s3:PutObject"
	const byContext = " if kms:EncryptionContext:SecretARN, kms:ViaService"
	keyOfPayments := "arn:aws:kms:eu-central-1:111122223333:key/bbbbbbbb-1111-2222-3333-444444444444"
	keyOfOthers := "arn:aws:kms:eu-central-1:111122223333:key/aaaaaaaa-1111-2222-3333-444444444444"
	keyArn := func(usage string) string {
		id, _ := tp.one(t, "AWS::KMS::Key", func(r resource) bool { return strings.Join(texts(r.Properties["KeyUsage"]), "") == usage })
		return "${" + id + ".Arn}"
	}
	_, invoking := tp.one(t, "AWS::Lambda::EventInvokeConfig", named("FunctionName", "pay-watchdog"))
	failed := text(at(invoking.Properties, "DestinationConfig", "OnFailure", "Destination"))
	for function, want := range map[string]map[string][]string{
		// Writes values, of the secrets that Secrets Manager drives, and of no others.
		"pay-core-rotateSecret": {
			created:                       {"secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"},
			adminOfPayments:               {"secretsmanager:GetSecretValue"},
			bucket:                        {"s3:ListBucket if s3:prefix"},
			bucket + "/records/*":         {get, put},
			bucket + "/heads/*":           {get, put},
			bucket + "/refusals/*":        {put},
			bucket + "/evidence/*":        {get},
			keyOfPayments:                 {"kms:Decrypt" + byContext, "kms:GenerateDataKey" + byContext},
			keyOfOthers:                   {"kms:Decrypt" + byContext},
			logs("pay-core-rotateSecret"): logging,
			"*":                           network,
		},
		"pay-edge-rotateSecret": {
			sessions:                      {"secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"},
			adminOfSessions:               {"secretsmanager:GetSecretValue"},
			console:                       {"secretsmanager:GetSecretValue"},
			bucket:                        {"s3:ListBucket if s3:prefix"},
			bucket + "/records/*":         {get, put},
			bucket + "/heads/*":           {get, put},
			bucket + "/refusals/*":        {put},
			bucket + "/evidence/*":        {get},
			keyOfOthers:                   {"kms:Decrypt" + byContext},
			logs("pay-edge-rotateSecret"): logging,
			"*":                           network,
		},
		// Secrets Manager drives all of this zone: the machine's own step has nothing.
		"pay-edge-setSecret": {
			bucket:                     {"s3:ListBucket if s3:prefix"},
			bucket + "/records/*":      {get, put},
			bucket + "/refusals/*":     {put},
			bucket + "/evidence/*":     {get},
			logs("pay-edge-setSecret"): logging,
			"*":                        network,
		},
		// Reads the key that signs what consumers are told.
		"pay-core-adoptSecret": {
			created:                {"secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:RotateSecret", "secretsmanager:UpdateSecretVersionStage"},
			reports:                {"secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:UpdateSecretVersionStage"},
			adminOfPayments:        {"secretsmanager:GetSecretValue"},
			followKey:              {"secretsmanager:GetSecretValue"},
			bucket:                 {"s3:ListBucket if s3:prefix"},
			bucket + "/records/*":  {get, put},
			bucket + "/heads/*":    {get, put},
			bucket + "/refusals/*": {put},
			"arn:aws:lambda:eu-central-1:111122223333:function:pay-core-rotateSecret:live": {"lambda:InvokeFunction"},
			keyOfPayments:                {"kms:Decrypt" + byContext},
			keyOfOthers:                  {"kms:Decrypt" + byContext},
			logs("pay-core-adoptSecret"): logging,
			"*":                          network,
		},
		// Of the one secret that names a log group; its failed events lie in a queue.
		"pay-core-lateLogin": {
			created:                             {"secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:UpdateSecretVersionStage"},
			adminOfPayments:                     {"secretsmanager:GetSecretValue"},
			bucket:                              {"s3:ListBucket if s3:prefix"},
			bucket + "/records/*":               {get, put},
			bucket + "/heads/*":                 {get, put},
			bucket + "/refusals/*":              {put},
			bucket + "/evidence/*/late-login/*": {put},
			keyOfPayments:                       {"kms:Decrypt" + byContext},
			keyOfOthers:                         {"kms:Decrypt" + byContext},
			keyArn(""):                          {"kms:Decrypt if kms:ViaService", "kms:GenerateDataKey if kms:ViaService"},
			failed:                              {"sqs:SendMessage"},
			logs("pay-core-lateLogin"):          logging,
			"*":                                 network,
		},
		// Reads no value, and starts runs of both zones.
		"pay-abortSecret": {
			created:               {"secretsmanager:DescribeSecret", "secretsmanager:UpdateSecretVersionStage"},
			reports:               {"secretsmanager:DescribeSecret", "secretsmanager:UpdateSecretVersionStage"},
			sessions:              {"secretsmanager:DescribeSecret", "secretsmanager:UpdateSecretVersionStage"},
			bucket:                {"s3:ListBucket if s3:prefix"},
			bucket + "/records/*": {get, put},
			bucket + "/heads/*":   {get, put},
			"arn:aws:states:eu-central-1:111122223333:stateMachine:pay-rotation-core": {"states:StartExecution"},
			"arn:aws:states:eu-central-1:111122223333:stateMachine:pay-rotation-edge": {"states:StartExecution"},
			"arn:aws:states:eu-central-1:111122223333:execution:pay-rotation-core:*":  {"states:DescribeExecution"},
			"arn:aws:states:eu-central-1:111122223333:execution:pay-rotation-edge:*":  {"states:DescribeExecution"},
			logs("pay-abortSecret"): logging,
		},
		// Reads the trail and signs what it comes to; it changes no secret.
		"pay-audit": {
			created:                 {"secretsmanager:DescribeSecret"},
			reports:                 {"secretsmanager:DescribeSecret"},
			sessions:                {"secretsmanager:DescribeSecret"},
			bucket:                  {"s3:ListBucket if s3:prefix"},
			bucket + "/records/*":   {get},
			bucket + "/heads/*":     {get},
			bucket + "/manifests/*": {get, put},
			keyArn("SIGN_VERIFY"):   {"kms:Sign"},
			keyArn(""):              {"kms:Decrypt if kms:ViaService", "kms:GenerateDataKey if kms:ViaService"},
			failed:                  {"sqs:SendMessage"},
			"arn:aws:events:eu-central-1:111122223333:event-bus/default": {"events:PutEvents if events:source"},
			logs("pay-audit"): logging,
		},
	} {
		if diff := cmp.Diff(want, granted(tp, tp.roleOf(t, function))); diff != "" {
			t.Errorf("%s may (-want +got):\n%s", function, diff)
		}
	}
}

// What no function may ever do, whatever the table comes to say.
func TestWhatNoRoleMay(t *testing.T) {
	// In a zone Secrets Manager and S3 are in reach. Lambda acts on its own with
	// ec2, logs and sqs; RotateSecret wants lambda:InvokeFunction; kms is used by
	// Secrets Manager.
	inZones := regexp.MustCompile(`^(secretsmanager|s3|ec2|logs|kms):|^lambda:InvokeFunction$`)
	late := regexp.MustCompile(`^sqs:SendMessage$`) // Lambda, of events on which it has failed
	outside := regexp.MustCompile(`^(secretsmanager|s3|logs|kms|sqs|states):|^events:PutEvents if events:source$|^lambda:InvokeFunction$`)
	wild := []*regexp.Regexp{
		regexp.MustCompile(`^\$\{\w+AuditBucket\w*\.Arn\}/[a-z]+/\*$`), regexp.MustCompile(`\.Arn\}/evidence/\*/late-login/\*$`), regexp.MustCompile(`:execution:[a-z-]+:\*$`), regexp.MustCompile(`:function:[A-Za-z-]+:\*$`),
	}
	unscoped := regexp.MustCompile(`^(ec2|logs|xray):|^secretsmanager:ListSecrets$`)
	for _, name := range configurations {
		tp := synth(t, name).template
		for function := range tp.functions() {
			folder := function[strings.LastIndexByte(function, '-')+1:]
			control := slices.Contains(keyturn.ControlFunctions(), folder)
			for resource, actions := range granted(tp, tp.roleOf(t, function)) {
				for _, a := range actions {
					switch {
					case !control && !inZones.MatchString(a) && (folder != keyturn.LogFunction || !late.MatchString(a)), control && !outside.MatchString(a):
						t.Errorf("%s: %s may %s", name, function, a)
					case control && strings.HasPrefix(a, "secretsmanager:GetSecretValue"):
						t.Errorf("%s: %s, outside all zones, may read values of %s", name, function, resource)
					case strings.Contains(a, "*"):
						t.Errorf("%s: %s may %s", name, function, a)
					case strings.HasPrefix(a, "kms:") && !strings.Contains(a, "kms:ViaService") && !strings.HasPrefix(a, "kms:Sign"):
						t.Errorf("%s: %s may %s by itself", name, function, a)
					}
				}
			}
		}
		for _, role := range tp.of("AWS::IAM::Role") {
			for resource, actions := range granted(tp, role) {
				scoped := slices.ContainsFunc(actions, func(a string) bool { return !unscoped.MatchString(a) })
				known := slices.ContainsFunc(wild, func(w *regexp.Regexp) bool { return w.MatchString(resource) })
				if strings.Contains(resource, "*") && !known && (resource != "*" || scoped) {
					t.Errorf("%s: %s may %v on %s", name, role, actions, resource)
				}
			}
		}
	}
}

// Lambda's rights on network interfaces aren't the code's.
func TestNetworkRightsAreDeniedToCode(t *testing.T) {
	tp := synth(t, zones).template
	for function := range tp.functions() {
		if strings.Count(function, "-") != 2 {
			continue
		}
		arn := "arn:aws:lambda:eu-central-1:111122223333:function:" + function
		all := tp.rights(tp.roleOf(t, function))
		byCode := call{Action: "ec2:CreateNetworkInterface", Keys: map[string][]string{"lambda:SourceFunctionArn": {arn}}}
		if !denies(t, all, byCode) || denies(t, all, call{Action: "ec2:CreateNetworkInterface"}) {
			t.Errorf("the code of %s can make network interfaces, or Lambda can't", function)
		}
	}
}

// A state machine calls versions of its functions, old ones too, and the unpublished
// code of none.
func TestRightsOfStateMachines(t *testing.T) {
	tp := synth(t, zones).template
	delivery := []string{
		"logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies", "logs:GetLogDelivery",
		"logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
	}
	lambda := func(names ...string) map[string][]string {
		all := map[string][]string{"*": delivery}
		for _, n := range names {
			all["arn:aws:lambda:eu-central-1:111122223333:function:"+n+":*"] = []string{"lambda:InvokeFunction"}
		}
		return all
	}
	rotation := lambda("pay-core-createSecret", "pay-core-setSecret", "pay-core-testSecret", "pay-core-finishSecret", "pay-abortSecret",
		"pay-core-rollback", "pay-core-adoptSecret", "pay-core-drainCheck", "pay-core-disableSecret", "pay-core-revokeSecret")
	rotation["arn:aws:states:eu-central-1:111122223333:stateMachine:pay-rotation-core"] = []string{"states:StartExecution"}
	for machine, want := range map[string]map[string][]string{
		"pay-rotation-core": rotation, "pay-emergency-core": lambda("pay-core-cutSecret", "pay-emergency"),
	} {
		_, r := tp.one(t, "AWS::StepFunctions::StateMachine", named("StateMachineName", machine))
		role := strings.TrimSuffix(strings.TrimPrefix(text(r.Properties["RoleArn"]), "${"), ".Arn}")
		if diff := cmp.Diff(want, granted(tp, role)); diff != "" {
			t.Errorf("%s may (-want +got):\n%s", machine, diff)
		}
		trust := at(tp.Resources[role].Properties, "AssumeRolePolicyDocument")
		if got := text(at(statements(trust)[0].Condition, "ArnLike", "aws:SourceArn")); got != "arn:aws:states:eu-central-1:111122223333:stateMachine:"+machine {
			t.Errorf("the role of %s is assumed for %q", machine, got)
		}
	}
}

// Under a customer key values are read and written for the secrets that lie under
// it, and no others.
func TestKeysOfSecrets(t *testing.T) {
	tp := synth(t, many).template
	key := "arn:aws:kms:eu-central-1:111122223333:key/cccccccc-1111-2222-3333-444444444444"
	writes := map[string]int{"fleet-rotateSecret": 10, "fleet-createSecret": 0, "fleet-disableSecret": 0}
	for function, want := range writes {
		contexts := map[string]int{}
		for _, s := range tp.rights(tp.roleOf(t, function)) {
			if !slices.Contains(s.Resources, key) {
				continue
			}
			for _, a := range s.Actions {
				contexts[a] += len(texts(at(s.Condition, "StringLike", "kms:EncryptionContext:SecretARN")))
			}
			if via := text(at(s.Condition, "StringEquals", "kms:ViaService")); via != "secretsmanager.eu-central-1.amazonaws.com" {
				t.Errorf("%s uses the key via %s", function, via)
			}
		}
		if contexts["kms:Decrypt"] != 10 || contexts["kms:GenerateDataKey"] != want {
			t.Errorf("%s uses the key for %v secrets, want 10 to read and %d to write", function, contexts, want)
		}
	}
}

package keyturn

// Target is what an action is done to.
type Target string

// The targets. For a function in a zone they are the zone's own; the control
// functions, which stand outside, have those of all zones.
const (
	// Managed are the secrets that keyturn.yaml lists.
	Managed Target = "managed"
	// ByStore are those of them that Secrets Manager drives.
	ByStore Target = "by-store"
	// ByMachine are those that the state machine drives.
	ByMachine Target = "by-machine"
	// Read are the secrets that engines read, such as an admin's.
	Read Target = "read"
	// FollowKeys are the secrets whose values sign what consumers are told.
	FollowKeys Target = "follow-keys"
	// Rotator is the alias of rotateSecret, which Secrets Manager calls.
	Rotator Target = "rotator"
	// Trail is the audit trail: records and heads of chains.
	Trail Target = "trail"
	// Records is the part of it that goes on with a chain that another has begun.
	Records Target = "records"
	// Refusals are the logins that servers refused, which bound further tries.
	Refusals Target = "refusals"
	// Evidence is what consumers have written about themselves.
	Evidence Target = "evidence"
	// LateEvidence is what tells a drain of who has tried a login that is held.
	LateEvidence Target = "late-evidence"
	// Manifests are the daily signed lists of chain heads.
	Manifests Target = "manifests"
	// Machines are the rotation state machines; Runs are their executions.
	Machines Target = "machines"
	Runs     Target = "runs"
	// Bus is the account's default event bus, for events whose source is keyturn.
	Bus Target = "bus"
	// SigningKey signs the daily manifest.
	SigningKey Target = "signing-key"
	// Everything is for actions that know no resource.
	Everything Target = "everything"
)

// Permission is one row of the table: what a function may do to what.
type Permission struct {
	To      Target
	Actions []string
}

// The actions, so that a row reads as a sentence.
const (
	list     = "secretsmanager:ListSecrets"
	describe = "secretsmanager:DescribeSecret"
	getValue = "secretsmanager:GetSecretValue"
	putValue = "secretsmanager:PutSecretValue"
	label    = "secretsmanager:UpdateSecretVersionStage"
	rotate   = "secretsmanager:RotateSecret"
	invoke   = "lambda:InvokeFunction"

	putObject  = "s3:PutObject"
	getObject  = "s3:GetObject"
	listBucket = "s3:ListBucket"

	start     = "states:StartExecution"
	stop      = "states:StopExecution"
	look      = "states:DescribeExecution"
	putEvents = "events:PutEvents"
	sign      = "kms:Sign"
)

var (
	// journal is what every act needs: a record before it and one after it, each
	// chained to the last one.
	journal = Permission{Trail, []string{putObject, getObject, listBucket}}
	// laterJournal is that of steps which never come first: they act only after the
	// intent of create is recorded, which begins the chain.
	laterJournal = Permission{Records, []string{putObject, getObject, listBucket}}
	// logins bounds failed logins: what was refused is listed, not read.
	logins = Permission{Refusals, []string{putObject, listBucket}}
	// reports of consumers about the new credential.
	reports = Permission{Evidence, []string{getObject, listBucket}}
	// admin credentials and the like, which engines read.
	engine = Permission{Read, []string{getValue}}
	// ask Secrets Manager for a rotation that waits: RotateSecret wants its caller
	// to be allowed to invoke the rotation function (API reference, RotateSecret).
	ask = []Permission{{ByStore, []string{rotate}}, {Rotator, []string{invoke}}}
)

// permissions is the table: everything that a function calls, beside its logs
// and its network interfaces, which all have alike (statements.go). KMS follows
// from it: who reads a value may decrypt under the key of its secret, who writes
// one may make data keys there.
//
// In a zone nothing but Secrets Manager and S3 is called.
var permissions = map[string][]Permission{
	// Starts the rotation that Secrets Manager drives and looks until it is over;
	// one that is stranded is proven and promoted. Makes the version that the
	// machine drives.
	"createSecret": rows(ask, Permission{Managed, []string{describe, getValue, label}}, Permission{ByMachine, []string{putValue}},
		engine, journal, logins),
	// The machine calls these three for what it drives itself, and only for that.
	"setSecret":    rows(nil, Permission{ByMachine, []string{describe, getValue, label}}, engine, laterJournal, logins, reports),
	"testSecret":   rows(nil, Permission{ByMachine, []string{describe, getValue, label}}, engine, laterJournal, logins),
	"finishSecret": rows(nil, Permission{ByMachine, []string{describe, getValue, label}}, engine, laterJournal, logins),
	// Secrets Manager's four steps, in one function.
	"rotateSecret": rows(nil, Permission{ByStore, []string{describe, getValue, putValue, label}}, engine, journal, logins, reports),
	// The tail. Where it ends, the rotation that has waited for it is asked for.
	"adoptSecret": rows(ask, Permission{Managed, []string{describe, getValue, label}}, engine, Permission{FollowKeys, []string{getValue}},
		journal, logins),
	"drainCheck":    rows(ask, Permission{Managed, []string{describe, getValue, label}}, engine, journal, logins, reports),
	"disableSecret": rows(ask, Permission{Managed, []string{describe, getValue, label}}, engine, journal, logins),
	"revokeSecret":  rows(ask, Permission{Managed, []string{describe, getValue, label}}, engine, journal, logins),
	"rollback":      rows(nil, Permission{Managed, []string{describe, getValue, label}}, engine, journal, logins),
	// What an emergency does at the target: it writes no label.
	"cutSecret": rows(nil, Permission{Managed, []string{describe, getValue}}, engine, journal, logins),
	// Lets a held login in again that somebody has tried: of the secrets that name
	// the log groups of their database.
	LogFunction: rows(nil, Permission{Managed, []string{describe, getValue, label}}, engine, journal,
		Permission{Refusals, []string{putObject}}, Permission{LateEvidence, []string{putObject}}),

	// Outside: labels and runs, and no value of any secret.
	"abortSecret": rows(nil, Permission{Managed, []string{describe, label}}, journal,
		Permission{Machines, []string{start}}, Permission{Runs, []string{look}}),
	"emergency": rows(ask, Permission{Managed, []string{describe, label}}, journal,
		Permission{Machines, []string{start}}, Permission{Runs, []string{look, stop}}),
	"watchdog": rows(ask, Permission{Everything, []string{list}}, Permission{Managed, []string{describe, label}}, journal,
		Permission{Machines, []string{start}}, Permission{Runs, []string{look, stop}}, Permission{Bus, []string{putEvents}}),
	"audit": rows(nil, Permission{Managed, []string{describe}}, Permission{Trail, []string{getObject, listBucket}},
		Permission{Manifests, []string{putObject, getObject, listBucket}}, Permission{SigningKey, []string{sign}},
		Permission{Bus, []string{putEvents}}),
}

func rows(some []Permission, more ...Permission) []Permission {
	return append(append([]Permission{}, some...), more...)
}

// Permissions returns the table's rows for one function, by its folder's name;
// nil for a function that isn't deployed.
func Permissions(function string) []Permission { return rows(permissions[function]) }

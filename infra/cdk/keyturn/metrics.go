package keyturn

import "slices"

// How functions write metrics, as lines in CloudWatch's embedded metric format:
// they need no endpoint and no right for it.
const (
	MetricNamespace = "Keyturn"
	// DeploymentDimension is on every metric: deploy.name of keyturn.yaml.
	DeploymentDimension = "Deployment"
)

// Metric is one that functions write.
type Metric struct {
	Name string
	Unit string // CloudWatch's
	// Dimension is a second one beside Deployment; empty: none.
	Dimension string
	By        string // the folder of the function that writes it
	Means     string
}

// metrics is the table that alarms, dashboard and functions share.
var metrics = []Metric{
	{"Findings", "Count", "", "watchdog", "what the watchdog found and can't repair; written at every look, also when it is 0"},
	{"Stuck", "Count", "", "watchdog", "rotations that wait for a person"},
	{"Rotating", "Count", "State", "watchdog", "secrets by what is going on with them"},
	{"DaysSinceSuccess", "Count", "", "watchdog", "days since the last rotation of the secret with a schedule that waits longest"},
	{"OldConnections", "Count", "", "drainCheck", "connections on the login that goes"},
	{"PhaseSeconds", "Seconds", "Phase", "audit", "how long a phase of a rotation took"},
	{"OldCredentialSeconds", "Seconds", "", "audit", "from promotion until the old credential was refused"},
}

// Metrics lists what the functions are to write.
func Metrics() []Metric { return slices.Clone(metrics) }

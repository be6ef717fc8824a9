// Package metrics answers: which numbers do functions give to CloudWatch, and how?
//
// They are log lines in the embedded metric format (CloudWatch user guide,
// "embedded metric format specification"): no call, no endpoint and no right is
// needed, which a function in a closed network doesn't have.
package metrics

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Namespace holds all of them.
const Namespace = "Keyturn"

// deployment is the dimension that all of them have.
const deployment = "Deployment"

// Metric is one that functions write.
type Metric struct {
	Name string
	Unit string // CloudWatch's
	// Dimension is a second one beside the deployment; empty: none.
	Dimension string
}

// The metrics. Alarms and the dashboard of the CDK app name them.
var (
	// Findings is how many the watchdog has, at every look, also when it is 0.
	Findings = Metric{"Findings", "Count", ""}
	// Stuck counts the rotations that wait for a person.
	Stuck = Metric{"Stuck", "Count", ""}
	// Rotating counts the secrets by what is going on with them.
	Rotating = Metric{"Rotating", "Count", "State"}
	// DaysSinceSuccess is that of the secret with a schedule that waits longest.
	DaysSinceSuccess = Metric{"DaysSinceSuccess", "Count", ""}
	// OldConnections is how many sessions the login that goes has.
	OldConnections = Metric{"OldConnections", "Count", ""}
	// PhaseSeconds is how long a step of a rotation took, from its intent.
	PhaseSeconds = Metric{"PhaseSeconds", "Seconds", "Phase"}
	// OldCredentialSeconds is the time from promotion to refusal.
	OldCredentialSeconds = Metric{"OldCredentialSeconds", "Seconds", ""}
)

// All lists them in the order of this file.
func All() []Metric {
	return []Metric{Findings, Stuck, Rotating, DaysSinceSuccess, OldConnections, PhaseSeconds, OldCredentialSeconds}
}

// Value is one number of a metric.
type Value struct {
	Metric
	Of    string // the value of its own dimension, if it has one
	Value float64
}

// Writer writes values of one deployment. The zero Writer writes nothing.
type Writer struct {
	To         io.Writer
	Deployment string
}

// Write writes each value as one line, with one call of the writer.
func (w Writer) Write(at time.Time, values ...Value) error {
	if w.To == nil || w.Deployment == "" {
		return nil
	}
	var errs []error
	for _, v := range values {
		line, err := json.Marshal(w.line(at, v))
		if err == nil {
			_, err = w.To.Write(append(line, '\n'))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("writing metric %s: %w", v.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (w Writer) line(at time.Time, v Value) map[string]any {
	dimensions := []string{deployment}
	line := map[string]any{deployment: w.Deployment, v.Name: v.Value}
	if v.Dimension != "" {
		dimensions = append(dimensions, v.Dimension)
		line[v.Dimension] = v.Of
	}
	line["_aws"] = map[string]any{
		"Timestamp": at.UnixMilli(),
		"CloudWatchMetrics": []any{map[string]any{
			"Namespace": Namespace, "Dimensions": [][]string{dimensions},
			"Metrics": []any{map[string]string{"Name": v.Name, "Unit": v.Unit}},
		}},
	}
	return line
}

package keyturn

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/jsii-runtime-go"

	"github.com/keyturn/keyturn/internal/metrics"
)

// dashboard shows where rotations stand, and how long things take.
func (b *builder) dashboard() {
	var runs []any
	for _, z := range b.zones {
		for _, metric := range []string{"ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed"} {
			runs = append(runs, []any{"AWS/States", metric, "StateMachineArn", b.machineARN("rotation", z.Name)})
		}
	}
	errors := []any{}
	for _, z := range append(b.zones, b.control) {
		for _, s := range lambdas(z, "Errors", folders(z)) {
			errors = append(errors, []any{s.namespace, s.name, "FunctionName", s.dimensions[0][1]})
		}
	}
	own := func(m metrics.Metric) []any { return []any{metrics.Namespace, m.Name, DeploymentDimension, b.name} }
	widgets := []any{
		b.widget(0, 0, "Rotations by state", "Maximum", b.split(metrics.Rotating)),
		b.widget(12, 0, "Connections on the login that goes", "Maximum", own(metrics.OldConnections)),
		b.widget(0, 6, "Time per phase (seconds)", "Maximum", b.split(metrics.PhaseSeconds)),
		b.widget(12, 6, "Life of the old credential after promotion (seconds)", "Maximum", own(metrics.OldCredentialSeconds)),
		b.widget(0, 12, "Findings, stuck rotations, days since the last success", "Maximum", own(metrics.Findings), own(metrics.Stuck), own(metrics.DaysSinceSuccess)),
		b.widget(12, 12, "Runs", "Sum", runs...),
		b.widget(0, 18, "Faults of functions, those that were tried again too", "Sum", errors...),
	}
	body, err := json.Marshal(map[string]any{"widgets": widgets})
	if err != nil {
		panic(err) // texts and numbers only
	}
	awscloudwatch.NewCfnDashboard(b.root, jsii.String("Dashboard"), &awscloudwatch.CfnDashboardProps{
		DashboardName: jsii.String(b.name), DashboardBody: jsii.String(string(body)),
	})
}

func folders(z *zone) []string {
	var all []string
	for _, folder := range slices.Concat(zoneFunctions, []string{LogFunction}, controlFunctions) {
		if z.functions[folder] != nil {
			all = append(all, folder)
		}
	}
	return all
}

// split is a metric by its second dimension, whichever values that has.
func (b *builder) split(m metrics.Metric) []any {
	search := fmt.Sprintf("SEARCH('{%s,%s,%s} MetricName=\"%s\" %s=\"%s\"', 'Maximum', 300)",
		metrics.Namespace, DeploymentDimension, m.Dimension, m.Name, DeploymentDimension, b.name)
	return []any{map[string]any{"expression": search, "label": ""}}
}

func (b *builder) widget(x, y int, title, stat string, lines ...any) map[string]any {
	return map[string]any{
		"type": "metric", "x": x, "y": y, "width": 12, "height": 6,
		"properties": map[string]any{"title": title, "region": b.region, "stat": stat, "period": 300, "view": "timeSeries", "metrics": lines},
	}
}

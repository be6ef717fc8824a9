package keyturn

import (
	"encoding/json"
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/jsii-runtime-go"
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
	own := func(name string) []any { return []any{MetricNamespace, name, DeploymentDimension, b.name} }
	widgets := []any{
		b.widget(0, 0, "Rotations by state", "Maximum", b.split("Rotating", "Maximum")),
		b.widget(12, 0, "Connections on the login that goes", "Maximum", own("OldConnections")),
		b.widget(0, 6, "Time per phase (seconds)", "Maximum", b.split("PhaseSeconds", "Maximum")),
		b.widget(12, 6, "Life of the old credential after promotion (seconds)", "Maximum", own("OldCredentialSeconds")),
		b.widget(0, 12, "Findings, stuck rotations, days since the last success", "Maximum", own("Findings"), own("Stuck"), own("DaysSinceSuccess")),
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
	for _, folder := range append(ZoneFunctions(), controlFunctions...) {
		if z.functions[folder] != nil {
			all = append(all, folder)
		}
	}
	return all
}

// split is a metric by its second dimension, whichever values that has.
func (b *builder) split(name, stat string) []any {
	for _, m := range metrics {
		if m.Name == name {
			search := fmt.Sprintf("SEARCH('{%s,%s,%s} MetricName=\"%s\" %s=\"%s\"', '%s', 300)",
				MetricNamespace, DeploymentDimension, m.Dimension, name, DeploymentDimension, b.name, stat)
			return []any{map[string]any{"expression": search, "label": ""}}
		}
	}
	return nil
}

func (b *builder) widget(x, y int, title, stat string, metrics ...any) map[string]any {
	return map[string]any{
		"type": "metric", "x": x, "y": y, "width": 12, "height": 6,
		"properties": map[string]any{"title": title, "region": b.region, "stat": stat, "period": 300, "view": "timeSeries", "metrics": metrics},
	}
}

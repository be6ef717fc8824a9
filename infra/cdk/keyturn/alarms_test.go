package keyturn_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/infra/cdk/keyturn"
	"github.com/keyturn/keyturn/internal/metrics"
)

func TestAlarms(t *testing.T) {
	want := []string{
		"pay-blind", "pay-control-errors", "pay-control-throttles", "pay-findings", "pay-head-errors-core", "pay-head-errors-edge",
		"pay-head-throttles-core", "pay-head-throttles-edge", "pay-no-trail", "pay-overdue", "pay-runs-core", "pay-runs-edge", "pay-stuck",
		"pay-tail-errors-core", "pay-tail-errors-edge", "pay-tail-throttles-core", "pay-tail-throttles-edge", "pay-undelivered",
	}
	tp := synth(t, zones).template
	got := []string{}
	for _, id := range tp.of("AWS::CloudWatch::Alarm") {
		p := tp.Resources[id].Properties
		got = append(got, text(p["AlarmName"]))
		if diff := cmp.Diff([]string{"arn:aws:sns:eu-central-1:111122223333:oncall"}, texts(p["AlarmActions"])); diff != "" {
			t.Errorf("%s tells (-want +got):\n%s", id, diff)
		}
		if len(text(p["AlarmDescription"])) < 30 {
			t.Errorf("%s says %q", id, text(p["AlarmDescription"]))
		}
		queries, _ := p["Metrics"].([]any)
		shown := 0
		for _, q := range queries {
			if at(q, "ReturnData") == true {
				shown++
			}
		}
		if len(queries) == 0 || len(queries) > 11 || shown != 1 {
			t.Errorf("%s looks at %d series, of which %d decide", id, len(queries), shown)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("alarms (-want +got):\n%s", diff)
	}
}

// A watchdog that doesn't look is an alarm of its own: its metric is missing then.
func TestABlindWatchdogAlarms(t *testing.T) {
	tp := synth(t, minimal).template
	for name, missing := range map[string]string{"keyturn-blind": "breaching", "keyturn-findings": "notBreaching"} {
		_, r := tp.one(t, "AWS::CloudWatch::Alarm", named("AlarmName", name))
		if got := r.Properties["TreatMissingData"]; got != missing {
			t.Errorf("%s takes missing data for %v", name, got)
		}
	}
	_, r := tp.one(t, "AWS::CloudWatch::Alarm", named("AlarmName", "keyturn-blind"))
	query := r.Properties["Metrics"].([]any)[0]
	if at(query, "MetricStat", "Stat") != "SampleCount" || r.Properties["ComparisonOperator"] != "LessThanThreshold" || r.Properties["Threshold"] != 1.0 {
		t.Errorf("the alarm is %v", r.Properties)
	}
}

// The slowest schedule decides: 60 days, and a day in which to begin.
func TestOverdue(t *testing.T) {
	_, r := synth(t, zones).template.one(t, "AWS::CloudWatch::Alarm", named("AlarmName", "pay-overdue"))
	if got := r.Properties["Threshold"]; got != 62.0 {
		t.Errorf("overdue after %v days", got)
	}
}

// Alarms and dashboard look at metrics that functions write, and at all of them.
func TestMetricsAreTheTables(t *testing.T) {
	tp := synth(t, zones).template
	_, dashboard := tp.one(t, "AWS::CloudWatch::Dashboard", named("DashboardName", "pay"))
	body := text(dashboard.Properties["DashboardBody"])
	known := map[string]bool{}
	for _, m := range metrics.All() {
		known[m.Name] = true
		if !strings.Contains(body, `"`+m.Name+`"`) && !strings.Contains(body, `\"`+m.Name+`\"`) {
			t.Errorf("the dashboard doesn't show %s", m.Name)
		}
	}
	for _, id := range tp.of("AWS::CloudWatch::Alarm") {
		for _, q := range tp.Resources[id].Properties["Metrics"].([]any) {
			metric := at(q, "MetricStat", "Metric")
			if at(metric, "Namespace") != metrics.Namespace {
				continue
			}
			dimensions := []any{map[string]any{"Name": keyturn.DeploymentDimension, "Value": "pay"}}
			if name := text(at(metric, "MetricName")); !known[name] || !cmp.Equal(dimensions, at(metric, "Dimensions")) {
				t.Errorf("%s looks at %s by %v", id, name, at(metric, "Dimensions"))
			}
		}
	}
}

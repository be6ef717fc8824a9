package keyturn

import (
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/jsii-runtime-go"

	"github.com/keyturn/keyturn/internal/metrics"
	"github.com/keyturn/keyturn/policy"
)

// series is one metric of an alarm.
type series struct {
	namespace, name, stat string
	dimensions            [][2]string
}

// alarm is one of the deployment's. Its series are added up, unless expression
// says otherwise; it goes off above the threshold.
type alarm struct {
	name, why  string
	series     []series
	expression string // of m0, m1, …
	period     time.Duration
	periods    int
	threshold  float64
	below      bool // goes off below the threshold
	missing    string
}

// DeploymentDimension is on every metric that functions write: deploy.name of
// keyturn.yaml (package internal/metrics).
const DeploymentDimension = "Deployment"

// mostSeries is CloudWatch's bound for one alarm with an expression (quotas).
const mostSeries = 10

const (
	fine     = "notBreaching" // what isn't there isn't wrong
	alarming = "breaching"
)

// alarms are few and each means something to do: docs/operating.md says what.
func (b *builder) alarms() {
	own := func(m metrics.Metric, stat string) []series {
		return []series{{metrics.Namespace, m.Name, stat, [][2]string{{DeploymentDimension, b.name}}}}
	}
	five := 5 * time.Minute
	b.alarm(alarm{name: "findings", why: "The watchdog has found what it can't repair: its log and the topic say what.", series: own(metrics.Findings, "Maximum"), period: five, periods: 1, missing: fine})
	b.alarm(alarm{name: "blind", why: "The watchdog doesn't look any more: nothing repairs or reports.", series: own(metrics.Findings, "SampleCount"), period: five, periods: 2, threshold: 1, below: true, missing: alarming})
	b.alarm(alarm{name: "stuck", why: "A rotation waits for a person; both credentials may be alive.", series: own(metrics.Stuck, "Maximum"), period: five, periods: 1, missing: fine})
	if days := b.patience(); days > 0 {
		b.alarm(alarm{name: "overdue", why: fmt.Sprintf("A secret with a schedule hasn't been rotated for more than %d days.", days), series: own(metrics.DaysSinceSuccess, "Maximum"), period: time.Hour, periods: 1, threshold: float64(days), missing: fine})
	}
	b.alarm(alarm{name: "undelivered", why: "An event or a call that nobody took lies in a queue.", series: []series{
		{"AWS/SQS", "ApproximateNumberOfMessagesVisible", "Maximum", [][2]string{{"QueueName", *b.queues.undeliveredName}}},
		{"AWS/SQS", "ApproximateNumberOfMessagesVisible", "Maximum", [][2]string{{"QueueName", *b.queues.failedName}}},
	}, period: five, periods: 1, missing: fine})
	b.zoneAlarms()
	b.trailAlarm()
}

// zoneAlarms watch the runs and functions of each zone. A step's fault that is
// tried again counts as an error of its function, so it takes many.
func (b *builder) zoneAlarms() {
	five, quarter := 5*time.Minute, 15*time.Minute
	for _, z := range b.zones {
		var runs []series
		for _, kind := range []string{"rotation", "emergency"} {
			for _, metric := range []string{"ExecutionsFailed", "ExecutionsTimedOut"} {
				runs = append(runs, series{"AWS/States", metric, "Sum", [][2]string{{"StateMachineArn", b.machineARN(kind, z.Name)}}})
			}
		}
		name := func(what string) string { return what + dashed(z.Name) }
		b.alarm(alarm{name: name("runs"), why: "A rotation ended in RotationAborted or RotationStuck, or an emergency failed: its cause says what to mend.", series: runs, period: five, periods: 1, missing: fine})
		for part, folders := range map[string][]string{"head": headFunctions, "tail": z.folders()[len(headFunctions):]} {
			b.alarm(alarm{name: name(part + "-errors"), why: "Steps keep failing: their log says by which fault.", series: lambdas(z, "Errors", folders), period: quarter, periods: 1, threshold: 25, missing: fine})
			b.alarm(alarm{name: name(part + "-throttles"), why: "Lambda refuses to run steps: the account's concurrency is used up.", series: lambdas(z, "Throttles", folders), period: five, periods: 3, missing: fine})
		}
	}
	b.alarm(alarm{name: "control-errors", why: "The watchdog or another function outside the zones keeps failing: its log says by which fault.", series: lambdas(b.control, "Errors", controlFunctions), period: quarter, periods: 1, threshold: 3, missing: fine})
	b.alarm(alarm{name: "control-throttles", why: "Lambda refuses to run the watchdog: the account's concurrency is used up.", series: lambdas(b.control, "Throttles", controlFunctions), period: five, periods: 3, missing: fine})
}

// trailAlarm goes off when Secrets Manager has rotated and no event said so: then
// no CloudTrail trail records this region's management events, and what others do
// to secrets goes unseen. A rotation is four calls; a ping and a test of the
// configuration are one each.
func (b *builder) trailAlarm() {
	if len(chosen(ByStore, b.account.Secrets)) == 0 {
		return
	}
	for i := 0; i < len(b.zones); i += mostSeries - 1 {
		some := b.zones[i:min(i+mostSeries-1, len(b.zones))]
		var all []series
		var calls []string
		for j, z := range some {
			all = append(all, lambdas(z, "Invocations", []string{"rotateSecret"})...)
			calls = append(calls, fmt.Sprintf("FILL(m%d,0)", j))
		}
		all = append(all, series{"AWS/Events", "TriggeredRules", "Sum", [][2]string{{"RuleName", b.name + "-rotations"}}})
		name := "no-trail"
		if i > 0 {
			name += fmt.Sprintf("-%d", i)
		}
		b.alarm(alarm{
			name: name, why: "Secrets Manager has rotated, and no event told of it: does a CloudTrail trail record this region's management events?",
			series: all, expression: fmt.Sprintf("IF(%s > %d AND FILL(m%d,0) < 1, 1, 0)", strings.Join(calls, "+"), 4*len(some), len(some)),
			period: 24 * time.Hour, periods: 1, missing: fine,
		})
	}
}

func lambdas(z *zone, metric string, folders []string) []series {
	var all []series
	for _, folder := range folders {
		all = append(all, series{"AWS/Lambda", metric, "Sum", [][2]string{{"FunctionName", z.functions[folder].name}}})
	}
	return all
}

// patience is after how many days the slowest schedule is overdue; 0: there is none.
func (b *builder) patience() int {
	var slowest time.Duration
	for _, s := range b.account.Secrets {
		if s.Schedule == "" {
			continue
		}
		if period, window, err := policy.ParseSchedule(s.Schedule); err == nil {
			slowest = max(slowest, period+max(window, time.Duration(s.ScheduleWindow)))
		}
	}
	const day = 24 * time.Hour
	if slowest == 0 {
		return 0
	}
	return int((slowest+day-1)/day) + 1
}

// dashed is a zone's name as an ending.
func dashed(zone string) string {
	if zone == "" {
		return ""
	}
	return "-" + zone
}

// alarm adds one, with the topic as its action.
func (b *builder) alarm(a alarm) {
	var queries []any
	expression := a.expression
	for i, s := range a.series {
		var dimensions []any
		for _, d := range s.dimensions {
			dimensions = append(dimensions, &awscloudwatch.CfnAlarm_DimensionProperty{Name: jsii.String(d[0]), Value: jsii.String(d[1])})
		}
		id := fmt.Sprintf("m%d", i)
		queries = append(queries, &awscloudwatch.CfnAlarm_MetricDataQueryProperty{
			Id: &id, ReturnData: jsii.Bool(len(a.series) == 1),
			MetricStat: &awscloudwatch.CfnAlarm_MetricStatProperty{
				Metric: &awscloudwatch.CfnAlarm_MetricProperty{Namespace: jsii.String(s.namespace), MetricName: jsii.String(s.name), Dimensions: dimensions},
				Period: jsii.Number(a.period.Seconds()), Stat: jsii.String(s.stat),
			},
		})
	}
	if expression == "" {
		expression = "SUM(METRICS())"
	}
	if len(a.series) > 1 {
		queries = append(queries, &awscloudwatch.CfnAlarm_MetricDataQueryProperty{
			Id: jsii.String("all"), Expression: &expression, Label: jsii.String(a.name), ReturnData: jsii.Bool(true),
		})
	}
	operator := "GreaterThanThreshold"
	if a.below {
		operator = "LessThanThreshold"
	}
	awscloudwatch.NewCfnAlarm(b.root, jsii.String("Alarm"+a.name), &awscloudwatch.CfnAlarmProps{
		AlarmName: jsii.String(b.name + "-" + a.name), AlarmDescription: jsii.String(a.why), Metrics: queries,
		ComparisonOperator: &operator, Threshold: jsii.Number(a.threshold), EvaluationPeriods: jsii.Number(a.periods),
		TreatMissingData: jsii.String(a.missing), AlarmActions: &[]any{b.TopicARN},
	})
}

package keyturn_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each log group that a zone's secrets name sends the zone's function what is
// tried, and may; a zone without log groups has no such function.
func TestSubscriptions(t *testing.T) {
	const group = "/aws/rds/cluster/payments/postgresql"
	tp := synth(t, zones).template
	id, filter := tp.one(t, "AWS::Logs::SubscriptionFilter", named("LogGroupName", group))
	alias := text(filter.Properties["DestinationArn"])
	if diff := cmp.Diff(map[string]any{
		"LogGroupName": group, "FilterPattern": `"is not permitted to log in"`, "FilterName": "pay-core-lateLogin",
		"DestinationArn": filter.Properties["DestinationArn"],
	}, filter.Properties); diff != "" {
		t.Errorf("%s (-want +got):\n%s", id, diff)
	}
	permission, p := tp.one(t, "AWS::Lambda::Permission", named("Principal", "logs.amazonaws.com"))
	if text(p.Properties["FunctionName"]) != alias || text(p.Properties["SourceArn"]) != "arn:aws:logs:eu-central-1:111122223333:log-group:"+group+":*" ||
		text(p.Properties["SourceAccount"]) != "111122223333" || p.Properties["Action"] != "lambda:InvokeFunction" {
		t.Errorf("%s: %v", permission, p.Properties)
	}
	_, invoking := tp.one(t, "AWS::Lambda::EventInvokeConfig", named("FunctionName", "pay-core-lateLogin"))
	if invoking.Properties["MaximumRetryAttempts"] != 2.0 || at(invoking.Properties, "DestinationConfig", "OnFailure", "Destination") == nil {
		t.Errorf("an event that fails: %v", invoking.Properties)
	}
	for _, name := range []string{minimal, many} {
		if tp := synth(t, name).template; len(tp.of("AWS::Logs::SubscriptionFilter")) > 0 {
			t.Errorf("%s subscribes to a log", name)
		}
	}
}

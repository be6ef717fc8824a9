package localstack_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/keyturn/keyturn/localstack/cloudformation"
)

const subscribed = `{"Resources":{
 "May":{"Type":"AWS::Lambda::Permission","Properties":{"Action":"lambda:InvokeFunction","Principal":"logs.amazonaws.com",
  "FunctionName":"arn:aws:lambda:us-east-1:000000000000:function:late:live","SourceArn":"arn:aws:logs:us-east-1:000000000000:log-group:/aws/rds/instance/orders/postgresql:*"}},
 "Subscription":{"Type":"AWS::Logs::SubscriptionFilter","DependsOn":["May"],"Properties":{"FilterName":"late","FilterPattern":"\"is not permitted to log in\"",
  "LogGroupName":"/aws/rds/instance/orders/postgresql","DestinationArn":"arn:aws:lambda:us-east-1:000000000000:function:late:live"}}}}`

// A template's subscription is made where its log group is, and only if Logs may
// invoke the function.
func TestASubscriptionOfATemplate(t *testing.T) {
	t.Parallel()
	a, _ := start(t)
	deploy := func(template string) error {
		path := filepath.Join(t.TempDir(), "late.template.json")
		if err := os.WriteFile(path, []byte(template), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := cloudformation.Deploy(t.Context(), cloudformation.Input{
			Template: path, Dir: t.TempDir(), Config: aws.Config{Region: "us-east-1", BaseEndpoint: &a.Endpoint, Credentials: identity()},
		})
		return err
	}
	if err := deploy(subscribed); err == nil || !strings.Contains(err.Error(), "ResourceNotFoundException") {
		t.Errorf("without the group: %v", err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.Endpoint, strings.NewReader(`{"logGroupName":"/aws/rds/instance/orders/postgresql"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Amz-Target", "Logs_20140328.CreateLogGroup")
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", res, err)
	}
	_ = res.Body.Close()
	if err := deploy(subscribed); err != nil {
		t.Error(err)
	}
	if err := deploy(strings.Replace(subscribed, "orders/postgresql:*", "other/postgresql:*", 1)); err == nil || !strings.Contains(err.Error(), "may not invoke") {
		t.Errorf("without the permission: %v", err)
	}
}

package secretsmanager_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

// records returns whole CloudTrail records; ids, which differ each time, are
// checked and taken out.
func (f *fixture) records(detailType string) (all []map[string]any) {
	f.t.Helper()
	f.bus.mu.Lock()
	defer f.bus.mu.Unlock()
	seen := map[any]bool{}
	for _, e := range f.bus.events {
		var r map[string]any
		if err := json.Unmarshal(e.Detail, &r); err != nil {
			f.t.Fatalf("event %s: %v", e.Detail, err)
		}
		for _, member := range []string{"eventID", "requestID"} {
			id, given := r[member]
			if text, _ := id.(string); given && (uuid.Validate(text) != nil || seen[id]) {
				f.t.Errorf("%s of %s is %v", member, r["eventName"], id)
			}
			seen[id] = given
			if given {
				r[member] = "an id"
			}
		}
		if e.DetailType == detailType {
			all = append(all, r)
		}
	}
	return all
}

// Rules of detection match on these members
// (docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html).
func TestC8_ACallsRecordIsCloudTrails(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	arn, version := f.create("s", "one")
	unsigned := sm.New(f.Options(), func(o *sm.Options) { o.Credentials = aws.AnonymousCredentials{} })
	f.clock.Advance(time.Minute)
	if _, err := unsigned.DescribeSecret(f.ctx, &sm.DescribeSecretInput{SecretId: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	_, err := f.GetSecretValue(f.ctx, &sm.GetSecretValueInput{SecretId: aws.String("none")})
	wantError(t, err, "ResourceNotFoundException", "")

	records := f.records("AWS API Call via CloudTrail")
	for _, r := range records {
		if agent, _ := r["userAgent"].(string); agent == "" {
			t.Errorf("%s has no user agent", r["eventName"])
		}
		delete(r, "userAgent")
	}
	now := f.clock.Now()
	common := func(name string, at time.Time, more map[string]any) map[string]any {
		r := map[string]any{
			"eventVersion": "1.11", "eventTime": at.Format(time.RFC3339), "eventSource": "secretsmanager.amazonaws.com",
			"eventName": name, "awsRegion": "us-east-1", "sourceIPAddress": "127.0.0.1", "requestID": "an id", "eventID": "an id",
			"readOnly": true, "eventType": "AwsApiCall", "managementEvent": true, "recipientAccountId": "000000000000",
			"eventCategory": "Management", "responseElements": nil,
			"userIdentity": map[string]any{
				"type": "IAMUser", "principalId": "AKIATEST", "arn": "arn:aws:iam::000000000000:user/AKIATEST",
				"accountId": "000000000000", "accessKeyId": "AKIATEST", "userName": "AKIATEST",
			},
		}
		for member, value := range more {
			r[member] = value
		}
		return r
	}
	want := []map[string]any{
		common("CreateSecret", now.Add(-time.Minute), map[string]any{
			"readOnly":          false,
			"requestParameters": map[string]any{"name": "s", "clientRequestToken": version},
			"responseElements":  map[string]any{"arn": arn, "name": "s", "versionId": version},
		}),
		common("DescribeSecret", now, map[string]any{
			"requestParameters": map[string]any{"secretId": "s"},
			"userIdentity": map[string]any{
				"type": "Root", "principalId": "000000000000", "arn": "arn:aws:iam::000000000000:root", "accountId": "000000000000",
			},
		}),
		common("GetSecretValue", now, map[string]any{
			"requestParameters": map[string]any{"secretId": "none"},
			"errorCode":         "ResourceNotFoundException",
			"errorMessage":      "Secrets Manager can't find the specified secret.",
		}),
	}
	if diff := cmp.Diff(want, records); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

func TestC8_AServiceEventsRecordIsCloudTrails(t *testing.T) {
	t.Parallel()
	f := start(t, secretsmanager.Behaviour{})
	arn, _ := f.create("s", "one")
	if _, err := f.DeleteSecret(f.ctx, &sm.DeleteSecretInput{SecretId: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	const service = "secretsmanager.amazonaws.com"
	want := []map[string]any{{
		"eventVersion": "1.11", "eventTime": f.clock.Now().Format(time.RFC3339), "eventSource": service,
		"eventName": "StartSecretVersionDelete", "awsRegion": "us-east-1", "sourceIPAddress": service, "userAgent": service,
		"userIdentity":      map[string]any{"accountId": "000000000000", "invokedBy": service},
		"requestParameters": nil, "responseElements": nil, "additionalEventData": map[string]any{"SecretId": arn},
		"eventID": "an id", "readOnly": false, "eventType": "AwsServiceEvent", "managementEvent": true,
		"recipientAccountId": "000000000000", "eventCategory": "Management",
	}}
	if diff := cmp.Diff(want, f.records("AWS Service Event via CloudTrail")); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

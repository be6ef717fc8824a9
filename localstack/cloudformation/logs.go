package cloudformation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// makeSubscription calls PutSubscriptionFilter. The group has to be there, as RDS
// makes it. The request is written here: nothing else needs an SDK of Logs.
func makeSubscription(ctx context.Context, d *deployment, _ string, r *Resource) error {
	body, err := json.Marshal(map[string]string{
		"logGroupName": r.text("LogGroupName"), "filterName": r.text("FilterName"),
		"filterPattern": r.text("FilterPattern"), "destinationArn": r.text("DestinationArn"),
	})
	if err != nil {
		return fmt.Errorf("encoding the filter: %w", err)
	}
	endpoint := aws.ToString(d.Config.BaseEndpoint)
	if endpoint == "" {
		return errors.New("the configuration names no endpoint of the local AWS")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("calling CloudWatch Logs: %w", err)
	}
	req.Header.Set("X-Amz-Target", "Logs_20140328.PutSubscriptionFilter")
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("calling CloudWatch Logs: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		const most = 1 << 10
		text, _ := io.ReadAll(io.LimitReader(res.Body, most))
		return fmt.Errorf("CloudWatch Logs refuses the filter: %s", text)
	}
	r.Ref = r.text("FilterName")
	return nil
}

// Package eventbus answers: who hears of findings and records as they come?
//
// Both go to EventBridge's default bus, where rules send them on: findings to
// people, records to a SIEM.
package eventbus

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/rotation"
)

// What events are called; rules match these.
const (
	Source  = "keyturn"
	Finding = "Keyturn Finding"      // detail: a rotation.Finding
	Record  = "Keyturn Audit Record" // detail: an audit.Record
)

// API is what is called of EventBridge.
type API interface {
	PutEvents(context.Context, *eventbridge.PutEventsInput, ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error)
}

// Bus puts events. Whoever doesn't hear of one finds it in the log and the trail.
type Bus struct{ API API }

// Findings puts one event each.
func (b *Bus) Findings(ctx context.Context, findings []rotation.Finding) error {
	details := make([]any, 0, len(findings))
	for _, f := range findings {
		details = append(details, f)
	}
	return b.put(ctx, Finding, details, func(i int) string { return findings[i].Secret })
}

// Records puts one event each.
func (b *Bus) Records(ctx context.Context, records []audit.Record) error {
	details := make([]any, 0, len(records))
	for _, r := range records {
		details = append(details, r)
	}
	return b.put(ctx, Record, details, func(i int) string { return records[i].SecretID })
}

// put sends ten at a time, which is what one request takes (API reference,
// PutEvents). An entry that is refused is an error: the caller is retried, and an
// event may come twice.
func (b *Bus) put(ctx context.Context, kind string, details []any, about func(int) string) error {
	var entries []types.PutEventsRequestEntry
	for i, d := range details {
		text, err := json.Marshal(d)
		if err != nil {
			return fmt.Errorf("marshalling an event: %w", err)
		}
		entries = append(entries, types.PutEventsRequestEntry{
			Source: aws.String(Source), DetailType: aws.String(kind), Detail: aws.String(string(text)), Resources: []string{about(i)},
		})
	}
	const most = 10
	for some := range slices.Chunk(entries, most) {
		out, err := b.API.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: some})
		if err != nil {
			return fmt.Errorf("putting events: %w", err)
		}
		for _, e := range out.Entries {
			if e.ErrorCode != nil {
				return fmt.Errorf("putting events: %d of %d were refused: %s %s", out.FailedEntryCount, len(some), aws.ToString(e.ErrorCode), aws.ToString(e.ErrorMessage))
			}
		}
	}
	return nil
}

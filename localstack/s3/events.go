package s3

import (
	"encoding/json"
	"fmt"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/host"
	"github.com/keyturn/keyturn/localstack/trail"
)

// The kinds of an Object Deleted event.
const (
	permanently   = "Permanently Deleted"
	markerCreated = "Delete Marker Created"
)

type eventObject struct {
	Key       string `json:"key"`
	Size      *int   `json:"size,omitempty"`
	ETag      string `json:"etag,omitempty"`
	VersionID string `json:"version-id,omitempty"`
	Sequencer string `json:"sequencer"`
}

// eventDetail is S3's detail of an event for EventBridge (S3 user guide,
// "EventBridge event message structure").
type eventDetail struct {
	Version      string `json:"version"`
	EventVersion string `json:"event-version"`
	Bucket       struct {
		Name string `json:"name"`
	} `json:"bucket"`
	Object       eventObject `json:"object"`
	RequestID    string      `json:"request-id"`
	Requester    string      `json:"requester"`
	SourceIP     string      `json:"source-ip-address,omitempty"`
	Reason       string      `json:"reason"`
	DeletionType string      `json:"deletion-type,omitempty"`
}

func (s *Service) publishCreated(q *request, b *bucket, v *version) {
	size := len(v.body)
	s.publish(q, b, v, "Object Created", eventDetail{Object: eventObject{Size: &size}, Reason: "PutObject"})
}

func (s *Service) publishDeleted(q *request, b *bucket, v *version, kind string) {
	s.publish(q, b, v, "Object Deleted", eventDetail{Reason: "DeleteObject", DeletionType: kind})
}

// publish sends an event if the bucket's notifications ask for it.
func (s *Service) publish(q *request, b *bucket, v *version, kind string, d eventDetail) {
	if s.bus == nil || !b.eventBridge {
		return
	}
	s.sequence++
	d.Version, d.EventVersion, d.Bucket.Name = "0", "1.0", b.name
	d.Object.Key, d.Object.ETag, d.Object.Sequencer = q.key, v.etag, fmt.Sprintf("%016X", s.sequence)
	if b.versioning != "" {
		d.Object.VersionID = v.id
	}
	d.RequestID, d.Requester, d.SourceIP = q.id, awsproto.Account, awsproto.CallerOf(q.ctx).SourceIP
	detail, err := json.Marshal(d)
	if err != nil {
		s.log.Error("an event can't be encoded", "event", kind, "error", err.Error())
		return
	}
	s.bus.Publish(host.Event{Source: "aws.s3", DetailType: kind, Detail: detail, Resources: []string{b.arn()}})
}

// trailNames are the actions that CloudTrail names otherwise than the API.
var trailNames = map[string]string{
	"PutObjectLockConfiguration":         "PutBucketObjectLockConfiguration",
	"PutBucketNotificationConfiguration": "PutBucketNotification",
}

// publishCall tells the bus who has changed a bucket, refused calls included.
// Calls about objects are data events, which a trail doesn't have by default.
func (s *Service) publishCall(q *request, name string, err error) {
	if other := trailNames[name]; other != "" {
		name = other
	}
	trail.Publish(s.bus, s.log, trail.Call{
		Service: "s3", Name: name, At: s.clock.Now(), Caller: awsproto.CallerOf(q.ctx), Err: err,
		Request: map[string]any{"bucketName": q.bucket}, Resources: []trail.Resource{{Type: "AWS::S3::Bucket", ARN: "arn:aws:s3:::" + q.bucket}},
	})
}

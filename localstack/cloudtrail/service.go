// Package cloudtrail answers: does a trail record what is called on the local AWS?
//
// One does, always: every service of the local AWS tells EventBridge its calls as
// CloudTrail would (package localstack/trail). So there is one trail that logs the
// management events of all Regions, and three actions by which a deployment finds
// it. Trails can't be made, changed or deleted.
package cloudtrail

import (
	"context"

	"github.com/keyturn/keyturn/localstack/awsproto"
	"github.com/keyturn/keyturn/localstack/clock"
)

// The trail that there is.
const (
	Trail    = "local"
	TrailARN = "arn:aws:cloudtrail:" + awsproto.Region + ":" + awsproto.Account + ":trail/" + Trail
)

// ShortPrefix is the prefix of X-Amz-Target that SDKs use which are made from
// CloudTrail's Smithy model; TargetPrefix is that of the others, the AWS CLI's.
const ShortPrefix = "CloudTrail_20131101"

// Service is CloudTrail.
type Service struct{ since awsproto.Time }

// New makes a service whose trail has logged since now.
func New(c *clock.Clock) *Service { return &Service{since: awsproto.Time(c.Now())} }

// TargetPrefix implements awsproto.JSONService.
func (*Service) TargetPrefix() string { return "com.amazonaws.cloudtrail.v20131101." + ShortPrefix }

// Call implements awsproto.JSONService.
func (s *Service) Call(_ context.Context, action string, body []byte) (any, error) {
	switch action {
	case "DescribeTrails":
		return s.describeTrails(body)
	case "GetTrailStatus":
		return s.getTrailStatus(body)
	case "GetEventSelectors":
		return s.getEventSelectors(body)
	}
	return nil, awsproto.Errorf("UnknownOperationException", "the local CloudTrail has no action %s", action)
}

// named finds a trail by its name or ARN (API reference, GetTrailStatus).
func named(trail string) error {
	switch trail {
	case Trail, TrailARN:
		return nil
	case "":
		return awsproto.Errorf("InvalidTrailNameException", "a trail's name or ARN is missing")
	}
	return awsproto.Errorf("TrailNotFoundException", "Unknown trail: %s for the user: %s", trail, awsproto.Account)
}

type trail struct {
	Name                       string
	TrailARN                   string
	HomeRegion                 string
	S3BucketName               string
	IncludeGlobalServiceEvents bool
	IsMultiRegionTrail         bool
	IsOrganizationTrail        bool
	LogFileValidationEnabled   bool
	HasCustomEventSelectors    bool
	HasInsightSelectors        bool
}

// describeTrails leaves a trail out that isn't there, as CloudTrail does.
func (*Service) describeTrails(body []byte) (any, error) {
	var in struct {
		TrailNameList       []string `json:"trailNameList"`
		IncludeShadowTrails *bool    `json:"includeShadowTrails"`
	}
	if err := awsproto.Decode(body, &in); err != nil {
		return nil, err
	}
	found := len(in.TrailNameList) == 0
	for _, name := range in.TrailNameList {
		found = found || named(name) == nil
	}
	all := []trail{}
	if found {
		all = append(all, trail{
			Name: Trail, TrailARN: TrailARN, HomeRegion: awsproto.Region, S3BucketName: "local-trail",
			IncludeGlobalServiceEvents: true, IsMultiRegionTrail: true,
		})
	}
	return struct {
		TrailList []trail `json:"trailList"`
	}{all}, nil
}

func (s *Service) getTrailStatus(body []byte) (any, error) {
	var in struct{ Name string }
	if err := awsproto.Decode(body, &in); err != nil {
		return nil, err
	}
	return struct {
		IsLogging        bool
		StartLoggingTime awsproto.Time
	}{true, s.since}, named(in.Name)
}

type eventSelector struct {
	ReadWriteType           string
	IncludeManagementEvents bool
	DataResources           []string // none
}

func (*Service) getEventSelectors(body []byte) (any, error) {
	var in struct{ TrailName string }
	if err := awsproto.Decode(body, &in); err != nil {
		return nil, err
	}
	return struct {
		TrailARN       string
		EventSelectors []eventSelector
	}{TrailARN, []eventSelector{{ReadWriteType: "All", IncludeManagementEvents: true, DataResources: []string{}}}}, named(in.TrailName)
}

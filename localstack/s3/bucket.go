package s3

import (
	"encoding/xml"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/localstack/awsproto"
)

const (
	enabled   = "Enabled"
	suspended = "Suspended"
)

type bucket struct {
	name        string
	versioning  string      // "", Enabled or Suspended
	lock        *lockConfig // nil: no Object Lock
	policyText  []byte
	policy      []statement
	eventBridge bool
	objects     map[string][]*version // newest first; no key without versions
}

func (b *bucket) arn() string { return "arn:aws:s3:::" + b.name }

// lockConfig is a bucket's Object Lock; mode "" is no default retention.
type lockConfig struct {
	mode        string
	days, years int
}

var (
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	ipAddress  = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$`)
)

// createBucket follows us-east-1, where one's own bucket may be created again
// without a change.
func (s *Service) createBucket(q *request) (*answer, error) {
	if !bucketName.MatchString(q.bucket) || ipAddress.MatchString(q.bucket) || strings.Contains(q.bucket, "..") {
		return nil, failed(http.StatusBadRequest, "InvalidBucketName", "The specified bucket is not valid: %s", q.bucket)
	}
	if len(q.body) > 0 {
		doc, err := parseXML(q.body, "CreateBucketConfiguration")
		if err == nil {
			err = doc.only("LocationConstraint")
		}
		if err != nil {
			return nil, err
		}
		if doc.child("LocationConstraint") != nil {
			return nil, failed(http.StatusBadRequest, "InvalidLocationConstraint", "The local S3 is in %s, which has no location constraint", awsproto.Region)
		}
	}
	if owner := q.header.Get("X-Amz-Object-Ownership"); owner != "" && owner != "BucketOwnerEnforced" {
		return nil, notModelled("object ownership %s", owner)
	}
	locked, err := q.flag("X-Amz-Bucket-Object-Lock-Enabled")
	if err != nil {
		return nil, err
	}
	if s.buckets[q.bucket] == nil {
		b := &bucket{name: q.bucket, objects: map[string][]*version{}}
		if locked {
			b.lock, b.versioning = &lockConfig{}, enabled
		}
		s.buckets[q.bucket] = b
	}
	a := &answer{}
	a.set("Location", "/"+q.bucket)
	return a, nil
}

// flag reads a header that is true or false; false if it isn't there.
func (q *request) flag(name string) (bool, error) {
	switch strings.ToLower(q.header.Get(name)) {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	}
	return false, invalidArgument("%s is true or false", name)
}

func (s *Service) headBucket(q *request) (*answer, error) {
	if _, err := s.existing(q); err != nil {
		return nil, err
	}
	a := &answer{}
	a.set("X-Amz-Bucket-Region", awsproto.Region)
	return a, nil
}

type versioningConfiguration struct {
	XMLName xml.Name `xml:"VersioningConfiguration"`
	XMLNS   string   `xml:"xmlns,attr"`
	Status  string   `xml:"Status,omitempty"`
}

func (s *Service) getBucketVersioning(q *request) (*answer, error) {
	b, err := s.existing(q)
	if err != nil {
		return nil, err
	}
	return document(versioningConfiguration{XMLNS: namespace, Status: b.versioning})
}

func (s *Service) putBucketVersioning(q *request) (*answer, error) {
	b, err := s.existing(q)
	if err != nil {
		return nil, err
	}
	doc, err := parseXML(q.body, "VersioningConfiguration")
	if err == nil {
		err = doc.only("Status")
	}
	if err != nil {
		return nil, err
	}
	switch status := doc.value("Status"); {
	case status != enabled && status != suspended:
		return nil, malformedXML("Status is Enabled or Suspended")
	case status == suspended && b.lock != nil:
		return nil, failed(http.StatusConflict, "InvalidBucketState", "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.")
	default:
		b.versioning = status
	}
	return nil, nil //nolint:nilnil // an empty answer
}

type retentionRule struct {
	Mode  string `xml:"DefaultRetention>Mode"`
	Days  int    `xml:"DefaultRetention>Days,omitempty"`
	Years int    `xml:"DefaultRetention>Years,omitempty"`
}

type lockConfiguration struct {
	XMLName xml.Name       `xml:"ObjectLockConfiguration"`
	XMLNS   string         `xml:"xmlns,attr"`
	Enabled string         `xml:"ObjectLockEnabled"`
	Rule    *retentionRule `xml:"Rule"`
}

func (s *Service) getObjectLockConfiguration(q *request) (*answer, error) {
	b, err := s.existing(q)
	if err != nil {
		return nil, err
	}
	if b.lock == nil {
		return nil, failed(http.StatusNotFound, "ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket")
	}
	out := lockConfiguration{XMLNS: namespace, Enabled: enabled}
	if b.lock.mode != "" {
		out.Rule = &retentionRule{b.lock.mode, b.lock.days, b.lock.years}
	}
	return document(out)
}

// putObjectLockConfiguration switches Object Lock on, which nothing undoes, and
// sets or removes the default retention.
func (s *Service) putObjectLockConfiguration(q *request) (*answer, error) {
	b, err := s.existing(q)
	if err != nil {
		return nil, err
	}
	doc, err := parseXML(q.body, "ObjectLockConfiguration")
	if err == nil {
		err = doc.only("ObjectLockEnabled", "Rule")
	}
	if err != nil {
		return nil, err
	}
	if doc.value("ObjectLockEnabled") != enabled {
		return nil, malformedXML("ObjectLockEnabled is Enabled")
	}
	config, err := parseDefaultRetention(doc.child("Rule"))
	if err != nil {
		return nil, err
	}
	if b.versioning != enabled {
		return nil, failed(http.StatusConflict, "InvalidBucketState", "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")
	}
	b.lock = config
	return nil, nil //nolint:nilnil // an empty answer
}

// The longest default retention (S3 user guide, "Object Lock considerations").
const (
	maxRetentionDays  = 36500
	maxRetentionYears = 100
)

func parseDefaultRetention(rule *element) (*lockConfig, error) {
	config := &lockConfig{}
	if rule == nil {
		return config, nil
	}
	if err := rule.only("DefaultRetention"); err != nil {
		return nil, err
	}
	period := rule.child("DefaultRetention")
	if period == nil {
		return nil, malformedXML("Rule has a DefaultRetention")
	}
	if err := period.only("Mode", "Days", "Years"); err != nil {
		return nil, err
	}
	if (period.child("Days") == nil) == (period.child("Years") == nil) {
		return nil, malformedXML("DefaultRetention has Days or Years, and not both")
	}
	config.mode = period.value("Mode")
	if config.mode != governance && config.mode != compliance {
		return nil, malformedXML("Mode is GOVERNANCE or COMPLIANCE")
	}
	for _, unit := range []struct {
		name string
		most int
		into *int
	}{{"Days", maxRetentionDays, &config.days}, {"Years", maxRetentionYears, &config.years}} {
		if period.child(unit.name) == nil {
			continue
		}
		n, err := strconv.Atoi(period.value(unit.name))
		switch {
		case err != nil:
			return nil, malformedXML("%s is a whole number", unit.name)
		case n < 1:
			return nil, invalidArgument("Default retention period must be a positive integer value.")
		case n > unit.most:
			return nil, invalidArgument("Default retention period too large: %d %s at most", unit.most, strings.ToLower(unit.name))
		}
		*unit.into = n
	}
	return config, nil
}

// retention is what a new object gets by default; nil for none.
func (c *lockConfig) retention(now time.Time) *retention {
	if c == nil || c.mode == "" {
		return nil
	}
	return &retention{c.mode, now.AddDate(c.years, 0, c.days)}
}

type eventBridgeConfiguration struct{}

type notificationConfiguration struct {
	XMLName     xml.Name                  `xml:"NotificationConfiguration"`
	XMLNS       string                    `xml:"xmlns,attr"`
	EventBridge *eventBridgeConfiguration `xml:"EventBridgeConfiguration"`
}

func (s *Service) getBucketNotificationConfiguration(q *request) (*answer, error) {
	b, err := s.existing(q)
	if err != nil {
		return nil, err
	}
	out := notificationConfiguration{XMLNS: namespace}
	if b.eventBridge {
		out.EventBridge = &eventBridgeConfiguration{}
	}
	return document(out)
}

// putBucketNotificationConfiguration knows EventBridge alone.
func (s *Service) putBucketNotificationConfiguration(q *request) (*answer, error) {
	b, err := s.existing(q)
	if err != nil {
		return nil, err
	}
	doc, err := parseXML(q.body, "NotificationConfiguration")
	if err == nil {
		err = doc.only("EventBridgeConfiguration")
	}
	if err != nil {
		return nil, err
	}
	bridge := doc.child("EventBridgeConfiguration")
	if bridge != nil {
		if err := bridge.only(); err != nil {
			return nil, err
		}
	}
	b.eventBridge = bridge != nil
	return nil, nil //nolint:nilnil // an empty answer
}

package s3

import (
	"encoding/xml"
	"net/http"
	"slices"
)

// deleteObject puts a delete marker, or removes the version that is named.
// Deleting what isn't there succeeds.
func (s *Service) deleteObject(q *request) (*answer, error) {
	b, err := s.existing(q)
	if err != nil {
		return nil, err
	}
	bypass, err := q.flag("X-Amz-Bypass-Governance-Retention")
	switch {
	case err != nil:
		return nil, err
	case bypass && b.lock == nil:
		return nil, invalidArgument("x-amz-bypass-governance-retention is only applicable to Object Lock enabled buckets")
	case q.query.Has("versionId"):
		return s.deleteVersion(q, b, bypass)
	}
	a := &answer{status: http.StatusNoContent}
	if b.versioning == "" {
		if v := b.remove(q.key, nullVersion); v != nil {
			s.publishDeleted(q, b, v, permanently)
		}
		return a, nil
	}
	marker := &version{marker: true}
	s.add(b, q.key, marker)
	s.publishDeleted(q, b, marker, markerCreated)
	a.set("X-Amz-Delete-Marker", "true")
	a.set("X-Amz-Version-Id", marker.id)
	return a, nil
}

func (s *Service) deleteVersion(q *request, b *bucket, bypass bool) (*answer, error) {
	id := q.query.Get("versionId")
	if !versionID.MatchString(id) {
		return nil, invalidArgument("Invalid version id specified")
	}
	a := &answer{status: http.StatusNoContent}
	a.set("X-Amz-Version-Id", id)
	all := b.objects[q.key]
	at := slices.IndexFunc(all, func(v *version) bool { return v.id == id })
	if at < 0 {
		return a, nil
	}
	if r := all[at].retention; r != nil && r.until.After(s.clock.Now()) {
		if r.mode == compliance || !bypass {
			return nil, accessDenied("the object is protected by object lock until %s", stamp(r.until))
		}
		if err := b.allowed(q, "s3:BypassGovernanceRetention"); err != nil {
			return nil, err
		}
	}
	v := b.remove(q.key, id)
	if v.marker {
		a.set("X-Amz-Delete-Marker", "true")
	}
	s.publishDeleted(q, b, v, permanently)
	return a, nil
}

type retentionDocument struct {
	XMLName xml.Name `xml:"Retention"`
	XMLNS   string   `xml:"xmlns,attr"`
	Mode    string   `xml:"Mode"`
	Until   string   `xml:"RetainUntilDate"`
}

func (s *Service) getObjectRetention(q *request) (*answer, error) {
	b, v, about, err := s.find(q)
	switch {
	case err != nil:
		return about, err
	case b.lock == nil:
		return nil, invalidRequest("Bucket is missing Object Lock Configuration")
	case v.retention == nil:
		return nil, failed(http.StatusNotFound, "NoSuchObjectLockConfiguration", "The specified object does not have a ObjectLock configuration")
	}
	return document(retentionDocument{XMLNS: namespace, Mode: v.retention.mode, Until: stamp(v.retention.until)})
}

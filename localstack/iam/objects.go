package iam

import (
	"fmt"
	"net/http"
	"strings"
)

// OfObject is what a call of S3's REST API asks (Service Authorization Reference,
// "Amazon S3"). Paths have the path style.
func OfObject(principal string, r *http.Request) ([]Request, error) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	q, arn, given := r.URL.Query(), "arn:aws:s3:::"+bucket, map[string]string{}
	var action string
	switch {
	case bucket == "":
	case key == "" && r.Method == http.MethodGet && q.Get("list-type") == "2":
		// Whoever lists all of a bucket gives no prefix, and then the key isn't there.
		if q.Has("prefix") {
			given["s3:prefix"] = q.Get("prefix")
		}
		action = "s3:ListBucket"
	case key == "" || subresource(q):
	case r.Method == http.MethodPut:
		if v := r.Header.Get("If-None-Match"); v != "" {
			given["s3:if-none-match"] = v
		}
		action, arn = "s3:PutObject", arn+"/"+key
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		action, arn = "s3:GetObject", arn+"/"+key
		if q.Has("versionId") {
			action = "s3:GetObjectVersion"
		}
	}
	if action == "" {
		return nil, fmt.Errorf("what IAM is asked about %s %s of S3 isn't known here", r.Method, r.URL.Path)
	}
	return []Request{{Principal: principal, Action: action, Resource: arn, Context: given}}, nil
}

// subresource says that a request is about something else of the object.
func subresource(q map[string][]string) bool {
	for name := range q {
		if name != "versionId" && name != "x-id" {
			return true
		}
	}
	return false
}

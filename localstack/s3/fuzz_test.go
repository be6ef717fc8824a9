package s3_test

import (
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/localstack/clock"
	"github.com/keyturn/keyturn/localstack/s3"
)

// FuzzRequests: whatever is asked for, an answer comes that S3 has: no failure of
// the server's own, and every error in XML with a code.
func FuzzRequests(f *testing.F) {
	const (
		trailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
		lock    = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
	)
	for _, seed := range [][]string{
		{"PUT", "/bucket", "UNSIGNED-PAYLOAD", "", "", ""},
		{"PUT", "/bucket/a%20b", "UNSIGNED-PAYLOAD", "If-None-Match", "*", "body"},
		{"PUT", "/bucket/k", trailer, "X-Amz-Trailer", "x-amz-checksum-crc32", "9\r\n123456789\r\n0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n"},
		{"PUT", "/bucket?policy", "UNSIGNED-PAYLOAD", "", "", `{"Version":"2012-10-17","Statement":[` + ifNoneMatchOnly + `]}`},
		{"PUT", "/bucket?object-lock", "UNSIGNED-PAYLOAD", "", "", lock},
		{"PUT", "/bucket?versioning", "UNSIGNED-PAYLOAD", "", "", "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"},
		{"PUT", "/bucket?notification", "UNSIGNED-PAYLOAD", "", "", "<NotificationConfiguration><EventBridgeConfiguration/></NotificationConfiguration>"},
		{"GET", "/bucket?list-type=2&delimiter=/&continuation-token=MQ==", "UNSIGNED-PAYLOAD", "", "", ""},
		{"GET", "/bucket?versions&key-marker=k&version-id-marker=null", "UNSIGNED-PAYLOAD", "", "", ""},
		{"DELETE", "/bucket/k?versionId=null", "UNSIGNED-PAYLOAD", "X-Amz-Bypass-Governance-Retention", "true", ""},
		{"HEAD", "/bucket/k", "UNSIGNED-PAYLOAD", "X-Amz-Checksum-Mode", "ENABLED", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4], seed[5])
	}
	f.Fuzz(func(t *testing.T, method, target, payload, header, value, body string) {
		service := s3.New(s3.Config{Clock: clock.New()})
		send := func(method, target, payload, body string) (answer *httptest.ResponseRecorder) {
			r, err := http.NewRequestWithContext(t.Context(), method, "http://s3", strings.NewReader(body))
			if err != nil {
				return nil
			}
			if r.URL, err = r.URL.Parse(target); err != nil {
				return nil
			}
			r.Header.Set("X-Amz-Content-Sha256", payload)
			r.Header.Set("X-Amz-Decoded-Content-Length", "9")
			if header != "" {
				r.Header.Set(header, value)
			}
			answer = httptest.NewRecorder()
			service.ServeHTTP(answer, r)
			return answer
		}
		send(http.MethodPut, "/bucket", "UNSIGNED-PAYLOAD", "")
		send(http.MethodPut, "/bucket/k", "UNSIGNED-PAYLOAD", "1")
		answer := send(method, target, payload, body)
		if answer == nil || method == http.MethodHead || answer.Code < 300 {
			return
		}
		var e struct{ Code, Message string }
		if err := xml.Unmarshal(answer.Body.Bytes(), &e); err != nil || e.Code == "" || e.Message == "" || answer.Code >= 500 && e.Code != "NotImplemented" {
			t.Errorf("%s %q: %d %s: %v", method, target, answer.Code, answer.Body, err)
		}
	})
}

package s3

import (
	"bytes"
	"crypto/md5"  //nolint:gosec // S3's ETag and Content-MD5 are MD5
	"crypto/sha1" //nolint:gosec // one of S3's checksums
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net/http"
	"strconv"
	"strings"
)

const (
	checksumPrefix = "X-Amz-Checksum-"
	metaPrefix     = "X-Amz-Meta-"
	// maxObject bounds a body, in bytes: objects live in memory.
	maxObject = 64 << 20
)

// checksum is a digest of a whole object, as S3 keeps it: CRC32 and base64.
type checksum struct {
	algorithm string // in capitals, as the API names it
	value     string
}

// nvme is the reversed polynomial of CRC-64/NVME.
var nvme = crc64.MakeTable(0x9a6c9329ac4bc9b5)

// algorithms are the checksums that the local S3 computes (S3 user guide,
// "Checking object integrity").
var algorithms = map[string]func() hash.Hash{
	"CRC32":     func() hash.Hash { return crc32.NewIEEE() },
	"CRC32C":    func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
	"CRC64NVME": func() hash.Hash { return crc64.New(nvme) },
	"SHA1":      sha1.New,
	"SHA256":    sha256.New,
}

func digest(h hash.Hash, body []byte) string {
	_, _ = h.Write(body) // a hash takes everything
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func sumOf(algorithm string, body []byte) checksum {
	return checksum{algorithm, digest(algorithms[algorithm](), body)}
}

func (c checksum) header() string { return checksumPrefix + strings.ToLower(c.algorithm) }

// read takes the body off its wire form and verifies every digest that came
// with it.
func (q *request) read(r *http.Request) error {
	if r.ContentLength < 0 {
		return failed(http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header.")
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxObject+1))
	switch {
	case err != nil:
		return failed(http.StatusBadRequest, "IncompleteBody", "reading the request: %v", err)
	case len(raw) > maxObject:
		return failed(http.StatusBadRequest, "EntityTooLarge", "the local S3 takes objects of at most %d bytes", maxObject)
	}
	payload := q.header.Get("X-Amz-Content-Sha256")
	trailers := http.Header{}
	switch payload {
	case "":
		return invalidRequest("Missing required header for this request: x-amz-content-sha256")
	case "UNSIGNED-PAYLOAD":
		q.body = raw
	case "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER":
		if q.body, trailers, err = q.dechunk(raw, payload); err != nil {
			return err
		}
	default:
		sum := sha256.Sum256(raw)
		if payload != hex.EncodeToString(sum[:]) {
			return failed(http.StatusBadRequest, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.")
		}
		q.body = raw
	}
	if err := q.verifyMD5(); err != nil {
		return err
	}
	return q.verifyChecksum(trailers)
}

// dechunk reads an aws-chunked body: chunks with their length in hexadecimal,
// then trailers. Chunk signatures are accepted unread.
func (q *request) dechunk(raw []byte, payload string) ([]byte, http.Header, error) {
	incomplete := failed(http.StatusBadRequest, "IncompleteBody", "The request body terminated unexpectedly")
	want, err := strconv.Atoi(q.header.Get("X-Amz-Decoded-Content-Length"))
	if err != nil || want < 0 {
		return nil, nil, failed(http.StatusLengthRequired, "MissingContentLength", "x-amz-decoded-content-length must be the length of the object")
	}
	body := []byte{}
	for {
		line, rest, found := bytes.Cut(raw, []byte("\r\n"))
		size, _, _ := strings.Cut(string(line), ";")
		n, err := strconv.ParseUint(size, 16, 31)
		if !found || err != nil {
			return nil, nil, incomplete
		}
		raw = rest
		if n == 0 {
			break
		}
		length := int(n)
		if len(raw) < length+2 || string(raw[length:length+2]) != "\r\n" {
			return nil, nil, incomplete
		}
		body, raw = append(body, raw[:length]...), raw[length+2:]
	}
	if len(body) != want {
		return nil, nil, incomplete
	}
	trailers, err := q.trailers(raw, strings.HasSuffix(payload, "-TRAILER"))
	return body, trailers, err
}

// trailers reads what follows the last chunk and compares it with what
// X-Amz-Trailer announced.
func (q *request) trailers(raw []byte, allowed bool) (http.Header, error) {
	malformed := failed(http.StatusBadRequest, "MalformedTrailerError", "The request contained trailing data that was not well-formed or did not conform to our published schema.")
	out := http.Header{}
	for line := range strings.SplitSeq(strings.TrimRight(string(raw), "\r\n"), "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		switch {
		case line == "" || strings.EqualFold(name, "x-amz-trailer-signature"):
		case !ok || !allowed || out.Get(name) != "":
			return nil, malformed
		default:
			out.Set(name, strings.TrimSpace(value))
		}
	}
	announced := q.header.Get("X-Amz-Trailer")
	if announced == "" && len(out) == 0 {
		return out, nil
	}
	if len(out) != 1 || out.Get(announced) == "" {
		return nil, malformed
	}
	if !strings.HasPrefix(http.CanonicalHeaderKey(announced), checksumPrefix) {
		return nil, notModelled("the trailer %s", announced)
	}
	return out, nil
}

func (q *request) verifyMD5() error {
	given := q.header.Get("Content-Md5")
	if given == "" {
		return nil
	}
	raw, err := base64.StdEncoding.DecodeString(given)
	if err != nil || len(raw) != md5.Size {
		return failed(http.StatusBadRequest, "InvalidDigest", "The Content-MD5 you specified was invalid.")
	}
	if given != digest(md5.New(), q.body) { //nolint:gosec // as the header's name says
		return failed(http.StatusBadRequest, "BadDigest", "The Content-MD5 you specified did not match what we received.")
	}
	q.md5 = true
	return nil
}

// verifyChecksum finds the one checksum of a header or trailer.
func (q *request) verifyChecksum(trailers http.Header) error {
	for _, from := range []http.Header{q.header, trailers} {
		for name, values := range from {
			algorithm, ok := strings.CutPrefix(name, checksumPrefix)
			if !ok || name == checksumMode {
				continue
			}
			if q.sum != (checksum{}) {
				return invalidRequest("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
			}
			q.sum = checksum{strings.ToUpper(algorithm), values[0]}
		}
	}
	declared := q.header.Get("X-Amz-Sdk-Checksum-Algorithm")
	if q.sum == (checksum{}) {
		if declared != "" {
			return invalidRequest("x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.")
		}
		return nil
	}
	if algorithms[q.sum.algorithm] == nil {
		return notModelled("the checksum %s", q.sum.algorithm)
	}
	if declared != "" && declared != q.sum.algorithm {
		return invalidRequest("Value for x-amz-sdk-checksum-algorithm header is invalid: %s, but the checksum is %s", declared, q.sum.algorithm)
	}
	if q.sum != sumOf(q.sum.algorithm, q.body) {
		return failed(http.StatusBadRequest, "BadDigest", "The %s you specified did not match the calculated checksum.", q.sum.algorithm)
	}
	return nil
}

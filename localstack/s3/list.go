package s3

import (
	"encoding/base64"
	"encoding/xml"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxKeys is the longest page.
const maxKeys = 1000

func itoa(n int) string { return strconv.Itoa(n) }

// page is what both listings have in common.
type page struct {
	prefix, delimiter string
	most              int
	encode            func(string) string
	encoding          string
}

func (q *request) page() (page, error) {
	p := page{
		prefix: q.query.Get("prefix"), delimiter: q.query.Get("delimiter"), most: maxKeys,
		encoding: q.query.Get("encoding-type"), encode: func(s string) string { return s },
	}
	switch p.encoding {
	case "":
	case "url":
		p.encode = encodeKey
	default:
		return p, invalidArgument("Invalid Encoding Method specified in Request")
	}
	if q.query.Has("max-keys") {
		n, err := strconv.Atoi(q.query.Get("max-keys"))
		if err != nil || n < 0 {
			return p, invalidArgument("max-keys is a whole number of 0 or more")
		}
		p.most = min(n, maxKeys)
	}
	return p, nil
}

// encodeKey is the url encoding of listings: a slash stays.
func encodeKey(key string) string {
	return strings.ReplaceAll(url.QueryEscape(key), "%2F", "/")
}

// common is the part of a key up to the delimiter after the prefix; "" if the
// key stands for itself.
func (p page) common(key string) string {
	if p.delimiter == "" {
		return ""
	}
	before, _, found := strings.Cut(key[len(p.prefix):], p.delimiter)
	if !found {
		return ""
	}
	return p.prefix + before + p.delimiter
}

type commonPrefix struct {
	Prefix string `xml:"Prefix"`
}

type listedObject struct {
	Key          string `xml:"Key"`
	LastModified string `xml:"LastModified"`
	ETag         string `xml:"ETag"`
	Algorithm    string `xml:"ChecksumAlgorithm"`
	Type         string `xml:"ChecksumType"`
	Size         int    `xml:"Size"`
	StorageClass string `xml:"StorageClass"`
}

type listing struct {
	XMLName    xml.Name       `xml:"ListBucketResult"`
	XMLNS      string         `xml:"xmlns,attr"`
	Name       string         `xml:"Name"`
	Prefix     string         `xml:"Prefix"`
	Delimiter  string         `xml:"Delimiter,omitempty"`
	StartAfter string         `xml:"StartAfter,omitempty"`
	MaxKeys    int            `xml:"MaxKeys"`
	KeyCount   int            `xml:"KeyCount"`
	Encoding   string         `xml:"EncodingType,omitempty"`
	Truncated  bool           `xml:"IsTruncated"`
	Token      string         `xml:"ContinuationToken,omitempty"`
	Next       string         `xml:"NextContinuationToken,omitempty"`
	Contents   []listedObject `xml:"Contents"`
	Prefixes   []commonPrefix `xml:"CommonPrefixes"`
}

// listObjectsV2 lists current versions in the order of their keys' UTF-8 bytes.
func (s *Service) listObjectsV2(q *request) (*answer, error) {
	b, p, err := s.listable(q)
	if err != nil {
		return nil, err
	}
	if q.query.Get("list-type") != "2" {
		return nil, invalidArgument("list-type is 2")
	}
	if owner := q.query.Get("fetch-owner"); owner != "" && owner != "false" {
		return nil, notModelled("fetch-owner")
	}
	after := q.query.Get("start-after")
	out := listing{
		XMLNS: namespace, Name: b.name, Prefix: p.encode(p.prefix), Delimiter: p.encode(p.delimiter), MaxKeys: p.most,
		Encoding: p.encoding, StartAfter: p.encode(after),
	}
	if q.query.Has("continuation-token") {
		out.Token = q.query.Get("continuation-token")
		if after, err = decodeToken(out.Token); err != nil {
			return nil, err
		}
	}
	last := after
	for _, key := range slices.Sorted(maps.Keys(b.objects)) {
		v := b.current(key)
		// A token that ends with a common prefix is past all that begins with it.
		if v == nil || key <= after || !strings.HasPrefix(key, p.prefix) || p.common(key) != "" && p.common(key) == last {
			continue
		}
		if out.KeyCount == p.most {
			if out.Truncated = p.most > 0; out.Truncated {
				out.Next = encodeToken(last)
			}
			break
		}
		out.KeyCount++
		if last = p.common(key); last != "" {
			out.Prefixes = append(out.Prefixes, commonPrefix{p.encode(last)})
			continue
		}
		last = key
		out.Contents = append(out.Contents, listedObject{
			p.encode(key), stamp(v.modified), `"` + v.etag + `"`, v.sum.algorithm, "FULL_OBJECT", len(v.body), "STANDARD",
		})
	}
	return document(out)
}

func (s *Service) listable(q *request) (*bucket, page, error) {
	b, err := s.existing(q)
	if err != nil {
		return nil, page{}, err
	}
	p, err := q.page()
	return b, p, err
}

// A token is opaque to clients: what the page before ended with.
func encodeToken(last string) string { return base64.URLEncoding.EncodeToString([]byte("1" + last)) }

func decodeToken(token string) (string, error) {
	text, err := base64.URLEncoding.DecodeString(token)
	if err != nil || !strings.HasPrefix(string(text), "1") {
		return "", invalidArgument("The continuation token provided is incorrect")
	}
	return string(text[1:]), nil
}

type listedVersion struct {
	XMLName      xml.Name // Version or DeleteMarker
	Key          string   `xml:"Key"`
	VersionID    string   `xml:"VersionId"`
	Latest       bool     `xml:"IsLatest"`
	LastModified string   `xml:"LastModified"`
	ETag         string   `xml:"ETag,omitempty"`
	Algorithm    string   `xml:"ChecksumAlgorithm,omitempty"`
	Type         string   `xml:"ChecksumType,omitempty"`
	Size         *int     `xml:"Size"`
	StorageClass string   `xml:"StorageClass,omitempty"`
}

type versionListing struct {
	XMLName       xml.Name        `xml:"ListVersionsResult"`
	XMLNS         string          `xml:"xmlns,attr"`
	Name          string          `xml:"Name"`
	Prefix        string          `xml:"Prefix"`
	Delimiter     string          `xml:"Delimiter,omitempty"`
	KeyMarker     string          `xml:"KeyMarker"`
	IDMarker      string          `xml:"VersionIdMarker"`
	MaxKeys       int             `xml:"MaxKeys"`
	Encoding      string          `xml:"EncodingType,omitempty"`
	Truncated     bool            `xml:"IsTruncated"`
	NextKeyMarker string          `xml:"NextKeyMarker,omitempty"`
	NextIDMarker  string          `xml:"NextVersionIdMarker,omitempty"`
	Versions      []listedVersion // by its own element's name
	Prefixes      []commonPrefix  `xml:"CommonPrefixes"`
}

// listObjectVersions lists every version and delete marker: keys in order, and
// each key's newest first.
func (s *Service) listObjectVersions(q *request) (*answer, error) {
	b, p, err := s.listable(q)
	if err != nil {
		return nil, err
	}
	key, id := q.query.Get("key-marker"), q.query.Get("version-id-marker")
	switch {
	case id != "" && key == "":
		return nil, invalidArgument("A version-id marker cannot be specified without a key marker.")
	case id != "" && !versionID.MatchString(id):
		return nil, invalidArgument("Invalid version id specified")
	}
	out := versionListing{
		XMLNS: namespace, Name: b.name, Prefix: p.encode(p.prefix), Delimiter: p.encode(p.delimiter), MaxKeys: p.most,
		Encoding: p.encoding, KeyMarker: p.encode(key), IDMarker: id,
	}
	w := versionWalk{page: p, out: &out, lastKey: key, lastID: id}
	for _, name := range slices.Sorted(maps.Keys(b.objects)) {
		if !strings.HasPrefix(name, p.prefix) || name < key || name == key && id == "" {
			continue
		}
		versions := b.objects[name]
		if name == key {
			at := slices.IndexFunc(versions, func(v *version) bool { return v.id == id })
			versions = versions[at+1:]
		}
		if !w.add(name, versions, b.objects[name][0]) {
			break
		}
	}
	return document(out)
}

// versionWalk fills one page.
type versionWalk struct {
	page
	out             *versionListing
	lastKey, lastID string
	n               int
}

// add is false when the page is full.
func (w *versionWalk) add(key string, versions []*version, latest *version) bool {
	if prefix := w.common(key); prefix != "" {
		if prefix == w.lastKey {
			return true
		}
		if !w.room() {
			return false
		}
		w.lastKey, w.lastID = prefix, ""
		w.out.Prefixes = append(w.out.Prefixes, commonPrefix{w.encode(prefix)})
		return true
	}
	for _, v := range versions {
		if !w.room() {
			return false
		}
		w.lastKey, w.lastID = key, v.id
		item := listedVersion{
			XMLName: xml.Name{Local: "DeleteMarker"}, Key: w.encode(key), VersionID: v.id, Latest: v == latest, LastModified: stamp(v.modified),
		}
		if !v.marker {
			size := len(v.body)
			item.XMLName.Local, item.ETag, item.Size, item.StorageClass = "Version", `"`+v.etag+`"`, &size, "STANDARD"
			item.Algorithm, item.Type = v.sum.algorithm, "FULL_OBJECT"
		}
		w.out.Versions = append(w.out.Versions, item)
	}
	return true
}

// room counts one more entry, or ends the page with the markers of the next.
func (w *versionWalk) room() bool {
	if w.n == w.most {
		if w.out.Truncated = w.most > 0; w.out.Truncated {
			w.out.NextKeyMarker, w.out.NextIDMarker = w.encode(w.lastKey), w.lastID
		}
		return false
	}
	w.n++
	return true
}

package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/keyturn/keyturn/rotation"
)

// maxAnswer bounds the answer that is read, in bytes.
const maxAnswer = 16 << 10

// order is what one call of Follow carries out.
type order struct {
	*Presenters
	rotation.Change
	keyARN string
	key    rotation.Value // empty: unsigned
}

// message is the body of a POST.
type message struct {
	Secret  string `json:"secret"`
	Version string `json:"version"`
}

// answer is the body of a GET's response; members beyond these are left alone.
type answer struct {
	Version *string `json:"version"`
	Done    bool    `json:"done"`
}

// look asks an instance which version it uses.
func (o order) look(ctx context.Context, i *instance) {
	body, status, err := o.send(ctx, http.MethodGet, i.url, nil)
	switch {
	case err != nil:
		i.state, i.why = unseen, reason(err)
		return
	case status != http.StatusOK:
		i.state, i.why = unseen, fmt.Sprintf("answered %d to GET", status)
		return
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil || a.Version == nil {
		i.state, i.why = unseen, `its answer to GET isn't {"version": "…", "done": true|false}`
		return
	}
	switch {
	case *a.Version == o.To && a.Done:
		i.state, i.why = confirmed, ""
	case *a.Version == o.To, i.told:
		i.state, i.why = following, "on its way"
	default:
		i.state, i.why = behind, "uses another version; its wave's turn hasn't come"
	}
}

// tellOne tells an instance to follow. Whether that arrived, the next look says.
func (o order) tellOne(ctx context.Context, i *instance) {
	body, err := json.Marshal(message{Secret: o.Secret, Version: o.To})
	if err != nil {
		i.why = "the order can't be written"
		return
	}
	i.told = true
	_, status, err := o.send(ctx, http.MethodPost, i.url, body)
	switch {
	case err != nil:
		i.state, i.why = following, "told, without an answer: "+reason(err)
	case status < 200 || status > 299:
		i.told = false
		i.why = fmt.Sprintf("answered %d to POST", status)
	default:
		i.state, i.why = following, "on its way"
	}
}

// send makes one request and reads its answer, up to a bound.
func (o order) send(ctx context.Context, method, target string, body []byte) (text []byte, status int, err error) {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "keyturn")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if !o.key.Empty() {
		req.Header.Set(SignatureHeader, Sign(o.key, o.now(), method, body))
	}
	resp, err := o.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = resp.Body.Close() }() // read as far as it counts
	o.keys.refused(o.keyARN, resp.StatusCode)
	text, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return text, resp.StatusCode, err
}

// show is a URL as it may be told: without login, query and fragment.
func show(target string) (string, error) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return "", errors.New("no http or https URL with a host")
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String(), nil
}

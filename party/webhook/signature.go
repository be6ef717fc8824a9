package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

// SignatureHeader carries the signature of a request.
const SignatureHeader = "Keyturn-Signature"

// Sign returns the header's value: t=<Unix seconds>,v1=<hex>, where v1 is the
// HMAC-SHA256 (RFC 2104) of the seconds, a dot, the method, a dot and the body.
func Sign(key rotation.Value, at time.Time, method string, body []byte) string {
	seconds := strconv.FormatInt(at.Unix(), 10)
	return "t=" + seconds + ",v1=" + hex.EncodeToString(sum(key, seconds, method, body))
}

// CheckSignature is for receivers: it returns nil if the header's value was
// made with this key for this method and body, not longer than tolerance before
// or after now. Refuse the request otherwise.
func CheckSignature(key rotation.Value, header string, now time.Time, tolerance time.Duration, method string, body []byte) error {
	if key.Empty() {
		return errors.New("checking a webhook signature: no key is configured")
	}
	first, second, _ := strings.Cut(header, ",")
	seconds, okTime := strings.CutPrefix(first, "t=")
	text, okSum := strings.CutPrefix(second, "v1=")
	unix, errTime := strconv.ParseInt(seconds, 10, 64)
	given, errSum := hex.DecodeString(text)
	if !okTime || !okSum || errTime != nil || errSum != nil {
		return errors.New("checking a webhook signature: header isn't t=<seconds>,v1=<hex>")
	}
	if !hmac.Equal(given, sum(key, seconds, method, body)) {
		return errors.New("checking a webhook signature: it wasn't made for this request with this key")
	}
	if age := now.Sub(time.Unix(unix, 0)).Abs(); age > tolerance {
		return fmt.Errorf("checking a webhook signature: it is %s off", age)
	}
	return nil
}

func sum(key rotation.Value, seconds, method string, body []byte) []byte {
	mac := hmac.New(sha256.New, []byte(key.Reveal()))
	mac.Write([]byte(seconds + "." + method + "."))
	mac.Write(body)
	return mac.Sum(nil)
}

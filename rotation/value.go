package rotation

import (
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Value is a secret value. It can be passed on and revealed, and nothing else:
// every way of printing, logging or marshalling it writes "[redacted]", or an
// address where it lies in an unexported field: there fmt calls no methods, and
// so the text is behind a pointer that fmt doesn't follow. Two Values of one text
// aren't equal by ==.
type Value struct{ text *string }

// NewValue takes a secret into keeping.
func NewValue(text string) Value { return Value{text: &text} }

// Reveal returns the secret. Call it only where the value leaves for its
// target or its store.
func (v Value) Reveal() string {
	if v.text == nil {
		return ""
	}
	return *v.text
}

// Empty reports whether there is no value.
func (v Value) Empty() bool { return v.Reveal() == "" }

// String implements fmt.Stringer.
func (Value) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Value) GoString() string { return redacted }

// Format implements fmt.Formatter, so that no verb reaches the text.
func (Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer.
func (Value) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements json.Marshaler.
func (Value) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText implements encoding.TextMarshaler.
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

package lambdaentry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"

	"github.com/aws/aws-lambda-go/lambda/messages"

	"github.com/keyturn/keyturn/fault"
)

// Logger writes a function's log lines, redacted.
func Logger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{ReplaceAttr: redactAttr}))
}

// Answer runs a handler in this process and returns what Lambda would: its
// answer, or the error document {"errorType":…,"errorMessage":…} and failed.
func Answer(ctx context.Context, log *slog.Logger, handler Handler, event []byte) (payload []byte, failed bool) {
	out, err := serve(ctx, log, handler, event)
	if err == nil {
		payload, err = json.Marshal(out)
	}
	if err == nil {
		return payload, false
	}
	var document messages.InvokeResponse_Error
	if !errors.As(err, &document) {
		document = lambdaError(err)
	}
	payload, err = json.Marshal(map[string]string{"errorType": document.Type, "errorMessage": document.Message})
	if err != nil {
		return []byte(`{"errorType":"` + string(fault.Internal) + `"}`), true
	}
	return payload, true
}

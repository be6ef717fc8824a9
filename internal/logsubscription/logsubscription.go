// Package logsubscription answers: which lines does an event of CloudWatch Logs carry?
//
// A subscription filter sends a function {"awslogs":{"data": …}}: the base64 of
// gzipped JSON (CloudWatch Logs user guide, "Subscription filters with Lambda").
package logsubscription

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/keyturn/keyturn/internal/strictjson"
)

// Batch is what one event carries.
type Batch struct {
	// Control: CloudWatch Logs only tries whether the function is there. Lines is empty.
	Control  bool
	Owner    string // account
	LogGroup string
	Stream   string
	Lines    []Line
}

// Line is one log event.
type Line struct {
	ID      string
	At      time.Time // UTC, to the millisecond
	Message string
}

const (
	mostData  = 6 << 20  // bytes of base64: Lambda's own bound of an event
	mostLines = 16 << 20 // bytes unpacked; CloudWatch Logs sends 1 MiB at most
	mostNames = 2048     // bytes of an id or name
)

type envelope struct {
	AWSLogs struct {
		Data string `json:"data"`
	} `json:"awslogs"`
}

type payload struct {
	MessageType string `json:"messageType"`
	Owner       string `json:"owner"`
	LogGroup    string `json:"logGroup"`
	LogStream   string `json:"logStream"`
	Events      []struct {
		ID        string `json:"id"`
		Timestamp int64  `json:"timestamp"`
		Message   string `json:"message"`
	} `json:"logEvents"`
}

// Decode reads an event. Fields that AWS adds are passed over; everything that a
// line needs has to be there.
func Decode(event []byte) (Batch, error) {
	var e envelope
	if err := strictjson.Decode(event, &e); err != nil {
		return Batch{}, fmt.Errorf("reading the event: %w", err)
	}
	if e.AWSLogs.Data == "" || len(e.AWSLogs.Data) > mostData {
		return Batch{}, fmt.Errorf("the event's data has %d bytes, of 1 to %d", len(e.AWSLogs.Data), mostData)
	}
	packed, err := base64.StdEncoding.Strict().DecodeString(e.AWSLogs.Data)
	if err != nil {
		return Batch{}, fmt.Errorf("reading the event's base64: %w", err)
	}
	text, err := unpack(packed)
	if err != nil {
		return Batch{}, err
	}
	var p payload
	if err := strictjson.DecodeKnown(text, &p); err != nil {
		return Batch{}, fmt.Errorf("reading what the event carries: %w", err)
	}
	return p.batch()
}

func unpack(packed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("unpacking the event: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(z, mostLines+1))
	if err != nil {
		return nil, fmt.Errorf("unpacking the event: %w", err)
	}
	if len(text) > mostLines {
		return nil, fmt.Errorf("the event unpacks to more than %d bytes", mostLines)
	}
	return text, nil
}

func (p payload) batch() (Batch, error) {
	b := Batch{Owner: p.Owner, LogGroup: p.LogGroup, Stream: p.LogStream}
	switch p.MessageType {
	case "CONTROL_MESSAGE":
		b.Control = true
		return b, nil
	case "DATA_MESSAGE":
	default:
		return Batch{}, fmt.Errorf("the event is of type %.40q, neither DATA_MESSAGE nor CONTROL_MESSAGE", p.MessageType)
	}
	if p.LogGroup == "" || len(p.LogGroup) > mostNames || len(p.Events) == 0 {
		return Batch{}, errors.New("the event names no log group, or carries no line")
	}
	for _, e := range p.Events {
		if e.ID == "" || len(e.ID) > mostNames || e.Timestamp <= 0 {
			return Batch{}, errors.New("a log event has no id or no time")
		}
		b.Lines = append(b.Lines, Line{ID: e.ID, At: time.UnixMilli(e.Timestamp).UTC(), Message: e.Message})
	}
	return b, nil
}
